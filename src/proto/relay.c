#include "proto/relay.h"
#include "base/alloc.h"
#include "base/fd.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct relay {
	struct loop *loop;
	struct stream *stream;
	enum relay_way way;
	int fd;
	int (*open)(void *userdata);	/* makes fd, if there is none yet */
	void *open_userdata;
	struct loop_source *io;		/* NULL once the socket is closed at its other end */
	struct loop_source *last;	/* calls over() from the loop */
	struct sbuf out;		/* from the socket: the stream has no credit for it yet */
	struct sbuf in;			/* from the stream: the socket does not take it yet */
	uint64_t written;
	bool out_ended;			/* the socket has ended, and the stream was told */
	bool in_eof, in_ended;		/* the stream has ended; the socket was told */
	bool deaf;			/* nobody reads at the socket: what comes is dropped */
	bool refused;			/* the other side takes nothing, and has nothing to give */
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

	/* That the readers of a FIFO have gone is to be heard of at any time. */
	(void)loop_io_set(r->io, (in ? (uint32_t)EPOLLIN : 0) | (out ? (uint32_t)EPOLLOUT : 0) |
					 (r->way == RELAY_TO ? (uint32_t)EPOLLERR : 0));
}

/* What comes is dropped from now on, and whoever sends it hears of it. */
static void go_deaf(struct relay *r)
{
	r->deaf = true;
	if (!r->in_eof)
		stream_stop(r->stream);
}

static void on_io(struct loop_source *s, int fd, uint32_t events, void *ud);

static int use_fd(struct relay *r, int fd)
{
	uint32_t events = r->way == RELAY_TO ? EPOLLERR : EPOLLIN;
	int e = fd_set_nonblock(fd, true);

	r->fd = fd;
	return e < 0 ? e : loop_add_io(r->loop, fd, events, on_io, r, &r->io);
}

/* False: what came has to wait. */
static bool have_fd(struct relay *r)
{
	int fd;

	if (r->fd >= 0 || r->deaf)
		return true;
	fd = r->open(r->open_userdata);
	if (fd == -EAGAIN)
		return false;
	if (fd < 0 || use_fd(r, fd) < 0)
		go_deaf(r);
	return true;
}

/* Programs with a relay ignore SIGPIPE. */
static ssize_t put(struct relay *r)
{
	return r->way == RELAY_BOTH ? RETRY(send(r->fd, r->in.buf, r->in.len, MSG_NOSIGNAL))
				    : RETRY(write(r->fd, r->in.buf, r->in.len));
}

/* Writes what the descriptor takes. */
static void flush_in(struct relay *r)
{
	while (r->in.len && have_fd(r)) {
		ssize_t n = r->deaf ? (ssize_t)r->in.len : put(r);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			go_deaf(r);
			continue;
		}
		if (!r->deaf)
			r->written += (uint64_t)n;
		sbuf_consume(&r->in, (size_t)n);
		stream_taken(r->stream, (size_t)n);
	}
	if (r->in_eof && !r->in.len && !r->in_ended) {
		r->in_ended = true;
		if (r->way == RELAY_BOTH)	/* else it is closed when all is over */
			(void)shutdown(r->fd, SHUT_WR);
	}
}

static void end_out(struct relay *r)
{
	r->out_ended = true;
	stream_eof(r->stream);
}

/* False: there is nothing now. */
static bool read_out(struct relay *r)
{
	char buf[32 << 10];
	ssize_t n = RETRY(read(r->fd, buf, sizeof buf));
	size_t sent;

	if (n < 0 && errno == EAGAIN && r->io)
		return false;
	if (n <= 0) {
		end_out(r);
		return true;
	}
	sent = stream_write(r->stream, buf, (size_t)n);
	sbuf_add(&r->out, buf + sent, (size_t)n - sent);
	return true;
}

/* A socket that is closed at its other end is always ready, credit or not: it is read without a watch. */
static void hang_up(struct relay *r)
{
	loop_source_free(TAKE_PTR(r->io));
	go_deaf(r);
	flush_in(r);
	while (!r->out_ended && !r->out.len)
		(void)read_out(r);
}

static void on_io(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct relay *r = ud;

	if (events & EPOLLOUT)
		flush_in(r);
	if (events & EPOLLIN && !r->out_ended && !r->out.len)
		(void)read_out(r);
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
	/* A FIFO that nobody writes has come to its end as well (relay_leave). */
	if (r->way == RELAY_FROM && !r->out_ended && !r->out.len)
		(void)read_out(r);
	flush_in(r);
	watch(r);
	check_over(r);
}

static void on_stop(struct stream *s, void *ud)
{
	struct relay *r = ud;

	if (r->way == RELAY_BOTH)
		(void)shutdown(r->fd, SHUT_RD);
	r->refused = r->way != RELAY_BOTH;
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
		(void)read_out(r);
	watch(r);
	check_over(r);
}

int relay_new(struct loop *l, struct streams *ss, uint32_t stream, const struct relay_end *end,
	      void (*over)(struct relay *r, void *userdata), void *userdata, struct relay **ret)
{
	static const struct stream_ops ops = { on_data, on_eof, on_writable, on_stop };
	struct relay *x = new0(struct relay);
	bool from = end->way == RELAY_FROM;
	int r;

	*x = (struct relay){ .loop = l, .fd = end->fd, .way = end->way, .open = end->open,
			     .open_userdata = end->userdata, .over = over, .userdata = userdata,
			     .in_eof = from, .in_ended = from, .out_ended = end->way == RELAY_TO };
	r = stream_open(ss, stream, &ops, x, &x->stream);
	if (r == 0 && end->fd >= 0)
		r = use_fd(x, end->fd);
	if (r < 0) {
		relay_free(x);
		return r;
	}
	*ret = x;
	return 0;
}

void relay_retry(struct relay *r)
{
	flush_in(r);
	watch(r);
	check_over(r);
}

void relay_pump(struct relay *r)
{
	while (!r->out_ended && !r->out.len && read_out(r))
		;
	watch(r);
	check_over(r);
}

bool relay_is_deaf(const struct relay *r)
{
	return r->deaf;
}

uint64_t relay_written(const struct relay *r)
{
	return r->written;
}

bool relay_is_closed(const struct relay *r)
{
	return r->fd < 0;
}

bool relay_was_refused(const struct relay *r)
{
	return r->refused;
}

void relay_leave(struct relay *r)
{
	if (!r->in_eof)
		stream_eof(r->stream);
}

void relay_finish(struct relay *r, int timeout_ms)
{
	uint64_t end = now_mono_us() + (uint64_t)timeout_ms * 1000, now;

	while (r->way == RELAY_TO && r->fd >= 0 && r->in.len && !r->deaf && (now = now_mono_us()) < end) {
		struct pollfd p = { .fd = r->fd, .events = POLLOUT };

		(void)poll(&p, 1, (int)((end - now + 999) / 1000));
		if (p.revents & POLLERR)
			return;
		flush_in(r);
	}
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
