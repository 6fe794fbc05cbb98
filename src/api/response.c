#include "api/conn.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "lib/json_write.h"
#include <stdio.h>
#include <string.h>

/* Codes that differ between error kinds and HTTP are few; the reasons are for people with a protocol dump. */
static const struct { int status; const char *reason;
} reasons[] = {
    {101, "UPGRADED"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {304, "Not Modified"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {409, "Conflict"},
    {413, "Content Too Large"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
};

const char *http_reason(int status)
{
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Status";
}

int http_status_of(enum err_kind k)
{
	static const int status[_ERR_KIND_MAX] = {
	    [ERR_NONE] = 500,
	    [ERR_SYSTEM] = 500,
	    [ERR_INVALID] = 400,
	    [ERR_FORBIDDEN] = 403,
	    [ERR_UNAUTHORIZED] = 401,
	    [ERR_NOT_FOUND] = 404,
	    [ERR_CONFLICT] = 409,
	    [ERR_NOT_MODIFIED] = 304,
	    [ERR_NOT_IMPLEMENTED] = 501,
	    [ERR_UNAVAILABLE] = 503,
	    [ERR_CMD_NOT_FOUND] = 400,
	    [ERR_CMD_NOT_EXECUTABLE] = 400,
	};

	return k < _ERR_KIND_MAX ? status[k] : 500;
}

static void add_common(struct server *s, int status, int api_max, struct sbuf *out)
{
	sbuf_printf(out,
		    "HTTP/1.1 %d %s\r\nApi-Version: 1.%d\r\nDocker-Experimental: false\r\nOstype: linux\r\n"
		    "Server: insula/" INSULA_VERSION " (linux)\r\nDate: %s\r\n",
		    status, http_reason(status), api_max, server_date(s));
}

void resp_head(struct req *q, int status, struct sbuf *out)
{
	struct hconn *c = q->conn;

	add_common(q->pub.server, status, API_MINOR_MAX, out);
	if (q->headers.len)
		sbuf_add(out, q->headers.buf, q->headers.len);
	/* A client that was not told to continue may or may not send its body: the connection cannot go on.
	 */
	if (c && q->pub.head.expect_continue && !c->reader.done)
		c->close_after = true;
	if (c && c->server->stopping)
		c->close_after = true;
}

void resp_header(struct request *r, const char *name, const char *value)
{
	/* values may come from images and users: a line end would start a header of their own */
	if (strpbrk(value, "\r\n"))
		return;
	sbuf_printf(&req_of(r)->headers, "%s: %s\r\n", name, value);
}

/* A complete answer; body is not sent for HEAD. */
static void answer(struct request *r, int status, const char *content_type, const char *body, size_t n)
{
	struct req *q = req_of(r);
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT;
	bool bodyless = status == 204 || status == 304;

	if (!q->conn) {
		req_finish(q);
		return;
	}
	resp_head(q, status, &out);
	if (q->conn->close_after)
		sbuf_puts(&out, "Connection: close\r\n");
	if (content_type && !bodyless)
		sbuf_printf(&out, "Content-Type: %s\r\n", content_type);
	if (!bodyless)
		sbuf_printf(&out, "Content-Length: %zu\r\n", n);
	sbuf_puts(&out, "\r\n");
	if (!bodyless && !q->is_head)
		sbuf_add(&out, body, n);
	hconn_send(q->conn, out.buf, out.len);
	req_finish(q);
}

void resp_json(struct request *r, int status, struct json *j)
{
	_cleanup_sbuf_ struct sbuf text = SBUF_INIT_MAX(LIST_MAX);

	json_emit(&text, j);
	json_free(j);	/* the tree is several times as large as its text */
	resp_json_text(r, status, &text);
}

void resp_json_spill(void *ud, struct sbuf *text)
{
	struct request *r = ud;
	struct req *q = req_of(r);

	if (!q->streaming) {
		resp_stream_begin(r, 200, "application/json");
		if (q->conn)
			hconn_widen(q->conn);
	}
	resp_stream_write(r, text->buf, text->len);
	sbuf_reset(text);
}

void resp_json_text(struct request *r, int status, struct sbuf *text)
{
	json_free(TAKE_PTR(r->body));
	sbuf_putc(text, '\n');
	if (req_of(r)->streaming && sbuf_ok(text)) {
		resp_stream_write(r, text->buf, text->len);
		resp_stream_end(r);
	} else if (req_of(r)->streaming)
		resp_stream_abort(r);
	else if (sbuf_ok(text))
		answer(r, status, "application/json", text->buf, text->len);
	else
		resp_message(r, 500, "the answer is too large");
}

void resp_text(struct request *r, int status, const char *content_type, const char *body)
{
	answer(r, status, content_type, body, strlen(body));
}

void resp_status(struct request *r, int status)
{
	answer(r, status, NULL, "", 0);
}

void resp_message(struct request *r, int status, const char *message)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	sbuf_puts(&b, "{\"message\":");
	json_emit_str(&b, message, strlen(message));
	sbuf_puts(&b, "}\n");
	answer(r, status, "application/json", b.buf, b.len);
}

void resp_error(struct request *r, const struct err *e)
{
	resp_message(r, http_status_of(e->kind), err_text(e));
}

void resp_errorf(struct request *r, enum err_kind kind, const char *fmt, ...)
{
	_cleanup_free_ char *message = NULL;
	va_list ap;

	va_start(ap, fmt);
	message = xvasprintf(fmt, ap);
	va_end(ap);
	resp_message(r, http_status_of(kind), message);
}

void hconn_refuse(struct hconn *c, int status, const char *message)
{
	_cleanup_free_ char *body = xasprintf("{\"message\":\"%s\"}\n", message);
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT;

	add_common(c->server, status, API_MINOR_MAX, &out);
	sbuf_printf(&out,
		    "Connection: close\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
		    strlen(body), body);
	c->close_after = true;
	c->reader = (struct body_reader){.done = true};
	c->state = CONN_FLUSH;
	hconn_send(c, out.buf, out.len);
}

/* ---- streams ---- */

void resp_stream_begin(struct request *r, int status, const char *content_type)
{
	struct req *q = req_of(r);
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT;

	req_answer_begun(q);
	q->streaming = true;
	json_free(TAKE_PTR(r->body));
	if (!q->conn)
		return;
	q->out_chunked = q->pub.head.minor > 0;
	if (!q->out_chunked)
		q->conn->close_after = true;
	resp_head(q, status, &out);
	if (q->conn->close_after)
		sbuf_puts(&out, "Connection: close\r\n");
	sbuf_printf(&out, "Content-Type: %s\r\n", content_type);
	sbuf_printf(&out, "%s\r\n", q->out_chunked ? "Transfer-Encoding: chunked\r\n" : "");
	hconn_send(q->conn, out.buf, out.len);
}

void resp_stream_write(struct request *r, const void *p, size_t n)
{
	struct req *q = req_of(r);
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT;

	if (!q->conn || q->is_head || n == 0)
		return;
	if (!q->out_chunked) {
		hconn_send(q->conn, p, n);
		return;
	}
	sbuf_printf(&out, "%zx\r\n", n);
	sbuf_add(&out, p, n);
	sbuf_puts(&out, "\r\n");
	hconn_send(q->conn, out.buf, out.len);
}

size_t resp_stream_pending(struct request *r)
{
	struct req *q = req_of(r);

	return q->conn ? q->conn->out.len : 0;
}

void resp_stream_on_drain(struct request *r, void (*fn)(struct request *r))
{
	req_of(r)->drain_fn = fn;
}

void resp_stream_end(struct request *r)
{
	struct req *q = req_of(r);

	if (q->conn && q->out_chunked && !q->is_head)
		hconn_send(q->conn, "0\r\n\r\n", 5);
	req_finish(q);
}

void resp_stream_abort(struct request *r)
{
	struct req *q = req_of(r);

	if (q->conn)
		q->conn->broken = true;
	req_finish(q);
}
