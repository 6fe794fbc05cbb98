/* Theory of operation.
 *
 * The machine is started, stopped, at SANDBOX. The first CREATE adds the container's disks, lets the
 * machine run, waits for the agent, tells it what devices must be there, and then passes the CREATE on
 * with disk paths replaced by virtio serials. From then on a request is a request to the agent with the
 * same message; the streams carry stdio. What holds for a cold boot holds for a restored template: no
 * step depends on how the agent came to be waiting. */
#include "vm/guest.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/strv.h"
#include "vm/guest_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define KILL_PATIENCE_US (30ull * 1000000)
#define SHUTDOWN_PATIENCE_US (10ull * 1000000)

static struct guest *guest_of(struct backend *b)
{
	return container_of(b, struct guest, b);
}

static void refuse_gone(backend_done_fn done, void *ud)
{
	_cleanup_err_ struct err e = ERR_INIT;
	int r = err_msg(&e, ERR_CONFLICT, -ESRCH, "the virtual machine is not running");

	done(ud, r, &e, NULL, 0);
}

/* A request to the agent whose answer is the caller's. */
struct forward {
	struct guest *g;
	char *ctr, *exec;
	backend_done_fn done;
	void *ud;
	void (*after)(struct forward *f, int r);
};

static void forwarded(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct forward *f = ud;

	if (f->after)
		f->after(f, r);
	f->done(f->ud, r, e, p, n);
	free(f->ctr);
	free(f->exec);
	free(f);
}

static struct forward *forward_new(struct guest *g, const char *ctr, const char *exec, backend_done_fn done, void *ud,
				   void (*after)(struct forward *, int))
{
	struct forward *f = new0(struct forward);

	*f = (struct forward){ g, xstrdup(ctr), xstrdup(exec), done, ud, after };
	return f;
}

/* --- create --- */

struct creating {
	struct guest *g;
	struct msg_create m;		/* as the agent will get it */
	backend_done_fn done;
	void *ud;
	size_t to_attach;
	bool failed;
	struct err err;
};

static void creating_free(struct creating *c)
{
	err_clear(&c->err);
	msg_create_done(&c->m);
	free(c);
}

static void after_create(struct forward *f, int r)
{
	struct gtask *t = gtask_find(f->g, f->ctr, f->exec);

	if (r < 0 && t)
		gtask_free(t);
}

static void send_create(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct creating *c = ud;
	struct guest *g = c->g;
	struct gtask *t;

	if (r < 0 || !g->conn) {
		if (r < 0)
			c->done(c->ud, r, e, NULL, 0);
		else
			refuse_gone(c->done, c->ud);
		creating_free(c);
		return;
	}
	t = new0(struct gtask);
	*t = (struct gtask){ .guest = g, .ctr = xstrdup(c->m.ctr), .exec = xstrdup(c->m.exec), .flags = c->m.flags };
	list_append(&g->tasks, &t->link);
	c->m.stream = g->next_stream;
	g->next_stream += 4;
	(void)gtask_open_streams(t, c->m.stream);
	CONN_REQUEST(g->conn, CREATE, create, &c->m, -EBADF, forwarded,
		     forward_new(g, c->m.ctr, c->m.exec, c->done, c->ud, after_create));
	creating_free(c);
}

static void disk_attached(void *ud, int r, const struct err *e)
{
	struct creating *c = ud;

	if (r < 0 && !c->failed) {
		c->failed = true;
		err_msg(&c->err, ERR_SYSTEM, r, "%s", err_text(e));
	}
	if (--c->to_attach)
		return;
	if (c->failed) {
		c->done(c->ud, -EIO, &c->err, NULL, 0);
		creating_free(c);
	} else {
		link_ready(c->g, send_create, c);
	}
}

/* Attaches one file and puts its serial in place of its path. */
static void attach_disk(struct creating *c, char **path, const char *serial, bool read_only)
{
	_cleanup_close_ int fd = open(*path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0) {
		_cleanup_err_ struct err e = ERR_INIT;
		int r = err_set(&e, ERR_SYSTEM, -errno, "open disk '%s'", *path);

		disk_attached(c, r, &e);
		return;
	}
	str_replace(path, serial);
	strv_add(&c->g->disks, serial);
	c->g->vmm->ops->add_disk(c->g->vmm, fd, read_only, serial, disk_attached, c);
}

static void attach_disks(struct creating *c)
{
	struct guest *g = c->g;

	c->to_attach = strv_len(c->m.lower) + (*c->m.upper != 0) + 1;
	for (char **l = c->m.lower; l && *l; l++) {
		char serial[21];

		snprintf(serial, sizeof serial, "l%u", g->next_layer++);
		attach_disk(c, l, serial, true);
	}
	if (*c->m.upper) {
		char serial[21];

		snprintf(serial, sizeof serial, "s-%.12s", c->m.ctr);
		attach_disk(c, &c->m.upper, serial, false);
	}
	disk_attached(c, 0, NULL);
}

static void op_create(struct backend *b, const struct msg_create *m, backend_done_fn done, void *ud)
{
	struct guest *g = guest_of(b);
	_cleanup_sbuf_ struct sbuf copy = SBUF_INIT;
	struct creating *c;

	if (g->phase == GUEST_NEW || g->phase == GUEST_GONE) {
		refuse_gone(done, ud);
		return;
	}
	c = new0(struct creating);
	*c = (struct creating){ .g = g, .done = done, .ud = ud };
	msg_create_encode(m, &copy);
	(void)msg_create_decode(copy.buf, copy.len, &c->m);
	if (*m->exec)
		send_create(c, 0, NULL, NULL, 0);
	else
		attach_disks(c);
}

/* --- forwarded requests --- */

#define FORWARD(NAME, name, ...) do { \
	struct guest *_g = guest_of(b); \
	struct msg_##name _m = { .sandbox = _g->sandbox, __VA_ARGS__ }; \
	if (_g->phase != GUEST_UP) \
		refuse_gone(done, ud); \
	else \
		CONN_REQUEST(_g->conn, NAME, name, &_m, -EBADF, forwarded, \
			     forward_new(_g, _m.ctr, "", done, ud, NULL)); \
	} while (0)

static void op_sandbox(struct backend *b, const struct msg_sandbox *m, backend_done_fn done, void *ud)
{
	machine_start(guest_of(b), m, done, ud);
}

static void op_start(struct backend *b, const char *ctr, const char *exec, backend_done_fn done, void *ud)
{
	FORWARD(START, start, .ctr = (char *)ctr, .exec = (char *)exec);
}

static void on_patience(struct loop_source *s, void *ud)
{
	struct gtask *t = ud;

	log_warn("container '%s' did not end on SIGKILL in 30 s: ending its machine", t->ctr);
	t->guest->vmm->ops->kill(t->guest->vmm);
}

static void op_kill(struct backend *b, const char *ctr, const char *exec, int signo, bool all, backend_done_fn done, void *ud)
{
	struct guest *g = guest_of(b);
	struct gtask *t = gtask_find(g, ctr, exec);

	if (t && !t->exited && !*exec && signo == SIGKILL && !t->kill_timer)
		(void)loop_add_timer(g->loop, KILL_PATIENCE_US, 0, on_patience, t, &t->kill_timer);
	FORWARD(KILL, kill, .ctr = (char *)ctr, .exec = (char *)exec, .signo = (uint32_t)signo, .all = all);
}

static void op_resize(struct backend *b, const char *ctr, const char *exec, unsigned rows, unsigned cols,
		      backend_done_fn done, void *ud)
{
	FORWARD(RESIZE, resize, .ctr = (char *)ctr, .exec = (char *)exec, .rows = rows, .cols = cols);
}

static void op_ps(struct backend *b, const char *ctr, backend_done_fn done, void *ud)
{
	FORWARD(PS, ps, .ctr = (char *)ctr);
}

static void after_del(struct forward *f, int r)
{
	if (r < 0)
		return;
	list_for_each(t, &f->g->tasks, struct gtask, link)
		if (streq(t->ctr, f->ctr) && (!*f->exec || streq(t->exec, f->exec)))
			gtask_free(t);
}

static void op_del(struct backend *b, const char *ctr, const char *exec, backend_done_fn done, void *ud)
{
	struct guest *g = guest_of(b);
	struct msg_delete m = { g->sandbox, (char *)ctr, (char *)exec };
	struct forward *f = forward_new(g, ctr, exec, done, ud, after_del);

	if (g->phase == GUEST_UP && gtask_find(g, ctr, exec))
		CONN_REQUEST(g->conn, DELETE, delete, &m, -EBADF, forwarded, f);
	else
		forwarded(f, 0, NULL, NULL, 0);	/* what the machine knew of it is gone with the machine */
}

/* --- end --- */

static void on_shutdown_patience(struct loop_source *s, void *ud)
{
	struct guest *g = ud;

	g->vmm->ops->kill(g->vmm);
}

/* The agent has synced and unmounted: what is left of the machine is worth nothing. */
static void on_shut_down(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct guest *g = ud;

	if (g->vmm)
		g->vmm->ops->kill(g->vmm);
}

static void op_shutdown(struct backend *b, backend_done_fn done, void *ud)
{
	struct guest *g = guest_of(b);
	struct msg_shutdown m = { g->sandbox };

	if (g->phase == GUEST_NEW || g->phase == GUEST_GONE || !g->vmm) {
		done(ud, 0, NULL, NULL, 0);
		return;
	}
	if (g->shutdown_done) {
		done(ud, 0, NULL, NULL, 0);
		return;
	}
	g->shutdown_done = done;
	g->shutdown_ud = ud;
	loop_source_free(g->deadline);
	g->deadline = NULL;
	(void)loop_add_timer(g->loop, SHUTDOWN_PATIENCE_US, 0, on_shutdown_patience, g, &g->deadline);
	if (g->phase == GUEST_UP)
		CONN_REQUEST(g->conn, SHUTDOWN, shutdown, &m, -EBADF, on_shut_down, g);
	else
		g->vmm->ops->kill(g->vmm);
}

/* --- stdio --- */

static size_t op_stdin_write(struct backend *b, const char *ctr, const char *exec, const void *p, size_t n)
{
	struct gtask *t = gtask_find(guest_of(b), ctr, exec);

	return t && t->s[0] ? stream_write(t->s[0], p, n) : n;
}

static void op_stdin_close(struct backend *b, const char *ctr, const char *exec)
{
	struct gtask *t = gtask_find(guest_of(b), ctr, exec);

	if (t && t->s[0])
		stream_eof(t->s[0]);
}

static void op_output_pause(struct backend *b, const char *ctr, const char *exec, bool paused)
{
	struct gtask *t = gtask_find(guest_of(b), ctr, exec);

	if (!t)
		return;
	t->paused = paused;
	for (int i = 1; !paused && i < 3; i++) {
		if (t->s[i] && t->untaken[i])
			stream_taken(t->s[i], t->untaken[i]);
		t->untaken[i] = 0;
	}
}

static void op_free(struct backend *b)
{
	struct guest *g = guest_of(b);

	g->phase = GUEST_GONE;
	link_close(g);
	machine_done(g);
	list_for_each(t, &g->tasks, struct gtask, link)
		gtask_free(t);
	strv_free(g->disks);
	loop_source_free(g->deadline);
	free(g->sandbox);
	free(g);
}

static const struct backend_ops guest_ops = {
	.kind = "hyperv", .sandbox = op_sandbox, .create = op_create, .start = op_start, .kill = op_kill, .resize = op_resize,
	.ps = op_ps, .del = op_del, .shutdown = op_shutdown, .stdin_write = op_stdin_write, .stdin_close = op_stdin_close,
	.output_pause = op_output_pause, .free = op_free,
};

int guest_new(struct loop *l, const char *sandbox, bool debug, struct backend **ret)
{
	struct guest *g = new0(struct guest);

	*g = (struct guest){ .b = { .ops = &guest_ops }, .loop = l, .sandbox = xstrdup(sandbox), .debug = debug, .tap = -EBADF,
			     .next_stream = 4 };
	list_init(&g->tasks);
	list_init(&g->booting);
	*ret = &g->b;
	return 0;
}
