#include "vm/qemu/qmp.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/hash.h"
#include "base/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>

#define QMP_LINE_MAX (1u << 20)

struct command {
	struct list link;
	char *text;
	int fd;
	bool sent, negotiates;
	qmp_reply_fn fn;
	void *userdata;
};

struct qmp {
	struct loop *loop;
	int fd;
	struct loop_source *io;
	struct sbuf in, out;
	bool ready, ended, dead;
	unsigned depth;
	struct list commands;	/* sent ones first: answers come in order */
	qmp_event_fn event;
	void *userdata;
};

static void command_free(struct command *c)
{
	list_remove(&c->link);
	fd_close(&c->fd);
	free(c->text);
	free(c);
}

static void qmp_release(struct qmp *q)
{
	list_for_each(c, &q->commands, struct command, link)
		command_free(c);
	sbuf_done(&q->in);
	sbuf_done(&q->out);
	free(q);
}

/* Fails what is outstanding; from now on every command fails at once. */
static void end(struct qmp *q)
{
	_cleanup_err_ struct err e = ERR_INIT;

	if (q->ended)
		return;
	q->ended = true;
	loop_source_free(TAKE_PTR(q->io));
	err_msg(&e, ERR_SYSTEM, -EPIPE, "the virtual machine ended");
	for (struct command *c; !q->dead && (c = list_first(&q->commands, struct command, link));) {
		qmp_reply_fn fn = c->fn;
		void *ud = c->userdata;

		command_free(c);
		fn(ud, -EPIPE, &e, NULL);
	}
}

void qmp_free(struct qmp *q)
{
	if (!q || q->dead)
		return;
	q->dead = true;
	loop_source_free(TAKE_PTR(q->io));
	fd_close(&q->fd);
	if (!q->depth)
		qmp_release(q);
}

/* Commands are short: what the socket does not take at once waits for it to be writable. One with a
 * descriptor goes by itself, so that QEMU meets the descriptor with its command. */
static void flush(struct qmp *q)
{
	if (q->ended)
		return;
	list_for_each(c, &q->commands, struct command, link) {
		ssize_t n;

		if (c->sent)
			continue;
		if (!q->ready && !c->negotiates)
			return;
		n = sock_send_fds(q->fd, c->text, strlen(c->text), &c->fd, c->fd >= 0);
		if (n == -EAGAIN) {
			(void)loop_io_set(q->io, EPOLLIN | EPOLLOUT);
			return;
		}
		if (n < 0)
			return;		/* the reading side hears of it */
		fd_close(&c->fd);
		if ((size_t)n < strlen(c->text)) {
			memmove(c->text, c->text + n, strlen(c->text) - (size_t)n + 1);
			(void)loop_io_set(q->io, EPOLLIN | EPOLLOUT);
			return;
		}
		c->sent = true;
	}
	(void)loop_io_set(q->io, EPOLLIN);
}

static void answer(struct qmp *q, const struct json *doc)
{
	struct command *c = list_first(&q->commands, struct command, link);
	const struct json *error = json_get(doc, "error");
	_cleanup_err_ struct err e = ERR_INIT;
	int r = 0;

	if (!c || !c->sent)
		return;
	if (error)
		r = err_msg(&e, ERR_SYSTEM, -EIO, "QEMU: %s", json_get_str(error, "desc") ?: "unknown error");
	list_remove(&c->link);
	c->fn(c->userdata, r, &e, json_get(doc, "return"));
	free(c->text);
	free(c);
}

static void negotiated(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct qmp *q = ud;

	q->ready = r == 0;
	if (q->ready)
		flush(q);
}

static void line(struct qmp *q, const char *p, size_t n)
{
	_cleanup_json_ struct json *doc = NULL;

	if (json_parse(p, n, &doc, NULL) < 0)
		return;
	if (json_get_str(doc, "event"))
		q->event(q->userdata, json_get_str(doc, "event"), json_get(doc, "data"));
	else if (!json_get(doc, "QMP"))
		answer(q, doc);
}

/* Reads once: how much, 0 at the end, -errno. */
static ssize_t take(struct qmp *q)
{
	char buf[4096], *nl;
	ssize_t n = RETRY(read(q->fd, buf, sizeof buf));

	if (n < 0)
		return -errno;
	sbuf_add(&q->in, buf, (size_t)n);
	if (!sbuf_ok(&q->in))
		return -EPROTO;
	while (!q->dead && q->in.len && (nl = memchr(q->in.buf, '\n', q->in.len))) {
		_cleanup_free_ char *text = xstrndup(q->in.buf, (size_t)(nl - q->in.buf));

		sbuf_consume(&q->in, (size_t)(nl - q->in.buf) + 1);
		line(q, text, strlen(text));
	}
	return n;
}

static void leave(struct qmp *q)
{
	if (--q->depth == 0 && q->dead)
		qmp_release(q);
}

static void on_io(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct qmp *q = ud;

	q->depth++;
	if (events & EPOLLOUT)
		flush(q);
	if (!q->dead && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		ssize_t n = take(q);

		if (n <= 0 && n != -EAGAIN)
			end(q);
	}
	leave(q);
}

void qmp_drain(struct qmp *q)
{
	q->depth++;
	while (!q->dead && !q->ended && take(q) > 0)
		;
	end(q);
	leave(q);
}

void qmp_command(struct qmp *q, const char *name, struct json *args, int pass_fd, qmp_reply_fn fn,
		 void *userdata)
{
	_cleanup_json_ struct json *doc = json_object();
	_cleanup_free_ char *text = NULL;
	struct command *c;

	json_set_str(doc, "execute", name);
	if (args)
		json_set(doc, "arguments", args);
	if (q->ended) {
		_cleanup_err_ struct err e = ERR_INIT;

		err_msg(&e, ERR_SYSTEM, -EPIPE, "the virtual machine ended");
		fn(userdata, -EPIPE, &e, NULL);
		return;
	}
	text = json_dump(doc);
	c = new0(struct command);
	*c = (struct command){
	    .text = xasprintf("%s\n", text),
	    .fn = fn,
	    .userdata = userdata,
	    .negotiates = !q->ready && list_empty(&q->commands),
	    .fd = pass_fd >= 0 ? fcntl(pass_fd, F_DUPFD_CLOEXEC, 3) : -EBADF,
	};
	list_append(&q->commands, &c->link);
	flush(q);
}

int qmp_new(struct loop *l, int fd, qmp_event_fn event, void *userdata, struct qmp **ret)
{
	struct qmp *q = new0(struct qmp);
	int r;

	*q = (struct qmp){ .loop = l, .fd = fd, .in = SBUF_INIT_MAX(QMP_LINE_MAX), .event = event,
			   .userdata = userdata };
	list_init(&q->commands);
	r = fd_set_nonblock(fd, true);
	if (r == 0)
		r = loop_add_io(l, fd, EPOLLIN, on_io, q, &q->io);
	if (r < 0) {
		close(fd);
		free(q);
		return r;
	}
	qmp_command(q, "qmp_capabilities", NULL, -EBADF, negotiated, q);
	*ret = q;
	return 0;
}
