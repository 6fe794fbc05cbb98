#include "api/history.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/sbuf.h"
#include "engine/logs.h"
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define PIECE (64u << 10)

struct history {
	struct container *c;		/* referenced */
	struct log_reader *reader;
	struct loop_source *io;
	int fd;
	uint32_t flags;
	struct sbuf out;
	history_fn done;
	void *userdata;
};

static void finish(struct history *h, bool lost)
{
	history_fn done = h->done;
	void *userdata = h->userdata;
	int fd = h->fd;

	loop_source_free(h->io);
	log_reader_free(h->reader);
	container_unref(h->c);
	sbuf_done(&h->out);
	free(h);
	if (lost)
		fd_close(&fd);
	done(userdata, fd);
}

static void put(struct history *h, const struct log_entry *e)
{
	const uint8_t head[8] = {e->err ? 2 : 1, 0, 0, 0, (uint8_t)(e->n >> 24), (uint8_t)(e->n >> 16),
				 (uint8_t)(e->n >> 8), (uint8_t)e->n};

	if (!(h->flags & (e->err ? ATTACH_STDERR : ATTACH_STDOUT)))
		return;
	if (h->flags & ATTACH_MUX)
		sbuf_add(&h->out, head, sizeof head);
	sbuf_add(&h->out, e->text, e->n);
}

/* The next piece of the log. False: there is no more. */
static bool fill(struct history *h)
{
	struct log_entry e;
	int r = 1;

	while (h->out.len < PIECE && (r = log_reader_next(h->reader, &e)) == 1)
		put(h, &e);
	return r == 1 || r == -EAGAIN;
}

static void on_writable(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct history *h = ud;
	bool more = fill(h);
	ssize_t n = 0;

	if (h->out.len)
		n = RETRY(send(fd, h->out.buf, h->out.len, MSG_NOSIGNAL | MSG_DONTWAIT));
	if ((n < 0 && errno != EAGAIN) || events & (EPOLLHUP | EPOLLERR)) {
		finish(h, true);
		return;
	}
	if (n > 0)
		sbuf_consume(&h->out, (size_t)n);
	if (!h->out.len && !more)
		finish(h, false);
}

void history_send(struct engine *e, struct container *c, int fd, uint32_t flags, history_fn done, void *ud)
{
	_cleanup_free_ char *path = container_log_path(c);
	struct history *h = new0(struct history);

	*h = (struct history){
	    .c = container_ref(c), .fd = fd, .flags = flags, .done = done, .userdata = ud};
	if (log_reader_open(path, -1, &h->reader) < 0)
		finish(h, false);
	else if (loop_add_io(e->loop, fd, EPOLLOUT, on_writable, h, &h->io) < 0)
		finish(h, true);
}
