/* rt_create, rt_start and what is done to a container that exists. */
#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

struct rt_container *rt_container_new(const char *id, const char *bundle)
{
	struct rt_container *c = new0(struct rt_container);

	c->id = xstrdup(id);
	c->bundle = xstrdup(bundle);
	c->init = (struct proc)PROC_INIT;
	c->gate = -EBADF;
	return c;
}

void rt_free(struct rt_container *c)
{
	if (!c)
		return;
	proc_done(&c->init);
	for (size_t i = 0; i < c->tasks.n; i++)
		close(c->tasks.v[i]);
	cgroup_free(c->cg);
	rdt_free(c->rdt);
	fd_close(&c->gate);
	seccomp_prog_done(&c->seccomp);
	hooks_free(&c->poststart);
	hooks_free(&c->poststop);
	json_free(c->annotations);
	free(c->id);
	free(c->bundle);
	free(c->unit);
	free(c->listener);
	free(c->listener_metadata);
	free(c->personality);
	free(c);
}

static int dup_proc(const struct proc *from, struct proc *to)
{
	int fd = fcntl(from->pidfd, F_DUPFD_CLOEXEC, 3);

	if (fd < 0)
		return -errno;
	*to = (struct proc){ from->pid, fd };
	return 0;
}

static int run_runtime_hooks(const struct rt_create_args *a, const struct proc *init, int sync, struct err *e)
{
	struct hook_state st = { a->id, "created", a->bundle, init->pid, a->spec->annotations };
	int r = hooks_run(&a->spec->hooks[OCI_HOOK_PRESTART], "prestart", &st, e);

	if (r == 0)
		r = hooks_run(&a->spec->hooks[OCI_HOOK_CREATE_RUNTIME], "createRuntime", &st, e);
	return r == 0 ? sync_send(sync, SYNC_GO, 0, -EBADF) : r;
}

/* Listens to a process under construction until it is ready. */
static int await_ready(const struct rt_create_args *a, const struct proc *p, int sync, int *console,
		       struct err *e)
{
	for (;;) {
		struct sync_msg m;
		int fd = -EBADF, r = sync_recv(sync, &m, &fd, e);

		if (r == -ECONNRESET)
			return err_msg(e, ERR_SYSTEM, r,
				       "container process died unexpectedly while it was set up");
		if (r < 0)
			return r;
		if (m.type == SYNC_READY)
			return 0;
		if (m.type == SYNC_CONSOLE && fd >= 0 && a && a->console_socket) {
			r = console_send(a->console_socket, fd, e);
		} else if (m.type == SYNC_CONSOLE && fd >= 0) {
			fd_close(console);
			*console = TAKE_FD(fd);
		} else if (m.type == SYNC_HOOKS && a) {
			r = run_runtime_hooks(a, p, sync, e);
		}
		fd_close(&fd);
		if (r < 0)
			return r;
	}
}

static int null_stdio(int out[3], const int in[3], int *null)
{
	*null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (*null < 0)
		return -errno;
	for (int i = 0; i < 3; i++)
		out[i] = in[i] >= 0 ? in[i] : *null;
	return 0;
}

/* For the process's labels (lsm.c). */
static int open_host_proc(const struct oci_process *p, bool userns)
{
	return userns && lsm_wanted(p) ? open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC) : -EBADF;
}

static int prepare(struct rt_container *c, const struct rt_create_args *a, struct process_plan *pp,
		   struct proc *holder, struct cgroup **ret_later, struct err *e)
{
	const struct oci_spec *s = a->spec;
	int r = spec_check(s, e);

	pp->p = s->process ? s->process : &process_none;
	if (r == 0)
		r = caps_from_spec(&pp->p->caps, c->userns, &pp->caps);
	if (r == 0 && a->filter_len)
		r = seccomp_prog_decode(a->filter, a->filter_len, &c->seccomp);
	else if (r == 0 && s->seccomp)
		r = seccomp_prog_compile(s->seccomp, a->seccomp_cache ? a->seccomp_cache : SECCOMP_CACHE,
					 &c->seccomp, e);
	if (s->seccomp)
		listener_copy(c, s->seccomp);
	if (r == 0)
		r = listener_check(c, e);
	if (r == 0)
		r = group_setup(c, a, holder, ret_later, e);
	c->personality = xstrdup(s->personality);
	pp->personality = c->personality;
	pp->seccomp = &c->seccomp;
	pp->preserve_fds = a->preserve_fds;
	pp->outlive = c->outlive;
	pp->userns = c->userns;
	return r;
}

static int *fds_of_init(const struct init_plan *ip, size_t *ret_n)
{
	_cleanup_free_ int *fds = new_array(int, _OCI_NS_MAX + 2 + ip->a->spec->mounts.n);
	size_t n = 0;

	for (int i = 0; i < _OCI_NS_MAX; i++)
		fds[n++] = ip->ns_fds[i];
	fds[n++] = ip->sync;
	fds[n++] = ip->start_listen_fd;
	for (size_t i = 0; ip->sources && i < ip->a->spec->mounts.n; i++)
		fds[n++] = ip->sources[i];
	return process_keep_fds(&ip->process, fds, n, ret_n);
}

/* What is done while the init builds its root. */
static int meanwhile(struct rt_container *c, const struct rt_create_args *a, struct cgroup **later, int sync,
		     pid_t pid, struct err *e)
{
	bool made = *later;
	int r = group_finish(c, a, later, e);

	if (r == 0 && made) {
		r = sync_send(sync, SYNC_GROUP, 0, -EBADF);
		/* If the init is gone, await_ready() will hear why. */
		if (r == -EPIPE || r == -ECONNRESET)
			r = 0;
	}
	return r == 0 && a->meanwhile ? a->meanwhile(c, pid, a->meanwhile_arg, e) : r;
}

/* Forks the init; returns in the caller only. */
static int fork_init(struct rt_container *c, struct init_plan *ip, uint64_t flags, int parent,
		     struct proc *ret, struct err *e)
{
	const struct oci_spec *s = ip->a->spec;
	const struct id_maps maps = { &s->uids, &s->gids };
	struct fork_plan fp = { .flags = flags, .cgroup_fd = -EBADF, .join_fd = -EBADF, .sync = ip->sync,
				.sync_parent = parent, .oom_score_adj = ip->process.p->oom_score_adj };
	_cleanup_close_ int cgroup = -EBADF;
	_cleanup_free_ int *keep = NULL;
	int r;

	if (c->cg && c->cg->unified)
		fp.cgroup_fd = cgroup = cgroup_open_v2(c->cg);
	if (ns_join_first(ip->ns_fds, flags))
		fp.join_fds = ip->ns_fds;
	if (flags & CLONE_NEWUSER)
		fp.maps = &maps;
	fp.keep = keep = fds_of_init(ip, &fp.n_keep);
	r = rt_fork(&fp, ret, e);
	if (r != 0)
		return r < 0 ? r : 0;
	if (fp.join_fds)
		ns_close(ip->ns_fds);
	init_run(ip);
}

static int launch(struct rt_container *c, const struct rt_create_args *a, struct init_plan *ip,
		  struct cgroup **later, struct proc *ret, int *console, struct err *e)
{
	_cleanup_close_ int parent = -EBADF, child = -EBADF;
	uint64_t flags;
	int pair[2], r = ns_open(a, ip->ns_fds, &flags, e);

	if (r == 0)
		r = sync_pair(pair);
	if (r < 0)
		return r;
	parent = pair[0];
	child = ip->sync = pair[1];
	r = sources_open(a->spec, a->bundle, c->userns, &ip->sources, e);
	if (r == 0)
		r = fork_init(c, ip, flags, parent, ret, e);
	ns_close(ip->ns_fds);
	sources_close(a->spec, ip->sources);
	if (r < 0)
		return r;
	fd_close(&child);
	if (c->userns)
		userns_give_stdio(ret->pid, ip->process.stdio, ip->process.p->user.uid);
	hooks_copy(&c->poststop, &a->spec->hooks[OCI_HOOK_POSTSTOP]);
	if (a->spec->ns[OCI_NS_USER].path && c->userns)
		r = userns_check_maps(ret->pid, a->spec, e);
	if (r == 0)
		r = meanwhile(c, a, later, parent, ret->pid, e);
	if (r == 0)
		r = await_ready(a, ret, parent, console, e);
	if (r < 0) {
		(void)proc_kill(ret, SIGKILL);
		(void)proc_wait(ret, NULL);
		proc_done(ret);
		return r;
	}
	if (a->start_listen_fd <= 0)
		c->gate = TAKE_FD(parent);
	return 0;
}

/* Also after a create that has failed once the init process was there. The specification: a failure of such a
 * hook is logged, the other hooks and the rest go on. */
static void run_poststop(struct rt_container *c)
{
	struct hook_state st = { c->id, "stopped", c->bundle, 0, c->annotations };

	hooks_try(&c->poststop, "poststop", &st);
}

int rt_create(const struct rt_create_args *a, struct rt_container **ret, struct proc *ret_init,
	      int *ret_console, struct err *e)
{
	struct rt_container *c;
	struct init_plan ip = { .a = a, .start_listen_fd = a->start_listen_fd };
	_cleanup_close_ int null = -EBADF, console = -EBADF, host_proc = -EBADF;
	_cleanup_(cgroup_freep) struct cgroup *later = NULL;
	struct proc init = PROC_INIT, holder = PROC_INIT;
	int r;

	if (!rt_id_valid(a->id))
		return err_msg(e, ERR_INVALID, 0, "invalid container id: '%s'", a->id);
	c = rt_container_new(a->id, a->bundle);
	c->outlive = a->outlive;
	c->annotations = json_ref(a->spec->annotations);
	c->join_flags = ns_join_flags(a->spec);
	c->userns = userns_other(a->spec);
	r = null_stdio(ip.process.stdio, a->stdio, &null);
	if (r == 0)
		r = prepare(c, a, &ip.process, &holder, &later, e);
	ip.cg = later ? later : c->cg;
	ip.await_group = later;
	ip.process.host_proc = host_proc = r == 0 ? open_host_proc(ip.process.p, c->userns) : -EBADF;
	if (r == 0)
		r = launch(c, a, &ip, &later, &init, &console, e);
	if (r == 0)
		r = dup_proc(&init, &c->init);
	if (r == 0 && c->rdt)
		r = rdt_join(c->rdt, init.pid, e);
	group_let_go(&holder);
	if (r < 0) {
		if (init.pidfd >= 0) {
			(void)proc_kill(&init, SIGKILL);
			(void)proc_wait(&init, NULL);
			proc_done(&init);
		}
		(void)group_remove(c, NULL);
		run_poststop(c);
		rt_free(c);
		return r;
	}
	hooks_set_poststart(c, a->spec);
	*ret = c;
	*ret_init = init;
	*ret_console = TAKE_FD(console);
	return 0;
}

int rt_start(struct rt_container *c, struct err *e)
{
	int r;

	if (c->gate < 0)
		return err_msg(e, ERR_CONFLICT, -EINVAL, "cannot start a container that has been started");
	r = gate_release(c->gate, c, c->init.pid, e);
	fd_close(&c->gate);
	return r == 0 ? hooks_poststart(c, e) : r;
}

/* --- exec --- */

static int check_running(const struct rt_container *c, struct err *e)
{
	if (proc_alive(&c->init))
		return 0;
	return err_msg(e, ERR_CONFLICT, -ESRCH, "container %s is not running", c->id);
}

struct exec_plan { struct process_plan process; const struct cgroup *cg; int sync; };

static _noreturn_ void exec_run(struct exec_plan *xp, const int *tasks, size_t n_tasks)
{
	_cleanup_err_ struct err e = ERR_INIT;
	struct sync_msg m;
	char *path = NULL;
	int r = fd_cloexec_from(3);

	if (r == 0)
		r = cgroup_join(tasks, n_tasks, &e);
	for (size_t i = 0; i < n_tasks; i++)
		close(tasks[i]);
	if (r == 0 && xp->process.p->terminal) {
		_cleanup_close_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), master = -EBADF,
				    slave = -EBADF;

		r = console_open(root, xp->process.p, &master, &slave, &e);
		if (r == 0)
			r = sync_send(xp->sync, SYNC_CONSOLE, 0, master);
		if (r == 0)
			xp->process.stdio[0] = xp->process.stdio[1] = xp->process.stdio[2] = TAKE_FD(slave);
	}
	if (r == 0)
		r = process_prepare(&xp->process, &path, &e);
	if (r == 0)
		r = sync_send(xp->sync, SYNC_READY, 0, -EBADF);
	if (r == 0)
		r = sync_recv(xp->sync, &m, NULL, &e);
	xp->process.sync = xp->sync;
	if (r == 0)
		r = process_exec(&xp->process, path, &e);
	(void)sync_send_error(xp->sync, r, &e);
	_exit(e.kind == ERR_CMD_NOT_FOUND ? 127 : e.kind == ERR_CMD_NOT_EXECUTABLE ? 126 : 1);
}

static int check_group(const struct rt_container *c, struct err *e)
{
	return c->cg ? 0 : err_msg(e, ERR_INVALID, -EOPNOTSUPP, "container %s has no cgroup", c->id);
}

/* A group below the container's. The descriptors are the caller's to close. */
static int exec_subgroup(const struct rt_container *c, const char *name, int *ret_v2, int *tasks,
			 size_t *n_tasks, struct err *e)
{
	_cleanup_(cgroup_freep) struct cgroup *sub = NULL;
	int r = check_group(c, e);

	if (r == 0)
		r = cgroup_sub(c->cg, name, &sub, e);
	if (r < 0)
		return r;
	if (sub->unified)
		*ret_v2 = cgroup_open_v2(sub);
	return cgroup_open_tasks(sub, tasks, n_tasks, e);
}

/* The group that an exec starts in: descriptors to join it by. Those of the container's own stay open for the
 * next one: a check each second would open a file of each hierarchy every time. */
static int exec_group(struct rt_container *c, int *ret_v2, int *tasks, size_t *n_tasks, struct err *e)
{
	int r;

	if (!c->cg)
		return 0;
	if (c->cg->unified)
		*ret_v2 = cgroup_open_v2(c->cg);
	if (!c->tasks.open) {
		r = cgroup_open_tasks(c->cg, c->tasks.v, &c->tasks.n, e);
		if (r < 0)
			return r;
		c->tasks.open = true;
	}
	memcpy(tasks, c->tasks.v, c->tasks.n * sizeof *tasks);
	*n_tasks = c->tasks.n;
	return 0;
}

int rt_exec(struct rt_container *c, const struct rt_exec_args *a, struct proc *ret, int *ret_console,
	    struct err *e)
{
	struct fork_plan fp = {
	    .cgroup_fd = -EBADF,
	    .join_fd = c->init.pidfd,
	    .join_pid = c->init.pid,
	    .join_flags = c->userns || !proc_is_root() ? ns_join_needed(c->join_flags, c->init.pid)
							: c->join_flags,
	    .oom_score_adj = a->process->oom_score_adj,
	};
	struct exec_plan xp = {.process = {.p = a->process, .personality = c->personality,
					   .seccomp = &c->seccomp, .outlive = c->outlive, .userns = c->userns,
					   .host_proc = -EBADF, .preserve_fds = a->preserve_fds},
			       .cg = c->cg};
	_cleanup_close_ int parent = -EBADF, child = -EBADF, null = -EBADF, cgroup = -EBADF, console = -EBADF,
			    host_proc = open_host_proc(a->process, c->userns);
	_cleanup_free_ int *keep = NULL;
	int tasks[CGROUP_MAX_HIERARCHIES], fds[CGROUP_MAX_HIERARCHIES + 1], pair[2], r;
	size_t n_tasks = 0;
	struct proc proc = PROC_INIT;

	r = check_running(c, e);
	/* It would be frozen as soon as it is born, and we would wait for it. */
	if (r == 0 && !a->ignore_paused && rt_paused(c))
		r = err_msg(e, ERR_CONFLICT, -EBUSY, "cannot exec in a paused container");
	if (r == 0)
		r = lsm_check(a->process, NULL, e);
	if (r == 0)
		r = listener_check(c, e);
	if (r < 0)
		return r;
	r = caps_from_spec(&a->process->caps, c->userns, &xp.process.caps);
	if (r == 0)
		r = null_stdio(xp.process.stdio, a->stdio, &null);
	if (r == 0)
		r = sync_pair(pair);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "prepare exec");
	parent = pair[0];
	child = pair[1];
	r = a->cgroup ? exec_subgroup(c, a->cgroup, &cgroup, tasks, &n_tasks, e)
		      : exec_group(c, &cgroup, tasks, &n_tasks, e);
	if (r < 0)
		return r;
	fp.cgroup_fd = cgroup;
	xp.process.host_proc = host_proc;
	fp.sync = xp.sync = child;
	fp.sync_parent = parent;
	memcpy(fds, tasks, n_tasks * sizeof *fds);
	fds[n_tasks] = child;
	fp.keep = keep = process_keep_fds(&xp.process, fds, n_tasks + 1, &fp.n_keep);
	if (c->userns)
		userns_give_stdio(c->init.pid, xp.process.stdio, a->process->user.uid);
	r = rt_fork(&fp, &proc, e);
	if (r == 0) {
		fd_close(&parent);
		exec_run(&xp, tasks, n_tasks);
	}
	for (size_t i = 0; a->cgroup && i < n_tasks; i++)
		close(tasks[i]);
	fd_close(&child);
	if (r < 0)
		return err_wrap(e, r, "join container %s", c->id);
	r = await_ready(NULL, &proc, parent, &console, e);
	if (r == 0)
		r = c->rdt ? rdt_join(c->rdt, proc.pid, e) : 0;
	if (r == 0)
		r = gate_release(parent, c, proc.pid, e);
	if (r < 0) {
		(void)proc_kill(&proc, SIGKILL);
		(void)proc_wait(&proc, NULL);
		proc_done(&proc);
		return r;
	}
	*ret = proc;
	*ret_console = TAKE_FD(console);
	return 0;
}

/* --- the rest --- */

int rt_kill(struct rt_container *c, int signo, bool all, struct err *e)
{
	int r;

	if (all && c->cg)
		r = cgroup_signal(c->cg, signo);
	else
		r = proc_kill(&c->init, signo);
	if (r == 0 && signo == SIGKILL && c->cg && cgroup_frozen(c->cg))
		(void)cgroup_signal(c->cg, SIGKILL);
	if (r == -ESRCH)
		return err_msg(e, ERR_CONFLICT, r, "container not running");
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "signal container %s", c->id) : 0;
}

bool rt_paused(const struct rt_container *c)
{
	return c->cg && cgroup_frozen(c->cg);
}

static int set_paused(struct rt_container *c, bool on, struct err *e)
{
	int r = check_running(c, e);

	if (r == 0)
		r = check_group(c, e);
	if (r == 0 && rt_paused(c) == on)
		r = err_msg(e, ERR_CONFLICT, -EALREADY, "container %s is %s paused", c->id,
			    on ? "already" : "not");
	return r == 0 ? cgroup_freeze(c->cg, on, e) : r;
}

int rt_pause(struct rt_container *c, struct err *e)
{
	return set_paused(c, true, e);
}

int rt_resume(struct rt_container *c, struct err *e)
{
	return set_paused(c, false, e);
}

int rt_update(struct rt_container *c, const struct oci_resources *res, struct err *e)
{
	struct oci_resources limits = *res;
	int r = check_running(c, e);

	limits.devices = (struct oci_device_rules){ 0 };
	if (r == 0)
		r = check_group(c, e);
	return r == 0 ? group_update(c, &limits, e) : r;
}

int rt_stats(struct rt_container *c, struct rt_stats *ret, struct err *e)
{
	int r = check_running(c, e);

	if (r == 0)
		r = check_group(c, e);
	if (r < 0)
		return r;
	cgroup_stats(c->cg, ret);
	cgroup_stats_net(c->init.pid, ret);
	return 0;
}

int rt_pids(struct rt_container *c, pid_t **ret, size_t *ret_n, struct err *e)
{
	int r;

	if (!c->cg) {
		*ret = xmemdup(&c->init.pid, sizeof(pid_t));
		*ret_n = 1;
		return 0;
	}
	r = cgroup_pids(c->cg, ret, ret_n);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "list the processes of container %s", c->id) : 0;
}

bool rt_oom_killed(struct rt_container *c)
{
	return c->oom || (c->cg && cgroup_oom_kills(c->cg) > 0);
}

int rt_destroy(struct rt_container *c, struct err *e)
{
	int r;

	c->oom = rt_oom_killed(c);
	r = group_remove(c, e);
	run_poststop(c);
	return r;
}
