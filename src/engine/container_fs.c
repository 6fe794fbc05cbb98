/* Files of a container: cp, diff, export, commit.
 *
 * The work is the supervisor's, in both isolation modes: the host never mounts what a guest has written. A
 * container that does not run is opened for it: its supervisor is started and mounts the root file system,
 * but makes no process. It stays open for some seconds, since one `cp` asks several times; whatever else is
 * to happen to the container closes it first. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/strv.h"
#include <errno.h>
#include <string.h>

#define OPEN_US (5u * 1000000)

struct files_call {
	struct container *c;		/* referenced */
	struct op *op;			/* NULL if it runs */
	uint32_t what, flags;
	char *path;
	int fd;
	engine_done_fn done;
	void *userdata;
};

void container_tell(struct container *c, const char *action)
{
	if (!c->gone)
		container_event(c, action, NULL);
}

static void call_end(struct files_call *k, int r, const struct err *e, void *result)
{
	k->done(k->userdata, r, e, result);
	fd_close(&k->fd);
	container_unref(k->c);
	free(k->path);
	free(k);
}

void files_close(struct container *c)
{
	loop_source_free(TAKE_PTR(c->files_timer));
	if (c->status != CTR_RUNNING)
		sup_release(c);
}

static void on_idle(struct loop_source *s, void *ud)
{
	struct container *c = ud;

	if (c->current)
		(void)loop_timer_set(s, OPEN_US, 0);
	else
		files_close(c);
}

static void keep_open(struct container *c)
{
	if (c->gone || c->status == CTR_RUNNING || !c->sup)
		return;
	if (c->files_timer)
		(void)loop_timer_set(c->files_timer, OPEN_US, 0);
	else
		(void)loop_add_timer(c->engine->loop, OPEN_US, 0, on_idle, c, &c->files_timer);
}

bool files_wait(struct op *op)
{
	if (!op->c->files_calls)
		return false;
	op->c->after_files = op;
	return true;
}

/* The last one lets what follows an exit go on. */
static void direct_over(struct container *c)
{
	struct op *op = c->after_files;

	if (--c->files_calls || !op)
		return;
	c->after_files = NULL;
	op->run(op);
}

static void replied(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct files_call *k = ud;
	struct msg_file_stat st = {0};
	_cleanup_err_ struct err err = ERR_INIT;
	struct op *op = k->op;

	if (r >= 0 && k->what == FILES_STAT) {
		r = msg_file_stat_decode(p, n, &st);
		if (r < 0)
			err_set(&err, ERR_SYSTEM, r, "files of container %s", k->c->id);
		e = &err;
	}
	keep_open(k->c);
	if (op) {
		op->done = NULL;
		op_finish(op, 0, NULL);
	} else {
		direct_over(k->c);
	}
	call_end(k, r, e, r < 0 || k->what != FILES_STAT ? NULL : &st);
	msg_file_stat_done(&st);
}

static bool sees_volumes(uint32_t what)
{
	return what == FILES_STAT || what == FILES_GET || what == FILES_PUT;
}

static void call_send(struct files_call *k)
{
	struct container *c = k->c;
	const char *user = json_get_str(ctr_config(c), "User");
	_cleanup_json_ struct json *spec = NULL;
	_cleanup_free_ char *text = NULL;
	_cleanup_err_ struct err err = ERR_INIT;
	/* Once it is sent, the supervisor's must be the last one. */
	_cleanup_close_ int fd = TAKE_FD(k->fd);
	const struct ns_shared none = NS_SHARED_NONE;
	int r = sees_volumes(k->what) ? spec_build(c, &none, &spec, &err) : 0;

	if (r >= 0 && !ctr_conn(c))
		r = err_msg(&err, ERR_SYSTEM, -ECONNRESET, "the supervisor of container %s ended", c->id);
	if (r < 0) {
		_cleanup_err_ struct err copy = ERR_INIT;

		err_msg(&copy, err.kind, r, "%s", err_text(&err));
		replied(k, r, &copy, NULL, 0);
		return;
	}
	text = spec ? json_dump(spec) : xstrdup("");
	struct msg_files m = {
		.sandbox = c->sandbox, .ctr = c->id, .op = k->what, .path = k->path, .flags = k->flags,
		.user = (char *)(user ? user : ""), .spec = {(uint8_t *)text, strlen(text)},
	};

	CONN_REQUEST(ctr_conn(c), FILES, files, &m, fd, replied, k);
}

static void on_opened(struct op *op, int r, const struct err *e)
{
	struct files_call *k = op->files;

	if (r < 0)
		replied(k, r, e, NULL, 0);
	else
		call_send(k);
}

/* The container was removed before its turn came. */
static void flushed(void *ud, int r, const struct err *e, void *result)
{
	call_end(ud, r, e, NULL);
}

static void run_files(struct op *op)
{
	struct files_call *k = op->files;

	if (ctr_conn(op->c)) {
		call_send(k);
		return;
	}
	op->opened = on_opened;
	start_files(op);
}

void container_files(struct container *c, const struct files_args *a, engine_done_fn done, void *ud)
{
	struct files_call *k = new0(struct files_call);

	*k = (struct files_call){.c = container_ref(c), .what = a->op, .flags = a->flags,
				 .path = xstrdup(a->path ? a->path : ""), .fd = a->fd, .done = done,
				 .userdata = ud};
	if (!c->gone && c->status == CTR_RUNNING && ctr_conn(c)) {
		c->files_calls++;
		call_send(k);
		return;
	}
	k->op = op_new(c, run_files, flushed, k);
	k->op->files = k;
	op_push(k->op);
}
