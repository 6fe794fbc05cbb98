/* Waiting for a process in the foreground: signals go to it, and what is between its terminal and ours. */
#include "runtime/tool.h"
#include "base/fd.h"
#include "base/tty.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>

static pid_t forwarded_to;
static volatile sig_atomic_t resized;

static void forward(int signo)
{
	if (forwarded_to > 0)
		(void)kill(forwarded_to, signo);
}

static void on_resize(int signo)
{
	resized = 1;
}

static void fit(int master)
{
	unsigned rows, cols;

	if (tty_get_size(STDIN_FILENO, &rows, &cols) == 0)
		(void)tty_set_size(master, rows, cols);
}

/* Moves what one read gives. False at the end. */
static bool move(int from, int to)
{
	char buf[16384];
	ssize_t n = RETRY(read(from, buf, sizeof buf));

	return n > 0 && fd_write_full(to, buf, (size_t)n) == 0;
}

/* Until the process has ended and all that it wrote has been passed on. A terminal without readers at the
 * other end tells EIO, or just hangs up. */
static void relay(int master, const struct proc *p)
{
	struct pollfd fds[] = {
		{ .fd = master, .events = POLLIN },
		{ .fd = p->pidfd, .events = POLLIN },
		{ .fd = STDIN_FILENO, .events = POLLIN },
	};
	bool ended = false;

	for (;;) {
		int n = poll(fds, ARRAY_SIZE(fds), ended ? 0 : -1);

		if (resized) {
			resized = 0;
			fit(master);
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || (n == 0 && ended))
			return;
		if (fds[0].revents && !move(master, STDOUT_FILENO))
			return;
		if (fds[2].revents && !move(STDIN_FILENO, master))
			fds[2].fd = -1;
		if (fds[1].revents) {
			ended = true;
			fds[1].fd = fds[2].fd = -1;
		}
	}
}

int tool_wait(struct proc *p, int master, struct err *e)
{
	static const int passed[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 };
	int code, r;

	forwarded_to = p->pid;
	for (size_t i = 0; i < ARRAY_SIZE(passed); i++)
		signal(passed[i], forward);
	if (master >= 0) {
		signal(SIGWINCH, on_resize);
		fit(master);
		(void)tty_raw(STDIN_FILENO);	/* not a terminal: then there is nothing to set */
		relay(master, p);
		tty_restore();
	}
	r = proc_wait(p, &code);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "wait") : code;
}
