#include "super/task.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define DRAIN_US 2000000	/* how long output may outlive the process (a child that kept the pipe) */

struct task *task_find(struct super *s, const char *ctr, const char *exec)
{
	list_for_each(t, &s->tasks, struct task, link)
		if (streq(t->ctr, ctr) && streq(t->exec, exec))
			return t;
	return NULL;
}

struct task *task_new(struct super *s, const struct msg_create *m)
{
	struct task *t = new0(struct task);
	int r;

	*t = (struct task){ .super = s, .ctr = xstrdup(m->ctr), .exec = xstrdup(m->exec), .flags = m->flags,
			    .state = TASK_CREATED, .error = xstrdup("") };
	t->eof[TASK_STDERR] = m->flags & TASK_TTY;
	list_init(&t->clients);
	list_append(&s->tasks, &t->link);
	r = jsonlog_open(&t->log, m->log_path);
	if (r < 0)
		log_warn("open log '%s': %s: output is not recorded", m->log_path, strerror(-r));
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
		.sandbox = (char *)t->super->args->sandbox, .ctr = t->ctr, .exec = t->exec, .state = (uint8_t)t->state,
		.pid = t->pid, .started_ns = t->started_ns, .exited_ns = t->exited_ns, .exit_code = (uint32_t)t->exit_code,
		.oom = t->oom, .error = t->error,
	};
}

/* The record first, then the news: whoever hears of the exit finds it on disk too. */
static void task_exited(struct task *t)
{
	struct msg_task_state m;
	int r;

	loop_source_free(t->drain);
	t->drain = NULL;
	t->state = TASK_EXITED;
	jsonlog_close(&t->log);
	m = task_state_msg(t);
	if (!*t->exec) {
		r = exit_record_write(t->super->args->dir, &m);
		if (r < 0)
			log_error("write exit record of '%s': %s", t->ctr, strerror(-r));
	}
	super_tell_state(t);
	clients_finish(t);
	super_maybe_end(t->super);
}

static void on_drain(struct loop_source *s, void *ud)
{
	struct task *t = ud;

	/* A client that is behind holds the output back: that is no reason to lose it. */
	if (t->paused)
		(void)loop_timer_set(s, DRAIN_US, 0);
	else
		task_maybe_exited(t, true);
}

void task_maybe_exited(struct task *t, bool output_over)
{
	if (!t->ended || t->state == TASK_EXITED)
		return;
	if (output_over || (t->eof[TASK_STDOUT] && t->eof[TASK_STDERR]))
		task_exited(t);
	else if (!t->drain)
		(void)loop_add_timer(t->super->loop, DRAIN_US, 0, on_drain, t, &t->drain);
}

static char *record_path(const char *dir, const char *ctr)
{
	return xasprintf("%s/exit-%s", dir, ctr);
}

int exit_record_write(const char *dir, const struct msg_task_state *m)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	_cleanup_free_ char *path = record_path(dir, m->ctr);

	msg_task_state_encode(m, &b);
	return fs_write_atomic(AT_FDCWD, path, b.buf, b.len, 0600, false);
}

int exit_record_read(const char *dir, const char *ctr, struct msg_task_state *ret)
{
	_cleanup_free_ char *path = record_path(dir, ctr), *raw = NULL;
	size_t n;
	int r = fs_read(AT_FDCWD, path, 64 << 10, &raw, &n);

	return r < 0 ? r : msg_task_state_decode(raw, n, ret);
}
