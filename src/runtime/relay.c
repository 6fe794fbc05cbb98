/* A container's process in the foreground of a terminal. */
#include "runtime/cli.h"
#include "base/fd.h"
#include "base/loop.h"
#include "base/tty.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>

struct relay {
	struct loop *loop;
	struct proc *child;
	int master;
	int code;
	struct loop_source *in;
};

static void copy_in(struct loop_source *s, int fd, uint32_t events, void *userdata)
{
	struct relay *y = userdata;
	char buf[4096], eot = 4;
	ssize_t n = read(fd, buf, sizeof buf);

	if (n > 0) {
		(void)fd_write_full(y->master, buf, (size_t)n);
	} else if (n == 0 || errno != EAGAIN) {
		/* The end of piped input: what Ctrl-D says on a terminal. */
		(void)fd_write_full(y->master, &eot, 1);
		loop_source_free(y->in);
		y->in = NULL;
	}
}

static bool copy_some(struct relay *y)
{
	char buf[16384];
	ssize_t n = read(y->master, buf, sizeof buf);

	return n > 0 && fd_write_full(1, buf, (size_t)n) == 0;
}

/* EIO: nobody has the slave open any more. The exit comes by the pidfd. */
static void copy_out(struct loop_source *s, int fd, uint32_t events, void *userdata)
{
	if (!copy_some(userdata))
		loop_io_set(s, 0);
}

static void on_signal(struct loop_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	struct relay *y = userdata;
	unsigned rows, cols;

	if (si->ssi_signo == SIGWINCH) {
		if (y->master >= 0 && tty_get_size(0, &rows, &cols) == 0)
			(void)tty_set_size(y->master, rows, cols);
		return;
	}
	(void)proc_kill(y->child, (int)si->ssi_signo);
}

static void on_exit_child(struct loop_source *s, const siginfo_t *si, void *userdata)
{
	struct relay *y = userdata;

	y->code = proc_exit_code(si->si_code, si->si_status);
	loop_exit(y->loop, 0);
}

static int add_sources(struct relay *y)
{
	static const int forwarded[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH };
	struct loop_source *unused;
	int r = loop_add_child(y->loop, y->child->pidfd, on_exit_child, y, &unused);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(forwarded); i++)
		r = loop_add_signal(y->loop, forwarded[i], on_signal, y, &unused);
	if (r < 0 || y->master < 0)
		return r;
	r = fd_set_nonblock(y->master, true);
	if (r == 0)
		r = loop_add_io(y->loop, y->master, EPOLLIN, copy_out, y, &unused);
	if (r == 0) {
		r = loop_add_io(y->loop, 0, EPOLLIN, copy_in, y, &y->in);
		if (r == -EPERM)	/* a regular file or /dev/null: no input to wait for */
			r = 0;
	}
	return r;
}

int relay_wait(struct proc *child, int master)
{
	_cleanup_loop_ struct loop *loop = NULL;
	_cleanup_close_ int owned = master;
	struct relay y = { .child = child, .master = master, .code = -ECHILD };
	unsigned rows, cols;
	int r;

	r = loop_new(&loop);
	if (r < 0)
		return r;
	y.loop = loop;
	r = add_sources(&y);
	if (r < 0)
		return r;
	if (master >= 0 && isatty(0)) {
		if (tty_get_size(0, &rows, &cols) == 0)
			(void)tty_set_size(master, rows, cols);
		(void)tty_raw(0);
	}
	r = loop_run(loop);
	while (master >= 0 && copy_some(&y))
		;
	tty_restore();
	return r < 0 ? r : y.code;
}
