/* Clients of a container: connections that are handed to its supervisor, terminal sizes, process lists. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"
#include "engine/top.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sysinfo.h>

/* An attached client of a container that has not started. It waits here; if it leaves, so does this. */
struct held {
	struct list link;
	struct loop_source *io;
	int fd;
	uint32_t flags;
	struct bytes keys, preread;
};

static void held_free(struct held *h)
{
	list_remove(&h->link);
	loop_source_free(h->io);
	fd_close(&h->fd);
	free(h->keys.p);
	free(h->preread.p);
	free(h);
}

static void on_hangup(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	held_free(ud);
}

static void hold(struct container *c, const struct attach_args *a)
{
	struct held *h = new0(struct held);

	*h = (struct held){.fd = a->fd, .flags = a->flags, .keys = {xmemdup(a->keys, a->n_keys), a->n_keys},
			   .preread = {xmemdup(a->preread, a->n_preread), a->n_preread}};
	list_append(&c->held, &h->link);
	(void)loop_add_io(c->engine->loop, h->fd, EPOLLHUP, on_hangup, h, &h->io);
}

void held_drop(struct container *c)
{
	list_for_each(h, &c->held, struct held, link)
		held_free(h);
}

static void attach_reply(void *ud, int r, const struct err *e, const void *p, size_t n)
{
}

void attach_send(struct container *c, const char *exec, const struct attach_args *a)
{
	struct msg_attach m = {
	    .sandbox = c->sandbox,
	    .ctr = c->id,
	    .exec = (char *)exec,
	    .flags = a->flags,
	    .detach_keys = {(uint8_t *)a->keys, a->n_keys},
	    .preread = {(uint8_t *)a->preread, a->n_preread},
	};

	if (ctr_conn(c))
		CONN_REQUEST(ctr_conn(c), ATTACH, attach, &m, a->fd, attach_reply, NULL);
}

void held_send(struct container *c)
{
	list_for_each(h, &c->held, struct held, link) {
		const struct attach_args a = {h->fd,    h->preread.p, h->preread.n,
					      h->flags, h->keys.p,    h->keys.n};

		attach_send(c, "", &a);
		held_free(h);
	}
}

void container_attach(struct container *c, const struct attach_args *a)
{
	int fd = a->fd;

	if (!c->gone && c->status == CTR_RUNNING && ctr_conn(c)) {
		attach_send(c, "", a);
		container_event(c, "attach", NULL);
	} else if (!c->gone) {
		container_event(c, "attach", NULL);
		hold(c, a);
		return;
	}
	close(fd);
}

/* ---- requests that pass through ---- */

struct call {
	struct container *c;
	engine_done_fn done;
	void *userdata;
	char *args;		/* of top */
	struct json *more;	/* of the event that success is */
};

static struct call *call_new(struct container *c, engine_done_fn done, void *ud)
{
	struct call *k = new0(struct call);

	*k = (struct call){.c = container_ref(c), .done = done, .userdata = ud};
	return k;
}

static void call_free(struct call *k)
{
	container_unref(k->c);
	free(k->args);
	json_free(k->more);
	free(k);
}

static void resized(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct call *k = ud;

	if (r >= 0 && k->more)
		container_event(k->c, "resize", TAKE_PTR(k->more));
	k->done(k->userdata, r, e, NULL);
	call_free(k);
}

static struct json *size_json(unsigned rows, unsigned cols)
{
	_cleanup_free_ char *height = xasprintf("%u", rows), *width = xasprintf("%u", cols);
	struct json *j = json_object();

	json_set_str(j, "height", height);
	json_set_str(j, "width", width);
	return j;
}

void container_resize(struct container *c, const char *exec, unsigned rows, unsigned cols,
		      engine_done_fn done, void *ud)
{
	struct msg_resize m = {
	    .sandbox = c->sandbox, .ctr = c->id, .exec = (char *)(exec ? exec : ""), .rows = rows,
	    .cols = cols};
	_cleanup_err_ struct err err = ERR_INIT;
	struct call *k;

	if (c->status != CTR_RUNNING || !ctr_conn(c)) {
		done(ud, not_running(c, &err), &err, NULL);
		return;
	}
	k = call_new(c, done, ud);
	k->more = exec ? NULL : size_json(rows, cols);
	CONN_REQUEST(ctr_conn(c), RESIZE, resize, &m, -1, resized, k);
}

/* The total that %MEM refers to: what the container's kernel has. */
static uint64_t memory_kb(const struct container *c)
{
	struct sysinfo si = {0};
	uint64_t limit = (uint64_t)json_get_int(ctr_host(c), "Memory", 0);

	if (c->isolation == ISOLATION_HYPERV)
		return (limit ? limit : c->engine->cfg.vm_memory) / 1024;
	(void)sysinfo(&si);
	return (uint64_t)si.totalram * si.mem_unit / 1024;
}

static void ps_done(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct call *k = ud;
	struct msg_ps_table table = {0};
	_cleanup_json_ struct json *j = NULL;
	_cleanup_free_ char *passwd = NULL;
	_cleanup_err_ struct err err = ERR_INIT;

	if (r >= 0) {
		r = msg_ps_table_decode(p, n, &table);
		if (r < 0)
			err_set(&err, ERR_SYSTEM, r, "process list of container %s", k->c->id);
		e = &err;
	}
	if (r >= 0) {
		(void)fs_read(AT_FDCWD, "/etc/passwd", 1 << 20, &passwd, NULL);
		struct top_input in = {table.cells, now_real_ns() / 1000000000, memory_kb(k->c), passwd};

		r = top_format(k->args, &in, &j, &err);
		msg_ps_table_done(&table);
	}
	if (r >= 0)
		container_event(k->c, "top", NULL);
	k->done(k->userdata, r, e, j);
	call_free(k);
}

void container_top(struct container *c, const char *ps_args, engine_done_fn done, void *ud)
{
	struct msg_ps m = {.sandbox = c->sandbox, .ctr = c->id};
	_cleanup_err_ struct err err = ERR_INIT;
	struct call *k;

	if (c->status != CTR_RUNNING || !ctr_conn(c)) {
		done(ud, not_running(c, &err), &err, NULL);
		return;
	}
	k = call_new(c, done, ud);
	k->args = xstrdup(str_empty(ps_args) ? "-ef" : ps_args);
	CONN_REQUEST(ctr_conn(c), PS, ps, &m, -1, ps_done, k);
}
