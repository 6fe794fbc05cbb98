/* What happens when a container's process begins and ends, and what must follow: removal with --rm, the
 * restart policy. The facts come from the supervisor's TASK_STATE, or from the exit record if it is gone. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"
#include "engine/health.h"
#include "engine/publish.h"
#include "super/super.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define BACKOFF_FIRST_US 100000
#define BACKOFF_MAX_US (60u * 1000000)
#define BACKOFF_RESET_NS (10ull * 1000000000)	/* one that ran this long starts over with a short delay */

static void op_after_exit(struct op *op);

static void began(struct container *c, const struct msg_task_state *m)
{
	c->status = CTR_RUNNING;
	c->starting = false;
	c->pid = m->pid;
	c->started_ns = m->started_ns;
	c->exit_code = 0;
	c->oom = false;
	str_replace(&c->error, "");
	container_save(c);
	container_event(c, "start", NULL);
}

void container_task_state(struct container *c, const struct msg_task_state *m)
{
	struct exit_info x = {(int)m->exit_code, m->exited_ns, m->oom, m->error};
	/* The start of a former daemon may have come to its end already. */
	bool begins = m->state == TASK_RUNNING ||
		      (m->state == TASK_EXITED && m->started_ns && c->resume && c->starting);

	bool known = c->status == CTR_RUNNING;

	container_ref(c);		/* with --rm its exit is its end */
	if (begins && !known)
		began(c, m);
	if (m->state == TASK_RUNNING) {
		c->pid = m->pid;
		health_start(c, known);
	} else if (m->state == TASK_EXITED && c->status == CTR_RUNNING) {
		container_exited(c, &x);
	}
	resume_state(c, m);
	container_unref(c);
}

static void event_die(struct container *c)
{
	struct json *a = json_object();
	uint64_t ran = c->finished_ns > c->started_ns ? c->finished_ns - c->started_ns : 0;
	_cleanup_free_ char *code = xasprintf("%d", c->exit_code),
			    *secs = xasprintf("%" PRIu64, ran / 1000000000);

	json_set_str(a, "exitCode", code);
	json_set_str(a, "execDuration", secs);
	if (c->oom)
		container_event(c, "oom", NULL);
	container_event(c, "die", a);
}

void container_exited(struct container *c, const struct exit_info *x)
{
	struct op *op;

	c->status = CTR_EXITED;
	health_stop(c);
	publish_stop(c);
	mounts_drop(c);
	c->paused = false;
	c->pid = 0;
	c->exit_code = x->code;
	c->finished_ns = x->when_ns ? x->when_ns : now_real_ns();
	c->oom = x->oom;
	str_replace(&c->error, x->error ? x->error : "");
	c->exit_pending = true;
	container_save(c);
	container_ref(c);
	execs_of_exited(c, false);
	event_die(c);
	op = op_new(c, op_after_exit, NULL, NULL);
	container_tell_waiters(c, false);
	op_push_front(op);
	container_unref(c);
}

bool container_sup_lost(struct container *c, const char *dir)
{
	struct msg_task_state m;
	struct exit_info x = {.code = 137, .error = "the supervisor died"};

	if (c->isolation == ISOLATION_HYPERV)
		x.error = "the supervisor of the virtual machine died";
	if (c->resume)
		return resume_lost(c, dir);
	if (c->status != CTR_RUNNING)
		return false;
	if (exit_record_read(dir, c->id, &m) >= 0) {
		x = (struct exit_info){(int)m.exit_code, m.exited_ns, m.oom, m.error};
		container_exited(c, &x);
		msg_task_state_done(&m);
		return false;
	}
	log_warn("container %s: %s", c->id, x.error);
	container_ref(c);		/* with --rm its exit is its end */
	container_exited(c, &x);
	container_unref(c);
	return true;
}

/* ---- what follows ---- */

static bool restart_due(const struct container *c)
{
	const struct json *p = json_get(ctr_host(c), "RestartPolicy");
	const char *name = json_get_str(p, "Name");
	int64_t max = json_get_int(p, "MaximumRetryCount", 0);

	if (c->stopped_by_user || str_empty(name) || streq(name, "no"))
		return false;
	if (streq(name, "on-failure"))
		return c->exit_code != 0 && (max == 0 || c->restart_count < (unsigned)max);
	return true;
}

void restart_cancel(struct container *c)
{
	loop_source_free(TAKE_PTR(c->restart_timer));
	if (c->status == CTR_RESTARTING) {
		c->status = CTR_EXITED;
		c->exit_pending = false;
		container_save(c);
		container_tell_waiters(c, false);
	}
}

static void restart_later(struct container *c);

static void restart_done(void *ud, int r, const struct err *e, void *result)
{
	struct container *c = ud;

	c->returning = false;
	if (r < 0 && !c->gone && !c->stopped_by_user && join_target_awaited(c))
		restart_later(c);
	else if (r < 0 && e && e->kind != ERR_NOT_MODIFIED && !c->gone)
		log_warn("restart container %s: %s", c->id, err_text(e));
	if (c->status == CTR_EXITED)
		container_tell_waiters(c, false);
	container_unref(c);
}

static void restart_now(struct loop_source *s, void *ud)
{
	struct container *c = ud;

	loop_source_free(TAKE_PTR(c->restart_timer));
	if (c->status == CTR_RESTARTING)
		c->status = CTR_EXITED;
	c->restart_count++;
	c->returning = true;
	container_start(c, restart_done, container_ref(c));
}

static void restart_later(struct container *c)
{
	bool ran_long = c->finished_ns - c->started_ns > BACKOFF_RESET_NS;

	c->restart_delay_us = !c->restart_delay_us || ran_long ? BACKOFF_FIRST_US
			      : MIN(c->restart_delay_us * 2, (uint64_t)BACKOFF_MAX_US);
	c->status = CTR_RESTARTING;
	loop_source_free(TAKE_PTR(c->restart_timer));
	if (loop_add_timer(c->engine->loop, c->restart_delay_us, 0, restart_now, c, &c->restart_timer) < 0)
		c->status = CTR_EXITED;
}

/* Runs after whatever operation saw the exit; that one may have dealt with all of it. */
static void op_after_exit(struct op *op)
{
	struct container *c = op->c;

	if (c->gone || !c->exit_pending || c->status != CTR_EXITED) {
		op_finish(op, 0, NULL);
		return;
	}
	/* What is being copied from it still needs its supervisor. */
	if (files_wait(op))
		return;
	if (json_get_bool(ctr_host(c), "AutoRemove", false))
		c->status = CTR_REMOVING;
	sup_release(c);
	if (c->status == CTR_REMOVING) {
		container_forget(c, true);
	} else {
		/* a restart stays due until it happens */
		c->exit_pending = restart_due(c);
		if (c->exit_pending)
			restart_later(c);
		container_save(c);
	}
	op_finish(op, 0, NULL);
}

/* always: even after a manual stop, when the daemon starts; unless-stopped: not then. Only a reboot stops
 * them all: a daemon that comes back finds its containers running. */
void container_after_adoption(struct container *c, bool rebooted)
{
	const char *policy = json_get_str(json_get(ctr_host(c), "RestartPolicy"), "Name");
	bool always = streq(policy, "always") || (streq(policy, "unless-stopped") && !c->stopped_by_user);

	if (c->exit_pending) {
		op_push(op_new(c, op_after_exit, NULL, NULL));
	} else if (rebooted && always && c->status == CTR_EXITED) {
		c->restart_delay_us = 0;
		restart_later(c);
	}
}
