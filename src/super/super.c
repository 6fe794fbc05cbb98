/* Theory of operation.
 *
 * Requests of the daemon become calls of the backend; what the backend reports becomes log lines,
 * client output and TASK_STATE events. A request is answered when the backend's `done` has run, by
 * the connection it came from if that still lives: connections are looked up by number, never held.
 *
 * A task goes CREATED -> RUNNING -> EXITED, or CREATED -> EXITED when it cannot start. EXITED is
 * told only after its output has ended and its record is on disk. */
#include "super/super.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/strv.h"
#include "proto/conn.h"
#include "super/task.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct peer {
	struct list link;
	struct super *super;
	struct conn *conn;
	uint64_t number;
};

/* A request on its way through the backend. */
struct call {
	struct super *super;
	uint64_t peer;
	uint32_t seq;
	char *ctr, *exec;
	void (*after)(struct call *c, int r, const struct err *e, const void *p, size_t n);
};

static struct peer *peer_find(struct super *s, uint64_t number)
{
	list_for_each(p, &s->conns, struct peer, link)
		if (p->number == number)
			return p;
	return NULL;
}

static void on_done(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct call *c = ud;
	struct super *s = c->super;
	struct peer *peer;

	if (c->after)
		c->after(c, r, e, p, n);
	peer = peer_find(s, c->peer);
	if (peer)
		conn_reply(peer->conn, c->seq, r, e, p, n);
	free(c->ctr);
	free(c->exec);
	free(c);
	super_maybe_end(s);
}

static struct call *call_new(struct peer *p, uint32_t seq, const char *ctr, const char *exec,
			     void (*after)(struct call *, int, const struct err *, const void *, size_t))
{
	struct call *c = new0(struct call);

	*c = (struct call){ p->super, p->number, seq, xstrdup(ctr), xstrdup(exec), after };
	return c;
}

/* --- events to daemons --- */

void super_tell_state(struct task *t)
{
	struct msg_task_state m = task_state_msg(t);

	list_for_each(p, &t->super->conns, struct peer, link)
		CONN_EVENT(p->conn, TASK_STATE, task_state, &m);
}

void super_tell_detached(struct task *t)
{
	struct msg_detached m = { (char *)t->super->args->sandbox, t->ctr, t->exec };

	list_for_each(p, &t->super->conns, struct peer, link)
		CONN_EVENT(p->conn, DETACHED, detached, &m);
}

/* --- requests --- */

static void no_such_task(struct peer *p, uint32_t seq, const char *ctr, const char *exec)
{
	_cleanup_err_ struct err e = ERR_INIT;
	int r = *exec ? err_msg(&e, ERR_NOT_FOUND, 0, "No such exec instance: %s", exec)
		      : err_msg(&e, ERR_NOT_FOUND, 0, "No such container: %s", ctr);

	conn_reply(p->conn, seq, r, &e, NULL, 0);
}

static int req_hello(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct super *s = p->super;
	struct msg_hello in, out = { PROTO_VERSION, (char *)s->args->sandbox, (char *)s->backend->ops->kind, (uint32_t)getpid() };
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	int r = msg_hello_decode(f->payload, f->len, &in);

	if (r < 0)
		return r;
	r = in.version == PROTO_VERSION ? 0 : -EPROTO;
	msg_hello_done(&in);
	if (r < 0)
		return r;
	msg_hello_encode(&out, &b);
	conn_reply(p->conn, f->seq, 0, NULL, b.buf, b.len);
	list_for_each(t, &s->tasks, struct task, link) {
		struct msg_task_state m = task_state_msg(t);

		CONN_EVENT(p->conn, TASK_STATE, task_state, &m);
	}
	return 0;
}

static int req_sandbox(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct msg_sandbox m;
	int r = msg_sandbox_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	p->super->backend->ops->sandbox(p->super->backend, &m, on_done, call_new(p, f->seq, "", "", NULL));
	msg_sandbox_done(&m);
	return 0;
}

static void after_create(struct call *c, int r, const struct err *e, const void *p, size_t n)
{
	struct task *t = task_find(c->super, c->ctr, c->exec);

	if (!t)
		return;
	if (r < 0) {
		task_free(t);
		return;
	}
	if (!*t->exec)
		c->super->had_container = true;
	super_tell_state(t);
}

static int req_create(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct super *s = p->super;
	struct msg_create m;
	int r = msg_create_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	if (task_find(s, m.ctr, m.exec)) {
		_cleanup_err_ struct err e = ERR_INIT;

		r = err_msg(&e, ERR_CONFLICT, -EEXIST, "create '%s': it exists", *m.exec ? m.exec : m.ctr);
		conn_reply(p->conn, f->seq, r, &e, NULL, 0);
	} else {
		task_new(s, &m);
		s->backend->ops->create(s->backend, &m, on_done, call_new(p, f->seq, m.ctr, m.exec, after_create));
	}
	msg_create_done(&m);
	return 0;
}

/* An exec that cannot start says so where its output would have been, as Docker does. */
static void tell_exec_failure(struct task *t)
{
	_cleanup_free_ char *text = xasprintf("OCI runtime exec failed: exec failed: unable to start container process: "
					      "%s: unknown\r\n", t->error);

	client_output(t, TASK_STDOUT, text, strlen(text));
}

static void after_start(struct call *c, int r, const struct err *e, const void *p, size_t n)
{
	struct task *t = task_find(c->super, c->ctr, c->exec);
	uint32_t pid = 0;

	if (!t || t->state != TASK_CREATED)
		return;
	if (r == 0) {
		if (n == sizeof pid)
			memcpy(&pid, p, sizeof pid);
		t->pid = le32toh(pid);
		t->state = TASK_RUNNING;
		if (!t->started_ns)
			t->started_ns = now_real_ns();
		super_tell_state(t);
		task_maybe_exited(t, false);
		return;
	}
	str_replace(&t->error, err_text(e));
	t->exit_code = e && e->kind == ERR_CMD_NOT_FOUND ? 127 : e && e->kind == ERR_CMD_NOT_EXECUTABLE ? 126 : 128;
	t->exited_ns = now_real_ns();
	t->ended = true;
	if (*t->exec)
		tell_exec_failure(t);
	task_maybe_exited(t, true);
}

static int req_start(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct super *s = p->super;
	struct msg_start m;
	struct task *t;
	int r = msg_start_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	t = task_find(s, m.ctr, m.exec);
	if (!t || t->state != TASK_CREATED) {
		no_such_task(p, f->seq, m.ctr, m.exec);
	} else {
		t->started_ns = now_real_ns();
		s->backend->ops->start(s->backend, m.ctr, m.exec, on_done, call_new(p, f->seq, m.ctr, m.exec, after_start));
	}
	msg_start_done(&m);
	return 0;
}

static int req_kill(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct super *s = p->super;
	struct msg_kill m;
	int r = msg_kill_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	if (!task_find(s, m.ctr, m.exec))
		no_such_task(p, f->seq, m.ctr, m.exec);
	else
		s->backend->ops->kill(s->backend, m.ctr, m.exec, (int)m.signo, m.all, on_done,
				      call_new(p, f->seq, m.ctr, m.exec, NULL));
	msg_kill_done(&m);
	return 0;
}

static int req_resize(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct super *s = p->super;
	struct msg_resize m;
	int r = msg_resize_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	if (!task_find(s, m.ctr, m.exec))
		no_such_task(p, f->seq, m.ctr, m.exec);
	else
		s->backend->ops->resize(s->backend, m.ctr, m.exec, m.rows, m.cols, on_done,
					call_new(p, f->seq, m.ctr, m.exec, NULL));
	msg_resize_done(&m);
	return 0;
}

static int req_attach(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct super *s = p->super;
	struct msg_attach m;
	struct task *t;
	int r = msg_attach_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	t = task_find(s, m.ctr, m.exec);
	if (!t || !n_fds) {
		no_such_task(p, f->seq, m.ctr, m.exec);
	} else {
		int fd = TAKE_FD(fds[0]);

		r = client_attach(t, fd, &m);
		conn_reply(p->conn, f->seq, r, NULL, NULL, 0);
	}
	msg_attach_done(&m);
	return 0;
}

static int req_ps(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct super *s = p->super;
	struct msg_ps m;
	int r = msg_ps_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	if (!task_find(s, m.ctr, ""))
		no_such_task(p, f->seq, m.ctr, "");
	else
		s->backend->ops->ps(s->backend, m.ctr, on_done, call_new(p, f->seq, m.ctr, "", NULL));
	msg_ps_done(&m);
	return 0;
}

static void after_delete(struct call *c, int r, const struct err *e, const void *p, size_t n)
{
	if (r < 0)
		return;
	/* With the container go its execs. */
	list_for_each(t, &c->super->tasks, struct task, link)
		if (streq(t->ctr, c->ctr) && (!*c->exec || streq(t->exec, c->exec)))
			task_free(t);
}

static int req_delete(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct super *s = p->super;
	struct msg_delete m;
	struct task *t;
	int r = msg_delete_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	t = task_find(s, m.ctr, m.exec);
	if (!t) {
		no_such_task(p, f->seq, m.ctr, m.exec);
	} else if (t->state == TASK_RUNNING) {
		_cleanup_err_ struct err e = ERR_INIT;

		r = err_msg(&e, ERR_CONFLICT, -EBUSY, "delete '%s': it is running", *m.exec ? m.exec : m.ctr);
		conn_reply(p->conn, f->seq, r, &e, NULL, 0);
	} else {
		s->backend->ops->del(s->backend, m.ctr, m.exec, on_done, call_new(p, f->seq, m.ctr, m.exec, after_delete));
	}
	msg_delete_done(&m);
	return 0;
}

static void after_shutdown(struct call *c, int r, const struct err *e, const void *p, size_t n)
{
	c->super->ending = true;
}

static int req_shutdown(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	p->super->backend->ops->shutdown(p->super->backend, on_done, call_new(p, f->seq, "", "", after_shutdown));
	return 0;
}

static const struct {
	uint16_t type;
	int (*handle)(struct peer *p, const struct frame *f, int *fds, size_t n_fds);
} requests[] = {
	{ MSG_HELLO, req_hello }, { MSG_SANDBOX, req_sandbox }, { MSG_CREATE, req_create }, { MSG_START, req_start },
	{ MSG_KILL, req_kill }, { MSG_RESIZE, req_resize }, { MSG_ATTACH, req_attach }, { MSG_PS, req_ps },
	{ MSG_DELETE, req_delete }, { MSG_SHUTDOWN, req_shutdown },
};

/* --- connections --- */

static void peer_free(struct peer *p)
{
	struct super *s = p->super;

	list_remove(&p->link);
	conn_free(p->conn);
	free(p);
	super_maybe_end(s);
}

static void on_frame(struct conn *c, const struct frame *f, int *fds, size_t n_fds, void *ud)
{
	struct peer *p = ud;

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		if (requests[i].type != f->type)
			continue;
		int r = requests[i].handle(p, f, fds, n_fds);

		if (r < 0) {
			log_error("request %s: %s", msg_type_name(f->type), strerror(-r));
			peer_free(p);
		}
		return;
	}
	log_error("unexpected message %u", f->type);
	peer_free(p);
}

static void on_close(struct conn *c, int r, void *ud)
{
	peer_free(ud);
}

static const struct conn_ops conn_ops = { on_frame, on_close };

static void on_accept(struct loop_source *src, int lfd, uint32_t events, void *ud)
{
	static uint64_t numbers;
	struct super *s = ud;
	int fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct peer *p;

	if (fd < 0)
		return;
	p = new0(struct peer);
	p->super = s;
	p->number = ++numbers;
	list_append(&s->conns, &p->link);
	if (conn_new(s->loop, fd, true, &conn_ops, p, &p->conn) < 0) {
		list_remove(&p->link);
		free(p);
	}
}

/* --- what the backend reports --- */

static void ev_output(void *ud, const char *ctr, const char *exec, enum task_stream st, const void *p, size_t n)
{
	struct task *t = task_find(ud, ctr, exec);

	if (!t || t->state == TASK_EXITED)
		return;
	jsonlog_write(&t->log, st, p, n);
	client_output(t, st, p, n);
}

static void ev_output_eof(void *ud, const char *ctr, const char *exec, enum task_stream st)
{
	struct task *t = task_find(ud, ctr, exec);

	if (!t)
		return;
	t->eof[st] = true;
	if (t->state != TASK_CREATED)
		task_maybe_exited(t, false);
}

static void ev_stdin_ready(void *ud, const char *ctr, const char *exec)
{
	struct task *t = task_find(ud, ctr, exec);

	if (t)
		clients_stdin_ready(t);
}

static void ev_exited(void *ud, const char *ctr, const char *exec, int code, uint64_t when_ns, bool oom, const char *reason)
{
	struct task *t = task_find(ud, ctr, exec);

	if (!t || t->ended)
		return;
	t->ended = true;
	t->exit_code = code;
	t->exited_ns = when_ns;
	t->oom = oom;
	str_replace(&t->error, reason ? reason : "");
	/* Between START and its answer the state is still CREATED: after_start comes back to this. */
	if (t->state == TASK_RUNNING)
		task_maybe_exited(t, false);
	else if (t->state == TASK_CREATED && reason && *reason)
		task_maybe_exited(t, true);
}

static void ev_lost(void *ud, const char *reason)
{
	struct super *s = ud;

	list_for_each(t, &s->tasks, struct task, link)
		if (t->ended)
			task_maybe_exited(t, true);
	super_maybe_end(s);
}

static const struct backend_events backend_events = {
	ev_output, ev_output_eof, ev_stdin_ready, ev_exited, ev_lost,
};

/* --- life --- */

static void shut_down_done(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct super *s = ud;

	s->ending = true;
	loop_exit(s->loop, 0);
}

/* Ends when nothing is left to do: the last container is deleted, or all have exited and nobody is
 * connected who could be told; in both cases after every client has everything. */
void super_maybe_end(struct super *s)
{
	bool live = false, clients = !list_empty(&s->lingering);

	list_for_each(t, &s->tasks, struct task, link) {
		live |= t->state != TASK_EXITED;
		clients |= !list_empty(&t->clients);
	}
	if (s->ending) {
		list_for_each(p, &s->conns, struct peer, link)
			(void)conn_flush(p->conn, 1000);
		loop_exit(s->loop, 0);
		return;
	}
	if (clients || !s->had_container) {
		/* A daemon that died before it made a container leaves an empty sandbox. */
		if (clients || !list_empty(&s->conns) || !list_empty(&s->tasks) || !s->accept)
			return;
	} else if (!list_empty(&s->tasks) && (live || !list_empty(&s->conns))) {
		return;
	}
	loop_source_free(s->accept);
	s->accept = NULL;
	s->had_container = true;
	s->backend->ops->shutdown(s->backend, shut_down_done, s);
}

static void on_term(struct loop_source *src, const struct signalfd_siginfo *si, void *ud)
{
	struct super *s = ud;

	s->backend->ops->shutdown(s->backend, shut_down_done, s);
}

int super_parse_args(int argc, char **argv, struct super_args *ret)
{
	char *sandbox = NULL, *dir = NULL, *error = NULL;
	bool debug = false;
	const struct opt opts[] = {
		{ 0, "sandbox", OPT_STR, &sandbox, "id", "The sandbox to serve" },
		{ 0, "dir", OPT_STR, &dir, "path", "Directory of exit records" },
		{ 0, "debug", OPT_BOOL, &debug, NULL, "Log more" },
		OPT_END
	};
	_cleanup_free_ char **rest = NULL;

	if (opt_parse(opts, argc, argv, false, &rest, &error) < 0 || !sandbox || !dir || rest[0]) {
		fprintf(stderr, "%s: %s: started by insulad only\n", argv[0], error ? error : "--sandbox and --dir are needed");
		free(error);
		return -EINVAL;
	}
	log_init(argv[0], debug ? LOG_LVL_DEBUG : LOG_LVL_INFO);
	*ret = (struct super_args){ .sandbox = sandbox, .dir = dir, .listen_fd = 3 };
	return fd_set_cloexec(3, true);
}

int super_run(struct loop *l, const struct super_args *a)
{
	struct super s = { .loop = l, .args = a, .backend = a->backend };
	int r;

	list_init(&s.tasks);
	list_init(&s.conns);
	list_init(&s.lingering);
	a->backend->events = &backend_events;
	a->backend->userdata = &s;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	r = loop_add_signal(l, SIGTERM, on_term, &s, NULL);
	if (r == 0)
		r = loop_add_io(l, a->listen_fd, EPOLLIN, on_accept, &s, &s.accept);
	if (r < 0) {
		log_error("serve sandbox '%s': %s", a->sandbox, strerror(-r));
		return 1;
	}
	return loop_run(l);
}
