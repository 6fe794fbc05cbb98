/* Theory of operation.
 *
 * A client is a socket that the daemon handed over after answering the HTTP upgrade. What the task
 * writes is framed (or, with a terminal, copied) into the client's queue. A client more than
 * CLIENT_HIGH behind pauses the task's output, the whole task's: as a pipe with a slow reader would.
 *
 * Input: bytes go to the task's stdin as far as it takes them; while some wait, the socket is not
 * read. End of input is a half-close: output goes on. It closes the task's stdin only if the task
 * was made so (StdinOnce, and always for an exec), and never a terminal's. A client that has left
 * altogether stays until the task has taken its last input.
 *
 * Every path ends in client_settle(), the one place that frees a client or sets what it waits for. */
#include "super/internal.h"
#include "base/alloc.h"
#include "base/fd.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define CLIENT_HIGH (256u << 10)
#define CLIENT_LOW (64u << 10)
#define CLIENT_HIGH_ENDED (8u << 20)	/* a task that has ended: more than its pipes can hold */
#define READ_CHUNK (16u << 10)

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
	bool in_eof;			/* the client sends no more */
	bool in_done;			/* and the task has had it all */
	bool gone;			/* takes no more output */
	bool finishing;			/* to be closed once the queue is empty */
};

static bool takes_input(const struct client *c)
{
	const struct task *t = c->task;

	return t && c->flags & ATTACH_STDIN && t->flags & TASK_STDIN && !t->ended;
}

/* A unix socket that is closed with input unread makes its peer read a reset where the end should be, and the
 * docker CLI would report that. Once both directions are shut nothing can follow what is thrown away here. */
static void client_close(struct client *c)
{
	char buf[READ_CHUNK];

	(void)shutdown(c->fd, SHUT_RDWR);
	while (RETRY(recv(c->fd, buf, sizeof buf, MSG_DONTWAIT)) > 0)
		;
	fd_close(&c->fd);
}

static void client_free(struct client *c)
{
	struct super *s = c->super;
	struct task *t = c->task;

	list_remove(&c->link);
	loop_source_free(c->io);
	client_close(c);
	sbuf_done(&c->out);
	sbuf_done(&c->in);
	free(c);
	if (t)
		clients_balance(t);
	super_check(s);
}

/* Frees the client if it has no more business here, else waits for what can come next. */
static void client_settle(struct client *c)
{
	uint32_t events = 0;

	if ((c->finishing && (c->gone || !c->out.len)) || (c->gone && c->in_done)) {
		client_free(c);
		return;
	}
	if (!c->in_eof && !c->in.len)
		events |= EPOLLIN;
	if (!c->gone)
		events |= EPOLLERR | (c->out.len ? EPOLLOUT : 0);
	(void)loop_io_set(c->io, events);
}

static void client_lost(struct client *c)
{
	c->gone = true;
	sbuf_done(&c->out);
}

/* Writes what is queued. */
static void client_flush(struct client *c)
{
	while (c->out.len) {
		ssize_t n = RETRY(send(c->fd, c->out.buf, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT));

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			client_lost(c);
		else
			sbuf_consume(&c->out, (size_t)n);
	}
	sbuf_done(&c->out);
}

/* Gives the task what the client sent, and the end of it. */
static void client_pump(struct client *c)
{
	struct task *t = c->task;
	bool takes = takes_input(c);
	struct backend *b = c->super->backend;

	if (c->in.len && takes)
		sbuf_consume(&c->in, b->ops->stdin_write(b, t->ctr, t->exec, c->in.buf, c->in.len));
	if (c->in.len && takes)
		return;
	sbuf_done(&c->in);
	if (!c->in_eof || c->in_done)
		return;
	c->in_done = true;
	if (takes && !(t->flags & TASK_TTY) && (t->flags & TASK_STDIN_ONCE || *t->exec))
		b->ops->stdin_close(b, t->ctr, t->exec);
}

void clients_balance(struct task *t)
{
	struct backend *b = t->super->backend;
	size_t limit = t->ended ? CLIENT_HIGH_ENDED : t->paused ? CLIENT_LOW : CLIENT_HIGH;
	bool behind = false;

	list_for_each(c, &t->clients, struct client, link)
		behind |= c->out.len > limit;
	if (behind == t->paused)
		return;
	t->paused = behind;
	b->ops->output_pause(b, t->ctr, t->exec, behind);
}

void clients_output(struct task *t, enum task_stream s, const void *p, size_t n)
{
	const uint8_t head[8] = {
		(uint8_t)s, 0, 0, 0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n,
	};

	list_for_each(c, &t->clients, struct client, link) {
		if (!(c->flags & (s == TASK_STDERR ? ATTACH_STDERR : ATTACH_STDOUT)) || c->finishing ||
		    c->gone)
			continue;
		if (c->flags & ATTACH_MUX)
			sbuf_add(&c->out, head, sizeof head);
		sbuf_add(&c->out, p, n);
		/* A stream with a hole would be worse than one that breaks off. */
		if (!sbuf_ok(&c->out))
			client_lost(c);
		client_flush(c);
		client_settle(c);
	}
	clients_balance(t);
}

/* Takes the detach sequence out of what the user typed. True: it is complete. */
static bool filter_keys(struct client *c, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char k = (unsigned char)p[i];

		if (c->n_keys && k != c->keys[c->matched]) {
			/* Not the sequence after all: what was held back belongs to the task. */
			sbuf_add(&c->in, c->keys, c->matched);
			c->matched = 0;
		}
		if (!c->n_keys || k != c->keys[c->matched])
			sbuf_putc(&c->in, p[i]);
		else if (++c->matched == c->n_keys)
			return true;
	}
	return false;
}

/* Bytes from the client. */
static void client_input(struct client *c, const char *p, size_t n)
{
	if (!takes_input(c))
		return;
	if (!c->n_keys) {
		sbuf_add(&c->in, p, n);
	} else if (filter_keys(c, p, n)) {
		client_pump(c);
		super_tell_detached(c->task);
		/* What it still sends is for nobody; the task's stdin stays open. */
		c->in_eof = c->in_done = c->finishing = true;
		return;
	}
	client_pump(c);
}

static void client_read(struct client *c)
{
	char buf[READ_CHUNK];
	ssize_t n = RETRY(recv(c->fd, buf, sizeof buf, MSG_DONTWAIT));

	if (n < 0 && errno == EAGAIN)
		return;
	if (n > 0) {
		client_input(c, buf, (size_t)n);
		return;
	}
	if (n < 0)
		client_lost(c);
	c->in_eof = true;
	client_pump(c);
}

static void on_client(struct loop_source *src, int fd, uint32_t events, void *ud)
{
	struct client *c = ud;
	struct task *t = c->task;

	if (events & EPOLLOUT)
		client_flush(c);
	/* Both directions are closed: what it sent before can still be read. */
	if (events & (EPOLLHUP | EPOLLERR))
		client_lost(c);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !c->in_eof && !c->in.len)
		client_read(c);
	client_settle(c);
	if (t)
		clients_balance(t);
}

int client_attach(struct task *t, int fd, const struct msg_attach *m)
{
	struct client *c = new0(struct client);
	int r;

	*c = (struct client){ .super = t->super, .task = t, .fd = fd, .flags = m->flags };
	/* Only a terminal has a keyboard behind it. */
	c->n_keys = t->flags & TASK_TTY ? MIN(m->detach_keys.n, sizeof c->keys) : 0;
	if (c->n_keys)
		memcpy(c->keys, m->detach_keys.p, c->n_keys);
	r = fd_set_nonblock(fd, true);
	if (r == 0)
		r = loop_add_io(t->super->loop, fd, EPOLLIN, on_client, c, &c->io);
	if (r < 0) {
		fd_close(&c->fd);
		free(c);
		return r;
	}
	list_append(&t->clients, &c->link);
	c->finishing = t->phase == PHASE_EXITED;
	if (m->preread.n)
		client_input(c, (const char *)m->preread.p, m->preread.n);
	client_settle(c);
	return 0;
}

void clients_finish(struct task *t)
{
	list_for_each(c, &t->clients, struct client, link) {
		c->finishing = true;
		client_flush(c);
		client_settle(c);
	}
}

void clients_linger(struct task *t)
{
	for (struct client *c; (c = list_first(&t->clients, struct client, link));) {
		list_remove(&c->link);
		list_append(&t->super->lingering, &c->link);
		c->task = NULL;
		c->finishing = true;
		client_flush(c);
		client_settle(c);
	}
}

void clients_drop(struct super *s)
{
	for (struct client *c; (c = list_first(&s->lingering, struct client, link));)
		client_free(c);
}

void clients_stdin_ready(struct task *t)
{
	list_for_each(c, &t->clients, struct client, link) {
		client_pump(c);
		client_settle(c);
	}
}
