/* Requests of a daemon become calls of the backend. A request is answered when the backend's `done` has
 * run, to the connection it came from if that still lives: connections are looked up by number, never
 * held, for the daemon may be gone by then and another one here. */
#include "super/internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/strv.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

/* A request on its way through the backend. */
struct call {
	struct super *super;
	uint64_t peer;
	uint32_t seq;
	char *ctr, *exec;
};

static struct call *call_new(const struct peer *p, uint32_t seq, const char *ctr, const char *exec)
{
	struct call *c = new0(struct call);

	*c = (struct call){ p->super, p->number, seq, xstrdup(ctr), xstrdup(exec) };
	return c;
}

/* The usual end of a call: the answer. */
static void on_done(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct call *c = ud;
	struct peer *peer = peer_find(c->super, c->peer);

	if (peer)
		conn_reply(peer->conn, c->seq, r, e, p, n);
	super_check(c->super);
	free(c->ctr);
	free(c->exec);
	free(c);
}

/* Answers a request that does not get as far as the backend. */
static void refuse(struct peer *p, uint32_t seq, enum err_kind kind, int r, const char *fmt, ...)
    _printf_(5, 6);

static void refuse(struct peer *p, uint32_t seq, enum err_kind kind, int r, const char *fmt, ...)
{
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	r = err_msg(&e, kind, r, "%s", text);
	conn_reply(p->conn, seq, r, &e, NULL, 0);
}

/* The task a request names, or NULL after having answered that there is none. */
static struct task *find_or_refuse(struct peer *p, uint32_t seq, const char *ctr, const char *exec)
{
	struct task *t = task_find(p->super, ctr, exec);

	if (!t && *exec)
		refuse(p, seq, ERR_NOT_FOUND, 0, "No such exec instance: %s", exec);
	else if (!t)
		refuse(p, seq, ERR_NOT_FOUND, 0, "No such container: %s", ctr);
	return t;
}

static int req_hello(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct super *s = p->super;
	struct msg_hello in, out = {
		.version = PROTO_VERSION, .sandbox = s->args->sandbox, .kind = (char *)s->backend->ops->kind,
		.pid = (uint32_t)getpid(),
	};
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	int r = msg_hello_decode(f->payload, f->len, &in);

	if (r < 0)
		return r;
	if (in.version != PROTO_VERSION)
		refuse(p, f->seq, ERR_INVALID, -EPROTONOSUPPORT,
		       "it speaks version %u of the protocol, the daemon version %u", PROTO_VERSION,
		       in.version);
	r = in.version == PROTO_VERSION;
	msg_hello_done(&in);
	if (!r)
		return 0;
	msg_hello_encode(&out, &b);
	conn_reply(p->conn, f->seq, 0, NULL, b.buf, b.len);
	list_for_each(t, &s->tasks, struct task, link) {
		struct msg_task_state m = task_state_msg(t);

		if (task_told(t))
			CONN_EVENT(p->conn, TASK_STATE, task_state, &m);
	}
	return 0;
}

static int req_sandbox(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct backend *b = p->super->backend;
	struct msg_sandbox m;
	int r = msg_sandbox_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	b->ops->sandbox(b, &m, n_fds ? fds[0] : -EBADF, on_done, call_new(p, f->seq, "", ""));
	msg_sandbox_done(&m);
	return 0;
}

static int req_publish(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	struct msg_ports_table out = {0};
	struct msg_publish m;
	int r = msg_publish_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	r = ports_publish(p->super->loop, &p->super->ports, &m, &out.cells, &e);
	msg_ports_table_encode(&out, &b);
	conn_reply(p->conn, f->seq, r, &e, b.buf, b.len);
	msg_ports_table_done(&out);
	msg_publish_done(&m);
	return 0;
}

static int req_network(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct backend *b = p->super->backend;
	struct msg_network m;
	int r = msg_network_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	b->ops->network(b, &m, n_fds ? fds[0] : -EBADF, on_done, call_new(p, f->seq, "", ""));
	msg_network_done(&m);
	return 0;
}

static void on_created(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct call *c = ud;
	struct task *t = task_find(c->super, c->ctr, c->exec);

	if (t && r < 0) {
		task_free(t);
	} else if (t) {
		c->super->had_container = true;
		task_event(t, EVENT_CREATED);
	}
	on_done(c, r, e, p, n);
}

static int req_create(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct super *s = p->super;
	_cleanup_err_ struct err e = ERR_INIT;
	struct msg_create m;
	int r = msg_create_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	if (s->stopping)
		refuse(p, f->seq, ERR_UNAVAILABLE, -ESHUTDOWN, "create '%s': the sandbox is ending", m.ctr);
	else if (task_find(s, m.ctr, m.exec))
		refuse(p, f->seq, ERR_CONFLICT, -EEXIST, "create '%s': it exists", *m.exec ? m.exec : m.ctr);
	else if (!task_new(s, &m, &e))
		refuse(p, f->seq, e.kind, -EIO, "%s", err_text(&e));
	else
		s->backend->ops->create(s->backend, &m, on_created, call_new(p, f->seq, m.ctr, m.exec));
	msg_create_done(&m);
	return 0;
}

static void on_started(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct call *c = ud;
	struct task *t = task_find(c->super, c->ctr, c->exec);
	uint32_t pid = 0;

	if (t && r == 0) {
		memcpy(&pid, p, MIN(n, sizeof pid));
		t->pid = le32toh(pid);
		task_event(t, EVENT_STARTED);
	} else if (t) {
		int code = e && e->kind == ERR_CMD_NOT_FOUND ? 127 :
			   e && e->kind == ERR_CMD_NOT_EXECUTABLE ? 126 : *t->exec ? 126 : 128;

		task_ended(t, EVENT_FAILED, code, now_real_ns(), e && e->kind ? err_text(e) : strerror(-r));
	}
	on_done(c, r, e, p, n);
}

static int req_start(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct super *s = p->super;
	struct msg_start m;
	struct task *t;
	int r = msg_start_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	t = find_or_refuse(p, f->seq, m.ctr, m.exec);
	if (t && t->phase != PHASE_CREATED) {
		bool began = t->phase != PHASE_EXITED || t->started_ns;

		refuse(p, f->seq, ERR_CONFLICT, -EALREADY, "start '%s': it %s",
		       *m.exec ? m.exec : m.ctr, began ? "was started before" : "has ended already");
	} else if (t) {
		task_event(t, EVENT_START);
		s->backend->ops->start(s->backend, m.ctr, m.exec, on_started,
				       call_new(p, f->seq, m.ctr, m.exec));
	}
	msg_start_done(&m);
	return 0;
}

static int req_kill(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct backend *b = p->super->backend;
	struct msg_kill m;
	int r = msg_kill_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	if (find_or_refuse(p, f->seq, m.ctr, m.exec))
		b->ops->kill(b, m.ctr, m.exec, (int)m.signo, m.all, on_done,
			     call_new(p, f->seq, m.ctr, m.exec));
	msg_kill_done(&m);
	return 0;
}

static int req_resize(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct backend *b = p->super->backend;
	struct msg_resize m;
	int r = msg_resize_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	if (find_or_refuse(p, f->seq, m.ctr, m.exec))
		b->ops->resize(b, m.ctr, m.exec, m.rows, m.cols, on_done, call_new(p, f->seq, m.ctr, m.exec));
	msg_resize_done(&m);
	return 0;
}

static int req_attach(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct msg_attach m;
	struct task *t;
	int r = msg_attach_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	t = find_or_refuse(p, f->seq, m.ctr, m.exec);
	if (t && !n_fds) {
		refuse(p, f->seq, ERR_INVALID, -EBADF, "attach '%s': no connection was passed", m.ctr);
	} else if (t) {
		r = client_attach(t, TAKE_FD(fds[0]), &m);
		conn_reply(p->conn, f->seq, r, NULL, NULL, 0);
	}
	msg_attach_done(&m);
	return 0;
}

static int req_ps(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct backend *b = p->super->backend;
	struct msg_ps m;
	int r = msg_ps_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	if (find_or_refuse(p, f->seq, m.ctr, ""))
		b->ops->ps(b, m.ctr, on_done, call_new(p, f->seq, m.ctr, ""));
	msg_ps_done(&m);
	return 0;
}

static int req_control(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct backend *b = p->super->backend;
	struct msg_control m;
	int r = msg_control_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	if (find_or_refuse(p, f->seq, m.ctr, ""))
		b->ops->control(b, &m, on_done, call_new(p, f->seq, m.ctr, ""));
	msg_control_done(&m);
	return 0;
}

static int req_files(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct backend *b = p->super->backend;
	struct msg_files m;
	int r = msg_files_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	if (find_or_refuse(p, f->seq, m.ctr, ""))
		b->ops->files(b, &m, n_fds ? TAKE_FD(fds[0]) : -EBADF, on_done,
			      call_new(p, f->seq, m.ctr, ""));
	msg_files_done(&m);
	return 0;
}

static void on_deleted(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct call *c = ud;
	struct super *s = c->super;
	bool last = true;

	/* With a container go its execs. */
	if (r == 0)
		list_for_each(t, &s->tasks, struct task, link)
			if (streq(t->ctr, c->ctr) && (!*c->exec || streq(t->exec, c->exec)))
				task_free(t);
	list_for_each(t, &s->tasks, struct task, link)
		last &= *t->exec != 0;
	/* The answer says that name and address are free again: the sandbox must be gone by then. */
	if (r == 0 && last)
		super_stop(s, false, on_done, c);
	else
		on_done(c, r, e, p, n);
}

static int req_delete(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	struct backend *b = p->super->backend;
	struct msg_delete m;
	struct task *t;
	int r = msg_delete_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	t = find_or_refuse(p, f->seq, m.ctr, m.exec);
	if (t && t->phase != PHASE_CREATED && t->phase != PHASE_EXITED)
		refuse(p, f->seq, ERR_CONFLICT, -EBUSY, "delete '%s': it is running",
		       *m.exec ? m.exec : m.ctr);
	else if (t)
		b->ops->del(b, m.ctr, m.exec, m.discard, on_deleted, call_new(p, f->seq, m.ctr, m.exec));
	msg_delete_done(&m);
	return 0;
}

static int req_shutdown(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	super_stop(p->super, true, on_done, call_new(p, f->seq, "", ""));
	return 0;
}

int request(struct peer *p, const struct frame *f, int *fds, size_t n_fds)
{
	static int (*const handlers[])(struct peer *p, const struct frame *f, int *fds, size_t n_fds) = {
		[MSG_HELLO] = req_hello,
		[MSG_SANDBOX] = req_sandbox,
		[MSG_PUBLISH] = req_publish,
		[MSG_NETWORK] = req_network,
		[MSG_CREATE] = req_create,
		[MSG_START] = req_start,
		[MSG_KILL] = req_kill,
		[MSG_RESIZE] = req_resize,
		[MSG_ATTACH] = req_attach,
		[MSG_PS] = req_ps,
		[MSG_FILES] = req_files,
		[MSG_CONTROL] = req_control,
		[MSG_DELETE] = req_delete,
		[MSG_SHUTDOWN] = req_shutdown,
	};

	if (f->type >= ARRAY_SIZE(handlers) || !handlers[f->type])
		return -EPROTO;
	return handlers[f->type](p, f, fds, n_fds);
}
