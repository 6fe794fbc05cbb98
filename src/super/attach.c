/* Theory of operation.
 *
 * A client is a socket the daemon handed over after answering the HTTP upgrade. What the task
 * writes is framed (or, with a terminal, copied) into the client's queue. A client more than
 * CLIENT_HIGH behind pauses the task's output, the whole task's: as a pipe with a slow reader would.
 *
 * Input: bytes go to the task's stdin as far as it takes them; while some wait, the socket is not
 * read. End of input is a half-close: output goes on. It closes the task's stdin only if the task
 * was made so (StdinOnce, and always for an exec), and never a terminal's. */
#include "super/task.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/sock.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define CLIENT_HIGH (256u << 10)
#define CLIENT_LOW (64u << 10)

struct client {
	struct list link;
	struct super *super;
	struct task *task;		/* NULL once the task is deleted */
	int fd;
	uint32_t flags;
	struct loop_source *io;
	struct sbuf out, in;
	unsigned char keys[16];
	size_t n_keys, matched;		/* detach keys; how many have been seen in a row */
	bool in_eof, in_closed, finishing;
};

static void client_pump_in(struct client *c);

static void client_free(struct client *c)
{
	struct super *s = c->super;
	struct task *t = c->task;

	list_remove(&c->link);
	loop_source_free(c->io);
	fd_close(&c->fd);
	sbuf_done(&c->out);
	sbuf_done(&c->in);
	free(c);
	if (t && t->paused) {
		/* Nobody left behind? Then the task goes on. */
		bool behind = false;

		list_for_each(o, &t->clients, struct client, link)
			behind |= o->out.len > CLIENT_LOW;
		if (!behind) {
			t->paused = false;
			s->backend->ops->output_pause(s->backend, t->ctr, t->exec, false);
		}
	}
	super_maybe_end(s);
}

/* The watch that fits what is queued; EPOLLERR alone still tells of a hang-up. */
static void client_watch(struct client *c)
{
	uint32_t ev = EPOLLERR;

	if (!c->in_eof && !c->in.len)
		ev |= EPOLLIN;
	if (c->out.len)
		ev |= EPOLLOUT;
	(void)loop_io_set(c->io, ev);
}

/* Writes what is queued. False: the client is gone (and freed). */
static bool client_flush(struct client *c)
{
	while (c->out.len) {
		ssize_t n = RETRY(send(c->fd, c->out.buf, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT));

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			client_free(c);
			return false;
		}
		sbuf_consume(&c->out, (size_t)n);
	}
	if (!c->out.len) {
		sbuf_done(&c->out);
		if (c->finishing) {
			client_free(c);
			return false;
		}
	}
	return true;
}

static void resume_if_caught_up(struct task *t)
{
	if (!t || !t->paused)
		return;
	list_for_each(c, &t->clients, struct client, link)
		if (c->out.len > CLIENT_LOW)
			return;
	t->paused = false;
	t->super->backend->ops->output_pause(t->super->backend, t->ctr, t->exec, false);
}

void client_output(struct task *t, enum task_stream s, const void *p, size_t n)
{
	list_for_each(c, &t->clients, struct client, link) {
		if (!(c->flags & (s == TASK_STDERR ? ATTACH_STDERR : ATTACH_STDOUT)) || c->finishing)
			continue;
		if (c->flags & ATTACH_MUX) {
			uint8_t head[8] = { (uint8_t)s, 0, 0, 0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n };

			sbuf_add(&c->out, head, sizeof head);
		}
		sbuf_add(&c->out, p, n);
		if (!client_flush(c))
			continue;
		client_watch(c);
		if (c->out.len > CLIENT_HIGH && !t->paused && !t->ended) {
			t->paused = true;
			t->super->backend->ops->output_pause(t->super->backend, t->ctr, t->exec, true);
		}
	}
}

static void client_input_over(struct client *c)
{
	struct task *t = c->task;
	bool once = t && (t->flags & TASK_STDIN_ONCE || *t->exec);

	c->in_eof = true;
	if (c->in.len || c->in_closed)
		return;
	c->in_closed = true;
	if (t && c->flags & ATTACH_STDIN && t->flags & TASK_STDIN && once && !(t->flags & TASK_TTY))
		t->super->backend->ops->stdin_close(t->super->backend, t->ctr, t->exec);
}

/* Takes the detach sequence out of what the user typed. True: it is complete. */
static bool filter_keys(struct client *c, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (c->n_keys && (unsigned char)p[i] == c->keys[c->matched]) {
			if (++c->matched == c->n_keys)
				return true;
			continue;
		}
		/* Not the sequence after all: what was held back belongs to the task. */
		sbuf_add(&c->in, c->keys, c->matched);
		c->matched = c->n_keys && (unsigned char)p[i] == c->keys[0] ? 1 : 0;
		if (!c->matched)
			sbuf_putc(&c->in, p[i]);
		else if (c->n_keys == 1)
			return true;
	}
	return false;
}

static void client_detach(struct client *c)
{
	struct task *t = c->task;

	client_pump_in(c);
	super_tell_detached(t);
	c->finishing = true;
	if (client_flush(c))
		client_watch(c);
}

static void client_pump_in(struct client *c)
{
	struct task *t = c->task;

	if (c->in.len && t) {
		size_t n = t->super->backend->ops->stdin_write(t->super->backend, t->ctr, t->exec, c->in.buf, c->in.len);

		sbuf_consume(&c->in, n);
	}
	if (!c->in.len) {
		sbuf_done(&c->in);
		if (c->in_eof)
			client_input_over(c);
	}
}

/* New bytes from the client. False: the client is gone. */
static bool client_input(struct client *c, const char *p, size_t n)
{
	struct task *t = c->task;

	if (!t || !(c->flags & ATTACH_STDIN) || !(t->flags & TASK_STDIN) || t->ended)
		return true;
	if (filter_keys(c, p, n)) {
		client_detach(c);
		return false;
	}
	client_pump_in(c);
	return true;
}

static void on_client(struct loop_source *src, int fd, uint32_t events, void *ud)
{
	struct client *c = ud;
	struct task *t = c->task;
	char buf[8192];

	if (events & EPOLLOUT) {
		if (!client_flush(c))
			return;
		resume_if_caught_up(t);
	}
	if (events & EPOLLIN && !c->in_eof && !c->in.len) {
		ssize_t n = RETRY(recv(fd, buf, sizeof buf, MSG_DONTWAIT));

		if (n > 0 && !client_input(c, buf, (size_t)n))
			return;
		if (n == 0)
			client_input_over(c);
		else if (n < 0 && errno != EAGAIN)
			events |= EPOLLERR;
	}
	if (events & (EPOLLERR | EPOLLHUP)) {
		client_input_over(c);
		client_free(c);
		return;
	}
	client_watch(c);
}

int client_attach(struct task *t, int fd, const struct msg_attach *m)
{
	struct client *c = new0(struct client);
	int r;

	*c = (struct client){ .super = t->super, .task = t, .fd = fd, .flags = m->flags, .in = SBUF_INIT_MAX(1 << 20) };
	/* The daemon gives the keys; only a terminal has a keyboard behind it. */
	c->n_keys = t->flags & TASK_TTY ? MIN(m->detach_keys.n, sizeof c->keys) : 0;
	memcpy(c->keys, m->detach_keys.p, c->n_keys);
	list_append(&t->clients, &c->link);
	r = fd_set_nonblock(fd, true);
	if (r == 0)
		r = loop_add_io(t->super->loop, fd, EPOLLIN, on_client, c, &c->io);
	if (r < 0) {
		list_remove(&c->link);
		close(fd);
		free(c);
		return r;
	}
	if (m->preread.n && !client_input(c, (char *)m->preread.p, m->preread.n))
		return 0;
	if (t->state == TASK_EXITED)
		c->finishing = true;
	if (client_flush(c))
		client_watch(c);
	return 0;
}

void clients_finish(struct task *t)
{
	list_for_each(c, &t->clients, struct client, link) {
		c->finishing = true;
		if (client_flush(c))
			client_watch(c);
	}
}

void clients_linger(struct task *t)
{
	for (struct client *c; (c = list_first(&t->clients, struct client, link));) {
		list_remove(&c->link);
		c->task = NULL;
		list_append(&t->super->lingering, &c->link);
		c->finishing = true;
		if (client_flush(c))
			client_watch(c);
	}
}

void clients_stdin_ready(struct task *t)
{
	list_for_each(c, &t->clients, struct client, link) {
		client_pump_in(c);
		client_watch(c);
	}
}
