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
	bool sent;
	qmp_reply_fn fn;
	void *userdata;
};

struct qmp {
	struct loop *loop;
	int fd;
	struct loop_source *io;
	struct sbuf in, out;
	bool ready, dead;
	unsigned depth;
	struct list commands;	/* sent ones first: answers come in order */
	qmp_event_fn event;
	qmp_close_fn closed;
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

void qmp_free(struct qmp *q)
{
	if (!q || q->dead)
		return;
	q->dead = true;
	loop_source_free(q->io);
	fd_close(&q->fd);
	if (!q->depth)
		qmp_release(q);
}

/* Commands are short: what the socket does not take at once waits for it to be writable. One with a
 * descriptor goes by itself, so that QEMU meets the descriptor with its command. */
static void flush(struct qmp *q)
{
	list_for_each(c, &q->commands, struct command, link) {
		ssize_t n;

		if (c->sent)
			continue;
		if (!q->ready && !strstr(c->text, "qmp_capabilities"))
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

	q->ready = true;
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

static void on_io(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct qmp *q = ud;
	char buf[4096];
	ssize_t n;

	q->depth++;
	if (events & EPOLLOUT)
		flush(q);
	n = events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? RETRY(read(fd, buf, sizeof buf)) : -1;
	if (n > 0) {
		char *nl;

		sbuf_add(&q->in, buf, (size_t)n);
		while (!q->dead && q->in.len && (nl = memchr(q->in.buf, '\n', q->in.len))) {
			size_t len = (size_t)(nl - q->in.buf);
			_cleanup_free_ char *text = xstrndup(q->in.buf, len);

			sbuf_consume(&q->in, len + 1);
			line(q, text, strlen(text));
		}
	} else if (n == 0 || (n < 0 && errno != EAGAIN && events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
		loop_source_free(q->io);
		q->io = NULL;
		q->closed(q->userdata);
	}
	if (--q->depth == 0 && q->dead)
		qmp_release(q);
}

void qmp_command(struct qmp *q, const char *name, struct json *args, int pass_fd, qmp_reply_fn fn, void *userdata)
{
	_cleanup_json_ struct json *doc = json_object();
	_cleanup_free_ char *text = NULL;
	struct command *c = new0(struct command);

	json_set_str(doc, "execute", name);
	if (args)
		json_set(doc, "arguments", args);
	text = json_dump(doc);
	*c = (struct command){
		.text = xasprintf("%s\n", text), .fn = fn, .userdata = userdata,
		.fd = pass_fd >= 0 ? fcntl(pass_fd, F_DUPFD_CLOEXEC, 3) : -EBADF,
	};
	list_append(&q->commands, &c->link);
	flush(q);
}

int qmp_new(struct loop *l, int fd, qmp_event_fn event, qmp_close_fn closed, void *userdata, struct qmp **ret)
{
	struct qmp *q = new0(struct qmp);
	int r;

	*q = (struct qmp){ .loop = l, .fd = fd, .in = SBUF_INIT_MAX(QMP_LINE_MAX), .event = event, .closed = closed,
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
