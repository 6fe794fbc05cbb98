/* Theory of operation.
 *
 * Two queues: control frames and DATA. Control frames overtake queued DATA frames, except
 * STREAM_EOF and STREAM_STOP, which stay behind the data of their stream and so go the DATA way. Whatever is
 * half written is finished first: `out` holds the bytes on their way, and is refilled a frame at a
 * time. Descriptors travel with the first byte of their frame, so a frame with one is sent by a
 * sendmsg of its own. A recvmsg may return frames sent before it as well, but nothing behind: the frame
 * that its last byte belongs to is the one.
 *
 * A handler may free the connection: `depth` counts the dispatches in progress, and the memory goes
 * when the outermost one returns. */
#include "proto/conn.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/hash.h"
#include "base/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>

struct out_frame {
	struct list link;
	int fd;
	size_t n;
	uint8_t bytes[];
};

struct pending {
	struct list link;
	uint32_t seq;
	conn_reply_fn fn;
	void *userdata;
};

struct conn {
	struct loop *loop;
	int fd;
	bool is_socket, dead, closed;
	unsigned depth;
	uint16_t epoch;
	uint32_t next_seq;
	const struct conn_ops *ops;
	void *userdata;
	struct loop_source *io;
	struct sbuf in;
	int in_fds[SOCK_MAX_FDS];
	size_t n_in_fds;
	uint64_t received, dispatched;	/* bytes of the stream */
	uint64_t fds_end;		/* where the recvmsg that brought in_fds ended */
	struct list control, data, requests;
	struct out_frame *current;
	size_t sent, queued;
};

static void on_io(struct loop_source *s, int fd, uint32_t events, void *userdata);

int conn_new(struct loop *l, int fd, bool is_socket, const struct conn_ops *ops, void *userdata,
	     struct conn **ret)
{
	struct conn *c = new0(struct conn);
	int r;

	*c = (struct conn){
		.loop = l, .fd = fd, .is_socket = is_socket, .ops = ops, .userdata = userdata,
		.in = SBUF_INIT_MAX(FRAME_MAX + FRAME_HDR + (64 << 10)),
	};
	list_init(&c->control);
	list_init(&c->data);
	list_init(&c->requests);
	r = fd_set_nonblock(fd, true);
	if (r == 0)
		r = loop_add_io(l, fd, EPOLLIN, on_io, c, &c->io);
	if (r < 0) {
		close(fd);
		free(c);
		return r;
	}
	*ret = c;
	return 0;
}

static void out_frame_free(struct out_frame *f)
{
	if (f && f->fd >= 0)
		close(f->fd);
	free(f);
}

static void close_in_fds(struct conn *c)
{
	for (size_t i = 0; i < c->n_in_fds; i++)
		fd_close(&c->in_fds[i]);
	c->n_in_fds = 0;
}

static void conn_release(struct conn *c)
{
	list_for_each(f, &c->control, struct out_frame, link)
		out_frame_free(f);
	list_for_each(f, &c->data, struct out_frame, link)
		out_frame_free(f);
	out_frame_free(c->current);
	list_for_each(p, &c->requests, struct pending, link)
		free(p);
	close_in_fds(c);
	sbuf_done(&c->in);
	free(c);
}

void conn_free(struct conn *c)
{
	if (!c || c->dead)
		return;
	c->dead = true;
	loop_source_free(c->io);
	c->io = NULL;
	fd_close(&c->fd);
	if (!c->depth)
		conn_release(c);
}

int conn_fd(const struct conn *c)
{
	return c->fd;
}

void conn_set_epoch(struct conn *c, uint16_t epoch)
{
	c->epoch = epoch;
}

size_t conn_queued(const struct conn *c)
{
	return c->queued;
}

static void enter(struct conn *c)
{
	c->depth++;
}

static void leave(struct conn *c)
{
	if (--c->depth == 0 && c->dead)
		conn_release(c);
}

/* Ends the connection: requests fail, then the owner hears of it, once. */
static void conn_fail(struct conn *c, int r)
{
	_cleanup_err_ struct err e = ERR_INIT;

	if (c->closed || c->dead)
		return;
	c->closed = true;
	loop_source_free(c->io);
	c->io = NULL;
	err_msg(&e, ERR_UNAVAILABLE, 0, "the connection was closed");
	enter(c);
	for (struct pending *p; !c->dead && (p = list_first(&c->requests, struct pending, link));) {
		list_remove(&p->link);
		p->fn(p->userdata, r < 0 ? r : -ECONNRESET, &e, NULL, 0);
		free(p);
	}
	if (!c->dead)
		c->ops->on_close(c, r, c->userdata);
	leave(c);
}

static struct out_frame *next_out(struct conn *c)
{
	struct out_frame *f = list_first(&c->control, struct out_frame, link);

	if (!f)
		f = list_first(&c->data, struct out_frame, link);
	if (f)
		list_remove(&f->link);
	return f;
}

/* Writes until the kernel takes no more: 0 all written, 1 more to go, -errno. */
static int conn_write(struct conn *c)
{
	for (;;) {
		struct out_frame *f = c->current;
		ssize_t n;

		if (!f) {
			f = c->current = next_out(c);
			c->sent = 0;
			if (!f)
				return 0;
		}
		if (c->is_socket) {
			n = sock_send_fds(c->fd, f->bytes + c->sent, f->n - c->sent, &f->fd,
					  f->fd >= 0 ? 1 : 0);
		} else {
			n = RETRY(write(c->fd, f->bytes + c->sent, f->n - c->sent));
			if (n < 0)
				n = -errno;
		}
		if (n == -EAGAIN)
			return 1;
		if (n < 0)
			return (int)n;
		fd_close(&f->fd);
		c->sent += (size_t)n;
		c->queued -= (size_t)n;
		if (c->sent == f->n) {
			out_frame_free(f);
			c->current = NULL;
		}
	}
}

static void conn_flow(struct conn *c)
{
	int r = conn_write(c);

	/* A write error shows as a read error or EOF too: the reading side reports it, after what the
	 * peer sent before it went. */
	(void)loop_io_set(c->io, EPOLLIN | (r == 1 ? EPOLLOUT : 0));
}

void conn_send(struct conn *c, uint16_t type, uint32_t seq, uint32_t stream, const void *p, size_t n,
	       int pass_fd)
{
	struct frame f = {.len = (uint32_t)n, .type = type, .epoch = c->epoch, .seq = seq, .stream = stream};
	struct out_frame *o;
	bool idle = !c->current && list_empty(&c->control) && list_empty(&c->data);

	if (c->dead || c->closed || n > FRAME_MAX)
		return;
	o = xmalloc(sizeof *o + FRAME_HDR + n);
	o->link = (struct list){ 0 };
	o->n = FRAME_HDR + n;
	o->fd = pass_fd >= 0 ? fcntl(pass_fd, F_DUPFD_CLOEXEC, 3) : -EBADF;
	frame_encode_hdr(&f, o->bytes);
	if (n)
		memcpy(o->bytes + FRAME_HDR, p, n);
	list_append(type == MSG_DATA || type == MSG_STREAM_EOF || type == MSG_STREAM_STOP ? &c->data
											  : &c->control,
		    &o->link);
	c->queued += o->n;
	if (idle)
		conn_flow(c);
}

void conn_request(struct conn *c, uint16_t type, const void *p, size_t n, int pass_fd, conn_reply_fn fn,
		  void *userdata)
{
	struct pending *q;

	if (c->dead || c->closed || n > FRAME_MAX) {
		_cleanup_err_ struct err e = ERR_INIT;

		err_msg(&e, ERR_UNAVAILABLE, 0,
			n > FRAME_MAX ? "the request is too large" : "the connection was closed");
		fn(userdata, -ECONNRESET, &e, NULL, 0);
		return;
	}
	q = new0(struct pending);
	if (++c->next_seq == 0)
		c->next_seq = 1;
	q->seq = c->next_seq;
	q->fn = fn;
	q->userdata = userdata;
	list_append(&c->requests, &q->link);
	conn_send(c, type, q->seq, 0, p, n, pass_fd);
}

void conn_reply(struct conn *c, uint32_t seq, int r, const struct err *e, const void *payload, size_t n)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	struct msg_reply m = { .payload = { (uint8_t *)payload, n } };

	if (r < 0) {
		m.kind = e && e->kind ? e->kind : ERR_SYSTEM;
		m.errnum = (uint32_t)-r;
		m.message = e && e->msg ? e->msg : strerror(-r);
		m.payload.n = 0;
	}
	msg_reply_encode(&m, &b);
	conn_send(c, MSG_REPLY, seq, 0, b.buf, b.len, -1);
}

static int handle_reply(struct conn *c, const struct frame *f)
{
	struct pending *found = NULL;
	struct msg_reply m;
	int r;

	list_for_each(p, &c->requests, struct pending, link)
		if (p->seq == f->seq) {
			found = p;
			break;
		}
	if (!found)
		return 0;
	r = msg_reply_decode(f->payload, f->len, &m);
	if (r < 0)
		return r;
	list_remove(&found->link);
	if (m.kind) {
		struct err e = {
			.kind = m.kind < _ERR_KIND_MAX ? (enum err_kind)m.kind : ERR_SYSTEM,
			.errnum = (int)(m.errnum & 0xfff), .msg = m.message,
		};

		found->fn(found->userdata, e.errnum ? -e.errnum : -EIO, &e, NULL, 0);
	} else {
		found->fn(found->userdata, 0, NULL, m.payload.p, m.payload.n);
	}
	free(found);
	msg_reply_done(&m);
	return 0;
}

static int conn_dispatch(struct conn *c)
{
	size_t used = 0;
	int r = 0;

	while (!c->dead && r == 0) {
		struct frame f;
		ssize_t n = frame_decode((uint8_t *)c->in.buf + used, c->in.len - used, &f);

		if (n <= 0) {
			r = (int)n;
			break;
		}
		used += (size_t)n;
		c->dispatched += (size_t)n;
		/* Frames written before a restore belong to another life of the guest. */
		if (f.epoch != c->epoch && f.type != MSG_HELLO)
			continue;
		if (f.type == MSG_REPLY) {
			r = handle_reply(c, &f);
			continue;
		}
		bool with_fds = c->n_in_fds && c->dispatched >= c->fds_end;

		c->ops->on_frame(c, &f, c->in_fds, with_fds ? c->n_in_fds : 0, c->userdata);
		if (with_fds)
			close_in_fds(c);
	}
	if (!c->dead && used)
		sbuf_consume(&c->in, used);
	return r;
}

static ssize_t conn_read(struct conn *c)
{
	char *to = sbuf_reserve(&c->in, 32 << 10);
	ssize_t n;

	if (!to)
		return -EPROTO;
	if (c->is_socket) {
		/* Descriptors of one frame at a time: while some wait for their frame take no more. */
		int fds[SOCK_MAX_FDS];
		size_t n_fds = SOCK_MAX_FDS;

		n = sock_recv_fds(c->fd, to, 32 << 10, fds, &n_fds);
		if (n_fds && n > 0)
			c->fds_end = c->received + (size_t)n;
		for (size_t i = 0; i < n_fds; i++) {
			if (c->n_in_fds < SOCK_MAX_FDS)
				c->in_fds[c->n_in_fds++] = fds[i];
			else
				close(fds[i]);
		}
	} else {
		n = RETRY(read(c->fd, to, 32 << 10));
		if (n < 0)
			n = -errno;
	}
	if (n > 0) {
		sbuf_commit(&c->in, (size_t)n);
		c->received += (size_t)n;
	}
	return n;
}

static void on_io(struct loop_source *s, int fd, uint32_t events, void *userdata)
{
	struct conn *c = userdata;
	ssize_t n;
	int r = 0;

	enter(c);
	if (events & EPOLLOUT)
		conn_flow(c);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		n = conn_read(c);
		if (n > 0)
			r = conn_dispatch(c);
		else if (n == 0)
			conn_fail(c, 0);
		else if (n != -EAGAIN)
			r = (int)n;
		if (r < 0 && !c->dead)
			conn_fail(c, r);
	}
	/* An idle connection holds no buffer. */
	if (!c->dead && !c->in.len && c->in.cap > (4 << 10))
		sbuf_done(&c->in);
	leave(c);
}

int conn_flush(struct conn *c, int timeout_ms)
{
	uint64_t end = now_mono_us() + (uint64_t)timeout_ms * 1000;

	for (;;) {
		struct pollfd pfd = { .fd = c->fd, .events = POLLOUT };
		uint64_t now = now_mono_us();
		int r = conn_write(c);

		if (r <= 0)
			return r;
		if (now >= end)
			return -ETIMEDOUT;
		if (RETRY(poll(&pfd, 1, (int)((end - now) / 1000) + 1)) < 0)
			return -errno;
	}
}
