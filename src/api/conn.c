/* See conn.h for the theory of operation. */
#include "api/conn.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

static void conn_on_io(struct loop_source *s, int fd, uint32_t events, void *userdata);

struct hconn *hconn_new(struct server *s, int fd, bool watch_only)
{
	struct hconn *c = new0(struct hconn);

	*c = (struct hconn){.server = s, .fd = fd, .watch_only = watch_only, .moved_us = now_mono_us()};
	c->in = (struct sbuf)SBUF_INIT_MAX(CONN_IN_MAX + CONN_READ);
	c->body = (struct sbuf)SBUF_INIT_MAX(BODY_JSON_MAX);
	if (loop_add_io(s->loop, fd, EPOLLIN, conn_on_io, c, &c->io) < 0) {
		fd_close(&c->fd);
		free(c);
		return NULL;
	}
	list_append(&s->conns, &c->link);
	s->n_conns++;
	return c;
}

void hconn_close(struct hconn *c)
{
	struct server *s = c->server;

	loop_source_free(TAKE_PTR(c->io));
	fd_close(&c->fd);
	list_remove(&c->link);
	list_remove(&c->ready_link);
	sbuf_done(&c->in);
	sbuf_done(&c->out);
	sbuf_done(&c->body);
	if (c->req)
		req_client_gone(TAKE_PTR(c->req));
	free(c);
	s->n_conns--;
	server_conn_gone(s);
}

static void run_ready(void *userdata)
{
	struct server *s = userdata;

	s->ready_deferred = false;
	for (struct hconn *c; (c = list_first(&s->ready, struct hconn, ready_link));) {
		list_remove(&c->ready_link);
		hconn_run(c);
	}
	server_unref(s);
}

void hconn_schedule(struct hconn *c)
{
	struct server *s = c->server;

	if (c->running || c->ready_link.next)
		return;
	list_append(&s->ready, &c->ready_link);
	if (!s->ready_deferred) {
		s->ready_deferred = true;
		s->refs++;
		loop_defer(s->loop, run_ready, s);
	}
}

/* ---- writing ---- */

static void conn_break(struct hconn *c)
{
	c->broken = true;
	sbuf_done(&c->out);
	/* makes EPOLLHUP certain, so that a request at work learns of it from the loop */
	shutdown(c->fd, SHUT_RDWR);
	hconn_schedule(c);
}

static void conn_flush(struct hconn *c)
{
	while (c->out.len > 0 && !c->broken) {
		ssize_t n = send(c->fd, c->out.buf, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			conn_break(c);
			return;
		}
		c->moved_us = now_mono_us();
		sbuf_consume(&c->out, (size_t)n);
	}
	sbuf_done(&c->out);
}

static uint32_t conn_wanted(const struct hconn *c)
{
	uint32_t events = EPOLLHUP;	/* never an empty mask: that would silence hang-ups too */

	switch (c->state) {
	case CONN_HEAD:
	case CONN_BODY:
	case CONN_DRAIN:
		events |= EPOLLIN;
		break;
	case CONN_HANDLING:
		if (c->req && c->req->reading && !c->req->paused)
			events |= EPOLLIN;
		break;
	case CONN_FLUSH:
	case CONN_TAKEN:
		break;
	}
	if (c->eof)
		events &= ~(uint32_t)EPOLLIN;
	if (c->out.len > 0)
		events |= EPOLLOUT;
	return events;
}

void hconn_send(struct hconn *c, const void *p, size_t n)
{
	if (c->broken)
		return;
	if (c->out.len == 0) {
		ssize_t k = RETRY(send(c->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT));

		if (k < 0 && errno != EAGAIN) {
			conn_break(c);
			return;
		}
		if (k > 0) {
			c->moved_us = now_mono_us();
			p = (const char *)p + k;
			n -= (size_t)k;
		}
	}
	if (n == 0)
		return;
	sbuf_add(&c->out, p, n);
	if (!sbuf_ok(&c->out)) {
		log_debug("api: client on descriptor %d does not read: connection cut", c->fd);
		conn_break(c);
		return;
	}
	if (c->io)
		(void)loop_io_set(c->io, conn_wanted(c));
}

void hconn_widen(struct hconn *c)
{
	int n = CONN_WIDE;

	/* More than net.core.wmem_max wants a capability: without, client and daemon take turns. */
	(void)setsockopt(c->fd, SOL_SOCKET, SO_SNDBUFFORCE, &n, sizeof n);
}

void hconn_expect_continue(struct hconn *c)
{
	static const char answer[] = "HTTP/1.1 100 Continue\r\n\r\n";

	if (!c->req->pub.head.expect_continue)
		return;
	c->req->pub.head.expect_continue = false;
	if (c->in.len == 0 && !c->reader.done)
		hconn_send(c, answer, sizeof answer - 1);
}

/* ---- reading ---- */

static void conn_read(struct hconn *c)
{
	char buf[CONN_READ];
	ssize_t n;

	if (c->in.len >= CONN_IN_MAX)
		return;
	n = RETRY(read(c->fd, buf, sizeof buf));
	if (n > 0) {
		sbuf_add(&c->in, buf, (size_t)n);
		c->moved_us = now_mono_us();
	} else if (n == 0) {
		c->eof = true;
	} else if (errno != EAGAIN) {
		c->eof = true;
		c->broken = true;
	}
}

static void in_consume(struct hconn *c, size_t n)
{
	if (n == c->in.len)
		sbuf_done(&c->in);	/* an idle connection keeps no buffer; the maximum stays */
	else
		sbuf_consume(&c->in, n);
}

/* Decodes some of what was read into out. 1 = bytes moved or the end came, 0 = needs more input,
 * -EBADMSG, -ECONNRESET. */
static int body_pump(struct hconn *c, struct sbuf *out)
{
	struct body_reader *b = &c->reader;
	size_t take = MIN(c->in.len, (size_t)CONN_READ);
	ssize_t n;

	if (b->done)
		return 1;
	if (c->in.len == 0)
		return c->eof ? -ECONNRESET : 0;
	if (b->is_chunked) {
		n = http_chunked_decode(&b->chunked, c->in.buf, take, out, &b->done);
		if (n < 0)
			return (int)n;
	} else {
		n = (ssize_t)MIN((uint64_t)take, b->left);
		sbuf_add(out, c->in.buf, (size_t)n);
		b->left -= (uint64_t)n;
		b->done = b->left == 0;
	}
	b->total += (uint64_t)n;
	in_consume(c, (size_t)n);
	return 1;
}

/* ---- states ---- */

static bool body_too_large(struct hconn *c)
{
	c->close_after = true;
	c->state = CONN_HANDLING;
	resp_message(&c->req->pub, 413, "request body too large");
	return true;
}

/* Each step returns true to go on with the (new) state, false to wait for the loop. */
static bool step_head(struct hconn *c)
{
	struct http_head head;
	ssize_t n = http_parse_head(c->in.len ? c->in.buf : "", c->in.len, false, &head);

	if (n == 0) {
		if (c->eof || (c->server->stopping && c->in.len == 0))
			c->broken = true;
		return c->broken;
	}
	if (n < 0) {
		sbuf_done(&c->in);
		c->eof = true;
		hconn_refuse(c, n == -E2BIG ? 431 : 400,
			     n == -E2BIG ? "request header too large" : "malformed request");
		return true;
	}
	in_consume(c, (size_t)n);
	c->reader = (struct body_reader){
		.is_chunked = head.chunked,
		.left = head.content_length > 0 ? (uint64_t)head.content_length : 0,
	};
	c->reader.done = !c->reader.is_chunked && c->reader.left == 0;
	c->close_after = !head.keep_alive;
	c->req = req_new(c, &head);
	c->state = CONN_HANDLING;
	if (!req_route(c->req))
		return true;
	if (c->req->route->body == BODY_JSON && c->reader.left > BODY_JSON_MAX)
		return body_too_large(c);
	if (c->req->route->body == BODY_STREAM) {
		req_dispatch(c->req);
		return true;
	}
	/* An Engine client that upgrades with a chunked body never ends that body: it is not waited for. */
	if (c->req->route->body == BODY_NONE && c->reader.is_chunked) {
		req_dispatch(c->req);
		return true;
	}
	c->state = CONN_BODY;
	hconn_expect_continue(c);
	return true;
}

static bool step_body(struct hconn *c)
{
	bool collect = c->req->route->body == BODY_JSON;
	int r = 0;

	while (!c->reader.done) {
		if (!collect)
			sbuf_reset(&c->body);
		r = body_pump(c, &c->body);
		if (r <= 0)
			break;
		if (!sbuf_ok(&c->body) || (!collect && c->reader.total > BODY_SKIP_MAX))
			return body_too_large(c);
	}
	if (r == -ECONNRESET) {
		c->broken = true;
		return true;
	}
	if (r < 0) {
		c->close_after = true;
		c->state = CONN_HANDLING;
		resp_errorf(&c->req->pub, ERR_INVALID, "malformed chunked encoding");
		return true;
	}
	if (!c->reader.done)
		return false;
	if (!collect)
		sbuf_reset(&c->body);
	c->state = CONN_HANDLING;
	req_dispatch(c->req);
	return true;
}

/* The handler reads the body itself. */
static bool step_handling(struct hconn *c)
{
	struct req *q = c->req;
	_cleanup_sbuf_ struct sbuf part = SBUF_INIT;
	bool (*fn)(struct request *, const void *, ssize_t) = q ? q->body_fn : NULL;
	int r;

	if (!q || !q->reading || q->paused)
		return false;
	r = body_pump(c, &part);
	if (r == 0)
		return false;
	if (r < 0) {
		q->reading = false;
		c->close_after = true;
		fn(&q->pub, NULL, r);
		if (r == -ECONNRESET && c->req == q)
			c->broken = true;
		return true;
	}
	if (part.len > 0 && !fn(&q->pub, part.buf, (ssize_t)part.len) && c->req == q)
		q->paused = true;
	/* fn may have answered, which ends q */
	if (c->req == q && c->reader.done && q->reading && !q->paused) {
		q->reading = false;
		fn(&q->pub, NULL, 0);
	}
	return true;
}

static bool step_flush(struct hconn *c)
{
	conn_flush(c);
	if (c->broken)
		return true;
	if (c->out.len > 0)
		return false;
	c->state = c->reader.done ? CONN_HEAD : CONN_DRAIN;
	if (c->state == CONN_HEAD && (c->close_after || c->server->stopping))
		c->broken = true;
	/* The client may still be sending what was refused: closing now would make it lose the answer. */
	if (c->state == CONN_DRAIN && c->close_after)
		shutdown(c->fd, SHUT_WR);
	return true;
}

static bool step_drain(struct hconn *c)
{
	while (!c->reader.done) {
		int r;

		sbuf_reset(&c->body);
		r = body_pump(c, &c->body);
		if (r < 0 || c->reader.total > BODY_DRAIN_MAX) {
			c->broken = true;
			return true;
		}
		if (r == 0)
			return false;
	}
	sbuf_done(&c->body);
	if (c->close_after)
		c->broken = true;
	c->state = CONN_HEAD;
	return true;
}

void hconn_run(struct hconn *c)
{
	static bool (*const steps[])(struct hconn *) = {
		[CONN_HEAD] = step_head, [CONN_BODY] = step_body, [CONN_HANDLING] = step_handling,
		[CONN_FLUSH] = step_flush, [CONN_DRAIN] = step_drain,
	};

	if (c->running)
		return;
	c->running = true;
	while (!c->broken && c->state != CONN_TAKEN && steps[c->state](c))
		;
	c->running = false;
	if (c->broken || c->state == CONN_TAKEN) {
		hconn_close(c);
		return;
	}
	(void)loop_io_set(c->io, conn_wanted(c));
}

static void conn_on_io(struct loop_source *s, int fd, uint32_t events, void *userdata)
{
	struct hconn *c = userdata;
	bool had_out = c->out.len > 0;

	if (events & EPOLLIN)
		conn_read(c);
	else if (events & (EPOLLHUP | EPOLLERR))
		c->broken = true;
	if (!c->broken && events & EPOLLOUT) {
		conn_flush(c);
		if (had_out && c->out.len == 0 && !c->broken && c->req && c->req->drain_fn) {
			c->running = true;	/* what the callback ends is carried on below */
			c->req->drain_fn(&c->req->pub);
			c->running = false;
		}
	}
	hconn_run(c);
}

void hconn_sweep(struct hconn *c, uint64_t now_us)
{
	bool stalled = now_us - c->moved_us > CONN_STALL_US;
	bool in_head = c->state == CONN_HEAD;

	if (!stalled)
		return;
	if (in_head && c->in.len == 0 && c->server->n_conns < CONN_MAX / 2)
		return;		/* idle between requests */
	if (in_head || c->state == CONN_BODY || c->state == CONN_DRAIN || c->state == CONN_FLUSH)
		hconn_close(c);
}
