#include "tests/unit/test.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "lib/http1.h"

#include <errno.h>
#include <string.h>

static ssize_t parse(const char *text, bool response, struct http_head *h)
{
	return http_parse_head(text, strlen(text), response, h);
}

static void request_of_docker(void **state)
{
	static const char text[] =
	    "POST /v1.47/containers/x/attach?stream=1 HTTP/1.1\r\nHost: api.moby.localhost\r\n"
	    "User-Agent:  Docker-Client/28.2.2 (linux) \t\r\nContent-Length: 0\r\nconnection: Upgrade\r\n"
	    "Upgrade: tcp\r\n\r\nrest";
	struct http_head h;

	assert_int_equal(parse(text, false, &h), strlen(text) - 4);
	assert_string_equal(h.method, "POST");
	assert_string_equal(h.target, "/v1.47/containers/x/attach?stream=1");
	assert_int_equal(h.minor, 1);
	assert_int_equal(h.content_length, 0);
	assert_true(h.upgrade && h.keep_alive && !h.chunked && !h.expect_continue);
	assert_string_equal(http_header_get(&h, "USER-AGENT"), "Docker-Client/28.2.2 (linux)");
	assert_null(http_header_get(&h, "X-None"));
	http_head_done(&h);
}

static void responses(void **state)
{
	struct http_head h;

	assert_int_equal(parse("HTTP/1.1 204 No Content\r\n\r\n", true, &h), 27);
	assert_int_equal(h.status, 204);
	assert_int_equal(h.content_length, -1);
	http_head_done(&h);
	assert_int_equal(parse("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", true, &h), 44);
	assert_true(h.chunked);
	http_head_done(&h);
	assert_int_equal(
	    parse("HTTP/1.0 101 UPGRADED\r\nConnection: close, Upgrade\r\nUpgrade: tcp\r\n\r\n", true, &h),
	    67);
	assert_true(h.upgrade && !h.keep_alive);
	http_head_done(&h);

	static const char *const bad[] = {
	    "HTTP/1.1 2000 x\r\n\r\n",  "HTTP/1.1 20 x\r\n\r\n",
	    "HTTP/1.1  200 OK\r\n\r\n", "HTTP/2 200 OK\r\n\r\n",
	    "HTTP/1.1\r\n\r\n",         "HTTP/1.1 abc\r\n\r\n",
	    "HTTP/1.1 099 x\r\n\r\n",   "\r\nHTTP/1.1 200 OK\r\n\r\n",
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(parse(bad[i], true, &h), -EBADMSG);
}

static void keep_alive(void **state)
{
	static const struct { const char *text; bool keep; } cases[] = {
		{"GET / HTTP/1.1\r\n\r\n", true},
		{"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", false},
		{"GET / HTTP/1.1\r\nConnection: foo, Close\r\n\r\n", false},
		{"GET / HTTP/1.1\r\nConnection: closed\r\n\r\n", true},
		{"GET / HTTP/1.0\r\n\r\n", false},
		{"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct http_head h;

		assert_int_equal(parse(cases[i].text, false, &h), strlen(cases[i].text));
		assert_int_equal(h.keep_alive, cases[i].keep);
		http_head_done(&h);
	}
}

static void malformed_requests(void **state)
{
	static const char *const bad[] = {
		"GET /\r\n\r\n",				/* HTTP/0.9 */
		"GET / HTTP/2.0\r\n\r\n",
		"GET / HTTP/1.\r\n\r\n",
		"GET / HTTP/1.11\r\n\r\n",
		"GET  / HTTP/1.1\r\n\r\n",			/* two spaces */
		"GET / HTTP/1.1 \r\n\r\n",
		"GET /a b HTTP/1.1\r\n\r\n",
		"GET\t/ HTTP/1.1\r\n\r\n",
		"GET x HTTP/1.1\r\n\r\n",			/* not origin-form */
		"GET http://h/ HTTP/1.1\r\n\r\n",
		"GET /#f HTTP/1.1\r\n\r\n",
		"G(T / HTTP/1.1\r\n\r\n",
		" GET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",	/* obs-fold */
		"GET / HTTP/1.1\r\n A: b\r\n\r\n",
		"GET / HTTP/1.1\r\nA : b\r\n\r\n",		/* space before the colon */
		"GET / HTTP/1.1\r\nA\r\n\r\n",
		"GET / HTTP/1.1\r\n: b\r\n\r\n",
		"GET / HTTP/1.1\r\nA: b\x01\r\n\r\n",
		"GET / HTTP/1.1\r\nA: b\x7f\r\n\r\n",
		"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",		/* bare CR */
		"GET / HTTP/1.1\nA: b\r\n\r\n",			/* bare LF */
		"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: 0x1\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length:\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: 9223372036854775808\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
		"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		"GET / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
		"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
		"\x16\x03\x01",					/* a TLS hello: known at once */
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct http_head h;
		ssize_t n = parse(bad[i], false, &h);

		if (n != -EBADMSG)
			fail_msg("case %zu gave %zd", i, n);
	}
	struct http_head h;

	assert_int_equal(http_parse_head("GET / HTTP/1.1\r\nA: \0\r\n\r\n", 24, false, &h), -EBADMSG);
}

static void limits(void **state)
{
	_cleanup_sbuf_ struct sbuf big = SBUF_INIT, many = SBUF_INIT;
	struct http_head h;

	sbuf_puts(&big, "GET / HTTP/1.1\r\nA: ");
	for (size_t i = 0; i < HTTP_HEAD_MAX; i++)
		sbuf_putc(&big, 'x');
	assert_int_equal(http_parse_head(big.buf, big.len, false, &h), -E2BIG);
	assert_int_equal(http_parse_head(big.buf, HTTP_HEAD_MAX - 1, false, &h), 0);
	sbuf_puts(&many, "GET / HTTP/1.1\r\n");
	for (int i = 0; i < 65; i++)
		sbuf_printf(&many, "h%d: v\r\n", i);
	sbuf_puts(&many, "\r\n");
	assert_int_equal(http_parse_head(many.buf, many.len, false, &h), -E2BIG);
}

/* Every prefix of a good head needs more; an empty line before it is skipped. */
static void split_heads(void **state)
{
	static const char text[] =
	    "\r\nPUT /x HTTP/1.1\r\nHost: d\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
	struct http_head h;

	for (size_t n = 0; n < sizeof text - 1; n++)
		assert_int_equal(http_parse_head(text, n, false, &h), 0);
	assert_int_equal(http_parse_head(text, sizeof text - 1, false, &h), sizeof text - 1);
	assert_true(h.expect_continue);
	assert_int_equal(h.content_length, 5);
	http_head_done(&h);
}

static const char chunks[] =
    "5;ext=\"v\"\r\nhello\r\n1 \r\n,\r\n00006\r\n world\r\n0\r\nTrailer: x\r\n\r\nNEXT";

static void chunked_at_every_split(void **state)
{
	size_t len = sizeof chunks - 1 - 4;

	for (size_t a = 0; a <= len; a++)
		for (size_t b = a; b <= len; b++) {
			const size_t cuts[] = {a, b, sizeof chunks - 1};
			_cleanup_sbuf_ struct sbuf out = SBUF_INIT;
			struct http_chunked c = {0};
			bool done = false;
			size_t at = 0;

			for (size_t i = 0; i < 3 && !done; i++) {
				ssize_t n = http_chunked_decode(&c, chunks + at, cuts[i] - at, &out, &done);

				assert_true(n >= 0);
				at += (size_t)n;
				assert_true(done || at == cuts[i]);
			}
			assert_true(done);
			assert_int_equal(at, len);
			assert_string_equal(sbuf_str(&out), "hello, world");
		}
}

static void chunked_bad(void **state)
{
	static const char *const bad[] = {
	    "\r\n",       "g\r\n",       "-1\r\n",           "0x5\r\n",       "5\nhello",
	    "5\rX",       "5\r\nhelloX", "5\r\nhello\rX",    "5\r\nhello\n",  "fffffffffffffffff\r\n",
	    "5;\x01\r\n", "0\r\n\rX",    "0\r\n: x\r\n\r\n", "0\r\nA\x01: x", "0\r\nA: x\rX",
	    ";\r\n",
	};
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT, endless = SBUF_INIT;
	struct http_chunked c;
	bool done;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		c = (struct http_chunked){0};
		if (http_chunked_decode(&c, bad[i], strlen(bad[i]), &out, &done) != -EBADMSG)
			fail_msg("case %zu was accepted", i);
	}
	/* size lines, extensions and trailers are bounded */
	sbuf_puts(&endless, "5;");
	for (size_t i = 0; i <= HTTP_HEAD_MAX; i++)
		sbuf_putc(&endless, 'x');
	c = (struct http_chunked){0};
	assert_int_equal(http_chunked_decode(&c, endless.buf, endless.len, &out, &done), -EBADMSG);
}

static void urls(void **state)
{
	char *s;

	assert_int_equal(http_url_decode("a%2Fb+c%20", 10, false, &s), 0);
	assert_string_equal(s, "a/b+c ");
	free(s);
	assert_int_equal(http_url_decode("a+b", 3, true, &s), 0);
	assert_string_equal(s, "a b");
	free(s);
	assert_int_equal(http_url_decode("%", 1, false, &s), -EBADMSG);
	assert_int_equal(http_url_decode("%4", 2, false, &s), -EBADMSG);
	assert_int_equal(http_url_decode("%zz", 3, false, &s), -EBADMSG);
	assert_int_equal(http_url_decode("%00", 3, false, &s), -EBADMSG);
	s = http_url_encode("a/b c&d=\xc3\xa9~");
	assert_string_equal(s, "a%2Fb%20c%26d%3D%C3%A9~");
	free(s);
}

static void queries(void **state)
{
	struct http_query q;

	assert_int_equal(http_query_parse("t=a&t=b&&e&f=False&n=0&y=1&x=%7B%7D&s=a+b&none=NoNe&z=", &q), 0);
	assert_string_equal(http_query_get(&q, "t"), "a");
	assert_string_equal(q.values[1], "b");
	assert_string_equal(http_query_get(&q, "e"), "");
	assert_string_equal(http_query_get(&q, "x"), "{}");
	assert_string_equal(http_query_get(&q, "s"), "a b");
	assert_null(http_query_get(&q, "absent"));
	assert_false(http_query_bool(&q, "f", true));
	assert_false(http_query_bool(&q, "n", true));
	assert_false(http_query_bool(&q, "none", true));
	assert_false(http_query_bool(&q, "z", true));
	assert_true(http_query_bool(&q, "y", false));
	assert_true(http_query_bool(&q, "t", false));
	assert_true(http_query_bool(&q, "absent", true));
	http_query_done(&q);
	assert_int_equal(http_query_parse("", &q), 0);
	assert_null(http_query_get(&q, "a"));
	http_query_done(&q);
	assert_int_equal(http_query_parse("ok=1&bad=%g0", &q), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(request_of_docker), cmocka_unit_test(responses),
		cmocka_unit_test(keep_alive),	     cmocka_unit_test(malformed_requests),
		cmocka_unit_test(limits),	     cmocka_unit_test(split_heads),
		cmocka_unit_test(chunked_at_every_split), cmocka_unit_test(chunked_bad),
		cmocka_unit_test(urls),		     cmocka_unit_test(queries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
