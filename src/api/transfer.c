#include "api/transfer.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/sock.h"
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define PENDING_HIGH (256u << 10)	/* then wait until the client has read */
#define COLLECT_MAX (256u << 20)

struct transfer {
	struct request *req;		/* NULL: collected, or the client has left */
	struct container *c;		/* referenced */
	int fd;				/* our end */
	struct loop_source *io;
	bool ended, replied, begun, blocked;
	int r;
	struct err err;
	const char *type, *event;	/* out */
	struct sbuf data;		/* in: what the socket did not take; collect: all */
	engine_done_fn done;		/* in */
	collected_fn collected;
	void *userdata;
};

static void transfer_free(struct transfer *t)
{
	loop_source_free(t->io);
	fd_close(&t->fd);
	err_clear(&t->err);
	sbuf_done(&t->data);
	container_unref(t->c);
	free(t);
}

/* A new transfer, and the supervisor's end of its socket; NULL and an error. */
static struct transfer *transfer_new(struct container *c, int *ret_fd, struct err *e)
{
	struct transfer *t;
	int pair[2], r = sock_pair(pair);

	if (r == 0)
		r = fd_set_nonblock(pair[0], true);
	if (r < 0) {
		err_set(e, ERR_SYSTEM, r, "open a socket pair");
		return NULL;
	}
	t = new0(struct transfer);
	*t = (struct transfer){.c = container_ref(c), .fd = pair[0]};
	*ret_fd = pair[1];
	return t;
}

static void note_reply(struct transfer *t, int r, const struct err *e)
{
	t->replied = true;
	t->r = r;
	if (r < 0)
		err_msg(&t->err, e && e->kind ? e->kind : ERR_SYSTEM, r, "%s",
			e ? err_text(e) : strerror(-r));
}

/* ---- out ---- */

/* Once both the data and the answer are complete. */
static void out_maybe_over(struct transfer *t)
{
	struct request *r = t->req;

	if (!t->ended || !t->replied)
		return;
	if (t->r >= 0 && t->event)
		container_tell(t->c, t->event);
	if (t->collected) {
		t->collected(t->userdata, t->r, &t->err, &t->data);
	} else if (r) {
		r->gone = NULL;
		if (t->r < 0 && t->begun)
			resp_stream_abort(r);
		else if (t->r < 0)
			resp_error(r, &t->err);
		else
			resp_stream_end(r);
	}
	transfer_free(t);
}

static void out_begin(struct transfer *t)
{
	if (t->req && !t->begun) {
		t->begun = true;
		resp_stream_begin(t->req, 200, t->type);
	}
}

static void on_readable(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct transfer *t = ud;
	char buf[32 << 10];
	ssize_t n = RETRY(read(fd, buf, sizeof buf));

	if (n < 0 && errno == EAGAIN)
		return;
	if (n > 0 && t->collected) {
		sbuf_add(&t->data, buf, (size_t)n);
	} else if (n > 0 && t->req) {
		out_begin(t);
		resp_stream_write(t->req, buf, (size_t)n);
		t->blocked = resp_stream_pending(t->req) > PENDING_HIGH;
		if (t->blocked)
			(void)loop_io_set(t->io, 0);
	} else if (n <= 0) {
		loop_source_free(TAKE_PTR(t->io));
		fd_close(&t->fd);
		t->ended = true;
		out_maybe_over(t);
	}
}

static void out_drained(struct request *r)
{
	struct transfer *t = r->userdata;

	if (t->blocked && t->io) {
		t->blocked = false;
		(void)loop_io_set(t->io, EPOLLIN);
	}
}

/* Nobody wants it any more: the writer sees its end closed. */
static void out_gone(struct request *r)
{
	struct transfer *t = r->userdata;

	t->req = NULL;
	loop_source_free(TAKE_PTR(t->io));
	fd_close(&t->fd);
	t->ended = true;
	out_maybe_over(t);
}

static void out_replied(void *ud, int r, const struct err *e, void *result)
{
	struct transfer *t = ud;

	note_reply(t, r, e);
	if (r >= 0)
		out_begin(t);
	out_maybe_over(t);
}

static int out_start(struct transfer *t, struct engine *e, int peer, const struct files_args *a)
{
	struct files_args args = *a;
	int r = loop_add_io(e->loop, t->fd, EPOLLIN, on_readable, t, &t->io);

	if (r < 0) {
		close(peer);
		return r;
	}
	args.fd = peer;
	container_files(t->c, &args, out_replied, t);
	return 0;
}

void transfer_out(struct request *r, struct container *c, const struct files_args *a, const char *type,
		  const char *event)
{
	_cleanup_err_ struct err e = ERR_INIT;
	int peer;
	struct transfer *t = transfer_new(c, &peer, &e);

	if (!t) {
		resp_error(r, &e);
		return;
	}
	t->req = r;
	t->type = type;
	t->event = event;
	r->userdata = t;
	r->gone = out_gone;
	resp_stream_on_drain(r, out_drained);
	if (out_start(t, r->engine, peer, a) < 0) {
		r->gone = NULL;
		resp_errorf(r, ERR_SYSTEM, "watch a socket pair");
		transfer_free(t);
	}
}

void transfer_collect(struct engine *e, struct container *c, const struct files_args *a, collected_fn done,
		      void *ud)
{
	_cleanup_err_ struct err err = ERR_INIT;
	int peer;
	struct transfer *t = transfer_new(c, &peer, &err);

	if (!t) {
		done(ud, -EMFILE, &err, NULL);
		return;
	}
	t->collected = done;
	t->userdata = ud;
	t->data = (struct sbuf)SBUF_INIT_MAX(COLLECT_MAX);
	if (out_start(t, e, peer, a) < 0) {
		err_msg(&err, ERR_SYSTEM, -EMFILE, "watch a socket pair");
		done(ud, -EMFILE, &err, NULL);
		transfer_free(t);
	}
}

/* ---- in ---- */

/* No more of the body is wanted, or there is no more. */
static void in_end(struct transfer *t)
{
	loop_source_free(TAKE_PTR(t->io));
	fd_close(&t->fd);
	sbuf_reset(&t->data);
}

static void in_flush(struct transfer *t)
{
	while (t->data.len) {
		ssize_t n = RETRY(send(t->fd, t->data.buf, t->data.len, MSG_NOSIGNAL));

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			in_end(t);		/* the answer says why */
			return;
		}
		sbuf_consume(&t->data, (size_t)n);
	}
	if (t->ended)
		in_end(t);
}

static void on_writable(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct transfer *t = ud;

	in_flush(t);
	if (t->data.len)
		return;
	if (t->io)
		(void)loop_io_set(t->io, 0);
	if (t->req && t->blocked) {
		t->blocked = false;
		req_body_resume(t->req);
	}
}

/* After the answer the request is gone, and with it the reading of its body. */
static void in_replied(void *ud, int r, const struct err *e, void *result)
{
	struct transfer *t = ud;

	in_end(t);
	t->req->userdata = NULL;
	t->done(t->userdata, r, e, NULL);
	transfer_free(t);
}

static bool on_body(struct request *r, const void *p, ssize_t n)
{
	struct transfer *t = r->userdata;

	if (n <= 0) {
		/* Cut off in the middle: what has been unpacked stays, as with any unpacking. */
		t->ended = true;
		if (t->fd >= 0 && !t->data.len)
			in_end(t);
		return true;
	}
	if (t->fd < 0)
		return true;
	sbuf_add(&t->data, p, (size_t)n);
	in_flush(t);
	t->blocked = t->data.len > 0;
	if (t->blocked)
		(void)loop_io_set(t->io, EPOLLOUT);
	return !t->blocked;
}

void transfer_in(struct request *r, struct container *c, const struct files_args *a, engine_done_fn done,
		 void *ud)
{
	_cleanup_err_ struct err e = ERR_INIT;
	struct files_args args = *a;
	int peer, n;
	struct transfer *t = transfer_new(c, &peer, &e);

	if (!t) {
		done(ud, -EMFILE, &e, NULL);
		return;
	}
	t->req = r;
	t->done = done;
	t->userdata = ud;
	n = loop_add_io(r->engine->loop, t->fd, 0, on_writable, t, &t->io);
	if (n < 0) {
		close(peer);
		err_set(&e, ERR_SYSTEM, n, "watch a socket pair");
		done(ud, n, &e, NULL);
		transfer_free(t);
		return;
	}
	r->userdata = t;
	req_body_read(r, on_body);
	args.fd = peer;
	container_files(c, &args, in_replied, t);
}
