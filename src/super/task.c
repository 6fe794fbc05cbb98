/* Theory of operation.
 *
 * A task's life is a table: what an event does depends on the phase it comes in, and an empty cell means
 * that it does nothing there. Facts (exit code, end of a stream) are noted first, whatever the phase;
 * the event then says that it is time to look at them. So an exit that overtakes the answer to START is
 * not lost: it is noted, and STARTED finds it.
 *
 * The end has an order: output to log and clients, exit record, news, end of the clients' streams. Whoever
 * hears of an exit, or sees a stream end, finds all that came before it. */
#include "super/internal.h"
#include "base/alloc.h"
#include "base/log.h"
#include "base/strv.h"

#include <errno.h>
#include <string.h>

#define DRAIN_US 2000000	/* how long output may outlive the process (a child that kept the pipe) */

static const enum task_state told[_PHASE_MAX] = {
	[PHASE_CREATING] = TASK_CREATED, [PHASE_CREATED] = TASK_CREATED, [PHASE_STARTING] = TASK_CREATED,
	[PHASE_RUNNING] = TASK_RUNNING, [PHASE_DRAINING] = TASK_RUNNING, [PHASE_EXITED] = TASK_EXITED,
};

struct task *task_find(struct super *s, const char *ctr, const char *exec)
{
	list_for_each(t, &s->tasks, struct task, link)
		if (streq(t->ctr, ctr) && streq(t->exec, exec))
			return t;
	return NULL;
}

struct task *task_new(struct super *s, const struct msg_create *m, struct err *e)
{
	struct jsonlog log;
	struct task *t;
	int r = jsonlog_open(&log, *m->exec ? "" : m->log_path, m->log);

	/* No space is no reason not to run; anything else means that the log would never be. */
	if (r < 0 && r != -ENOSPC && r != -EDQUOT) {
		jsonlog_close(&log);
		err_set(e, ERR_SYSTEM, r, "failed to initialize logging driver: open '%s'", m->log_path);
		return NULL;
	}
	if (r < 0)
		log_warn("open log '%s': %s: output is not recorded", m->log_path, strerror(-r));
	t = new0(struct task);
	*t = (struct task){ .super = s, .ctr = xstrdup(m->ctr), .exec = xstrdup(m->exec), .flags = m->flags,
			    .phase = PHASE_CREATING, .error = xstrdup(""), .log = log };
	t->eof[TASK_STDERR] = m->flags & TASK_TTY;
	list_init(&t->clients);
	list_append(&s->tasks, &t->link);
	return t;
}

void task_free(struct task *t)
{
	clients_linger(t);
	loop_source_free(t->drain);
	jsonlog_close(&t->log);
	list_remove(&t->link);
	free(t->ctr);
	free(t->exec);
	free(t->error);
	free(t);
}

struct msg_task_state task_state_msg(const struct task *t)
{
	return (struct msg_task_state){
		.sandbox = t->super->args->sandbox,
		.ctr = t->ctr,
		.exec = t->exec,
		.state = (uint8_t)told[t->phase],
		.pid = t->pid,
		.started_ns = t->started_ns,
		.exited_ns = t->exited_ns,
		.exit_code = (uint32_t)t->exit_code,
		.oom = t->oom,
		.error = t->error,
	};
}

bool task_told(const struct task *t)
{
	return t->phase != PHASE_CREATING;
}

bool task_live(const struct task *t)
{
	/* An exec that was never started has no process, and cannot outlive its container; nor has a
	 * container of which only the files are here. */
	if ((*t->exec || t->flags & TASK_FILES) &&
	    (t->phase == PHASE_CREATING || t->phase == PHASE_CREATED))
		return false;
	return t->phase != PHASE_EXITED;
}

/* --- what events do --- */

/* Before anybody is told of the exit: who hears of it may want the same ports. They belong to the container
 * that the sandbox was made for. */
static void release_ports(struct task *t)
{
	if (streq(t->ctr, t->super->args->sandbox))
		ports_free(TAKE_PTR(t->super->ports));
}

static void finish(struct task *t)
{
	struct msg_task_state m;
	int r;

	loop_source_free(t->drain);
	t->drain = NULL;
	t->phase = PHASE_EXITED;
	jsonlog_close(&t->log);
	m = task_state_msg(t);
	if (!*t->exec) {
		release_ports(t);
		r = exit_record_write(t->super->args->dir, &m);
		if (r < 0)
			log_error("write exit record of '%s': %s", t->ctr, strerror(-r));
	}
	super_tell_state(t);
	/* After the news: a client that sees its stream end asks the daemon for the exit code at once. */
	clients_finish(t);
	super_check(t->super);
}

static void on_drain(struct loop_source *s, void *ud)
{
	task_event(ud, EVENT_DEADLINE);
}

static void drain(struct task *t)
{
	t->phase = PHASE_DRAINING;
	/* What is left is bounded by the pipes: a client that is behind need not hold it back any more. */
	clients_balance(t);
	if (t->eof[TASK_STDOUT] && t->eof[TASK_STDERR])
		finish(t);
	else if (loop_add_timer(t->super->loop, DRAIN_US, 0, on_drain, t, &t->drain) < 0)
		finish(t);
}

static void created(struct task *t)
{
	t->phase = PHASE_CREATED;
	super_tell_state(t);
	if (t->ended)
		drain(t);
}

static void starting(struct task *t)
{
	t->phase = PHASE_STARTING;
	t->started_ns = now_real_ns();
}

static void running(struct task *t)
{
	t->phase = PHASE_RUNNING;
	super_tell_state(t);
	if (t->ended)
		drain(t);
}

/* An exec that cannot start says so where its output would have been, as Docker does. */
static void failed(struct task *t)
{
	if (*t->exec) {
		_cleanup_free_ char *text =
		    xasprintf("OCI runtime exec failed: exec failed: unable to start container process: %s"
				  ": unknown\r\n", t->error);

		clients_output(t, TASK_STDOUT, text, strlen(text));
	}
	t->started_ns = 0;
	finish(t);
}

static void (*const table[_PHASE_MAX][_EVENT_MAX])(struct task *t) = {
	[PHASE_CREATING] = { [EVENT_CREATED] = created },
	[PHASE_CREATED]  = { [EVENT_START] = starting, [EVENT_ENDED] = drain },
	[PHASE_STARTING] = { [EVENT_STARTED] = running, [EVENT_FAILED] = failed },
	[PHASE_RUNNING]  = { [EVENT_ENDED] = drain },
	[PHASE_DRAINING] = { [EVENT_SILENT] = finish, [EVENT_DEADLINE] = finish },
	[PHASE_EXITED]   = { NULL },
};

void task_event(struct task *t, enum task_event ev)
{
	if (table[t->phase][ev])
		table[t->phase][ev](t);
}

void task_ended(struct task *t, enum task_event ev, int exit_code, uint64_t when_ns, const char *error)
{
	/* Why it could not start says more than how its process went down after that. */
	if (t->phase == PHASE_EXITED || (t->ended && ev != EVENT_FAILED))
		return;
	t->ended = true;
	t->exit_code = exit_code;
	t->exited_ns = when_ns;
	str_replace(&t->error, error);
	task_event(t, ev);
}

void task_output(struct task *t, enum task_stream s, const void *p, size_t n)
{
	if (t->phase == PHASE_EXITED)
		return;
	jsonlog_write(&t->log, s, p, n);
	clients_output(t, s, p, n);
}

void task_output_eof(struct task *t, enum task_stream s)
{
	t->eof[s] = true;
	if (t->eof[TASK_STDOUT] && t->eof[TASK_STDERR])
		task_event(t, EVENT_SILENT);
}
