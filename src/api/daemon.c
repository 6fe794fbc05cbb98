#include "api/daemon.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/group_home.h"
#include "base/log.h"
#include "base/sock.h"
#include "base/strv.h"
#include "engine/worker.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define LOG_ROTATE_BYTES (8 << 20)
#define LISTEN_FD 3		/* sd_listen_fds(3) */
#define DAEMON_NOFILE 65536

/* ---- locks ---- */

static int lock_root(const char *root, const char *what, int taken, struct err *e)
{
	_cleanup_free_ char *path = path_join(root, "insulad.lock"), *holder = NULL;
	_cleanup_close_ int fd = -EBADF;
	char pid[32];
	int r = fs_mkdir_p(root, 0711), n;

	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "create '%s'", root);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open '%s'", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return err_set(e, ERR_SYSTEM, -errno, "lock '%s'", path);
		(void)fs_read_line(AT_FDCWD, path, &holder);
		return err_msg(e, ERR_CONFLICT, taken,
			       "another insulad (process %s) uses the %s '%s': stop it, or give this one "
			       "a --%s of its own",
			       str_empty(holder) ? "unknown" : holder, what, root, what);
	}
	n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)n, 0) != n)
		return err_set(e, ERR_SYSTEM, errno ? -errno : -EIO, "write '%s'", path);
	worker_guard_fd(fd);
	(void)TAKE_FD(fd);	/* the lock lives as long as the process */
	return 0;
}

int daemon_lock(const struct engine_config *c, struct err *e)
{
	int r = lock_root(c->exec_root, "exec-root", -EADDRINUSE, e);

	if (r >= 0 && !streq(c->exec_root, c->data_root))
		r = lock_root(c->data_root, "data-root", -EBUSY, e);
	return r;
}

/* ---- leaving the caller ---- */

void daemon_reset_limits(void)
{
	static const struct { int resource; rlim_t want; } limits[] = {
		{RLIMIT_CPU, RLIM_INFINITY},   {RLIMIT_FSIZE, RLIM_INFINITY}, {RLIMIT_DATA, RLIM_INFINITY},
		{RLIMIT_AS, RLIM_INFINITY},    {RLIMIT_NPROC, RLIM_INFINITY}, {RLIMIT_STACK, 8u << 20},
		{RLIMIT_NOFILE, DAEMON_NOFILE},
	};

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		struct rlimit now, raised;

		if (getrlimit((__rlimit_resource_t)limits[i].resource, &now) < 0)
			continue;
		raised.rlim_max = MAX(now.rlim_max, limits[i].want);
		raised.rlim_cur = limits[i].want;
		if (setrlimit((__rlimit_resource_t)limits[i].resource, &raised) == 0)
			continue;
		now.rlim_cur =
		    MIN(now.rlim_max, limits[i].want); /* without CAP_SYS_RESOURCE: what is allowed */
		(void)setrlimit((__rlimit_resource_t)limits[i].resource, &now);
	}
}

static int open_log(const struct engine_config *c, struct err *e)
{
	_cleanup_free_ char *path = path_join(c->exec_root, "insulad.log"), *old = xasprintf("%s.1", path);
	struct stat st;
	int fd, r = fs_mkdir_p(c->exec_root, 0711);

	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "create '%s'", c->exec_root);
	if (stat(path, &st) == 0 && st.st_size > LOG_ROTATE_BYTES)
		(void)rename(path, old);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
	return fd < 0 ? err_set(e, ERR_SYSTEM, -errno, "open '%s'", path) : fd;
}

/* What the daemon said: nothing = it died, "+" = ready, else its message. */
static _noreturn_ void wait_for_daemon(int fd)
{
	char buf[4096];
	ssize_t n = fd_read_full(fd, buf, sizeof buf - 1);

	if (n == 1 && buf[0] == '+')
		_exit(0);
	buf[MAX(n, (ssize_t)0)] = '\0';
	fprintf(stderr, "insulad: %s\n", n > 0 ? buf : "the daemon ended before it was ready");
	_exit(1);
}

int daemon_detach(const struct engine_config *c, int *ret_fd, struct err *e)
{
	_cleanup_close_ int log_fd = open_log(c, e), null_fd = -EBADF;
	struct group_home home;
	int p[2], r;
	pid_t pid;

	if (log_fd < 0)
		return log_fd;
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open '/dev/null'");
	r = fd_pipe(p, 0);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "pipe");
	pid = fork();
	if (pid < 0)
		return err_set(e, ERR_SYSTEM, -errno, "fork");
	if (pid > 0) {
		close(p[1]);
		wait_for_daemon(p[0]);
	}
	if (setsid() < 0 || chdir("/") < 0 || dup2(null_fd, 0) < 0 || dup2(null_fd, 1) < 0 ||
	    dup2(log_fd, 2) < 0 || dup2(p[1], 3) < 0 || fcntl(3, F_SETFD, FD_CLOEXEC) < 0)
		_exit(1);
	group_home_open("/insula/daemon", &home);
	group_home_join(&home);
	closefrom(4);		/* log_fd, null_fd, the home and whatever the caller left open */
	log_fd = null_fd = -EBADF;
	*ret_fd = 3;
	return 0;
}

void daemon_ready(int *fd, const char *error)
{
	const char *text = error ? error : "+";

	if (*fd < 0)
		return;
	(void)fd_write_full(*fd, text, strlen(text));
	fd_close(fd);
}

/* ---- the socket ---- */

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

int daemon_listen(const struct daemon_config *c, int *ret_fd, bool *ret_activated, struct err *e)
{
	_cleanup_close_ int fd = activation_fd();
	const char *path = c->engine.socket;
	gid_t gid;
	int r;

	if (fd >= 0) {
		*ret_fd = TAKE_FD(fd);
		*ret_activated = true;
		return 0;
	}
	for (size_t i = 0; c->hosts && c->hosts[i]; i++)
		if (str_starts(c->hosts[i], "fd://"))
			return err_set(
			    e, ERR_INVALID, 0,
			    "no sockets found via socket activation: make sure the service was started "
			    "by systemd");
	r = socket_group(c->group, &gid, e);
	if (r < 0)
		return r;
	fd = sock_listen_unix(path, 0600);
	if (fd < 0)
		return err_set(e, ERR_SYSTEM, fd, "listen on '%s'", path);
	if (chown(path, 0, gid) < 0 || chmod(path, 0660) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "set the group of '%s'", path);
	*ret_fd = TAKE_FD(fd);
	*ret_activated = false;
	return 0;
}

void daemon_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -EBADF;
	size_t len = path ? strlen(path) : 0;

	if (len < 2 || len >= sizeof sun.sun_path || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(sun.sun_path, path, len);
	if (path[0] == '@')
		sun.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		(void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&sun,
			     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
}
