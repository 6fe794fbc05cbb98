/* A running container as a whole: the freezer, limits, what it uses. */
#include "base/alloc.h"
#include "base/sbuf.h"
#include "oci/runtime_spec.h"
#include "runtime/stats.h"
#include "task/local_task.h"

#include <errno.h>

static int update(struct ltask *t, const struct msg_control *m, struct err *e)
{
	_cleanup_oci_resources_ struct oci_resources res = { 0 };
	int r = oci_resources_parse((const char *)m->resources.p, m->resources.n, &res, e);

	return r < 0 ? r : rt_update(t->rt, &res, e);
}

static int stats(struct ltask *t, struct sbuf *out, struct err *e)
{
	_cleanup_rt_stats_ struct rt_stats s = { 0 };
	int r = rt_stats(t->rt, &s, e);

	if (r == 0)
		stats_table(&s, out);
	return r;
}

static int control(struct ltask *t, const struct msg_control *m, struct sbuf *out, struct err *e)
{
	switch (m->op) {
	case CONTROL_PAUSE:	return rt_pause(t->rt, e);
	case CONTROL_RESUME:	return rt_resume(t->rt, e);
	case CONTROL_UPDATE:	return update(t, m, e);
	case CONTROL_STATS:	return stats(t, out, e);
	}
	return err_msg(e, ERR_INVALID, -EINVAL, "unknown control operation %u", m->op);
}

void op_control(struct backend *b, const struct msg_control *m, backend_done_fn done, void *ud)
{
	struct local *l = container_of(b, struct local, b);
	struct ltask *t = ltask_find(l, m->ctr, "");
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	int r;

	if (!t || t->exited || !t->rt)
		r = err_msg(&e, ERR_CONFLICT, -ESRCH, "container %s is not running", m->ctr);
	else
		r = control(t, m, &out, &e);
	done(ud, r, &e, out.buf, r == 0 ? out.len : 0);
}
