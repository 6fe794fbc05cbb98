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
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define LOG_ROTATE_BYTES (8 << 20)
#define DAEMON_NOFILE 65536
#define LOCK_STEP_US 10000
#define LOCK_STEPS 500		/* 5 s */

/* ---- locks ---- */

/* A process that a killed daemon had just forked has the lock too, until it executes its program. */
static int lock_soon(int fd, const char *path)
{
	for (int i = 0;; i++) {
		_cleanup_free_ char *holder = NULL;
		uint64_t pid;

		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK || i == LOCK_STEPS || fs_read_line(AT_FDCWD, path, &holder) < 0 ||
		    str_to_u64(holder, &pid) < 0 || kill((pid_t)pid, 0) == 0)
			return -EWOULDBLOCK;
		usleep(LOCK_STEP_US);
	}
}

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
	if (lock_soon(fd, path) < 0) {
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

/* ---- the service manager ---- */

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
