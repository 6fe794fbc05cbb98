/* The groups that a container lives in: its cgroup, made by us or by systemd, and its class of Intel RDT. */
#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "runtime/systemd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* systemd makes a scope around a process that exists, and removes it when it is empty: this one holds it
 * until the init is in. */
static int start_holder(struct proc *ret)
{
	int r = proc_fork(ret);

	if (r == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return r < 0 ? r : 0;
}

/* Where systemd has put it: the same path in every hierarchy that it cares for. */
static int holder_group(pid_t pid, const char *unit, char **ret, struct err *e)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/cgroup", pid), *text = NULL;
	_cleanup_strv_ char **lines = NULL;
	int r = fs_read(AT_FDCWD, path, 1 << 20, &text, NULL);

	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "read '%s'", path);
	lines = strv_split(text, "\n");
	for (char **l = lines; l && *l; l++) {
		const char *group = str_starts(*l, "0::") ? *l + 3 : strstr(*l, ":name=systemd:");

		if (group && *group == ':')
			group += strlen(":name=systemd:");
		if (group && streq(path_basename(group), unit)) {
			*ret = xstrdup(group);
			return 0;
		}
	}
	return err_msg(e, ERR_SYSTEM, -ENOENT, "systemd has made no cgroup for unit '%s'", unit);
}

static int setup_scope(struct rt_container *c, const struct rt_create_args *a, struct proc *holder,
		       struct err *e)
{
	_cleanup_unit_ struct unit u = { NULL, NULL };
	_cleanup_free_ char *path = NULL;
	_cleanup_(cgroup_freep) struct cgroup *host = NULL;
	int r = unit_parse(a->spec->cgroups_path, a->id, &u, e);

	if (r == 0)
		r = cgroup_new("/insula", NULL, &host, e);	/* only to learn which version there is */
	if (r < 0)
		return r;
	r = start_holder(holder);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "fork");
	r = unit_start(&u, a->id, holder->pid, &a->spec->resources, host->unified, e);
	if (r < 0)
		return r;
	c->unit = TAKE_PTR(u.name);
	r = holder_group(holder->pid, c->unit, &path, e);
	if (r == 0)
		r = cgroup_new(path, NULL, &c->cg, e);
	return r == 0 ? cgroup_create(c->cg, &a->spec->resources, true, e) : r;
}

/* What cannot be made leaves nothing behind, and a group of somebody else is not touched: c gets it only when
 * it is its own. Who may make none goes without, as long as he has asked for no limits. */
static int own_cgroup(struct rt_container *c, const struct rt_create_args *a, struct cgroup *cg,
		      struct err *e)
{
	_cleanup_err_ struct err why = ERR_INIT;
	int r = cgroup_create(cg, &a->spec->resources, false, &why);

	if (r == 0 && cgroup_made(cg)) {
		c->cg = cg;
		return 0;
	}
	if (r < 0 && !proc_is_root() && !cgroup_made(cg))
		r = err_msg(e, ERR_INVALID, -EACCES,
			    "linux.resources: limits need a cgroup, and user %u may not make '%s'",
			    geteuid(), cg->path);
	else if (r < 0)
		err_move(e, &why);
	cgroup_free(cg);
	return r;
}

/* A process is born into a group of v2, so that must be there; those of v1 it joins later, and they are made
 * while it is busy. */
static int setup_cgroup(struct rt_container *c, const struct rt_create_args *a, struct cgroup **ret_later,
			struct err *e)
{
	struct cgroup *cg;
	int r = a->spec->cgroups_path ? cgroup_new(a->spec->cgroups_path, NULL, &cg, e) : 0;

	if (r < 0 || !a->spec->cgroups_path)
		return r;
	if (cg->unified)
		return own_cgroup(c, a, cg, e);
	*ret_later = cg;
	return 0;
}

int group_finish(struct rt_container *c, const struct rt_create_args *a, struct cgroup **later, struct err *e)
{
	return *later ? own_cgroup(c, a, TAKE_PTR(*later), e) : 0;
}

int group_setup(struct rt_container *c, const struct rt_create_args *a, struct proc *holder,
		struct cgroup **ret_later, struct err *e)
{
	const struct oci_rdt *rdt = &a->spec->rdt;
	int r = a->systemd_cgroup ? setup_scope(c, a, holder, e) : setup_cgroup(c, a, ret_later, e);

	if (r == 0 && rdt->given)
		r = rdt_new(rdt, a->id, NULL, &c->rdt, e);
	if (r == 0 && c->rdt) {
		r = rdt_create(c->rdt, rdt, e);
		if (r < 0) {
			rdt_free(c->rdt);
			c->rdt = NULL;
		}
	}
	return r;
}

void group_let_go(struct proc *holder)
{
	if (holder->pidfd < 0)
		return;
	(void)proc_kill(holder, SIGKILL);
	(void)proc_wait(holder, NULL);
	proc_done(holder);
}

int group_update(struct rt_container *c, const struct oci_resources *res, struct err *e)
{
	int r = cgroup_apply(c->cg, res, e);

	return r == 0 && c->unit ? unit_update(c->unit, res, c->cg->unified, e) : r;
}

int group_remove(struct rt_container *c, struct err *e)
{
	int r = 0;

	if (c->unit)
		r = unit_stop(c->unit, e);
	/* systemd may not know all hierarchies of a v1 host. */
	if (c->cg) {
		int left = cgroup_remove(c->cg, r == 0 ? e : NULL);

		r = r == 0 ? left : r;
	}
	if (c->rdt)
		rdt_remove(c->rdt);
	return r;
}
