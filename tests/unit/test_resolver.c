#include "tests/unit/test.h"

#include "resolver/resolver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static void addresses(void **state)
{
	static const struct { const char *text; int family; uint16_t port; } good[] = {
		{"1.2.3.4:53", AF_INET, 53}, {"1.2.3.4", AF_INET, 0}, {"[::1]:5353", AF_INET6, 5353},
		{"[fe80::1]", AF_INET6, 0}, {"::1", AF_INET6, 0}, {"0.0.0.0:65535", AF_INET, 65535},
	};
	static const char *const bad[] = {
	    "",     ":53",    "1.2.3:53", "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:x",    "1.2.3.4:-1",
	    "[::1", "[::1]x", "[]:53",    "host:53",  "1.2.3.4%lo",    "::1%nosuchif", "1.2.3.4 ",
	};
	struct addr a;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(addr_parse(good[i].text, &a), 0);
		assert_int_equal(a.ss.ss_family, good[i].family);
		assert_int_equal(ntohs(((struct sockaddr_in *)&a.ss)->sin_port), good[i].port);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(addr_parse(bad[i], &a), -EINVAL);
}

static void parse(struct conf *c, const char *text, const struct addr *skip, size_t n)
{
	char buf[512];

	snprintf(buf, sizeof(buf), "%s", text);
	conf_parse(c, buf, skip, n);
}

static uint32_t server(const struct conf *c, size_t i)
{
	return ntohl(((const struct sockaddr_in *)&c->servers[i].ss)->sin_addr.s_addr);
}

static void configuration(void **state)
{
	struct conf c = {0};
	struct addr own;

	parse(&c, "# x\n;y\nsearch a b\nnameserver 1.1.1.1 # one\r\n  nameserver\t2.2.2.2\nnameserver bad\n"
		  "nameserver ::1\nnameserver 4.4.4.4\noptions timeout:1 attempts:4 rotate\n", NULL, 0);
	assert_int_equal(c.n_servers, SERVERS_MAX);
	assert_int_equal(server(&c, 0), 0x01010101);
	assert_int_equal(server(&c, 1), 0x02020202);
	assert_int_equal(c.servers[2].ss.ss_family, AF_INET6);
	assert_int_equal(c.timeout_s, 1);
	assert_int_equal(c.attempts, 4);
	parse(&c, "options timeout:0 timeout:99 attempts:x attempts:99\n", NULL, 0);
	assert_int_equal(c.n_servers, 1);
	assert_int_equal(server(&c, 0), 0x7f000001);
	assert_int_equal(c.timeout_s, 10);
	assert_int_equal(c.attempts, 5);
	assert_int_equal(addr_parse("9.9.9.9:53", &own), 0);
	parse(&c, "nameserver 9.9.9.9\nnameserver 8.8.8.8", &own, 1);
	assert_int_equal(c.n_servers, 1);
	assert_int_equal(server(&c, 0), 0x08080808);
	parse(&c, "", &own, 1);
	assert_int_equal(c.n_servers, 1);
}

#define Q "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" "\x01" "a" "\x02" "bc" "\x00" "\x00\x01\x00\x01"
#define Q_LEN (sizeof(Q) - 1)

static void questions(void **state)
{
	uint8_t q[Q_LEN + 4] = Q, long_name[DNS_HDR + 300];

	assert_int_equal(dns_question_end(q, Q_LEN), Q_LEN);
	assert_int_equal(dns_question_end(q, sizeof(q)), Q_LEN);
	assert_true(dns_is_query(q, Q_LEN));
	for (size_t n = 0; n < Q_LEN; n++)
		assert_int_equal(dns_question_end(q, n), 0);
	q[DNS_HDR] = 0xc0;	/* a pointer */
	assert_int_equal(dns_question_end(q, Q_LEN), 0);
	memcpy(q, Q, Q_LEN);
	q[5] = 2;		/* two questions */
	assert_int_equal(dns_question_end(q, Q_LEN), 0);
	memcpy(long_name, Q, DNS_HDR);
	memset(long_name + DNS_HDR, 1, sizeof(long_name) - DNS_HDR);
	assert_int_equal(dns_question_end(long_name, sizeof(long_name)), 0);
}

static void answers(void **state)
{
	uint8_t q[] = Q, a[] = Q;

	assert_false(dns_answers(a, Q_LEN, q, Q_LEN));	/* a query, not an answer */
	a[2] |= 0x80;
	assert_true(dns_answers(a, Q_LEN, q, Q_LEN));
	a[0] ^= 1;
	assert_false(dns_answers(a, Q_LEN, q, Q_LEN));
	a[0] ^= 1;
	a[DNS_HDR + 1] ^= 0x20;				/* another name */
	assert_false(dns_answers(a, Q_LEN, q, Q_LEN));
	assert_false(dns_answers(a, DNS_HDR, q, Q_LEN));
	a[5] = 0;					/* no question: only to report an error */
	assert_false(dns_answers(a, DNS_HDR, q, Q_LEN));
	a[3] |= 1;
	assert_true(dns_answers(a, DNS_HDR, q, Q_LEN));
}

static void servfail(void **state)
{
	uint8_t q[] = Q;

	assert_int_equal(dns_make_servfail(q, Q_LEN), Q_LEN);
	assert_int_equal(dns_rcode(q), 2);
	assert_true(q[2] & 0x80);
	assert_true(q[2] & 0x01);			/* recursion was desired */
	assert_false(dns_is_query(q, Q_LEN));
}

/* Who asks what: "10.0.1.2", "web", 1 -> verdict; the answer as text "10.0.1.3 10.0.1.4", "web.front", "-"
 * (known, but nothing of this type), "NX". */
static enum names_verdict ask(struct names *m, const char *from, const char *name, unsigned type, char *ret)
{
	uint8_t q[300] = "\x12\x34\x01\x00\x00\x01", out[DNS_OUT_MAX];
	size_t n = DNS_HDR, len = 0, at, k = 0;
	enum names_verdict v;
	struct addr client;
	char text[INET6_ADDRSTRLEN];

	assert_int_equal(addr_parse(from, &client), 0);
	for (const char *p = name; *p;) {
		size_t label = strcspn(p, ".");

		q[n++] = (uint8_t)label;
		memcpy(q + n, p, label);
		n += label;
		p += label + (p[label] == '.');
	}
	n += 2;
	q[n++] = (uint8_t)type;
	n++;
	q[n++] = 1;
	assert_int_equal(dns_question_end(q, n), n);
	v = names_answer(m, &client, q, n, out, &len);
	*ret = 0;
	if (v != NAMES_ANSWER)
		return v;
	assert_true(dns_answers(out, len, q, n));
	if (dns_rcode(out) == DNS_NXDOMAIN)
		strcpy(ret, "NX");
	else if (!out[7])
		strcpy(ret, "-");
	for (at = n; out[7] && at < len; at += 12 + out[at + 11]) {
		if (out[at + 3] == 1)
			k += (size_t)sprintf(ret + k, "%s%d.%d.%d.%d", k ? " " : "", out[at + 12],
					     out[at + 13], out[at + 14], out[at + 15]);
		else if (out[at + 3] == 28)
			k += (size_t)sprintf(ret + k, "%s%s", k ? " " : "",
					     inet_ntop(AF_INET6, out + at + 12, text, sizeof text));
		else
			k += (size_t)sprintf(ret + k, "%.*s.%.*s", out[at + 12], (char *)out + at + 13,
					     out[at + 13 + out[at + 12]],
					     (char *)out + at + 14 + out[at + 12]);
	}
	return v;
}

static void names_by_asker(void **state)
{
	char text[] = "net front 10.0.1.0/24 open\nat 10.0.1.2 A cli\n"
		      "at 10.0.1.3 B web www\nat 10.0.1.4,fd00::104 C web six\n"
		      "net back 10.0.2.0/24 internal\n"
		      "at 10.0.2.2 B web db\nat 10.0.2.3 D dd\n"
		      "net bridge 172.17.0.0/16 open\nat 172.17.0.2 E \n"
		      "via B 8.8.8.8 1.1.1.1\n"
		      "nonsense\nat\nnet x\nat 1.2.3.4\n";
	static const struct {
		const char *from, *name;
		unsigned type;
		enum names_verdict verdict;
		const char *answer;
	} rows[] = {
		{ "10.0.1.2", "www", 1, NAMES_ANSWER, "10.0.1.3" },
		{ "10.0.1.2", "WwW", 1, NAMES_ANSWER, "10.0.1.3" },
		{ "10.0.1.2", "www.front", 1, NAMES_ANSWER, "10.0.1.3" },
		{ "10.0.1.2", "www.back", 1, NAMES_FORWARD, "" },
		{ "10.0.1.2", "www", 28, NAMES_ANSWER, "-" },
		{ "10.0.1.2", "six", 28, NAMES_ANSWER, "fd00::104" },
		{ "10.0.1.2", "six", 1, NAMES_ANSWER, "10.0.1.4" },
		{ "10.0.1.2", "six", 255, NAMES_ANSWER, "10.0.1.4 fd00::104" },
		{ "10.0.2.3", "six", 28, NAMES_ANSWER, "NX" },
		{ "10.0.1.2", "4.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.D.f.ip6.arpa", 12,
		  NAMES_ANSWER, "web.front" },
		{ "10.0.1.2", "4.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.ip6.arpa", 12,
		  NAMES_FORWARD, "" },
		{ "10.0.1.2", "db", 1, NAMES_FORWARD, "" },
		{ "10.0.1.3", "db", 1, NAMES_ANSWER, "10.0.2.2" },
		{ "10.0.2.2", "cli", 1, NAMES_ANSWER, "10.0.1.2" },
		{ "10.0.2.3", "db", 1, NAMES_ANSWER, "10.0.2.2" },
		{ "10.0.2.3", "example.org", 1, NAMES_ANSWER, "NX" },	/* D is on an internal network only */
		{ "10.0.2.2", "example.org", 1, NAMES_FORWARD, "" },
		{ "172.17.0.2", "web", 1, NAMES_FORWARD, "" },
		{ "172.17.0.9", "web", 1, NAMES_FORWARD, "" },
		{ "9.9.9.9", "web", 1, NAMES_DROP, "" },
		{ "10.0.1.2", "3.1.0.10.in-addr.arpa", 12, NAMES_ANSWER, "web.front" },
		{ "10.0.1.2", "2.2.0.10.in-addr.arpa", 12, NAMES_FORWARD, "" },
		{ "10.0.1.2", "300.1.0.10.in-addr.arpa", 12, NAMES_FORWARD, "" },
	};
	struct names *m = names_new(-1);
	struct addr client, servers[SERVERS_MAX];
	char first[512], second[512];

	names_parse(m, text);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char got[512];

		assert_int_equal(ask(m, rows[i].from, rows[i].name, rows[i].type, got), rows[i].verdict);
		assert_string_equal(got, rows[i].answer);
	}
	/* of several each is the first in turn */
	ask(m, "10.0.1.2", "web", 1, first);
	ask(m, "10.0.1.2", "web", 1, second);
	assert_string_not_equal(first, second);
	assert_int_equal(addr_parse("10.0.2.2", &client), 0);
	assert_int_equal(names_servers(m, &client, servers), 2);
	assert_int_equal(addr_parse("10.0.1.2", &client), 0);
	assert_int_equal(names_servers(m, &client, servers), 0);
	names_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses), cmocka_unit_test(configuration), cmocka_unit_test(questions),
		cmocka_unit_test(answers),   cmocka_unit_test(servfail),  cmocka_unit_test(names_by_asker),
	};

	return cmocka_run_group_tests_name("resolver", tests, NULL, NULL);
}
