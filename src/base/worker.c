/* A worker is a forked copy of the program that runs one function and reports through a pipe:
 *
 *   struct report | message bytes | result bytes
 *
 * The copy keeps ordinary descriptors (a caller passes its own in arg) but none of the program's sockets, so
 * that a client sees its connection end when the program ends it, and none of its locks; or one descriptor
 * alone. */
#include "base/worker.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define WORKER_OUT_MAX (16u << 20)
#define WORKER_MSG_MAX (64u << 10)

struct report { int32_t r, errnum; uint32_t kind, msg_len; };

struct worker {
	struct proc proc;
	int fd;				/* reading end */
	struct loop_source *io, *child;
	struct sbuf in;
	worker_done_fn done;
	void *userdata;
	bool eof, exited;
	int exit_code;
};

static int guarded[8];
static size_t n_guarded;

void worker_guard_fd(int fd)
{
	if (n_guarded < ARRAY_SIZE(guarded))
		guarded[n_guarded++] = fd;
}

/* Closes sockets and guarded descriptors. */
static void drop_sockets(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *de;

	for (size_t i = 0; i < n_guarded; i++)
		close(guarded[i]);
	if (!d)
		return;
	while ((de = readdir(d))) {
		int fd = atoi(de->d_name);
		struct stat st;

		if (fd > 2 && fd != dirfd(d) && fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode))
			close(fd);
	}
	closedir(d);
}

#define KEEP_FILES (-1000)

/* Closes all but 0..2 and these two. */
static void keep_only(int a, int b)
{
	int low = MIN(a, b), high = MAX(a, b);

	if (low < 3) {
		low = high;
		high = 0;
	}
	if (low > 3)
		fd_close_range(3, (unsigned)low - 1);
	if (high > low + 1)
		fd_close_range((unsigned)low + 1, (unsigned)high - 1);
	fd_close_range((unsigned)MAX(low, high) + 1, ~0u);
}

static _noreturn_ void child_main(int out_fd, pid_t parent, int keep_fd, worker_fn fn, void *arg)
{
	struct err e = ERR_INIT;
	struct sbuf out = SBUF_INIT_MAX(WORKER_OUT_MAX);
	struct report rep = {0};
	const char *msg;

	/* the work of a dead program is cleaned up by the next one: it must not go on beside that */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	signal(SIGPIPE, SIG_IGN);
	if (keep_fd == KEEP_FILES)
		drop_sockets();
	else
		keep_only(out_fd, keep_fd);
	rep.r = fn(arg, &out, &e);
	if (rep.r >= 0 && !sbuf_ok(&out))
		rep.r = err_set(&e, ERR_SYSTEM, -EFBIG, "worker result");
	msg = e.msg ? e.msg : "";
	rep.kind = e.kind;
	rep.errnum = e.errnum;
	rep.msg_len = (uint32_t)MIN(strlen(msg), (size_t)WORKER_MSG_MAX);
	if (fd_write_full(out_fd, &rep, sizeof rep) < 0 || fd_write_full(out_fd, msg, rep.msg_len) < 0 ||
	    fd_write_full(out_fd, out.buf, out.len) < 0)
		_exit(1);
	_exit(0);
}

static void worker_free(struct worker *w)
{
	loop_source_free(w->io);
	loop_source_free(w->child);
	fd_close(&w->fd);
	proc_done(&w->proc);
	sbuf_done(&w->in);
	free(w);
}

static void worker_finish(struct worker *w)
{
	_cleanup_err_ struct err e = ERR_INIT;
	struct report rep;
	int r;

	if (!w->eof || !w->exited)
		return;
	if (w->exit_code != 0 || w->in.len < sizeof rep) {
		r = err_set(&e, ERR_SYSTEM, 0, "a worker process ended unexpectedly (exit status %d)",
			    w->exit_code);
		sbuf_reset(&w->in);
	} else {
		memcpy(&rep, w->in.buf, sizeof rep);
		rep.msg_len = MIN(rep.msg_len, (uint32_t)(w->in.len - sizeof rep));
		r = rep.r;
		if (r < 0 && rep.msg_len > 0) {
			e.kind = rep.kind < _ERR_KIND_MAX ? (enum err_kind)rep.kind : ERR_SYSTEM;
			e.errnum = rep.errnum;
			e.msg = xstrndup(w->in.buf + sizeof rep, rep.msg_len);
		} else if (r < 0) {
			err_set(&e, ERR_SYSTEM, r, "background work failed");
		}
		sbuf_consume(&w->in, sizeof rep + rep.msg_len);
	}
	w->done(w->userdata, r, &e, &w->in);
	worker_free(w);
}

static void on_output(struct loop_source *s, int fd, uint32_t events, void *userdata)
{
	struct worker *w = userdata;
	char buf[32 << 10];
	ssize_t n = RETRY(read(fd, buf, sizeof buf));

	if (n > 0) {
		sbuf_add(&w->in, buf, (size_t)n);
		return;
	}
	if (n < 0 && errno == EAGAIN)
		return;
	loop_source_free(TAKE_PTR(w->io));
	w->eof = true;
	worker_finish(w);
}

static void on_exit_of_worker(struct loop_source *s, const siginfo_t *si, void *userdata)
{
	struct worker *w = userdata;

	w->exited = true;
	w->exit_code = proc_exit_code(si->si_code, si->si_status);
	worker_finish(w);
}

static int start(struct loop *l, worker_fn fn, void *arg, int keep_fd, worker_done_fn done, void *userdata)
{
	struct worker *w = new0(struct worker);
	pid_t self = getpid();
	int p[2], r;

	*w = (struct worker){.proc = PROC_INIT, .fd = -EBADF, .done = done, .userdata = userdata};
	w->in = (struct sbuf)SBUF_INIT_MAX(sizeof(struct report) + WORKER_MSG_MAX + WORKER_OUT_MAX);
	r = fd_pipe(p, 0);
	if (r < 0) {
		worker_free(w);
		return r;
	}
	r = proc_fork(&w->proc);
	if (r == 0) {
		close(p[0]);
		child_main(p[1], self, keep_fd, fn, arg);
	}
	close(p[1]);
	w->fd = p[0];
	if (r >= 0)
		r = fd_set_nonblock(w->fd, true);
	if (r >= 0)
		r = loop_add_io(l, w->fd, EPOLLIN, on_output, w, &w->io);
	if (r >= 0)
		r = loop_add_child(l, w->proc.pidfd, on_exit_of_worker, w, &w->child);
	if (r < 0) {
		if (w->proc.pidfd >= 0) {
			(void)proc_kill(&w->proc, SIGKILL);
			(void)proc_wait(&w->proc, &(int){0});
		}
		worker_free(w);
		return r;
	}
	return 0;
}

int worker_run(struct loop *l, worker_fn fn, void *arg, worker_done_fn done, void *userdata)
{
	return start(l, fn, arg, KEEP_FILES, done, userdata);
}

int worker_run_alone(struct loop *l, worker_fn fn, void *arg, int keep_fd, worker_done_fn done,
		     void *userdata)
{
	return start(l, fn, arg, keep_fd, done, userdata);
}
