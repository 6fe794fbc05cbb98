/* Sockets of the host in the guest: the agent listens, and each connection becomes a stream of the link
 * (PIPE_OPEN), which vmwp connects to the host's socket. The one here has the mode and the owner of that one,
 * so that whoever may connect there may connect here. */
#include "agent/agent.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sock.h"
#include "base/strv.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define SOCKETS AGENT_RUN "/sockets"
#define CONNECTIONS_MAX 128	/* vmwp takes twice that: those beyond wait in the queue */

struct listener {
	struct agent *a;
	char *tag;
	int fd;
	struct loop_source *io;
};

/* Those who wait in a queue get their turn. */
static void listen_all(struct agent *a)
{
	bool room = a->n_connections < CONNECTIONS_MAX;
	struct hmap_iter it = {0};

	while (hmap_next(&a->sockets, &it))
		(void)loop_io_set(((struct listener *)it.entry->value)->io, room ? EPOLLIN : 0);
}

static void connection_gone(struct agent *a)
{
	a->n_connections--;
	listen_all(a);
}

uint32_t pipe_announce(struct agent *a, const char *tag, uint32_t use)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	struct msg_pipe_open m = {.tag = (char *)tag, .use = use};

	m.stream = PIPE_STREAM | (a->next_pipe++ & ~PIPE_STREAM);
	msg_pipe_open_encode(&m, &b);
	conn_send(a->conn, MSG_PIPE_OPEN, 0, 0, b.buf, b.len, -1);
	return m.stream;
}

static void on_connection(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct listener *l = ud;
	struct agent *a = l->a;
	int c = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (c < 0)
		return;
	if (!a->greeted || !a->streams) {
		close(c);
		return;
	}
	if (transfer_open(a, pipe_announce(a, l->tag, PIPE_CONNECT), c, connection_gone) < 0)
		return;
	a->n_connections++;
	listen_all(a);
}

static int listener_new(struct agent *a, const struct pipe_place *p, const char *path)
{
	struct listener *l;
	int fd, r = fs_mkdir_p(SOCKETS, 0700);

	if (r < 0)
		return r;
	fd = sock_listen_unix(path, p->mode);
	if (fd < 0)
		return fd;
	if (chown(path, p->uid, p->gid) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	l = new0(struct listener);
	*l = (struct listener){.a = a, .tag = xstrdup(p->tag), .fd = fd};
	hmap_set(&a->sockets, p->tag, l);
	return loop_add_io(a->loop, fd, EPOLLIN, on_connection, l, &l->io);
}

int pipe_place_parse(const char *source, struct pipe_place *ret, struct err *e)
{
	_cleanup_strv_ char **f = strv_split(source, ":");
	uint64_t mode, uid, gid;

	if (strv_len(f) != 4 || !guest_name_valid(f[0]) || str_to_u64(f[1], &mode) < 0 ||
	    str_to_u64(f[2], &uid) < 0 || str_to_u64(f[3], &gid) < 0)
		return err_msg(e, ERR_INVALID, -EINVAL, "pipe '%s'", source);
	*ret = (struct pipe_place){xstrdup(f[0]), (mode_t)(mode & 0777), (uid_t)uid, (gid_t)gid};
	return 0;
}

int socket_path(struct agent *a, const char *source, char **ret, struct err *e)
{
	_cleanup_free_ char *path = NULL;
	struct pipe_place p;
	int r = pipe_place_parse(source, &p, e);

	if (r < 0)
		return r;
	path = path_join(SOCKETS, p.tag);
	if (!hmap_get(&a->sockets, p.tag))
		r = listener_new(a, &p, path);
	free(p.tag);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "listen on '%s' in the guest", path);
	*ret = TAKE_PTR(path);
	return 0;
}
