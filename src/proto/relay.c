#include "proto/relay.h"
#include "base/alloc.h"
#include "base/fd.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct relay {
	struct loop *loop;
	struct stream *stream;
	int fd;
	struct loop_source *io;		/* NULL once the socket is closed at its other end */
	struct loop_source *last;	/* calls over() from the loop */
	struct sbuf out;		/* from the socket: the stream has no credit for it yet */
	struct sbuf in;			/* from the stream: the socket does not take it yet */
	bool out_ended;			/* the socket has ended, and the stream was told */
	bool in_eof, in_ended;		/* the stream has ended; the socket was told */
	bool deaf;			/* nobody reads at the socket: what comes is dropped */
	void (*over)(struct relay *r, void *userdata);
	void *userdata;
};

static void on_last(struct loop_source *s, void *ud)
{
	struct relay *r = ud;

	r->over(r, r->userdata);
}

/* The stream must not go while it reports: the last step is left to the loop. */
static void check_over(struct relay *r)
{
	if (r->out_ended && r->in_ended && !r->last)
		(void)loop_add_timer(r->loop, 0, 0, on_last, r, &r->last);
}

static void watch(struct relay *r)
{
	if (!r->io)
		return;
	bool in = !r->out_ended && !r->out.len, out = r->in.len && !r->deaf;

	(void)loop_io_set(r->io, (in ? (uint32_t)EPOLLIN : 0) | (out ? (uint32_t)EPOLLOUT : 0));
}

/* What comes is dropped from now on, and whoever sends it hears of it. */
static void go_deaf(struct relay *r)
{
	r->deaf = true;
	if (!r->in_eof)
		stream_stop(r->stream);
}

/* Writes what the socket takes. */
static void flush_in(struct relay *r)
{
	while (r->in.len) {
		ssize_t n = r->deaf ? (ssize_t)r->in.len
				    : RETRY(send(r->fd, r->in.buf, r->in.len, MSG_NOSIGNAL));

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			go_deaf(r);
			continue;
		}
		sbuf_consume(&r->in, (size_t)n);
		stream_taken(r->stream, (size_t)n);
	}
	if (r->in_eof && !r->in.len && !r->in_ended) {
		r->in_ended = true;
		(void)shutdown(r->fd, SHUT_WR);
	}
}

static void end_out(struct relay *r)
{
	r->out_ended = true;
	stream_eof(r->stream);
}

static void read_out(struct relay *r)
{
	char buf[32 << 10];
	ssize_t n = RETRY(read(r->fd, buf, sizeof buf));
	size_t sent;

	if (n < 0 && errno == EAGAIN && r->io)
		return;
	if (n <= 0) {
		end_out(r);
		return;
	}
	sent = stream_write(r->stream, buf, (size_t)n);
	sbuf_add(&r->out, buf + sent, (size_t)n - sent);
}

/* A socket that is closed at its other end is always ready, credit or not: it is read without a watch. */
static void hang_up(struct relay *r)
{
	loop_source_free(TAKE_PTR(r->io));
	go_deaf(r);
	flush_in(r);
	while (!r->out_ended && !r->out.len)
		read_out(r);
}

static void on_io(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct relay *r = ud;

	if (events & EPOLLOUT)
		flush_in(r);
	if (events & EPOLLIN && !r->out_ended && !r->out.len)
		read_out(r);
	if (events & (EPOLLHUP | EPOLLERR))
		hang_up(r);
	watch(r);
	check_over(r);
}

static void on_data(struct stream *s, const void *p, size_t n, void *ud)
{
	struct relay *r = ud;

	sbuf_add(&r->in, p, n);
	flush_in(r);
	watch(r);
}

static void on_eof(struct stream *s, void *ud)
{
	struct relay *r = ud;

	r->in_eof = true;
	flush_in(r);
	check_over(r);
}

static void on_stop(struct stream *s, void *ud)
{
	struct relay *r = ud;

	(void)shutdown(r->fd, SHUT_RD);
	sbuf_done(&r->out);
	if (!r->out_ended)
		end_out(r);
	watch(r);
	check_over(r);
}

static void on_writable(struct stream *s, void *ud)
{
	struct relay *r = ud;

	if (r->out.len)
		sbuf_consume(&r->out, stream_write(r->stream, r->out.buf, r->out.len));
	while (!r->io && !r->out_ended && !r->out.len)
		read_out(r);
	watch(r);
	check_over(r);
}

int relay_new(struct loop *l, struct streams *ss, uint32_t stream, int fd,
	      void (*over)(struct relay *r, void *userdata), void *userdata, struct relay **ret)
{
	static const struct stream_ops ops = { on_data, on_eof, on_writable, on_stop };
	struct relay *x = new0(struct relay);
	int r;

	*x = (struct relay){ .loop = l, .fd = fd, .over = over, .userdata = userdata };
	r = fd_set_nonblock(fd, true);
	if (r == 0)
		r = stream_open(ss, stream, &ops, x, &x->stream);
	if (r == 0)
		r = loop_add_io(l, fd, EPOLLIN, on_io, x, &x->io);
	if (r < 0) {
		relay_free(x);
		return r;
	}
	*ret = x;
	return 0;
}

void relay_free(struct relay *r)
{
	if (!r)
		return;
	loop_source_free(r->io);
	loop_source_free(r->last);
	stream_free(r->stream);
	fd_close(&r->fd);
	sbuf_done(&r->out);
	sbuf_done(&r->in);
	free(r);
}
