/* The queue of operations of a container, and the operations that end it: stop, restart, kill, remove.
 *
 * One operation is at work at a time. Each either finishes within run() or leaves a callback behind that goes
 * on; op_finish() calls back whoever asked and starts the next. What must follow an exit (container_exit.c)
 * goes to the front of the queue. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/log.h"
#include "engine/db.h"
#include "engine/network.h"
#include "engine/volume.h"
#include "engine/worker.h"
#include <errno.h>
#include <signal.h>
#include <string.h>

#define DEFAULT_STOP_S 10
/* From SIGKILL until the supervisor is killed, and all in its sandbox: vmwp ends a machine after 30 s. */
#define KILL_WAIT_US (40u * 1000000)

struct op *op_new(struct container *c, void (*run)(struct op *), engine_done_fn done, void *ud)
{
	struct op *op = new0(struct op);

	op->c = container_ref(c);
	op->run = run;
	op->done = done;
	op->userdata = ud;
	return op;
}

static void op_free(struct op *op)
{
	container_wait_cancel(op->wait);
	loop_source_free(op->timer);
	json_free(op->body);
	container_unref(op->c);
	free(op);
}

static void run_next(struct container *c)
{
	struct op *op;

	if (c->current || !(op = list_first(&c->ops, struct op, link)))
		return;
	list_remove(&op->link);
	c->current = op;
	op->run(op);
}

void op_push(struct op *op)
{
	if (op->c->gone) {
		_cleanup_err_ struct err e = ERR_INIT;
		int r = err_msg(&e, ERR_NOT_FOUND, 0, "No such container: %s", op->c->id);

		if (op->done)
			op->done(op->userdata, r, &e, NULL);
		op_free(op);
		return;
	}
	list_append(&op->c->ops, &op->link);
	run_next(op->c);
}

void op_push_front(struct op *op)
{
	struct container *c = op->c;

	/* appending before the first is appending to the list seen from there */
	list_append(c->ops.next ? c->ops.next : &c->ops, &op->link);
	run_next(c);
}

void op_finish(struct op *op, int r, const struct err *e)
{
	struct container *c = container_ref(op->c);

	if (c->current == op)
		c->current = NULL;
	if (op->then_start && r == 0)
		container_event(c, "restart", NULL);
	if (op->done)
		op->done(op->userdata, r, e, NULL);
	op_free(op);
	run_next(c);
	container_unref(c);
}

void ops_flush(struct container *c)
{
	_cleanup_err_ struct err e = ERR_INIT;
	int r = err_msg(&e, ERR_NOT_FOUND, 0, "No such container: %s", c->id);
	struct op *op;

	while ((op = list_first(&c->ops, struct op, link))) {
		list_remove(&op->link);
		if (op->done)
			op->done(op->userdata, r, &e, NULL);
		op_free(op);
	}
}

/* ---- signals ---- */

void container_signal(struct container *c, int signo, bool all, conn_reply_fn fn, void *ud)
{
	struct msg_kill m = {.sandbox = c->sandbox, .ctr = c->id, .signo = (uint32_t)signo, .all = all};

	if (ctr_conn(c))
		CONN_REQUEST(ctr_conn(c), KILL, kill, &m, -1, fn, ud);
	else
		fn(ud, -ESRCH, NULL, NULL, 0);
}

static void ignore_reply(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	if (r < 0 && r != -ESRCH && e)
		log_debug("signal: %s", err_text(e));
}

static void event_kill(struct container *c, int signo)
{
	_cleanup_free_ char *text = xasprintf("%d", signo);
	struct json *a = json_object();

	json_set_str(a, "signal", text);
	container_event(c, "kill", a);
}

/* A signal is answered once it is sent; SIGKILL once the container has ended, as dockerd does it, so that it
 * can be removed then. */
struct kill_call {
	struct container *c;
	int signo;
	engine_done_fn done;
	void *userdata;
	bool sent;
	struct container_wait *wait;	/* SIGKILL: until it has ended */
	struct loop_source *timer;
};

static void kill_end(struct kill_call *k, int r, const struct err *e)
{
	container_wait_cancel(k->wait);
	loop_source_free(k->timer);
	k->done(k->userdata, r, e, NULL);
	container_unref(k->c);
	free(k);
}

static void kill_exited(void *ud, int code)
{
	struct kill_call *k = ud;

	k->wait = NULL;
	if (k->sent)
		kill_end(k, 0, NULL);
}

static void kill_late(struct loop_source *s, void *ud)
{
	_cleanup_err_ struct err err = ERR_INIT;
	int r = err_msg(&err, ERR_SYSTEM, 0, "tried to kill container, but did not receive an exit event");

	kill_end(ud, r, &err);
}

static void kill_done(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct kill_call *k = ud;
	_cleanup_err_ struct err err = ERR_INIT;

	k->sent = true;
	if (r == -ESRCH) {
		r = err_msg(&err, ERR_CONFLICT, 0, "container %s is not running", k->c->id);
		e = &err;
	} else if (r >= 0) {
		event_kill(k->c, k->signo);
	}
	if (r < 0 || !k->wait ||
	    loop_add_timer(k->c->engine->loop, KILL_WAIT_US, 0, kill_late, k, &k->timer) < 0)
		kill_end(k, r, e);
}

static void run_kill(struct op *op)
{
	engine_done_fn done = op->done;
	void *ud = op->userdata;
	struct container *c = container_ref(op->c);
	int signo = op->signo;

	op->done = NULL;
	op_finish(op, 0, NULL);
	/* whatever it waited for is over: now it runs or it does not */
	container_kill(c, signo, done, ud);
	container_unref(c);
}

void container_kill(struct container *c, int signo, engine_done_fn done, void *ud)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct kill_call *k;

	if (c->status != CTR_RUNNING || !ctr_conn(c)) {
		if (c->current && !c->gone) {		/* it may be starting */
			struct op *op = op_new(c, run_kill, done, ud);

			op->signo = signo;
			op_push(op);
			return;
		}
		done(ud, err_msg(&err, ERR_CONFLICT, 0, "container %s is not running", c->id), &err, NULL);
		return;
	}
	if (signo == SIGKILL || signo == SIGTERM)
		c->stopped_by_user = true;
	k = new0(struct kill_call);
	*k = (struct kill_call){.c = container_ref(c), .signo = signo, .done = done, .userdata = ud};
	if (signo == SIGKILL)
		k->wait = container_wait_add(c, WAIT_NEXT_EXIT, kill_exited, k);
	container_signal(c, signo, false, kill_done, k);
	container_thaw(c);
}

/* ---- ending, by force if need be ---- */

static void end_exited(void *ud, int code);

static void end_step(struct loop_source *s, void *ud)
{
	struct op *op = ud;
	struct container *c = op->c;

	op->level++;
	if (op->level == 1) {
		container_signal(c, SIGKILL, true, ignore_reply, NULL);
		event_kill(c, SIGKILL);
		(void)loop_timer_set(op->timer, KILL_WAIT_US, 0);
	} else if (c->sup) {
		/* what cannot be killed (a hung guest) goes with its supervisor */
		log_warn("container %s does not end: its supervisor is killed", c->id);
		sup_kill(c);
	}
}

static int64_t stop_timeout(const struct op *op)
{
	if (op->timeout_s != INT64_MIN)
		return op->timeout_s;
	return json_get_int(ctr_config(op->c), "StopTimeout", DEFAULT_STOP_S);
}

/* Sends the stop signal and sees to it that the container ends; then end_exited. */
static void end_begin(struct op *op)
{
	struct container *c = op->c;
	int64_t t = stop_timeout(op);
	int signo = op->signo;

	if (op->force)
		signo = SIGKILL;
	else if (!signo &&
		 signal_parse(json_get_str(ctr_config(c), "StopSignal") ?: "SIGTERM", &signo, NULL) < 0)
		signo = SIGTERM;
	if (op->force || t == 0)
		op->level = 1;
	op->wait = container_wait_add(c, WAIT_NEXT_EXIT, end_exited, op);
	container_signal(c, op->level ? SIGKILL : signo, op->level > 0, ignore_reply, NULL);
	event_kill(c, op->level ? SIGKILL : signo);
	container_thaw(c);
	if (op->level || t >= 0)
		(void)loop_add_timer(c->engine->loop,
				     op->level ? KILL_WAIT_US
					       : (uint64_t)MIN(t, (int64_t)86400 * 365) * 1000000,
				     0, end_step, op, &op->timer);
}

static void remove_now(struct op *op)
{
	op->c->status = CTR_REMOVING;
	sup_release(op->c);
	container_forget(op->c, op->volumes);
	op_finish(op, 0, NULL);
}

static void start_again(struct op *op)
{
	op->run = start_run_op;
	op->level = 0;
	op->run(op);
}

static void end_exited(void *ud, int code)
{
	struct op *op = ud;
	struct container *c = op->c;

	op->wait = NULL;
	loop_source_free(op->timer);
	op->timer = NULL;
	if (op->volumes || op->force) {
		remove_now(op);
		return;
	}
	container_event(c, "stop", NULL);
	if (op->then_start) {
		sup_release(c);
		start_again(op);
	} else {
		op_finish(op, 0, NULL);
	}
}

/* ---- stop, restart ---- */

static void run_stop(struct op *op)
{
	struct container *c = op->c;
	_cleanup_err_ struct err err = ERR_INIT;

	if (c->status == CTR_RESTARTING) {
		c->stopped_by_user = true;
		restart_cancel(c);
		if (!op->then_start) {
			op_finish(op, 0, NULL);
			return;
		}
	}
	if (c->status == CTR_RUNNING) {
		c->stopped_by_user = true;
		end_begin(op);
	} else if (op->then_start) {
		start_again(op);
	} else {
		op_finish(op, err_msg(&err, ERR_NOT_MODIFIED, 0, "container %s is stopped already", c->id),
			  &err);
	}
}

static void push_stop(struct container *c, int signo, int64_t timeout_s, bool start, engine_done_fn done,
		      void *ud)
{
	struct op *op = op_new(c, run_stop, done, ud);

	op->signo = signo;
	op->timeout_s = timeout_s;
	op->then_start = start;
	op_push(op);
}

void container_stop(struct container *c, int signo, int64_t timeout_s, engine_done_fn done, void *ud)
{
	push_stop(c, signo, timeout_s, false, done, ud);
}

void container_restart(struct container *c, int signo, int64_t timeout_s, engine_done_fn done, void *ud)
{
	push_stop(c, signo, timeout_s, true, done, ud);
}

/* ---- remove ---- */

/* The anonymous volumes that no other container uses. */
static char **own_volumes(struct container *c)
{
	const struct json *mounts = json_get(c->doc, "Mounts");
	char **out = NULL;

	for (size_t i = 0; i < json_len(mounts); i++) {
		const char *name = json_get_str(json_at(mounts, i), "Name");
		_cleanup_strv_ char **users = NULL;

		if (!name || !volume_is_anonymous(c->engine, name))
			continue;
		users = containers_using_volume(c->engine, name);
		if (strv_len(users) < 2)
			strv_add(&out, name);
	}
	return out;
}

static int delete_rows(struct container *c, char *const *volumes, struct err *err)
{
	struct db *db = c->engine->db;
	int r = db_begin(db, err);

	if (r < 0)
		return r;
	r = db_run(db, err, "DELETE FROM containers WHERE id = ?", "s", c->id);
	for (char *const *v = volumes; r >= 0 && v && *v; v++)
		r = volume_delete(c->engine, *v, err);
	if (r >= 0)
		return db_commit(db, err);
	db_rollback(db);
	return r;
}

void container_forget(struct container *c, bool volumes)
{
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_strv_ char **own = volumes ? own_volumes(c) : NULL;

	container_ref(c);
	if (delete_rows(c, own, &err) < 0)
		log_error("remove container %s: %s", c->id, err_text(&err));
	/* else with its sandbox */
	if (!c->sup && !c->zombie && !sandbox_lives(c->engine, c->id))
		endpoints_release(c->engine, c->id, NULL);
	c->exit_pending = false;
	container_event(c, "destroy", NULL);
	container_drop(c);
	for (char **v = own; v && *v; v++)
		volume_deleted(c->engine, *v);
	trash(c->engine, c->dir);
	container_unref(c);
}

static void run_remove(struct op *op)
{
	struct container *c = op->c;
	_cleanup_err_ struct err err = ERR_INIT;
	bool live = c->status == CTR_RUNNING || c->status == CTR_RESTARTING;

	if (c->paused && !op->force) {
		op_finish(op,
			  err_msg(&err, ERR_CONFLICT, 0,
				  "cannot remove container \"/%s\": container is paused and must be unpaused "
				  "first", c->name),
			  &err);
		return;
	}
	if (live && !op->force) {
		op_finish(op,
			  err_msg(&err, ERR_CONFLICT, 0,
				  "cannot remove container \"/%s\": container is %s: stop the "
				  "container before removing or force remove",
				  c->name, c->status == CTR_RUNNING ? "running" : "restarting"),
			  &err);
		return;
	}
	restart_cancel(c);
	c->stopped_by_user = true;
	if (c->status == CTR_RUNNING) {
		end_begin(op);
		return;
	}
	remove_now(op);
}

void container_remove(struct container *c, bool force, bool volumes, engine_done_fn done, void *ud)
{
	struct op *op = op_new(c, run_remove, done, ud);

	op->force = force;
	op->volumes = volumes;
	op_push(op);
}

/* ---- rename ---- */

int container_rename(struct container *c, const char *name, struct err *err)
{
	struct containers *t = c->engine->containers;
	struct container *other;
	_cleanup_free_ char *old = NULL;
	struct json *more;
	int r;

	if (*name == '/')
		name++;
	if (!*name)
		return err_msg(err, ERR_INVALID, 0, "Neither old nor new names may be empty");
	r = container_name_check(name, err);
	if (r < 0)
		return r;
	other = hmap_get(&t->by_name, name);
	if (other == c)
		return err_msg(err, ERR_INVALID, 0,
			       "Renaming a container with the same name as its current name");
	if (other)
		return container_name_taken(name, other, err);
	old = c->name;
	c->name = xstrdup(name);
	r = container_save_name(c, err);
	if (r < 0) {
		free(c->name);
		c->name = TAKE_PTR(old);
		return r;
	}
	hmap_remove(&t->by_name, old);
	hmap_set(&t->by_name, c->name, c);
	more = json_object();
	_cleanup_free_ char *was = xasprintf("/%s", old);
	json_set_str(more, "oldName", was);
	endpoints_renamed(c->engine);
	container_event(c, "rename", more);
	return 0;
}
