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
#define UNIT_NOT_LOADED 5	/* exit code of systemctl(1) */

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

/* Where systemd runs the host and has our socket, the daemon is its service. Returns a connection, -ENOENT if
 * the unit is not installed. */
static int start_unit(struct cli *c)
{
	static char *const argv[] = { (char *)"systemctl", (char *)"--no-ask-password", (char *)"start",
				      (char *)"insula.socket", NULL };
	struct spawn_args args = { .path = "/bin/systemctl", .argv = argv, .envp = environ };
	_cleanup_proc_ struct proc p = PROC_INIT;
	int code, r;

	if (access("/run/systemd/system", F_OK) < 0 || proc_spawn(&args, &p) < 0)
		return -ENOENT;
	r = proc_wait(&p, &code);
	if (r < 0)
		return r;
	if (code != 0)
		return code == UNIT_NOT_LOADED ? -ENOENT : -ECHILD;
	return sock_connect_unix(c->socket);
}

/* Starts insulad; it detaches itself. */
static int start_program(struct cli *c, char *program, const char *data, const char *exec, struct err *e)
{
	_cleanup_proc_ struct proc p = PROC_INIT;
	_cleanup_strv_ char **argv = NULL;
	struct spawn_args args = { .path = program, .envp = environ, .keep_stderr = true };
	int r;

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
	return wait_ready(c, &p);
}

int cli_start_daemon(struct cli *c, int *ret_fd, struct err *e)
{
	const char *data = getenv("INSULA_DATA_ROOT"), *exec = getenv("INSULA_EXEC_ROOT");
	_cleanup_free_ char *program = cli_find_program("api/insulad", "sbin/insulad");
	bool own_roots = !str_empty(data) || !str_empty(exec);
	int fd;

	if (geteuid() != 0 || !program)
		return err_msg(e, ERR_SYSTEM, -ENOENT,
			       "Cannot connect to the insula daemon at %s. Is the insula daemon "
			       "running?",
			       c->host);
	fd = own_roots ? -ENOENT : start_unit(c);
	if (fd == -ENOENT)
		fd = start_program(c, program, data, exec, e);
	if (fd < 0 && e->kind)
		return fd;
	if (fd < 0)
		return err_msg(e, ERR_SYSTEM, fd,
			       "Cannot connect to the insula daemon at %s. It was started but %s.", c->host,
			       fd == -ETIMEDOUT ? "does not answer" : "ended at once");
	*ret_fd = fd;
	return 0;
}
