/* HTTP/1.1 heads, chunked bodies and queries (RFC 9112, 9110, 3986).
 *
 * Strictness is the point: two parsers that disagree about where a message ends is how requests are
 * smuggled. So: lines end in CRLF and nothing else, no line folding, no space before a colon, at most one
 * Content-Length and never together with Transfer-Encoding, and "chunked" is the only coding. */
#include "lib/http1.h"

#include "base/alloc.h"
#include "base/strv.h"
#include <errno.h>
#include <string.h>
#include <strings.h>

/* RFC 9110 5.6.2: tchar */
static bool is_tchar(unsigned char c)
{
	if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
		return true;
	return c && strchr("!#$%&'*+-.^_`|~", c);
}

static int hex_digit(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool is_token(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (!is_tchar((unsigned char)*s))
			return false;
	return true;
}

void http_head_done(struct http_head *h)
{
	free(h->storage);
	*h = (struct http_head){.content_length = -1};
}

const char *http_header_get(const struct http_head *h, const char *name)
{
	for (size_t i = 0; i < h->n_headers; i++)
		if (strcasecmp(h->headers[i].name, name) == 0)
			return h->headers[i].value;
	return NULL;
}

/* "HTTP/1.d" -> d, else -1. */
static int parse_version(const char *s)
{
	if (strlen(s) != 8 || strncmp(s, "HTTP/1.", 7) != 0 || s[7] < '0' || s[7] > '9')
		return -1;
	return s[7] - '0';
}

static int parse_request_line(char *line, struct http_head *h)
{
	char *sp1 = strchr(line, ' ');
	char *sp2 = sp1 ? strchr(sp1 + 1, ' ') : NULL;

	if (!sp2 || strchr(sp2 + 1, ' '))
		return -EBADMSG;
	*sp1 = *sp2 = '\0';
	h->method = line;
	h->target = sp1 + 1;
	h->minor = parse_version(sp2 + 1);
	if (!is_token(h->method) || h->minor < 0)
		return -EBADMSG;
	/* origin-form, or "*" for OPTIONS; absolute-form is for proxies */
	if (h->target[0] != '/' && strcmp(h->target, "*") != 0)
		return -EBADMSG;
	for (const char *p = h->target; *p; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '#')
			return -EBADMSG;
	return 0;
}

static int parse_status_line(char *line, struct http_head *h)
{
	char *sp = strchr(line, ' ');

	if (!sp)
		return -EBADMSG;
	*sp++ = '\0';
	h->minor = parse_version(line);
	if (h->minor < 0)
		return -EBADMSG;
	for (int i = 0; i < 3; i++) {
		if (sp[i] < '0' || sp[i] > '9')
			return -EBADMSG;
		h->status = h->status * 10 + (sp[i] - '0');
	}
	if ((sp[3] != '\0' && sp[3] != ' ') || h->status < 100)
		return -EBADMSG;
	return 0;
}

static int parse_header_line(char *line, struct http_head *h)
{
	char *colon = strchr(line, ':'), *value, *end;

	if (!colon)
		return -EBADMSG;
	*colon = '\0';
	if (!is_token(line))	/* also refuses folded lines and "name :" */
		return -EBADMSG;
	value = colon + 1;
	value += strspn(value, " \t");
	end = value + strlen(value);
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	*end = '\0';
	if (h->n_headers == ARRAY_SIZE(h->headers))
		return -E2BIG;
	h->headers[h->n_headers++] = (struct http_header){.name = line, .value = value};
	return 0;
}

/* Is token t in the comma-separated list? */
static bool list_has(const char *list, const char *t)
{
	size_t n = strlen(t);

	while (*list) {
		size_t len;

		list += strspn(list, ", \t");
		len = strcspn(list, ", \t");
		if (len == n && strncasecmp(list, t, n) == 0)
			return true;
		list += len;
	}
	return false;
}

static int parse_content_length(const char *s, int64_t *ret)
{
	int64_t v = 0;

	if (!*s)
		return -EBADMSG;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -EBADMSG;
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s - '0', &v))
			return -EBADMSG;
	}
	*ret = v;
	return 0;
}

/* Draws the framing of the message from its headers. */
static int interpret_headers(struct http_head *h, bool response)
{
	bool close_asked = false, keep_asked = false, connection_upgrade = false;
	bool has_upgrade = false, has_host = false;

	h->content_length = -1;
	for (size_t i = 0; i < h->n_headers; i++) {
		const char *name = h->headers[i].name, *value = h->headers[i].value;

		if (strcasecmp(name, "Content-Length") == 0) {
			if (h->content_length >= 0 || parse_content_length(value, &h->content_length) < 0)
				return -EBADMSG;
		} else if (strcasecmp(name, "Transfer-Encoding") == 0) {
			if (h->chunked || h->minor == 0 || strcasecmp(value, "chunked") != 0)
				return -EBADMSG;
			h->chunked = true;
		} else if (strcasecmp(name, "Connection") == 0) {
			close_asked |= list_has(value, "close");
			keep_asked |= list_has(value, "keep-alive");
			connection_upgrade |= list_has(value, "upgrade");
		} else if (strcasecmp(name, "Upgrade") == 0) {
			has_upgrade = true;
		} else if (strcasecmp(name, "Expect") == 0) {
			if (!response && h->minor > 0 && strcasecmp(value, "100-continue") == 0)
				h->expect_continue = true;
		} else if (strcasecmp(name, "Host") == 0) {
			if (has_host)
				return -EBADMSG;
			has_host = true;
		}
	}
	if (h->chunked && h->content_length >= 0)
		return -EBADMSG;
	h->upgrade = has_upgrade && connection_upgrade;
	h->keep_alive = !close_asked && (h->minor > 0 || keep_asked);
	return 0;
}

/* Cuts storage into lines and parses each. */
static int parse_lines(struct http_head *h, bool response)
{
	char *line = h->storage;
	bool first = true;

	for (;;) {
		char *end = strstr(line, "\r\n");
		int r;

		if (!end)
			return -EBADMSG;
		if (end == line)
			break;
		*end = '\0';
		if (first)
			r = response ? parse_status_line(line, h) : parse_request_line(line, h);
		else
			r = parse_header_line(line, h);
		if (r < 0)
			return r;
		first = false;
		line = end + 2;
	}
	if (first)
		return -EBADMSG;
	return interpret_headers(h, response);
}

/* No control characters but HTAB and the CR LF pairs. */
static bool head_bytes_valid(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)p[i];

		if (c == '\r') {
			if (i + 1 >= n || p[i + 1] != '\n')
				return false;
			i++;
		} else if ((c < ' ' && c != '\t') || c == 0x7f) {
			return false;
		}
	}
	return true;
}

ssize_t http_parse_head(const char *p, size_t n, bool response, struct http_head *ret)
{
	struct http_head h = {.content_length = -1};
	size_t skip = 0, len;
	const char *end;
	int r;

	/* RFC 9112 2.2: an empty line before a request line is to be ignored */
	if (!response && n >= 2 && p[0] == '\r' && p[1] == '\n')
		skip = 2;
	/* a TLS hello and the like is known by its first byte: no use in waiting for a line end */
	if (n > skip && !is_tchar((unsigned char)p[skip]) && !(n == 1 && p[0] == '\r' && !response))
		return -EBADMSG;
	end = n > skip ? memmem(p + skip, MIN(n - skip, (size_t)HTTP_HEAD_MAX), "\r\n\r\n", 4) : NULL;
	if (!end)
		return n - skip >= HTTP_HEAD_MAX ? -E2BIG : 0;
	len = (size_t)(end + 4 - (p + skip));
	if (!head_bytes_valid(p + skip, len))
		return -EBADMSG;
	h.storage = xstrndup(p + skip, len);
	r = parse_lines(&h, response);
	if (r < 0) {
		http_head_done(&h);
		return r;
	}
	*ret = h;
	return (ssize_t)(skip + len);
}

/* Chunked coding, RFC 9112 7.1. `line` counts the bytes of size line, extensions and trailers, which
 * carry nothing we use and are bounded like a head. */
enum chunk_state { CH_SIZE_FIRST, CH_SIZE, CH_EXT, CH_SIZE_LF, CH_DATA, CH_DATA_CR, CH_DATA_LF,
		   CH_TRAILER_START, CH_TRAILER, CH_TRAILER_LF, CH_END_LF, CH_DONE };

/* One byte of anything but chunk data. */
static int chunk_step(struct http_chunked *c, unsigned char b)
{
	bool text = b == '\t' || (b >= ' ' && b != 0x7f);
	int digit;

	if (++c->line > HTTP_HEAD_MAX)
		return -EBADMSG;
	switch ((enum chunk_state)c->state) {
	case CH_SIZE_FIRST:
	case CH_SIZE:
		digit = hex_digit(b);
		if (digit >= 0) {
			if (c->left >> 58)
				return -EBADMSG;
			c->left = c->left << 4 | (uint64_t)digit;
			c->state = CH_SIZE;
			return 0;
		}
		if (c->state == CH_SIZE_FIRST || (b != '\r' && b != ';' && b != ' ' && b != '\t'))
			return -EBADMSG;
		c->state = b == '\r' ? CH_SIZE_LF : CH_EXT;
		return 0;
	case CH_EXT:
		c->state = b == '\r' ? CH_SIZE_LF : CH_EXT;
		return b == '\r' || text ? 0 : -EBADMSG;
	case CH_SIZE_LF:
		c->state = c->left > 0 ? CH_DATA : CH_TRAILER_START;
		if (c->left > 0)
			c->line = 0;
		return b == '\n' ? 0 : -EBADMSG;
	case CH_DATA_CR:
		c->state = CH_DATA_LF;
		return b == '\r' ? 0 : -EBADMSG;
	case CH_DATA_LF:
		c->state = CH_SIZE_FIRST;
		c->line = 0;
		return b == '\n' ? 0 : -EBADMSG;
	case CH_TRAILER_START:
		c->state = b == '\r' ? CH_END_LF : CH_TRAILER;
		return b == '\r' || is_tchar(b) ? 0 : -EBADMSG;
	case CH_TRAILER:
		c->state = b == '\r' ? CH_TRAILER_LF : CH_TRAILER;
		return b == '\r' || text ? 0 : -EBADMSG;
	case CH_TRAILER_LF:
		c->state = CH_TRAILER_START;
		return b == '\n' ? 0 : -EBADMSG;
	case CH_END_LF:
		c->state = CH_DONE;
		return b == '\n' ? 0 : -EBADMSG;
	case CH_DATA:
	case CH_DONE:
		break;
	}
	return -EBADMSG;
}

ssize_t http_chunked_decode(struct http_chunked *c, const char *p, size_t n, struct sbuf *out, bool *done)
{
	size_t i = 0;

	*done = c->state == CH_DONE;
	while (i < n && c->state != CH_DONE) {
		if (c->state == CH_DATA) {
			size_t take = MIN((uint64_t)(n - i), c->left);

			sbuf_add(out, p + i, take);
			i += take;
			c->left -= take;
			if (c->left == 0)
				c->state = CH_DATA_CR;
		} else {
			int r = chunk_step(c, (unsigned char)p[i]);

			if (r < 0)
				return r;
			i++;
		}
	}
	*done = c->state == CH_DONE;
	return (ssize_t)i;
}

int http_url_decode(const char *s, size_t n, bool plus_is_space, char **ret)
{
	_cleanup_free_ char *out = xmalloc(n + 1);
	size_t o = 0;

	for (size_t i = 0; i < n; i++) {
		char c = s[i];

		if (c == '%') {
			int hi, lo;

			if (n - i < 3)
				return -EBADMSG;
			hi = hex_digit((unsigned char)s[i + 1]);
			lo = hex_digit((unsigned char)s[i + 2]);
			if (hi < 0 || lo < 0)
				return -EBADMSG;
			c = (char)(hi << 4 | lo);
			i += 2;
		} else if (c == '+' && plus_is_space) {
			c = ' ';
		}
		if (c == '\0')
			return -EBADMSG;
		out[o++] = c;
	}
	out[o] = '\0';
	*ret = TAKE_PTR(out);
	return 0;
}

char *http_url_encode(const char *s)
{
	static const char hex[] = "0123456789ABCDEF";
	char *out = xmalloc(strlen(s) * 3 + 1), *o = out;

	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		    strchr("-._~", c)) {
			*o++ = (char)c;
		} else {
			*o++ = '%';
			*o++ = hex[c >> 4];
			*o++ = hex[c & 15];
		}
	}
	*o = '\0';
	return out;
}

int http_query_parse(const char *qs, struct http_query *ret)
{
	struct http_query q = {0};

	while (qs && *qs) {
		size_t len = strcspn(qs, "&"), klen = MIN(strcspn(qs, "="), len);
		char *key, *value;

		if (len > 0) {
			if (http_url_decode(qs, klen, true, &key) < 0)
				goto bad;
			strv_take(&q.keys, key);
			if (klen < len) {
				if (http_url_decode(qs + klen + 1, len - klen - 1, true, &value) < 0)
					goto bad;
			} else {
				value = xstrdup("");
			}
			strv_take(&q.values, value);
		}
		qs += len;
		qs += *qs == '&';
	}
	*ret = q;
	return 0;
bad:
	http_query_done(&q);
	return -EBADMSG;
}

void http_query_done(struct http_query *q)
{
	strv_free(q->keys);
	strv_free(q->values);
	*q = (struct http_query){0};
}

const char *http_query_get(const struct http_query *q, const char *key)
{
	for (size_t i = 0; q->keys && q->keys[i]; i++)
		if (streq(q->keys[i], key))
			return q->values[i];
	return NULL;
}

bool http_query_bool(const struct http_query *q, const char *key, bool def)
{
	static const char *const falsy[] = {"", "0", "no", "false", "none"};
	const char *v = http_query_get(q, key);

	if (!v)
		return def;
	for (size_t i = 0; i < ARRAY_SIZE(falsy); i++)
		if (strcasecmp(v, falsy[i]) == 0)
			return false;
	return true;
}
