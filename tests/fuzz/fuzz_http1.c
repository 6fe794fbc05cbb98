/* With src/lib/http1.c src/base/sbuf.c src/base/alloc.c src/base/strv.c.
 *
 * Whatever bytes come, the parser neither crashes nor claims more than it was given, and what it accepts
 * whole it does not refuse in pieces. */
#include "base/macro.h"
#include "lib/http1.h"
#include "tests/fuzz/fuzz.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void fuzz_head(const char *p, size_t n, bool response)
{
	struct http_head h;
	ssize_t used = http_parse_head(p, n, response, &h);

	if (used <= 0)
		return;
	if ((size_t)used > n || h.n_headers > ARRAY_SIZE(h.headers) || (h.chunked && h.content_length >= 0))
		abort();
	for (size_t i = 0; i < h.n_headers; i++)
		if (strpbrk(h.headers[i].name, "\r\n: ") || strpbrk(h.headers[i].value, "\r\n"))
			abort();
	(void)http_header_get(&h, "Host");
	http_head_done(&h);
	/* a prefix of a good head is incomplete, never malformed */
	for (size_t k = 1; k < (size_t)used && k < 64; k++)
		if (http_parse_head(p, k, response, &h) != 0)
			abort();
}

static void fuzz_chunked(const char *p, size_t n)
{
	struct sbuf whole = SBUF_INIT, parts = SBUF_INIT;
	struct http_chunked a = {0}, b = {0};
	bool done_a, done_b = false;
	ssize_t used_a = http_chunked_decode(&a, p, n, &whole, &done_a), used_b = 0;

	for (size_t i = 0; i < n && !done_b && used_b >= 0; i++)
		used_b = http_chunked_decode(&b, p + i, 1, &parts, &done_b);
	if ((used_a < 0) != (used_b < 0) || (used_a >= 0 && done_a != done_b && n > 0))
		abort();
	if (used_a >= 0 &&
	    (whole.len != parts.len || memcmp(sbuf_str(&whole), sbuf_str(&parts), whole.len) != 0))
		abort();
	sbuf_done(&whole);
	sbuf_done(&parts);
}

static void fuzz_query(const char *p, size_t n)
{
	char *text = strndup(p, n), *decoded;
	struct http_query q;

	if (http_query_parse(text, &q) >= 0) {
		(void)http_query_bool(&q, "t", true);
		http_query_done(&q);
	}
	if (http_url_decode(p, n, true, &decoded) >= 0) {
		char *again = http_url_encode(decoded);

		free(again);
		free(decoded);
	}
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data;

	fuzz_head(p, size, false);
	fuzz_head(p, size, true);
	fuzz_chunked(p, size);
	fuzz_query(p, size);
	return 0;
}
