/* process.scheduler and process.ioPriority. */
#include "oci/runtime_fields.h"
#include "base/strv.h"

#include <limits.h>
#include <linux/ioprio.h>
#include <linux/sched.h>

struct raw_sched { char *policy, **flags; int nice, priority; uint64_t runtime, deadline, period; };
struct raw_io { char *class; int priority; };
struct name { const char *name; unsigned value; };

static const struct name policies[] = {
	{ "SCHED_OTHER", SCHED_NORMAL }, { "SCHED_FIFO", SCHED_FIFO }, { "SCHED_RR", SCHED_RR },
	{ "SCHED_BATCH", SCHED_BATCH }, { "SCHED_IDLE", SCHED_IDLE }, { "SCHED_DEADLINE", SCHED_DEADLINE },
	{ NULL, 0 },
};

static const struct name sched_flags[] = {
	{ "SCHED_FLAG_RESET_ON_FORK", SCHED_FLAG_RESET_ON_FORK },
	{ "SCHED_FLAG_RECLAIM", SCHED_FLAG_RECLAIM }, { "SCHED_FLAG_DL_OVERRUN", SCHED_FLAG_DL_OVERRUN },
	{ "SCHED_FLAG_KEEP_POLICY", SCHED_FLAG_KEEP_POLICY },
	{ "SCHED_FLAG_KEEP_PARAMS", SCHED_FLAG_KEEP_PARAMS },
	{ "SCHED_FLAG_UTIL_CLAMP_MIN", SCHED_FLAG_UTIL_CLAMP_MIN },
	{ "SCHED_FLAG_UTIL_CLAMP_MAX", SCHED_FLAG_UTIL_CLAMP_MAX },
	{ NULL, 0 },
};

static const struct name classes[] = {
	{ "IOPRIO_CLASS_RT", IOPRIO_CLASS_RT }, { "IOPRIO_CLASS_BE", IOPRIO_CLASS_BE },
	{ "IOPRIO_CLASS_IDLE", IOPRIO_CLASS_IDLE }, { NULL, 0 },
};

static const struct json_field sched_fields[] = {
	{ "policy", JK_STR, offsetof(struct raw_sched, policy), .required = true },
	{ "nice", JK_INT, offsetof(struct raw_sched, nice) },
	{ "priority", JK_INT, offsetof(struct raw_sched, priority) },
	{ "flags", JK_STRV, offsetof(struct raw_sched, flags) },
	{ "runtime", JK_U64, offsetof(struct raw_sched, runtime) },
	{ "deadline", JK_U64, offsetof(struct raw_sched, deadline) },
	{ "period", JK_U64, offsetof(struct raw_sched, period) },
	JSON_FIELD_END,
};

static const struct json_field io_fields[] = {
	{ "class", JK_STR, offsetof(struct raw_io, class), .required = true },
	{ "priority", JK_INT, offsetof(struct raw_io, priority) },
	JSON_FIELD_END,
};

static int find(const struct name *list, const char *name, unsigned *ret, const char *path, struct err *e)
{
	for (; list->name; list++)
		if (streq(list->name, name)) {
			*ret = list->value;
			return 0;
		}
	return err_msg(e, ERR_INVALID, 0, "%s: unknown value '%s'", path, name ? name : "");
}

static int check_sched(const struct oci_scheduler *s, const char *path, struct err *e)
{
	bool rt = s->policy == SCHED_FIFO || s->policy == SCHED_RR;

	if (s->nice < -20 || s->nice > 19)
		return err_msg(e, ERR_INVALID, 0, "%s.nice: must be from -20 to 19", path);
	if (rt ? s->priority < 1 || s->priority > 99 : s->priority != 0)
		return err_msg(e, ERR_INVALID, 0,
			       "%s.priority: must be from 1 to 99 with SCHED_FIFO and SCHED_RR, else 0",
			       path);
	if (s->policy != SCHED_DEADLINE && (s->runtime || s->deadline || s->period))
		return err_msg(e, ERR_INVALID, 0, "%s: runtime, deadline and period need SCHED_DEADLINE",
			       path);
	return 0;
}

int field_scheduler(const struct json *v, void *target, const char *path, struct err *e)
{
	struct raw_sched raw = { 0 };
	struct oci_scheduler *s = target;
	unsigned flag;
	int r = json_dispatch(v, sched_fields, &raw, path, e);

	if (r == 0)
		r = find(policies, raw.policy, &s->policy, path, e);
	for (char **f = raw.flags; r == 0 && f && *f; f++) {
		r = find(sched_flags, *f, &flag, path, e);
		if (r == 0)
			s->flags |= flag;
	}
	if (r == 0) {
		s->given = true;
		s->nice = raw.nice;
		s->priority = raw.priority;
		s->runtime = raw.runtime;
		s->deadline = raw.deadline;
		s->period = raw.period;
		r = check_sched(s, path, e);
	}
	free(raw.policy);
	strv_free(raw.flags);
	return r;
}

int field_io_priority(const struct json *v, void *target, const char *path, struct err *e)
{
	struct raw_io raw = { 0 };
	struct oci_io_priority *p = target;
	unsigned class = 0;
	int r = json_dispatch(v, io_fields, &raw, path, e);

	if (r == 0)
		r = find(classes, raw.class, &class, path, e);
	if (r == 0 && (raw.priority < 0 || raw.priority > 7))
		r = err_msg(e, ERR_INVALID, 0, "%s.priority: must be from 0 to 7", path);
	if (r == 0)
		*p = (struct oci_io_priority){ true, IOPRIO_PRIO_VALUE(class, (unsigned)raw.priority) };
	free(raw.class);
	return r;
}
