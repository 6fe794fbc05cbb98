/* The D-Bus client and what it says to systemd, against a message as libsystemd writes it. */
#include "test.h"
#include "base/alloc.h"
#include "base/strv.h"
#include "lib/dbus.h"
#include "runtime/systemd.h"

#include <stdio.h>
#include <string.h>

/* busctl call ... StartTransientUnit "ssa(sv)a(sa(sv))" with the properties below, caught on its socket. */
static const char reference[] =
    "6c0104015803000002000000b600000001016f00190000002f6f72672f667265656465736b746f702f73797374656d64"
    "3100000000000000030173001200000053746172745472616e7369656e74556e69740000000000000201730020000000"
    "6f72672e667265656465736b746f702e73797374656d64312e4d616e6167657200000000000000000601730018000000"
    "6f72672e667265656465736b746f702e73797374656d6431000000000000000008016700107373612873762961287361"
    "28737629290000000e000000696e73756c612d782e73636f70650000070000007265706c616365002803000000000000"
    "0b0000004465736372697074696f6e000173000012000000696e73756c6120636f6e7461696e65722078000000000000"
    "05000000536c696365000173000000000c00000073797374656d2e736c69636500000000000000000800000044656c65"
    "676174650001620001000000000000001300000044656661756c74446570656e64656e63696573000162000000000000"
    "100000004d656d6f72794163636f756e74696e670001620001000000000000000d0000004350554163636f756e74696e"
    "670001620000000001000000000000000f0000005461736b734163636f756e74696e6700016200000100000000000000"
    "0c000000494f4163636f756e74696e67000162000100000004000000504944730002617500000000040000002a000000"
    "0c000000446576696365506f6c696379000173000600000073747269637400000b000000446576696365416c6c6f7700"
    "056128737329000048010000000000000e0000002f6465762f626c6f636b2f383a310000010000007200000000000000"
    "06000000636861722d2a0000010000006d0000000000000007000000626c6f636b2d2a00010000006d00000000000000"
    "0d0000002f6465762f636861722f313a330000000300000072776d00000000000d0000002f6465762f636861722f313a"
    "350000000300000072776d00000000000d0000002f6465762f636861722f313a370000000300000072776d0000000000"
    "0d0000002f6465762f636861722f313a380000000300000072776d00000000000d0000002f6465762f636861722f313a"
    "390000000300000072776d00000000000d0000002f6465762f636861722f353a300000000300000072776d0000000000"
    "0d0000002f6465762f636861722f353a320000000300000072776d000000000008000000636861722d70747300000000"
    "0300000072776d00090000004d656d6f72794d61780001740000000000000000e8030000000000000900000043505557"
    "6569676874000174000000000000000064000000000000001200000043505551756f7461506572536563555365630001"
    "7400000000000000400d030000000000080000005461736b734d617800017400ffffffffffffffff0000000000000000";

static size_t unhex(const char *hex, uint8_t *to)
{
	size_t n = strlen(hex) / 2;

	for (size_t i = 0; i < n; i++) {
		unsigned v;

		assert_int_equal(sscanf(hex + 2 * i, "%2x", &v), 1);
		to[i] = (uint8_t)v;
	}
	return n;
}

static void test_decode(void **state)
{
	_cleanup_dbus_msg_ struct dbus_msg m = { 0 };
	uint8_t wire[sizeof reference];
	size_t n = unhex(reference, wire);

	assert_int_equal(dbus_message_size(wire, n), n);
	assert_int_equal(dbus_message_size(wire, 16), n);
	assert_int_equal(dbus_decode(wire, n, &m), 0);
	assert_int_equal(m.type, DBUS_CALL);
	assert_int_equal(m.serial, 2);
	assert_string_equal(m.path, "/org/freedesktop/systemd1");
	assert_string_equal(m.interface, "org.freedesktop.systemd1.Manager");
	assert_string_equal(m.member, "StartTransientUnit");
	assert_string_equal(m.destination, "org.freedesktop.systemd1");
	assert_string_equal(m.signature, "ssa(sv)a(sa(sv))");
}

static void test_body_is_libsystemds(void **state)
{
	static const char text[] = "{\"memory\":{\"limit\":1000},\"cpu\":{\"shares\":1024,\"quota\":20000,"
				   "\"period\":100000},\"pids\":{\"limit\":-1},"
				   	"\"devices\":[{\"allow\":false},"
				   "{\"allow\":true,\"type\":\"b\",\"major\":8,\"minor\":1,\"access\":\"r\"},"
				   "{\"allow\":true,\"type\":\"b\",\"major\":8,\"minor\":2},"
				   "{\"allow\":false,\"type\":\"b\",\"major\":8,\"minor\":2}]}";
	_cleanup_oci_resources_ struct oci_resources res = { 0 };
	_cleanup_dbus_msg_ struct dbus_msg m = { 0 };
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	_cleanup_unit_ struct unit u = { NULL, NULL };
	uint8_t wire[sizeof reference];
	size_t n = unhex(reference, wire);

	assert_int_equal(dbus_decode(wire, n, &m), 0);
	assert_int_equal(oci_resources_parse(text, strlen(text), &res, NULL), 0);
	assert_int_equal(unit_parse("system.slice:insula:x", "other", &u, NULL), 0);
	unit_start_body(&b, &u, "x", 42, &res, true);
	assert_int_equal(b.len, m.n_body);
	assert_memory_equal(b.buf, m.body, b.len);
}

static void test_round_trip(void **state)
{
	_cleanup_dbus_msg_ struct dbus_msg back = { 0 };
	_cleanup_sbuf_ struct sbuf body = SBUF_INIT, wire = SBUF_INIT;
	struct dbus_msg m = { .type = DBUS_ERROR, .serial = 7, .reply_to = 9, .error = (char *)"a.b.C",
			      .signature = (char *)"sy" };
	struct dbus_in in;
	const char *s;
	uint8_t byte;

	dbus_put_str(&body, "text");
	dbus_put_byte(&body, 200);
	m.body = body.buf;
	m.n_body = body.len;
	dbus_encode(&m, &wire);
	assert_int_equal(dbus_decode(wire.buf, wire.len, &back), 0);
	assert_int_equal(back.type, DBUS_ERROR);
	assert_int_equal(back.reply_to, 9);
	assert_string_equal(back.error, "a.b.C");
	assert_null(back.member);
	in = (struct dbus_in){ (const uint8_t *)back.body, back.n_body, 0 };
	assert_true(dbus_get_str(&in, &s) && streq(s, "text"));
	assert_true(dbus_get_byte(&in, &byte) && byte == 200);
	assert_false(dbus_get_byte(&in, &byte));
}

static void test_malformed(void **state)
{
	uint8_t wire[sizeof reference];
	size_t n = unhex(reference, wire);
	struct dbus_in text = { (const uint8_t *)"\5\0\0\0ab\0cd\0", 10, 0 },
		longer = { (const uint8_t *)"\xff\0\0\0a", 5, 0 };
	struct dbus_msg m = { 0 };
	const char *s;

	for (size_t i = 0; i < n; i++)
		assert_true(dbus_decode(wire, i, &m) < 0);
	wire[3] = 2;	/* version */
	assert_true(dbus_decode(wire, n, &m) < 0);
	wire[0] = 'B';
	assert_int_equal(dbus_message_size(wire, n), 0);
	wire[0] = 'l';
	wire[7] = 0x7f;	/* a body of 2 GiB */
	assert_int_equal(dbus_message_size(wire, n), 0);
	assert_false(dbus_get_str(&text, &s));
	assert_false(dbus_get_str(&longer, &s));
}

static void test_units(void **state)
{
	static const struct { const char *path, *name, *slice; } good[] = {
		{ NULL, "insula-id.scope", NULL },
		{ "", "insula-id.scope", NULL },
		{ "a-b.slice:docker:c1", "docker-c1.scope", "a-b.slice" },
		{ "a.slice::c1", "c1.scope", "a.slice" },
		{ ":p:c", "p-c.scope", NULL },
	};
	static const char *const bad[] = { "/a", "a", "a:b", "a.slice:b:c:d", "a:b:c", "a/b.slice:c:d",
		"a.slice:b:c/d" };
	_cleanup_err_ struct err e = ERR_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		_cleanup_unit_ struct unit u = { NULL, NULL };

		assert_int_equal(unit_parse(good[i].path, "id", &u, NULL), 0);
		assert_string_equal(u.name, good[i].name);
		assert_string_equal(u.slice, good[i].slice ? good[i].slice :
					     geteuid() ? "user.slice" : "system.slice");
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct unit u = { NULL, NULL };

		err_clear(&e);
		assert_true(unit_parse(bad[i], "id", &u, &e) < 0);
		assert_true(str_starts(err_text(&e), "linux.cgroupsPath: "));
		assert_null(u.name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decode), cmocka_unit_test(test_body_is_libsystemds),
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_malformed),
			cmocka_unit_test(test_units),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
