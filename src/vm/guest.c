/* Theory of operation.
 *
 * The machine is started, stopped, at SANDBOX. The first CREATE adds the container's disks, lets the
 * machine run, waits for the agent, tells it what devices must be there, and then passes the CREATE on
 * with disks in the place of files (create.c). From then on a request is a request to the agent
 * with the same message; the streams carry stdio. What holds for a cold boot holds for a restored template:
 * no step depends on how the agent came to be waiting. Further containers come the same way into a machine
 * that runs; each takes its disks along when it goes.
 *
 * The end has one way, whatever the cause: QEMU is gone, what the link still held has been read, then every
 * task is told exited, then the sandbox lost (machine.c). */
#include "vm/guest.h"
#include "base/alloc.h"
#include "base/strv.h"
#include "vm/guest_internal.h"
#include "vm/output.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#define KILL_PATIENCE_US (30ull * 1000000)
#define SHUTDOWN_PATIENCE_US (12ull * 1000000)	/* the agent gives tasks 10 s, then writes the disks */
#define TICK_US 1000000u
#define ERROR_TEXT_MAX 2048
#define STATS_MAX 4096
#define STATS_NAME_MAX 64

static struct guest *guest_of(struct backend *b)
{
	return container_of(b, struct guest, b);
}

struct gtask *gtask_find(struct guest *g, const char *ctr, const char *exec)
{
	list_for_each(t, &g->tasks, struct gtask, link)
		if (streq(t->ctr, ctr) && streq(t->exec, exec))
			return t;
	return NULL;
}

void gtask_free(struct gtask *t)
{
	list_remove(&t->link);
	loop_source_free(t->kill_timer);
	for (size_t i = 0; i < ARRAY_SIZE(t->s); i++)
		stream_free(t->s[i]);
	free(t->ctr);
	free(t->exec);
	free(t);
}

/* --- requests to the agent --- */

struct forward {
	struct guest *g;
	struct list link;
	char *ctr, *exec;
	backend_done_fn done;
	void *ud;
	void (*after)(struct guest *g, const char *ctr, const char *exec, int r);
	bool (*valid)(const void *p, size_t n);
	bool quick;
	unsigned waited;		/* ticks */
};

struct forward *forward_new(struct guest *g, const char *ctr, const char *exec, backend_done_fn done,
			    void *ud)
{
	struct forward *f = new0(struct forward);

	*f = (struct forward){ .g = g, .ctr = xstrdup(ctr), .exec = xstrdup(exec), .done = done, .ud = ud };
	list_append(&g->forwards, &f->link);
	return f;
}

static void forward_free(struct forward *f)
{
	list_remove(&f->link);
	free(f->ctr);
	free(f->exec);
	free(f);
}

void forward_after(struct forward *f,
		   void (*after)(struct guest *g, const char *ctr, const char *exec, int r))
{
	f->after = after;
}

void forward_check(struct forward *f, bool (*valid)(const void *p, size_t n))
{
	f->valid = valid;
}

/* Time is counted in ticks: after the host, or we ourselves, stood still, the answer is read before the next
 * one. */
static void on_tick(struct loop_source *s, void *ud)
{
	struct guest *g = ud;
	unsigned patience = guest_patience(g);
	bool some = g->telling, late = g->telling && ++g->telling_for >= patience;

	list_for_each(f, &g->forwards, struct forward, link) {
		some |= f->quick;
		late |= f->quick && ++f->waited >= patience;
	}
	if (!some)
		loop_source_free(TAKE_PTR(g->ticks));
	if (late && !g->why) {
		_cleanup_free_ char *why = xasprintf("no answer from its agent in %u s", patience);

		machine_kill(g, why);
	}
}

void guest_count(struct guest *g)
{
	if (!g->ticks)
		(void)loop_add_timer(g->loop, TICK_US, TICK_US, on_tick, g, &g->ticks);
}

void forward_quick(struct forward *f)
{
	f->quick = true;
	guest_count(f->g);
}

void forwarded(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	_cleanup_err_ struct err clean = ERR_INIT;
	struct forward *f = ud;

	if (r == 0 && f->valid && !f->valid(p, n)) {
		r = err_msg(&clean, ERR_SYSTEM, -EPROTO, "the answer of the virtual machine makes no sense");
	} else if (r == -ECONNRESET) {
		const char *why = f->g->why ? f->g->why : f->g->words;

		err_msg(&clean, ERR_SYSTEM, r, "the virtual machine ended%s%s", why ? ": " : "",
			why ? why : "");
	} else if (r < 0 && e && e->kind) {
		_cleanup_free_ char *text = text_clean(err_text(e), ERROR_TEXT_MAX);

		err_msg(&clean, e->kind, r, "%s", text);
	}
	if (f->after)
		f->after(f->g, f->ctr, f->exec, r);
	f->done(f->ud, r, clean.kind ? &clean : NULL, r < 0 ? NULL : p, r < 0 ? 0 : n);
	forward_free(f);
}

void refuse_gone(backend_done_fn done, void *ud)
{
	_cleanup_err_ struct err e = ERR_INIT;
	int r = err_msg(&e, ERR_CONFLICT, -ESRCH, "the virtual machine is not running");

	done(ud, r, &e, NULL, 0);
}

#define FORWARD(NAME, name, check, ...) do { \
	struct guest *_g = guest_of(b); \
	struct msg_##name _m = { .sandbox = _g->sandbox, .ctr = (char *)ctr, __VA_ARGS__ }; \
	struct forward *_f; \
	if (_g->phase != GUEST_UP) { \
		refuse_gone(done, ud); \
		break; \
	} \
	_f = forward_new(_g, ctr, "", done, ud); \
	_f->valid = check; \
	forward_quick(_f); \
	CONN_REQUEST(_g->conn, NAME, name, &_m, -EBADF, forwarded, _f); \
	} while (0)

static bool is_pid(const void *p, size_t n)
{
	return n == sizeof(uint32_t);
}

static bool is_table(const void *p, size_t n)
{
	struct msg_ps_table m;
	bool whole;

	if (msg_ps_table_decode(p, n, &m) < 0)
		return false;
	whole = strv_len(m.cells) % MSG_PS_COLUMNS == 0;
	msg_ps_table_done(&m);
	return whole;
}

static void op_sandbox(struct backend *b, const struct msg_sandbox *m, int template, backend_done_fn done,
		       void *ud)
{
	machine_start(guest_of(b), m, template, done, ud);
}

static void op_network(struct backend *b, const struct msg_network *m, int tap, backend_done_fn done,
		       void *ud)
{
	struct guest *g = guest_of(b);

	if (g->phase == GUEST_UP)
		machine_network(g, &m->nics, tap, done, ud);
	else
		refuse_gone(done, ud);
}

static void op_create(struct backend *b, const struct msg_create *m, backend_done_fn done, void *ud)
{
	guest_create(guest_of(b), m, done, ud);
}

static void op_start(struct backend *b, const char *ctr, const char *exec, backend_done_fn done, void *ud)
{
	FORWARD(START, start, is_pid, .exec = (char *)exec);
}

static void on_patience(struct loop_source *s, void *ud)
{
	struct gtask *t = ud;

	machine_kill(t->guest, "its container did not end on SIGKILL");
}

static void op_kill(struct backend *b, const char *ctr, const char *exec, int signo, bool all,
		    backend_done_fn done, void *ud)
{
	struct guest *g = guest_of(b);
	struct gtask *t = gtask_find(g, ctr, exec);

	if (t && !t->exited && !*exec && signo == SIGKILL && !t->kill_timer)
		(void)loop_add_timer(g->loop, KILL_PATIENCE_US, 0, on_patience, t, &t->kill_timer);
	FORWARD(KILL, kill, NULL, .exec = (char *)exec, .signo = (uint32_t)signo, .all = all);
}

static void op_resize(struct backend *b, const char *ctr, const char *exec, unsigned rows, unsigned cols,
		      backend_done_fn done, void *ud)
{
	FORWARD(RESIZE, resize, NULL, .exec = (char *)exec, .rows = rows, .cols = cols);
}

static void op_ps(struct backend *b, const char *ctr, backend_done_fn done, void *ud)
{
	FORWARD(PS, ps, is_table, );
}

static bool is_number(const char *s)
{
	uint64_t v;

	return str_to_u64(s, &v) == 0;
}

/* Names of few and plain characters, a number for each. */
static bool is_stats(const void *p, size_t n)
{
	struct msg_stats_table m;
	bool fine;

	if (msg_stats_table_decode(p, n, &m) < 0)
		return false;
	fine = strv_len(m.names) == strv_len(m.values) && strv_len(m.names) <= STATS_MAX;
	for (size_t i = 0; fine && m.names && m.names[i]; i++)
		fine = strlen(m.names[i]) <= STATS_NAME_MAX && is_number(m.values[i]) &&
		       !m.names[i][strspn(m.names[i], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
						      "0123456789._-:@")];
	msg_stats_table_done(&m);
	return fine;
}

static void op_control(struct backend *b, const struct msg_control *m, backend_done_fn done, void *ud)
{
	_cleanup_json_ struct json *resources = NULL;
	_cleanup_free_ char *text = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	struct bytes for_guest = m->resources;
	const char *ctr = m->ctr;
	int r = 0;

	if (m->op == CONTROL_UPDATE) {
		r = json_parse((const char *)m->resources.p, m->resources.n, &resources, &e);
		if (r == 0)
			r = group_limits(guest_of(b), resources, &e);
		if (r < 0) {
			done(ud, r, &e, NULL, 0);
			return;
		}
		text = json_dump(resources);
		for_guest = (struct bytes){ (uint8_t *)text, strlen(text) };
	}
	FORWARD(CONTROL, control, m->op == CONTROL_STATS ? is_stats : NULL, .op = m->op,
		.resources = for_guest);
}

static void op_files(struct backend *b, const struct msg_files *m, int fd, backend_done_fn done, void *ud)
{
	guest_files(guest_of(b), m, fd, done, ud);
}

static void after_del(struct guest *g, const char *ctr, const char *exec, int r)
{
	if (r < 0)
		return;
	list_for_each(t, &g->tasks, struct gtask, link)
		if (streq(t->ctr, ctr) && (!*exec || streq(t->exec, exec)))
			gtask_free(t);
	if (!*exec)
		disks_release(g, ctr);
}

/* With the last container goes the machine: then there is nothing to unmount for. */
static bool shares_machine(struct guest *g, const char *ctr)
{
	list_for_each(t, &g->tasks, struct gtask, link)
		if (!streq(t->ctr, ctr))
			return true;
	return false;
}

static void op_del(struct backend *b, const char *ctr, const char *exec, bool discard, backend_done_fn done,
		   void *ud)
{
	struct guest *g = guest_of(b);
	struct msg_delete m = { g->sandbox, (char *)ctr, (char *)exec, discard };
	struct forward *f = forward_new(g, ctr, exec, done, ud);
	bool goes_with_all = discard && !*exec && !shares_machine(g, ctr);

	forward_after(f, after_del);
	if (g->phase == GUEST_UP && !g->hung_up && gtask_find(g, ctr, exec) && !goes_with_all)
		CONN_REQUEST(g->conn, DELETE, delete, &m, -EBADF, forwarded, f);
	else
		forwarded(f, 0, NULL, NULL, 0);	/* what the machine knows of it goes with the machine */
}

/* --- end --- */

static void on_shutdown_patience(struct loop_source *s, void *ud)
{
	machine_kill(ud, NULL);
}

/* The agent has written and unmounted everything: what is left of the machine is worth nothing. */
static void on_shut_down(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	machine_kill(ud, NULL);
}

/* A file system on a device of the host outlives the machine. It may have been mounted until its container
 * ended, and the kernel writes it a moment later. */
static bool has_device(const struct guest *g)
{
	list_for_each(d, &g->disks, struct disk, link)
		if (d->device && d->here)
			return true;
	return false;
}

static void op_shutdown(struct backend *b, backend_done_fn done, void *ud)
{
	struct guest *g = guest_of(b);
	struct msg_shutdown m = { g->sandbox };

	if (g->phase == GUEST_NEW || g->phase == GUEST_GONE || g->shutdown_done) {
		done(ud, 0, NULL, NULL, 0);
		return;
	}
	g->shutdown_done = done;
	g->shutdown_ud = ud;
	loop_source_free(g->deadline);
	g->deadline = NULL;
	/* With the last container its scratch disk was written and unmounted: nothing is left to lose. */
	if (g->phase != GUEST_UP || (list_empty(&g->tasks) && !has_device(g))) {
		machine_kill(g, NULL);
		return;
	}
	(void)loop_add_timer(g->loop, SHUTDOWN_PATIENCE_US, 0, on_shutdown_patience, g, &g->deadline);
	CONN_REQUEST(g->conn, SHUTDOWN, shutdown, &m, -EBADF, on_shut_down, g);
}

/* --- stdio --- */

static size_t op_stdin_write(struct backend *b, const char *ctr, const char *exec, const void *p, size_t n)
{
	struct gtask *t = gtask_find(guest_of(b), ctr, exec);

	return t && t->s[TASK_STDIN_FD] ? stream_write(t->s[TASK_STDIN_FD], p, n) : n;
}

static void op_stdin_close(struct backend *b, const char *ctr, const char *exec)
{
	struct gtask *t = gtask_find(guest_of(b), ctr, exec);

	if (t && t->s[TASK_STDIN_FD])
		stream_eof(t->s[TASK_STDIN_FD]);
}

static void op_output_pause(struct backend *b, const char *ctr, const char *exec, bool paused)
{
	struct gtask *t = gtask_find(guest_of(b), ctr, exec);

	if (!t)
		return;
	t->paused = paused;
	for (int i = TASK_STDOUT; !paused && i <= TASK_STDERR; i++) {
		if (t->s[i] && t->untaken[i])
			stream_taken(t->s[i], t->untaken[i]);
		t->untaken[i] = 0;
	}
}

static void op_free(struct backend *b)
{
	struct guest *g = guest_of(b);

	g->phase = GUEST_GONE;
	list_for_each(t, &g->tasks, struct gtask, link)
		gtask_free(t);
	link_close(g);
	machine_done(g);
	list_for_each(d, &g->disks, struct disk, link)
		disk_free(d);
	list_for_each(f, &g->forwards, struct forward, link)
		forward_free(f);
	loop_source_free(g->deadline);
	loop_source_free(g->held_timer);
	loop_source_free(g->memory_timer);
	loop_source_free(g->ticks);
	free(g->why);
	free(g->words);
	free(g->sandbox);
	free(g);
}

static const struct backend_ops guest_ops = {
    .kind = "hyperv",
    .sandbox = op_sandbox,
    .network = op_network,
    .create = op_create,
    .start = op_start,
    .kill = op_kill,
    .resize = op_resize,
    .ps = op_ps,
    .control = op_control,
    .files = op_files,
    .del = op_del,
    .shutdown = op_shutdown,
    .stdin_write = op_stdin_write,
    .stdin_close = op_stdin_close,
    .output_pause = op_output_pause,
    .free = op_free,
};

int guest_new(struct loop *l, const char *sandbox, bool debug, struct backend **ret)
{
	struct guest *g = new0(struct guest);

	*g = (struct guest){.b = {.ops = &guest_ops},
			    .loop = l,
			    .sandbox = xstrdup(sandbox),
			    .debug = debug,
			    .next_stream = 1};
	list_init(&g->tasks);
	list_init(&g->disks);
	list_init(&g->transfers);
	list_init(&g->forwards);
	list_init(&g->waiting);
	list_init(&g->held);
	*ret = &g->b;
	return 0;
}
