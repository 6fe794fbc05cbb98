/* Where the daemon listens: the socket of the API, the one for those who only watch, docker's name. */
#include "api/listen.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sock.h"
#include "base/strv.h"
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define LISTEN_FD 3		/* sd_listen_fds(3) */

/* ---- the service manager's ---- */

static int activation_fd(void)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	uint64_t n;
	int listening = 0;
	socklen_t len = sizeof listening;

	if (str_empty(pid) || str_to_u64(pid, &n) < 0 || n != (uint64_t)getpid())
		return -ENOENT;
	if (str_empty(fds) || str_to_u64(fds, &n) < 0 || n < 1)
		return -ENOENT;
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	if (getsockopt(LISTEN_FD, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0 || !listening)
		return -ENOTSOCK;
	(void)fd_set_cloexec(LISTEN_FD, true);
	return LISTEN_FD;
}

/* Looks in /etc/group alone: the name service may be slow, or need a network that is not up. */
static int local_group(const char *name, gid_t *ret)
{
	FILE *f = fopen("/etc/group", "re");
	struct group *g;
	int r = -ENOENT;

	if (!f)
		return -errno;
	while (r < 0 && (g = fgetgrent(f)))
		if (streq(g->gr_name, name)) {
			*ret = g->gr_gid;
			r = 0;
		}
	fclose(f);
	return r;
}

static int socket_group(const char *name, gid_t *ret, struct err *e)
{
	static const char *const defaults[] = {"insula", "docker"};
	struct group *g;
	uint64_t gid;

	*ret = 0;
	if (!name) {
		for (size_t i = 0; i < ARRAY_SIZE(defaults); i++)
			if (local_group(defaults[i], ret) >= 0)
				break;
		return 0;
	}
	if (!*name || local_group(name, ret) >= 0)
		return 0;
	if (str_to_u64(name, &gid) >= 0 && gid < UINT32_MAX) {
		*ret = (gid_t)gid;
		return 0;
	}
	g = getgrnam(name);
	if (!g)
		return err_set(e, ERR_INVALID, 0, "group %s not found", name);
	*ret = g->gr_gid;
	return 0;
}

static int make_socket(const char *path, const char *group, mode_t mode, int *ret_fd, struct err *e)
{
	_cleanup_close_ int fd = -EBADF;
	gid_t gid;
	int r = socket_group(group, &gid, e);

	if (r < 0)
		return r;
	fd = sock_listen_unix(path, 0600);
	if (fd < 0)
		return err_set(e, ERR_SYSTEM, fd, "listen on '%s'", path);
	if (chown(path, 0, gid) < 0 || chmod(path, mode) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "set the group of '%s'", path);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int daemon_listen(const struct daemon_config *c, int *ret_fd, bool *ret_activated, struct err *e)
{
	int fd = activation_fd();

	*ret_activated = fd >= 0;
	if (fd >= 0) {
		*ret_fd = fd;
		return 0;
	}
	for (size_t i = 0; c->hosts && c->hosts[i]; i++)
		if (str_starts(c->hosts[i], "fd://"))
			return err_set(
			    e, ERR_INVALID, 0,
			    "no sockets found via socket activation: make sure the service was started "
			    "by systemd");
	return make_socket(c->engine.socket, c->group, c->socket_mode, ret_fd, e);
}

int daemon_listen_monitor(const struct daemon_config *c, int *ret_fd, struct err *e)
{
	*ret_fd = -EBADF;
	return c->monitor ? make_socket(c->monitor, c->monitor_group ?: "", 0660, ret_fd, e) : 0;
}

/* ---- docker's name for it ---- */

static bool link_is_ours(const char *link, const char *socket)
{
	char target[4096];
	ssize_t n = readlink(link, target, sizeof target - 1);

	return n >= 0 && (size_t)n == strlen(socket) && memcmp(target, socket, (size_t)n) == 0;
}

void docker_socket_link(const struct daemon_config *c)
{
	const char *link = c->docker_socket, *socket = c->engine.socket;

	if (!link || link_is_ours(link, socket))
		return;
	/* A name that leads nowhere is what a daemon has left that is no more. */
	if (access(link, F_OK) < 0 && errno == ENOENT)
		(void)unlink(link);
	if (symlink(socket, link) < 0)
		log_warn("link '%s' to '%s': %s", link, socket,
			 errno == EEXIST ? "another daemon's socket is there: stop that daemon, or leave out "
					   "--docker-socket" : strerror(errno));
}

void docker_socket_unlink(const struct daemon_config *c)
{
	if (c->docker_socket && link_is_ours(c->docker_socket, c->engine.socket))
		(void)unlink(c->docker_socket);
}
