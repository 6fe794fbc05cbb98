#include "lib/httpc.h"

#include "base/alloc.h"
#include "base/fd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define COPY_BYTES (256u << 10)

struct httpc {
	int fd;
	char *user_agent;
	struct sbuf in;			/* received, not yet parsed */
	struct sbuf body;		/* unchunked, not yet taken by the caller */
	size_t body_off;
	struct http_head head;
	bool have_head, is_head_request;
	int64_t left;			/* of a body with Content-Length; -1 = until the connection closes */
	struct http_chunked chunked;
	bool body_done;
};

struct httpc *httpc_new(int fd, const char *user_agent)
{
	struct httpc *c = new0(struct httpc);

	c->fd = fd;
	c->user_agent = xstrdup(user_agent);
	c->body_done = true;
	return c;
}

void httpc_free(struct httpc *c)
{
	if (!c)
		return;
	fd_close(&c->fd);
	http_head_done(&c->head);
	sbuf_done(&c->in);
	sbuf_done(&c->body);
	free(c->user_agent);
	free(c);
}

/* MSG_NOSIGNAL: a server that answers early and closes must not kill the client. */
static int send_full(struct httpc *c, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t k = RETRY(send(c->fd, p, n, MSG_NOSIGNAL));

		if (k < 0)
			return -errno;
		p += k;
		n -= k;
	}
	return 0;
}

int httpc_send(struct httpc *c, const struct httpc_request *r)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	http_head_done(&c->head);
	c->have_head = false;
	c->body_done = true;
	c->is_head_request = !strcmp(r->method, "HEAD");
	sbuf_reset(&c->body);
	c->body_off = 0;

	sbuf_printf(&b, "%s %s HTTP/1.1\r\nHost: insula\r\nUser-Agent: %s\r\n", r->method, r->target,
		    c->user_agent);
	if (r->content_type)
		sbuf_printf(&b, "Content-Type: %s\r\n", r->content_type);
	if (r->header)
		sbuf_printf(&b, "%s\r\n", r->header);
	if (r->upgrade)
		sbuf_puts(&b, "Connection: Upgrade\r\nUpgrade: tcp\r\n");
	if (r->chunked)
		sbuf_puts(&b, "Transfer-Encoding: chunked\r\n");
	else if (r->body || strcmp(r->method, "GET"))
		sbuf_printf(&b, "Content-Length: %zu\r\n", r->body_len);
	sbuf_puts(&b, "\r\n");
	if (r->body)
		sbuf_add(&b, r->body, r->body_len);
	if (!sbuf_ok(&b))
		return -E2BIG;
	return send_full(c, b.buf, b.len);
}

int httpc_send_chunk(struct httpc *c, const void *p, size_t n)
{
	char line[24];
	int r;

	if (n == 0)
		return send_full(c, "0\r\n\r\n", 5);
	r = send_full(c, line, snprintf(line, sizeof(line), "%zx\r\n", n));
	if (r < 0)
		return r;
	r = send_full(c, p, n);
	return r < 0 ? r : send_full(c, "\r\n", 2);
}

/* Reads once from the socket into in. Bytes read, 0 at the end of the stream, -errno. */
static ssize_t fill(struct httpc *c)
{
	char *p = sbuf_reserve(&c->in, 32768);
	ssize_t n;

	if (!p)
		return -E2BIG;
	n = RETRY(recv(c->fd, p, 32768, 0));
	if (n < 0)
		return -errno;
	sbuf_commit(&c->in, n);
	return n;
}

static void body_begin(struct httpc *c)
{
	const struct http_head *h = &c->head;

	c->chunked = (struct http_chunked){0};
	c->left = -1;
	c->body_done = false;
	if (c->is_head_request || h->status == 204 || h->status == 304 || h->status == 101)
		c->body_done = true;
	else if (!h->chunked && h->content_length >= 0) {
		c->left = h->content_length;
		c->body_done = c->left == 0;
	}
}

int httpc_recv_head(struct httpc *c, const struct http_head **ret)
{
	for (;;) {
		ssize_t n = 0;

		if (c->in.len > 0)
			n = http_parse_head(c->in.buf, c->in.len, true, &c->head);
		if (n < 0)
			return n;
		if (n > 0) {
			sbuf_consume(&c->in, n);
			if (c->head.status != 100)
				break;
			http_head_done(&c->head);
			continue;
		}
		n = fill(c);
		if (n <= 0)
			return n < 0 ? n : -ECONNRESET;
	}
	c->have_head = true;
	body_begin(c);
	*ret = &c->head;
	return 0;
}

/* Moves what in holds of the body to body. */
static int decode(struct httpc *c)
{
	size_t n = c->in.len;

	if (c->head.chunked) {
		ssize_t k = http_chunked_decode(&c->chunked, c->in.buf, n, &c->body, &c->body_done);

		if (k < 0)
			return k;
		n = k;
	} else {
		if (c->left >= 0 && n > (uint64_t)c->left)
			n = c->left;
		sbuf_add(&c->body, c->in.buf, n);
		if (c->left >= 0) {
			c->left -= n;
			c->body_done = c->left == 0;
		}
	}
	if (!sbuf_ok(&c->body))
		return -EFBIG;
	sbuf_consume(&c->in, n);
	return 0;
}

ssize_t httpc_read(struct httpc *c, void *p, size_t n)
{
	for (;;) {
		size_t have = c->body.len - c->body_off;
		ssize_t k;

		if (have > 0) {
			n = MIN(n, have);
			memcpy(p, c->body.buf + c->body_off, n);
			c->body_off += n;
			if (c->body_off == c->body.len) {
				sbuf_reset(&c->body);
				c->body_off = 0;
			}
			return n;
		}
		if (c->body_done)
			return 0;
		if (c->in.len > 0) {
			int r = decode(c);

			if (r < 0)
				return r;
			if (c->body.len > 0 || c->body_done)
				continue;
		}
		k = fill(c);
		if (k < 0)
			return k;
		if (k == 0) {
			if (c->head.chunked || c->left >= 0)
				return -ECONNRESET;
			c->body_done = true;
		}
	}
}

int httpc_read_all(struct httpc *c, struct sbuf *out)
{
	for (;;) {
		char buf[16384];
		ssize_t n = httpc_read(c, buf, sizeof(buf));

		if (n <= 0)
			return n;
		sbuf_add(out, buf, n);
		if (!sbuf_ok(out))
			return -EFBIG;
	}
}

int httpc_copy(struct httpc *c, int fd, uint64_t *count)
{
	_cleanup_free_ char *buf = xmalloc(COPY_BYTES);

	for (;;) {
		ssize_t n = httpc_read(c, buf, COPY_BYTES);
		int r = n > 0 ? fd_write_full(fd, buf, (size_t)n) : (int)n;

		if (n <= 0 || r < 0)
			return r;
		if (count)
			*count += (uint64_t)n;
	}
}

bool httpc_reusable(const struct httpc *c)
{
	return c->fd >= 0 && c->have_head && c->body_done && c->body.len == c->body_off && c->head.keep_alive
		&& c->head.status != 101;
}

int httpc_fd(const struct httpc *c)
{
	return c->fd;
}

bool httpc_buffered(const struct httpc *c)
{
	return c->body.len > c->body_off || c->in.len > 0 || c->body_done;
}

int httpc_hijack(struct httpc *c, struct sbuf *ret_preread)
{
	sbuf_add(ret_preread, c->in.buf, c->in.len);
	sbuf_reset(&c->in);
	c->body_done = true;
	return TAKE_FD(c->fd);
}
