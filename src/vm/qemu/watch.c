/* Whether QEMU still serves its monitor, and its machine still runs: where KVM cannot go on with it QEMU
 * stops it, and says so to who asks. It is asked now and then; one that leaves a question unanswered is
 * looked at: stopped by a signal, asleep though there is something to read, or at work for seconds without
 * coming to it, it is ended, for its container would stand still for ever. One that waits for a processor or
 * for the host's disk is given time: the host is slow, and it is not its fault. So is one that comes up: it
 * makes itself, and loads a template, before it serves anybody.
 *
 * Time is counted in looks, not by the clock: after the host, or we ourselves, stood still, the answer is
 * there to be read before the next look. */
#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"
#include "vm/qemu/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_US 1000000u
#define LOOKS 3u		/* and one until it is asked: noticed within five seconds */
#define LOOKS_BUSY 60u		/* one that waits for the host */
#define SPINNING_NS 2000000000u	/* a question is answered in less work */

/* The state of a thread, and what the whole process has worked, in ticks. False: it is not there. */
static bool read_stat(const char *path, char *ret_state, uint64_t *ret_ticks)
{
	_cleanup_free_ char *line = NULL;
	unsigned long long user = 0, system = 0;
	const char *p;

	if (fs_read_line(AT_FDCWD, path, &line) < 0 || !(p = strrchr(line, ')')) ||
	    sscanf(p, ") %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", ret_state, &user,
		   &system) != 3)
		return false;
	*ret_ticks = user + system;
	return true;
}

/* Whether a thread is at work, or waits for a processor or a disk. */
static bool busy(const struct qemu *q)
{
	_cleanup_free_ char *dir = xasprintf("/proc/%d/task", q->proc.pid);
	DIR *d = opendir(dir);
	struct dirent *de;
	bool found = false;

	while (d && !found && (de = readdir(d))) {
		_cleanup_free_ char *path = xasprintf("%s/%s/stat", dir, de->d_name);
		uint64_t ticks;
		char state;

		found = de->d_name[0] != '.' && read_stat(path, &state, &ticks) && strchr("RD", state);
	}
	if (d)
		closedir(d);
	return found;
}

/* What the main thread, which serves the monitor, has worked. */
static uint64_t work_of(const struct qemu *q)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/schedstat", q->proc.pid), *line = NULL;

	return fs_read_line(AT_FDCWD, path, &line) < 0 ? 0 : strtoull(line, NULL, 10);
}

static uint64_t ticks_of(const struct qemu *q, char *ret_state)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/stat", q->proc.pid);
	uint64_t ticks = 0;

	*ret_state = 0;
	(void)read_stat(path, ret_state, &ticks);
	return ticks;
}

/* Why it will not answer any more, or NULL. */
static const char *verdict(const struct qemu *q)
{
	char state;
	uint64_t ticks = ticks_of(q, &state);

	if (state == 'T' || state == 't')
		return "QEMU was stopped by a signal";
	if (state == 'S' && ticks <= q->ticks_when_asked + 1 && !busy(q))
		return "QEMU does not answer";
	if ((q->come_up && work_of(q) - q->work_when_asked >= SPINNING_NS) || q->looks >= LOOKS_BUSY)
		return "QEMU is at work, and does not answer";
	return NULL;
}

static void give_up(struct qemu *q, const char *why)
{
	q->hung = why;
	log_warn("%s: it is ended", why);
	(void)proc_kill(&q->proc, SIGKILL);
}

static void on_answer(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct qemu *q = ud;

	q->asked = false;
	if (r == 0 && !q->gone && !q->hung && streq(json_get_str(ret, "status"), "internal-error"))
		give_up(q, "QEMU stopped the machine: the accelerator cannot go on with it");
}

static void on_look(struct loop_source *s, void *ud)
{
	struct qemu *q = ud;
	const char *why;
	char state;

	if (q->gone || q->hung)
		return;
	if (!q->asked) {
		q->asked = true;
		q->looks = 0;
		q->work_when_asked = work_of(q);
		q->ticks_when_asked = ticks_of(q, &state);
		qmp_command(q->qmp, "query-status", NULL, -EBADF, on_answer, q);
	} else if (++q->looks >= LOOKS && (why = verdict(q))) {
		give_up(q, why);
	}
}

void watch_start(struct qemu *q)
{
	(void)loop_add_timer(q->loop, LOOK_US, LOOK_US, on_look, q, &q->watch);
}
