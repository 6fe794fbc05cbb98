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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses), cmocka_unit_test(configuration), cmocka_unit_test(questions),
		cmocka_unit_test(answers),   cmocka_unit_test(servfail),
	};

	return cmocka_run_group_tests_name("resolver", tests, NULL, NULL);
}
