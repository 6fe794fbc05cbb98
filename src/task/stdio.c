#include "task/local_task.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/tty.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>

#define IN_MAX (64u << 10)
#define READ_CHUNK (16u << 10)

int stdio_open_pipes(struct ltask *t)
{
	for (int i = 0; i < 3; i++) {
		int p[2], r;

		if (i == 0 && !(t->flags & TASK_STDIN)) {
			t->in_dead = true;
			continue;	/* /dev/null */
		}
		r = fd_pipe(p, 0);
		if (r < 0)
			return r;
		t->fd[i] = p[i == 0];
		t->child_fd[i] = p[i != 0];
		r = fd_set_nonblock(t->fd[i], true);
		if (r < 0)
			return r;
	}
	return 0;
}

int stdio_set_console(struct ltask *t, int master)
{
	int dup;

	t->fd[1] = master;
	dup = fcntl(master, F_DUPFD_CLOEXEC, 3);
	if (dup < 0)
		return -errno;
	t->fd[0] = dup;
	if (t->rows && t->cols)
		(void)tty_set_size(master, t->rows, t->cols);
	return fd_set_nonblock(master, true);
}

void stdio_close_child_ends(struct ltask *t)
{
	for (int i = 0; i < 3; i++)
		fd_close(&t->child_fd[i]);
}

void stdio_close(struct ltask *t)
{
	stdio_close_child_ends(t);
	for (int i = 0; i < 3; i++) {
		loop_source_free(t->io[i]);
		t->io[i] = NULL;
		fd_close(&t->fd[i]);
	}
	sbuf_done(&t->in);
}

static void output_over(struct ltask *t, int i)
{
	struct backend *b = &t->local->b;

	loop_source_free(t->io[i]);
	t->io[i] = NULL;
	fd_close(&t->fd[i]);
	b->events->output_eof(b->userdata, t->ctr, t->exec, (enum task_stream)i);
}

static void on_output(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct ltask *t = ud;
	struct backend *b = &t->local->b;
	int i = fd == t->fd[1] ? 1 : 2;
	char buf[READ_CHUNK];
	ssize_t n = RETRY(read(fd, buf, sizeof buf));

	if (n > 0)
		b->events->output(b->userdata, t->ctr, t->exec, (enum task_stream)i, buf, (size_t)n);
	else if (n == 0 || errno != EAGAIN)	/* a terminal whose last user is gone gives EIO */
		output_over(t, i);
}

static void on_in_room(struct loop_source *s, int fd, uint32_t events, void *ud);

static void in_over(struct ltask *t)
{
	loop_source_free(t->io[0]);
	t->io[0] = NULL;
	fd_close(&t->fd[0]);
	sbuf_done(&t->in);
	t->in_dead = true;
}

/* Writes what waits for stdin; closes it when that was asked for. */
static void in_flush(struct ltask *t)
{
	if (t->fd[0] < 0)
		return;		/* an exec that is not started yet */
	while (t->in.len) {
		ssize_t n = RETRY(write(t->fd[0], t->in.buf, t->in.len));

		if (n < 0 && errno == EAGAIN) {
			if (!t->io[0] &&
			    loop_add_io(t->local->loop, t->fd[0], EPOLLOUT, on_in_room, t, &t->io[0]) < 0)
				in_over(t);
			return;
		}
		if (n < 0) {
			/* Nobody reads any more: what comes is dropped, as a shell's pipe would break. */
			in_over(t);
			return;
		}
		sbuf_consume(&t->in, (size_t)n);
	}
	sbuf_done(&t->in);
	loop_source_free(t->io[0]);
	t->io[0] = NULL;
	if (t->in_closing)
		in_over(t);
}

static void in_tell_room(struct ltask *t)
{
	struct backend *b = &t->local->b;

	if (!t->in_short || t->in.len > IN_MAX / 2)
		return;
	t->in_short = false;
	b->events->stdin_ready(b->userdata, t->ctr, t->exec);
}

static void on_in_room(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	in_flush(ud);
	in_tell_room(ud);
}

size_t stdio_in_write(struct ltask *t, const void *p, size_t n)
{
	size_t done = 0;

	while (done < n && !t->in_dead && !t->in_closing) {
		size_t take = MIN(n - done, IN_MAX - t->in.len);

		if (!take) {
			t->in_short = true;
			return done;
		}
		sbuf_add(&t->in, (const char *)p + done, take);
		done += take;
		if (!t->io[0])
			in_flush(t);
	}
	return n;
}

void stdio_in_close(struct ltask *t)
{
	t->in_closing = true;
	in_flush(t);
}

void stdio_pause(struct ltask *t, bool paused)
{
	t->paused = paused;
	for (int i = 1; i < 3; i++)
		if (t->io[i])
			(void)loop_io_set(t->io[i], paused ? 0 : EPOLLIN);
}

int stdio_watch(struct ltask *t)
{
	for (int i = 1; i < 3; i++) {
		int r;

		if (t->fd[i] < 0 || t->io[i])
			continue;
		r = loop_add_io(t->local->loop, t->fd[i], t->paused ? 0 : EPOLLIN, on_output, t, &t->io[i]);
		if (r < 0)
			return r;
	}
	in_flush(t);
	in_tell_room(t);
	return 0;
}
