/* The messages of version 1 of the protocol, as the first supervisors of that version speak and understand
 * them: tests/data/protocol-1.h has one of each, recorded. A supervisor outlives its daemon, so the next
 * daemon meets these bytes: each message keeps its number, its fields and their order. What may change is
 * only what comes behind them. Whoever has to break this raises PROTO_VERSION.
 *
 * `test_protocol_1 --record` prints the table for messages that are new. */
#include "tests/unit/test.h"

#include "base/alloc.h"
#include "base/id.h"
#include "proto/msg.h"

#include <stdio.h>
#include <string.h>

/* ---- a value for each field: its place in the message ---- */

static void fill_U8(uint8_t *v, unsigned i) { *v = (uint8_t)(0x10 + i); }
static void fill_U32(uint32_t *v, unsigned i) { *v = 0x01020300u + i; }
static void fill_U64(uint64_t *v, unsigned i) { *v = 0x0102030405060700ull + i; }
static void fill_STR(char **v, unsigned i) { *v = xasprintf("text %u", i); }

static void fill_BYTES(struct bytes *v, unsigned i)
{
	const uint8_t raw[] = { 0, 0xff, (uint8_t)i };

	*v = (struct bytes){ xmemdup(raw, sizeof raw), sizeof raw };
}

static void fill_STRV(char ***v, unsigned i)
{
	*v = NULL;
	strv_addf(v, "first %u", i);
	strv_add(v, "");
}

static void fill_nic(struct msg_nic *m);

static void fill_NICS(struct nics *v, unsigned i)
{
	*v = (struct nics){ 0 };
	fill_nic(nics_add(v));
}

#define FILL(kind, name) fill_##kind(&m->name, i++);
#define M(num, NAME, name)                                                                                   \
	static void fill_##name(struct msg_##name *m)                                                        \
	{                                                                                                    \
		unsigned i = 0;                                                                              \
		MSG_FIELDS_##NAME(FILL)(void) i;                                                             \
		(void)m;                                                                                     \
	}
MSG_TABLE(M)
#undef M

/* ---- what each message is now ---- */

#define M(num, NAME, name)                                                                                   \
	static void make_##name(struct sbuf *out)                                                            \
	{                                                                                                    \
		struct msg_##name m;                                                                         \
		memset(&m, 0, sizeof m);                                                                     \
		fill_##name(&m);                                                                             \
		msg_##name##_encode(&m, out);                                                                \
		msg_##name##_done(&m);                                                                       \
	}                                                                                                    \
	static int again_##name(const void *p, size_t n, struct sbuf *out)                                   \
	{                                                                                                    \
		struct msg_##name m;                                                                         \
		int r = msg_##name##_decode(p, n, &m);                                                       \
		if (r == 0) {                                                                                \
			msg_##name##_encode(&m, out);                                                        \
			msg_##name##_done(&m);                                                               \
		}                                                                                            \
		return r;                                                                                    \
	}
MSG_TABLE(M)
#undef M

static const struct message {
	unsigned number;
	const char *name;
	void (*make)(struct sbuf *out);
	int (*again)(const void *p, size_t n, struct sbuf *out);
} messages[] = {
#define M(num, NAME, name) { num, #NAME, make_##name, again_##name },
    MSG_TABLE(M)
#undef M
};

static const struct { unsigned number; const char *name, *hex; } recorded[] = {
#include "tests/data/protocol-1.h"
};

static const struct message *find(unsigned number)
{
	for (size_t i = 0; i < ARRAY_SIZE(messages); i++)
		if (messages[i].number == number)
			return &messages[i];
	return NULL;
}

static char *as_hex(const struct sbuf *b)
{
	char *s = xcalloc(2 * b->len + 1, 1);

	hex_encode(b->buf, b->len, s);
	return s;
}

static void the_same_bytes_are_said(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(recorded); i++) {
		const struct message *m = find(recorded[i].number);
		_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
		_cleanup_free_ char *now = NULL;

		assert_non_null(m);
		assert_string_equal(m->name, recorded[i].name);
		m->make(&b);
		now = as_hex(&b);
		if (strncmp(now, recorded[i].hex, strlen(recorded[i].hex)))
			fail_msg("%s is no longer what it was:\n%s\n%s", m->name, recorded[i].hex, now);
	}
}

static void the_old_bytes_are_understood(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(recorded); i++) {
		const char *hex = recorded[i].hex;
		_cleanup_sbuf_ struct sbuf old = SBUF_INIT, b = SBUF_INIT;
		_cleanup_free_ char *now = NULL;

		for (; *hex; hex += 2) {
			unsigned byte;

			assert_int_equal(sscanf(hex, "%2x", &byte), 1);
			sbuf_putc(&old, (char)byte);
		}
		assert_int_equal(find(recorded[i].number)->again(old.buf, old.len, &b), 0);
		now = as_hex(&b);
		assert_true(!strncmp(now, recorded[i].hex, strlen(recorded[i].hex)));
	}
}

static void every_message_is_recorded(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
		bool found = false;

		for (size_t k = 0; k < ARRAY_SIZE(recorded); k++)
			found |= recorded[k].number == messages[i].number;
		if (!found)
			fail_msg("%s: add it to tests/data/protocol-1.h", messages[i].name);
	}
}

static int record(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
		_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
		_cleanup_free_ char *hex = NULL;

		messages[i].make(&b);
		hex = as_hex(&b);
		printf("{%u, \"%s\",", messages[i].number, messages[i].name);
		for (size_t at = 0; at == 0 || at < strlen(hex); at += 96)
			printf("\n \"%.96s\"", hex + at);
		printf("},\n");
	}
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_same_bytes_are_said),
	    cmocka_unit_test(the_old_bytes_are_understood),
	    cmocka_unit_test(every_message_is_recorded),
	};

	if (argc > 1 && !strcmp(argv[1], "--record"))
		return record();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
