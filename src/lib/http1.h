/* HTTP/1.1 message parsing without I/O: heads, chunked bodies, query strings. Strict: no obs-fold, no
 * control characters, no CL+TE, no duplicate Content-Length, heads of at most HTTP_HEAD_MAX bytes. */
#pragma once

#include "base/sbuf.h"
#include <stdbool.h>
#include <sys/types.h>

#define HTTP_HEAD_MAX (16u << 10)

struct http_header { char *name, *value; };	/* point into head.storage */
struct http_head {
	char *storage;		/* heap copy of the head, cut into strings */
	char *method, *target;	/* request */
	int status;		/* response */
	int minor;		/* HTTP/1.minor */
	struct http_header headers[64];
	size_t n_headers;
	int64_t content_length;	/* -1 = none given */
	bool chunked, keep_alive, upgrade /* Connection: upgrade */, expect_continue;
};

/* Bytes consumed (head with its empty line), 0 = need more, -EBADMSG malformed, -E2BIG too large. */
ssize_t http_parse_head(const char *p, size_t n, bool response, struct http_head *ret);
void http_head_done(struct http_head *h);
const char *http_header_get(const struct http_head *h, const char *name);	/* case-insensitive; NULL */

/* Incremental chunked decoding. Feed bytes; decoded body parts are appended to out. Returns bytes consumed
 * (all of n unless the body ended), *done set at the last chunk's end; -EBADMSG. */
struct http_chunked { int state; uint64_t left; size_t line; };
ssize_t http_chunked_decode(struct http_chunked *c, const char *p, size_t n, struct sbuf *out, bool *done);

/* Percent-decoding in place of a copy: heap; -EBADMSG for bad escapes or NUL. plus_is_space for queries. */
int http_url_decode(const char *s, size_t n, bool plus_is_space, char **ret);
char *http_url_encode(const char *s);
/* A parsed query: keys in order, repeats kept. */
struct http_query { char **keys, **values; };
int http_query_parse(const char *qs, struct http_query *ret);
void http_query_done(struct http_query *q);
const char *http_query_get(const struct http_query *q, const char *key);	/* first, NULL if absent */
/* Docker's boolean: anything but "", 0, no, false, none (any case) is true; absent = def. */
bool http_query_bool(const struct http_query *q, const char *key, bool def);
