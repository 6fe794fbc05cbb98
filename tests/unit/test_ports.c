/* Reading what a container says of its ports, and telling it. */
#include "tests/unit/test.h"

#include "base/strv.h"
#include "engine/ports.h"

#include <stdio.h>
#include <string.h>

static struct json *parse(const char *text)
{
	struct json *j = NULL;

	assert_int_equal(json_parse(text, strlen(text), &j, NULL), 0);
	return j;
}

/* "proto host first-last:port " of each. */
static char *read_ports(const char *config, const char *hc, const char *ip, struct err *err)
{
	static char text[4096];
	_cleanup_json_ struct json *c = parse(config), *h = parse(hc);
	_cleanup_port_maps_ struct port_maps m = {0};

	*text = 0;
	if (ports_parse(c, h, ip, &m, err) < 0)
		return NULL;
	for (size_t i = 0; i < m.n; i++)
		sprintf(text + strlen(text), "%s %s %u-%u:%u ", m.v[i].proto, m.v[i].host, m.v[i].first,
			m.v[i].last, m.v[i].port);
	return text;
}

static void bindings_are_read(void **state)
{
	static const struct { const char *hc, *want; } good[] = {
		{"{}", ""},
		{"{\"PortBindings\":{\"80/tcp\":[{\"HostPort\":\"8080\"}]}}", "tcp  8080-8080:80 "},
		{"{\"PortBindings\":{\"80\":[{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"\"}]}}",
		 "tcp 127.0.0.1 0-0:80 "},
		{"{\"PortBindings\":{\"53/UDP\":[{\"HostIp\":\"::1\",\"HostPort\":\"53\"},"
		 "{\"HostPort\":\"54-60\"}]}}",
		 "udp ::1 53-53:53 udp  54-60:53 "},
		{"{\"PortBindings\":{\"9/sctp\":[{\"HostPort\":\"0\"}],\"8/tcp\":[]}}", "sctp  0-0:9 "},
		{"{\"PortBindings\":{\"9/tcp\":null}}", ""},
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_string_equal(read_ports("{}", good[i].hc, NULL, NULL), good[i].want);
}

static void nonsense_is_refused(void **state)
{
	static const char *const bad[] = {
		"{\"PortBindings\":{\"http/tcp\":[{}]}}",
		"{\"PortBindings\":{\"80/icmp\":[{}]}}",
		"{\"PortBindings\":{\"0/tcp\":[{}]}}",
		"{\"PortBindings\":{\"65536/tcp\":[{}]}}",
		"{\"PortBindings\":{\"80-81/tcp\":[{}]}}",
		"{\"PortBindings\":{\"\":[{}]}}",
		"{\"PortBindings\":{\"80/tcp\":[{\"HostPort\":\"x\"}]}}",
		"{\"PortBindings\":{\"80/tcp\":[{\"HostPort\":\"-1\"}]}}",
		"{\"PortBindings\":{\"80/tcp\":[{\"HostPort\":\"9-8\"}]}}",
		"{\"PortBindings\":{\"80/tcp\":[{\"HostPort\":\"0-8\"}]}}",
		"{\"PortBindings\":{\"80/tcp\":[{\"HostPort\":\"80/tcp\"}]}}",
		"{\"PortBindings\":{\"80/tcp\":[{\"HostIp\":\"1.2.3\"}]}}",
		"{\"PortBindings\":{\"80/sctp\":[{\"HostIp\":\"::1\"}]}}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_err_ struct err err = ERR_INIT;

		assert_null(read_ports("{}", bad[i], NULL, &err));
		assert_int_equal(err.kind, ERR_INVALID);
	}
	assert_null(read_ports("{\"ExposedPorts\":{\"x\":{}}}", "{}", NULL, NULL));
}

static void all_that_is_exposed_is_published(void **state)
{
	const char *config = "{\"ExposedPorts\":{\"80/tcp\":{},\"90-91/udp\":{},\"80/udp\":{},\"70\":{}}}";

	assert_string_equal(read_ports(config, "{}", NULL, NULL), "");
	assert_string_equal(read_ports(config,
				       "{\"PublishAllPorts\":true,\"PortBindings\":"
				       "{\"80/tcp\":[{\"HostPort\":\"1\"}]}}",
				       NULL, NULL),
			    "tcp  1-1:80 udp  0-0:90 udp  0-0:91 udp  0-0:80 tcp  0-0:70 ");
}

static void the_default_address_is_for_those_without(void **state)
{
	assert_string_equal(read_ports("{\"ExposedPorts\":{\"7/tcp\":{}}}",
				       "{\"PublishAllPorts\":true,"
				       "\"PortBindings\":{\"80/tcp\":[{\"HostPort\":\"1\"},"
				       "{\"HostPort\":\"2\",\"HostIp\":\"0.0.0.0\"}]}}",
				       "10.0.0.1", NULL),
			    "tcp 10.0.0.1 1-1:80 tcp 0.0.0.0 2-2:80 tcp 10.0.0.1 0-0:7 ");
}

static void inspect_and_list_tell_the_same(void **state)
{
	_cleanup_json_ struct json *config = parse("{\"ExposedPorts\":{\"99/tcp\":{},\"80/tcp\":{}}}"),
				   *pub = parse("{\"80/tcp\":[{\"HostIp\":\"::\",\"HostPort\":\"8080\"}]}"),
				   *seen = ports_inspect(config, pub), *none = ports_inspect(NULL, NULL);
	_cleanup_free_ char *a = json_dump(seen), *n = json_dump(none);
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	struct json_writer w = JSON_WRITER_TEXT(&b);

	assert_string_equal(a, "{\"80/tcp\":[{\"HostIp\":\"::\",\"HostPort\":\"8080\"}],\"99/tcp\":null}");
	jw_object(&w, NULL);
	ports_summary(&w, config, pub);
	jw_end(&w);
	assert_string_equal(b.buf, "{\"Ports\":[{\"IP\":\"::\",\"PrivatePort\":80,\"PublicPort\":8080,"
				   "\"Type\":\"tcp\"},"
				   "{\"PrivatePort\":99,\"Type\":\"tcp\"}]}");
	assert_string_equal(n, "{}");
}

static void filters_take_ranges_and_protocols(void **state)
{
	assert_true(ports_filter_match("80", "80/tcp"));
	assert_true(ports_filter_match("70-90/TCP", "80/tcp"));
	assert_false(ports_filter_match("80/udp", "80/tcp"));
	assert_false(ports_filter_match("81-90", "80/tcp"));
	assert_int_equal(ports_filter_check("1-2/sctp", NULL), 0);
	assert_true(ports_filter_check("x", NULL) < 0);
	assert_true(ports_filter_check("2-1", NULL) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bindings_are_read),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(all_that_is_exposed_is_published),
		cmocka_unit_test(the_default_address_is_for_those_without),
		cmocka_unit_test(inspect_and_list_tell_the_same),
		cmocka_unit_test(filters_take_ranges_and_protocols),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
