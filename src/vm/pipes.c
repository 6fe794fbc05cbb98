/* Unix sockets of the host in a guest. Its agent listens where the container sees the socket; every
 * connection there becomes a stream of the link, and a connection of ours to the host's socket. What the
 * guest can ask for is a connection to one of the sockets that its user has named, so many at a time. */
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

int pipe_add(struct guest *g, const char *tag, const char *path, struct err *e)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
	struct stat st;
	int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;

	if (r == 0 && !S_ISSOCK(st.st_mode))
		r = -ENOTSOCK;
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "socket '%s'", path);
	if (g->n_pipes == GUEST_PIPES_MAX)
		return err_msg(e, ERR_INVALID, -E2BIG,
			       "hyperv isolation takes at most %d sockets a container", GUEST_PIPES_MAX);
	g->pipes[g->n_pipes++] = (struct pipe_end){ xstrdup(tag), TAKE_FD(fd) };
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

static int connect_stream(struct guest *g, const struct pipe_end *p, uint32_t stream)
{
	struct transfer *t;
	int fd = g->n_connections < CONNECTIONS_MAX ? connect_to(p) : -EMFILE, r;

	if (fd < 0) {
		log_debug("socket '%s': %s", p->tag, strerror(-fd));
		refuse(g, stream);
		return 0;
	}
	r = transfer_open(g, stream, fd, &t);
	if (r < 0)
		return r;
	g->n_connections++;
	transfer_then(t, connection_gone, g);
	return 0;
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
	r = i < g->n_pipes && (m.stream & PIPE_STREAM) ? connect_stream(g, &g->pipes[i], m.stream) : -EPROTO;
	msg_pipe_open_done(&m);
	return r;
}
