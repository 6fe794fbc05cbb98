#include "cli/cli.h"

#include "base/alloc.h"
#include "base/loop.h"
#include "base/proc.h"
#include "base/sock.h"
#include "base/strv.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define START_TIMEOUT_US (30 * UINT64_C(1000000))

char *cli_find_program(const char *in_build_tree, const char *installed)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n <= 0)
		return NULL;
	self[n] = 0;
	/* <build>/src/cli/insula and PREFIX/bin/insula: two levels below the place to look in. */
	for (int i = 0; i < 2; i++) {
		char *slash = strrchr(self, '/');

		if (!slash)
			return NULL;
		*slash = 0;
	}
	for (int i = 0; i < 2; i++) {
		const char *name = i == 0 ? in_build_tree : installed;
		_cleanup_free_ char *path = name ? xasprintf("%s/%s", self, name) : NULL;

		if (path && access(path, X_OK) == 0)
			return TAKE_PTR(path);
	}
	return NULL;
}

/* Polls the socket until it accepts; a child that has ended without that is a failure. */
static int wait_ready(struct cli *c, struct proc *p)
{
	uint64_t end = now_mono_us() + START_TIMEOUT_US;
	bool running = true;

	for (;;) {
		struct pollfd pfd = { .fd = running ? p->pidfd : -1, .events = POLLIN };
		int fd = sock_connect_unix(c->socket), code;

		if (fd >= 0)
			return fd;
		if (now_mono_us() > end)
			return -ETIMEDOUT;
		/* --detach: the child ends when the daemon behind it is ready. */
		if (poll(&pfd, 1, 2) > 0) {
			if (proc_wait(p, &code) < 0 || code != 0)
				return -ECHILD;
			running = false;
		}
	}
}

int cli_start_daemon(struct cli *c, int *ret_fd, struct err *e)
{
	const char *data = getenv("INSULA_DATA_ROOT"), *exec = getenv("INSULA_EXEC_ROOT");
	_cleanup_free_ char *program = cli_find_program("api/insulad", "sbin/insulad");
	_cleanup_proc_ struct proc p = PROC_INIT;
	_cleanup_strv_ char **argv = NULL;
	struct spawn_args args = { .path = program, .envp = environ, .keep_stderr = true };
	int fd, r;

	if (geteuid() != 0 || !program)
		return err_msg(e, ERR_SYSTEM, -ENOENT,
			       "Cannot connect to the insula daemon at %s. Is the insula daemon "
			       "running?",
			       c->host);
	strv_add(&argv, program);
	strv_add(&argv, "--detach");
	if (!str_empty(data))
		strv_addf(&argv, "--data-root=%s", data);
	if (!str_empty(exec))
		strv_addf(&argv, "--exec-root=%s", exec);
	args.argv = argv;
	r = proc_spawn(&args, &p);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "cannot start the insula daemon '%s'", program);
	fd = wait_ready(c, &p);
	if (fd < 0)
		return err_msg(e, ERR_SYSTEM, fd,
			       "Cannot connect to the insula daemon at %s. It was started but %s.", c->host,
			       fd == -ETIMEDOUT ? "does not answer" : "ended at once");
	*ret_fd = fd;
	return 0;
}
