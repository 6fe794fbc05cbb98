/* Requests about tasks, and the streams of their standard input and output.
 *
 * Backpressure. Output: what a stream has no credit for is kept in `held`, and the task's output is
 * paused until that is empty; the backend has delivered at most one read by then, so `held` stays
 * small. Input: bytes count as taken (and the peer gets credit) only when the task's stdin has
 * accepted them, so `input` never holds more than one window. */
#include "agent/agent.h"
#include "base/alloc.h"
#include "base/log.h"
#include "base/strv.h"

#include <errno.h>
#include <string.h>

struct out {
	struct task *task;
	struct stream *stream;		/* NULL while no host is connected */
	struct sbuf held;
	bool eof;
};

struct task {
	struct agent *a;
	char *ctr, *exec;
	uint32_t base;			/* stream numbers: base stdin, +1 stdout, +2 stderr */
	enum task_state state;		/* 0 while CREATE is on its way */
	uint32_t pid;
	uint64_t started_ns, exited_ns;
	int exit_code;
	bool oom, paused;
	char *reason;

	struct stream *in;
	struct sbuf input;
	bool input_eof, input_closed;
	struct out out[2];
};

static char *task_key(const char *ctr, const char *exec)
{
	return xasprintf("%s/%s", ctr, exec ? exec : "");
}

static struct task *task_get(struct agent *a, const char *ctr, const char *exec)
{
	_cleanup_free_ char *key = task_key(ctr, exec);

	return hmap_get(&a->tasks, key);
}

static void task_close_streams(struct task *t)
{
	stream_free(t->in);
	t->in = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(t->out); i++) {
		stream_free(t->out[i].stream);
		t->out[i].stream = NULL;
	}
}

static void task_drop(struct task *t)
{
	_cleanup_free_ char *key = task_key(t->ctr, t->exec);

	hmap_remove(&t->a->tasks, key);
	task_close_streams(t);
	sbuf_done(&t->input);
	for (size_t i = 0; i < ARRAY_SIZE(t->out); i++)
		sbuf_done(&t->out[i].held);
	free(t->ctr);
	free(t->exec);
	free(t->reason);
	free(t);
}

static void task_tell(struct task *t)
{
	struct agent *a = t->a;

	if (!a->greeted || !t->state)
		return;		/* told after the next HELLO */
	CONN_EVENT(a->conn, TASK_STATE, task_state,
		   (&(struct msg_task_state){
		       .sandbox = a->sandbox,
		       .ctr = t->ctr,
		       .exec = t->exec,
		       .state = (uint8_t)t->state,
		       .pid = t->pid,
		       .started_ns = t->started_ns,
		       .exited_ns = t->exited_ns,
		       .exit_code = (uint32_t)t->exit_code,
		       .oom = t->oom,
		       .error = t->reason,
		   }));
}

/* Input: host -> task. */

static void input_flow(struct task *t)
{
	struct backend *b = t->a->backend;
	size_t n;

	/* An exec has no stdin before it is started. */
	if (*t->exec && t->state < TASK_RUNNING)
		return;
	if (t->input.len) {
		/* Nobody reads any more: take and forget, so that the peer is not stuck. */
		n = t->state == TASK_EXITED || t->input_closed ? t->input.len :
			b->ops->stdin_write(b, t->ctr, t->exec, t->input.buf, t->input.len);
		sbuf_consume(&t->input, n);
		if (n && t->in)
			stream_taken(t->in, n);
	}
	if (!t->input.len && t->input_eof && !t->input_closed && t->state != TASK_EXITED) {
		t->input_closed = true;
		b->ops->stdin_close(b, t->ctr, t->exec);
	}
}

static void in_data(struct stream *s, const void *p, size_t n, void *userdata)
{
	struct task *t = userdata;

	sbuf_add(&t->input, p, n);
	input_flow(t);
}

static void in_eof(struct stream *s, void *userdata)
{
	struct task *t = userdata;

	t->input_eof = true;
	input_flow(t);
}

static void in_writable(struct stream *s, void *userdata)
{
}

static const struct stream_ops in_ops = {.on_data = in_data, .on_eof = in_eof, .on_writable = in_writable};

/* Output: task -> host. */

static void task_pause(struct task *t)
{
	bool paused = t->out[0].held.len || t->out[1].held.len;

	if (paused == t->paused)
		return;
	t->paused = paused;
	t->a->backend->ops->output_pause(t->a->backend, t->ctr, t->exec, paused);
}

static void out_flow(struct out *o)
{
	if (o->stream && o->held.len)
		sbuf_consume(&o->held, stream_write(o->stream, o->held.buf, o->held.len));
	if (o->stream && !o->held.len && o->eof)
		stream_eof(o->stream);
	if (!o->held.len)
		sbuf_done(&o->held);
	task_pause(o->task);
}

static void out_data(struct stream *s, const void *p, size_t n, void *userdata)
{
	stream_taken(s, n);	/* nothing comes this way */
}

static void out_eof(struct stream *s, void *userdata)
{
}

static void out_writable(struct stream *s, void *userdata)
{
	out_flow(userdata);
}

static const struct stream_ops out_ops = {
    .on_data = out_data, .on_eof = out_eof, .on_writable = out_writable};

static int task_open_streams(struct task *t)
{
	struct streams *ss = t->a->streams;
	int r;

	r = stream_open(ss, t->base, &in_ops, t, &t->in);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(t->out); i++)
		r = stream_open(ss, t->base + 1 + (uint32_t)i, &out_ops, &t->out[i], &t->out[i].stream);
	if (r < 0)
		task_close_streams(t);
	return r;
}

void task_unlink(struct agent *a)
{
	struct hmap_iter it = {0};

	while (hmap_next(&a->tasks, &it))
		task_close_streams(it.entry->value);
	files_unlink(a);
	fifos_unlink(a);
}

void task_replay(struct agent *a)
{
	struct hmap_iter it = {0};

	while (hmap_next(&a->tasks, &it)) {
		struct task *t = it.entry->value;
		int r = task_open_streams(t);

		if (r < 0)
			log_warn("streams of task '%s': %s", it.entry->key, strerror(-r));
		task_tell(t);
		for (size_t i = 0; i < ARRAY_SIZE(t->out); i++)
			out_flow(&t->out[i]);
	}
}

/* Events of the backend. */

static void on_output(void *userdata, const char *ctr, const char *exec, enum task_stream s, const void *p,
		      size_t n)
{
	struct task *t = task_get(userdata, ctr, exec);
	struct out *o;

	if (!t)
		return;
	o = &t->out[s == TASK_STDERR];
	if (!o->held.len && o->stream) {
		size_t k = stream_write(o->stream, p, n);

		p = (const char *)p + k;
		n -= k;
	}
	if (n) {
		sbuf_add(&o->held, p, n);
		task_pause(t);
	}
}

static void on_output_eof(void *userdata, const char *ctr, const char *exec, enum task_stream s)
{
	struct task *t = task_get(userdata, ctr, exec);

	if (!t)
		return;
	t->out[s == TASK_STDERR].eof = true;
	out_flow(&t->out[s == TASK_STDERR]);
}

static void on_stdin_ready(void *userdata, const char *ctr, const char *exec)
{
	struct task *t = task_get(userdata, ctr, exec);

	if (t)
		input_flow(t);
}

static void on_exited(void *userdata, const char *ctr, const char *exec, int exit_code, uint64_t when_ns,
		      bool oom, const char *reason)
{
	struct task *t = task_get(userdata, ctr, exec);

	if (!t)
		return;
	t->state = TASK_EXITED;
	t->exit_code = exit_code;
	t->exited_ns = when_ns;
	t->oom = oom;
	str_replace(&t->reason, reason);
	input_flow(t);
	/* The end of the task may be that of the machine. */
	fifos_pump(t->a);
	task_tell(t);
}

const struct backend_events task_events = {
	.output = on_output,
	.output_eof = on_output_eof,
	.stdin_ready = on_stdin_ready,
	.exited = on_exited,
};

/* Requests. */

static void done_plain(void *userdata, int r, const struct err *e, const void *payload, size_t n)
{
	pending_reply(userdata, r, e, payload, n);
}

static void done_create(void *userdata, int r, const struct err *e, const void *payload, size_t n)
{
	struct pending *p = userdata;
	struct task *t = task_get(p->a, p->ctr, p->exec);

	if (t && r < 0)
		task_drop(t);
	else if (t && !t->state)
		t->state = TASK_CREATED;
	pending_reply(p, r, e, payload, n);
	if (t && r >= 0)
		task_tell(t);
}

static void done_start(void *userdata, int r, const struct err *e, const void *payload, size_t n)
{
	struct pending *p = userdata;
	struct task *t = task_get(p->a, p->ctr, p->exec);
	const uint8_t *b = payload;

	if (t && r >= 0) {
		t->started_ns = now_real_ns();
		if (n >= 4)
			t->pid = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
				 (uint32_t)b[3] << 24;
		if (t->state != TASK_EXITED)
			t->state = TASK_RUNNING;
	}
	pending_reply(p, r, e, payload, n);
	if (t && r >= 0) {
		input_flow(t);
		task_tell(t);
	}
}

static void done_delete(void *userdata, int r, const struct err *e, const void *payload, size_t n)
{
	struct pending *p = userdata;
	struct task *t = task_get(p->a, p->ctr, p->exec);

	if (t && r >= 0)
		task_drop(t);
	pending_reply(p, r, e, payload, n);
}

static void do_create(struct agent *a, uint32_t seq, const struct msg_create *m)
{
	_cleanup_free_ char *spec = NULL, *key = task_key(m->ctr, m->exec);
	_cleanup_err_ struct err e = ERR_INIT;
	struct msg_create local = *m;
	struct pending *p = pending_new(a, seq, MSG_CREATE, m->ctr, m->exec);
	struct task *t;
	int r;

	if (hmap_get(&a->tasks, key)) {
		r = err_set(&e, ERR_CONFLICT, -EEXIST, "create task '%s'", key);
		pending_reply(p, r, &e, NULL, 0);
		return;
	}
	if (str_empty(m->exec)) {
		r = spec_rewrite(a, &m->spec, m->devices, &spec, &e);
		if (r < 0 && r != -ENODATA) {
			pending_reply(p, r, &e, NULL, 0);
			return;
		}
		if (spec)
			local.spec = (struct bytes){(uint8_t *)spec, strlen(spec)};
	}
	t = new0(struct task);
	*t = (struct task){.a = a, .ctr = xstrdup(m->ctr), .exec = xstrdup(m->exec), .base = m->stream};
	t->out[0].task = t->out[1].task = t;
	hmap_set(&a->tasks, key, t);
	r = task_open_streams(t);
	if (r < 0) {
		task_drop(t);
		err_set(&e, ERR_INVALID, r, "streams %u to %u of task '%s'", m->stream, m->stream + 2, key);
		pending_reply(p, r, &e, NULL, 0);
		return;
	}
	a->backend->ops->create(a->backend, &local, done_create, p);
}

#define DECODE(name) \
	struct msg_##name m; \
	int r = msg_##name##_decode(f->payload, f->len, &m); \
	if (r < 0) \
		return r

static int req_create(struct agent *a, const struct frame *f)
{
	DECODE(create);
	do_create(a, f->seq, &m);
	msg_create_done(&m);
	return 0;
}

static int req_start(struct agent *a, const struct frame *f)
{
	DECODE(start);
	a->backend->ops->start(a->backend, m.ctr, m.exec, done_start,
			       pending_new(a, f->seq, MSG_START, m.ctr, m.exec));
	msg_start_done(&m);
	return 0;
}

static int req_kill(struct agent *a, const struct frame *f)
{
	DECODE(kill);
	a->backend->ops->kill(a->backend, m.ctr, m.exec, (int)m.signo, m.all, done_plain,
			      pending_new(a, f->seq, MSG_KILL, m.ctr, m.exec));
	msg_kill_done(&m);
	return 0;
}

static int req_resize(struct agent *a, const struct frame *f)
{
	DECODE(resize);
	a->backend->ops->resize(a->backend, m.ctr, m.exec, m.rows, m.cols, done_plain,
				pending_new(a, f->seq, MSG_RESIZE, m.ctr, m.exec));
	msg_resize_done(&m);
	return 0;
}

static int req_ps(struct agent *a, const struct frame *f)
{
	DECODE(ps);
	a->backend->ops->ps(a->backend, m.ctr, done_plain, pending_new(a, f->seq, MSG_PS, m.ctr, ""));
	msg_ps_done(&m);
	return 0;
}

static int req_control(struct agent *a, const struct frame *f)
{
	DECODE(control);
	a->backend->ops->control(a->backend, &m, done_plain, pending_new(a, f->seq, MSG_CONTROL, m.ctr, ""));
	msg_control_done(&m);
	return 0;
}

static int req_delete(struct agent *a, const struct frame *f)
{
	DECODE(delete);
	a->backend->ops->del(a->backend, m.ctr, m.exec, m.discard, done_delete,
			     pending_new(a, f->seq, MSG_DELETE, m.ctr, m.exec));
	msg_delete_done(&m);
	return 0;
}

static const struct {
	uint16_t type;
	int (*fn)(struct agent *a, const struct frame *f);
} requests[] = {
	{MSG_CREATE, req_create}, {MSG_START, req_start}, {MSG_KILL, req_kill},
	{MSG_RESIZE, req_resize}, {MSG_PS, req_ps},	  {MSG_DELETE, req_delete},
    {MSG_FILES, files_request},
    {MSG_CONTROL, req_control},
};

void task_request(struct agent *a, const struct frame *f)
{
	_cleanup_err_ struct err e = ERR_INIT;
	int r = -ENOSYS;

	if (!f->seq)
		return;		/* an event of a newer host */
	if (a->stopping)
		r = err_msg(&e, ERR_UNAVAILABLE, -ESHUTDOWN, "the guest is shutting down");
	else
		for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
			if (requests[i].type == f->type)
				r = requests[i].fn(a, f);
	if (r < 0)
		conn_reply(a->conn, f->seq, r, e.msg ? &e : NULL, NULL, 0);
}
