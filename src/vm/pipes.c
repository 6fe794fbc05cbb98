/* Unix sockets and FIFOs of the host in a guest. Its agent listens where the container sees the socket; every
 * connection there becomes a stream of the link, and a connection of ours to the host's socket. A FIFO of the
 * host is open here as long as one in the guest is used, in the same direction (agent/fifos.c). What the
 * guest can ask for is to use one of those that its user has named, so many at a time. */
#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "vm/guest_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* At a time, of all sockets: each may have a window of bytes under way in both directions. */
#define CONNECTIONS_MAX 256

#define READER_RETRY_US 100000

int pipe_add(struct guest *g, const char *tag, const char *path, bool fifo, struct err *e)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
	struct stat st;
	int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;

	if (r == 0 && !(fifo ? S_ISFIFO(st.st_mode) : S_ISSOCK(st.st_mode)))
		r = fifo ? -ENXIO : -ENOTSOCK;
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "%s '%s'", fifo ? "FIFO" : "socket", path);
	/* When it is opened our rights are no more (machine.c). */
	if (fifo && st.st_uid != 0 && (st.st_mode & 0006) != 0006)
		return err_msg(e, ERR_INVALID, -EACCES,
			       "FIFO '%s': with hyperv isolation it must be root's or open to all (mode 666)",
			       path);
	if (g->n_pipes == GUEST_PIPES_MAX)
		return err_msg(e, ERR_INVALID, -E2BIG,
			       "hyperv isolation takes at most %d sockets and pipes a container",
			       GUEST_PIPES_MAX);
	g->pipes[g->n_pipes++] = (struct pipe_end){ xstrdup(tag), TAKE_FD(fd), fifo };
	return 0;
}

void pipes_close(struct guest *g)
{
	for (size_t i = 0; i < g->n_pipes; i++) {
		free(g->pipes[i].tag);
		fd_close(&g->pipes[i].fd);
	}
	g->n_pipes = 0;
}

/* Never waits: a server whose queue is full refuses, as one that is not there does. */
static int connect_to(const struct pipe_end *p)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	if (fd < 0)
		return -errno;
	snprintf(sun.sun_path, sizeof sun.sun_path, "%s", fd_proc_path(p->fd).s);
	return connect(fd, (struct sockaddr *)&sun, sizeof sun) < 0 ? -errno : TAKE_FD(fd);
}

/* Open, and at its end in both directions. What the guest sends on it is nobody's. */
static void refuse(struct guest *g, uint32_t stream)
{
	conn_send(g->conn, MSG_STREAM_EOF, 0, stream, NULL, 0, -1);
	conn_send(g->conn, MSG_STREAM_STOP, 0, stream, NULL, 0, -1);
}

static void connection_gone(void *ud)
{
	((struct guest *)ud)->n_connections--;
}

/* --- sockets --- */

static int connect_stream(struct guest *g, const struct pipe_end *p, uint32_t stream)
{
	struct transfer *t;
	int fd = g->n_connections < CONNECTIONS_MAX ? connect_to(p) : -EMFILE, r;

	if (fd < 0) {
		log_debug("socket '%s': %s", p->tag, strerror(-fd));
		refuse(g, stream);
		return 0;
	}
	r = transfer_open(g, stream, RELAY_SOCKET(fd), &t);
	if (r < 0)
		return r;
	g->n_connections++;
	transfer_then(t, connection_gone, g);
	return 0;
}

/* --- FIFOs --- */

/* Somebody in the guest writes. To open our end would end the waiting of a reader, and there may be none yet:
 * the kernel tells of one only who tries. */
struct fifo_writer {
	struct guest *g;
	const struct pipe_end *p;
	struct transfer *t;
	struct loop_source *again;
};

static void on_again(struct loop_source *s, void *ud)
{
	struct fifo_writer *w = ud;

	loop_source_free(TAKE_PTR(w->again));
	transfer_retry(w->t);
}

static int open_writer(void *ud)
{
	struct fifo_writer *w = ud;
	int fd = open(fd_proc_path(w->p->fd).s, O_WRONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0 || errno != ENXIO)
		return fd < 0 ? -errno : fd;
	if (!w->again)
		(void)loop_add_timer(w->g->loop, READER_RETRY_US, 0, on_again, w, &w->again);
	return -EAGAIN;
}

static void writer_gone(void *ud)
{
	struct fifo_writer *w = ud;

	loop_source_free(w->again);
	connection_gone(w->g);
	free(w);
}

static int write_fifo(struct guest *g, const struct pipe_end *p, uint32_t stream)
{
	struct fifo_writer *w = new0(struct fifo_writer);
	struct relay_end end = { -EBADF, RELAY_TO, open_writer, w };
	int r;

	*w = (struct fifo_writer){ .g = g, .p = p };
	r = transfer_open(g, stream, &end, &w->t);
	if (r < 0) {
		free(w);
		return r;
	}
	g->n_connections++;
	transfer_then(w->t, writer_gone, w);
	return 0;
}

static int read_fifo(struct guest *g, const struct pipe_end *p, uint32_t stream)
{
	int fd = open(fd_proc_path(p->fd).s, O_RDONLY | O_NONBLOCK | O_CLOEXEC), r;
	struct relay_end end = { fd, RELAY_FROM, NULL, NULL };
	struct transfer *t;

	if (fd < 0) {
		log_debug("FIFO '%s': %s", p->tag, strerror(errno));
		refuse(g, stream);
		return 0;
	}
	r = transfer_open(g, stream, &end, &t);
	if (r < 0)
		return r;
	g->n_connections++;
	transfer_then(t, connection_gone, g);
	return 0;
}

static int use_stream(struct guest *g, const struct pipe_end *p, const struct msg_pipe_open *m)
{
	if (p->fifo != (m->use != PIPE_CONNECT) || !(m->stream & PIPE_STREAM))
		return -EPROTO;
	switch (m->use) {
	case PIPE_CONNECT:
		return connect_stream(g, p, m->stream);
	case PIPE_READ:
	case PIPE_WRITE:
		if (g->n_connections >= CONNECTIONS_MAX)
			return -ENOBUFS;	/* an honest agent uses each once at a time */
		return m->use == PIPE_READ ? read_fifo(g, p, m->stream) : write_fifo(g, p, m->stream);
	}
	return -EPROTO;
}

int pipe_open(struct guest *g, const struct frame *f)
{
	struct msg_pipe_open m;
	int r = msg_pipe_open_decode(f->payload, f->len, &m);
	size_t i = 0;

	if (r < 0)
		return r;
	while (i < g->n_pipes && strcmp(g->pipes[i].tag, m.tag))
		i++;
	r = i < g->n_pipes ? use_stream(g, &g->pipes[i], &m) : -EPROTO;
	msg_pipe_open_done(&m);
	return r;
}
