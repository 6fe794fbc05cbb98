/* A start that the former daemon was at when it died, and other supervisors of containers that do not run.
 *
 * That a container is about to be started is recorded before the supervisor is told so (Starting in
 * container_store.c). The next daemon finds one of these: nobody, and then it did not begin, unless there is
 * an exit record; its process, which is adopted; or a container that waits for its start, which it gets now.
 * Until that is decided the operation here is the container's current one, so nothing else is done to it.
 *
 * A supervisor of a container that is neither running nor being started served its files, or a start that
 * had not come that far, or a container that has ended: it is ended, and the next start waits until it is
 * gone. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "engine/network.h"
#include "engine/publish.h"
#include "super/super.h"
#include <errno.h>

static void over(struct container *c)
{
	struct op *op = TAKE_PTR(c->resume);

	if (op)
		op_finish(op, 0, NULL);
}

static void gone(void *ud)
{
	over(ud);
}

/* Nothing came of it. */
static void never_began(struct container *c)
{
	c->starting = false;
	container_save(c);
	publish_stop(c);
	mounts_drop(c);
	if (!sandbox_lives(c->engine, c->id))
		endpoints_release(c->engine, c->id, NULL);
}

bool resume_lost(struct container *c, const char *dir)
{
	struct msg_task_state m;
	bool began = c->starting && exit_record_read(dir, c->id, &m) >= 0;

	container_ref(c);
	if (began && m.started_ns)
		container_task_state(c, &m);
	else if (c->starting)
		never_began(c);
	if (began)
		msg_task_state_done(&m);
	over(c);
	container_unref(c);
	return true;
}

/* It cannot be started, as its first daemon would have said. */
static void refused(struct container *c, int exit_code, const char *why)
{
	_cleanup_err_ struct err err = ERR_INIT;
	enum err_kind kind = exit_code == 127	? ERR_CMD_NOT_FOUND
			     : exit_code == 126 ? ERR_CMD_NOT_EXECUTABLE
						: ERR_SYSTEM;
	int r = err_msg(&err, kind, -EIO, "%s", why);

	log_warn("start container %s: %s", c->id, why);
	start_undo(TAKE_PTR(c->resume), r, &err, true);
}

/* What becomes of the start is told by the states that follow. */
static void start_replied(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	container_unref(ud);
}

void resume_state(struct container *c, const struct msg_task_state *m)
{
	struct msg_start start = {.sandbox = c->sandbox, .ctr = c->id, .exec = (char *)""};

	if (!c->resume)
		return;
	if (m->state == TASK_CREATED && c->starting)
		CONN_REQUEST(ctr_conn(c), START, start, &start, -1, start_replied, container_ref(c));
	else if (m->state == TASK_EXITED && c->starting)
		refused(c, (int)m->exit_code, m->error);
	else if (m->state != TASK_CREATED)
		over(c);
}

/* The start had failed, and was undone in a sandbox that lives on with others: no state of it will come. */
static void asked(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct container *c = ud;

	if (c->resume && c->starting && r < 0 && e && e->kind == ERR_NOT_FOUND) {
		never_began(c);
		sup_abort(c, gone, c);
	}
	container_unref(c);
}

void resume_found(struct container *c)
{
	struct msg_ps m = {.sandbox = c->sandbox, .ctr = c->id};

	if (!c->resume)
		return;
	if (c->starting) {
		/* answered behind the states of all that are there */
		CONN_REQUEST(ctr_conn(c), PS, ps, &m, -1, asked, container_ref(c));
		return;
	}
	log_info("ending the supervisor of container %s, which does not run", c->id);
	sup_abort(c, gone, c);
}

static void op_resume(struct op *op)
{
	op->c->resume = op;
}

void container_resume(struct container *c)
{
	op_push(op_new(c, op_resume, NULL, NULL));
}
