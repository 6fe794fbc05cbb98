/* Making the process that becomes a container's init or an exec.
 *
 * A pid namespace that is joined (setns) takes effect for children only. Such a process is made in two steps:
 * a short-lived child joins and clones with CLONE_PARENT, so that the result is a child of the caller, which
 * can then wait for it; its pid and pidfd come back over the sync socket. */
#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

static int do_clone(uint64_t flags, int cgroup_fd, int exit_signal, struct proc *ret)
{
	int pidfd = -EBADF;
	pid_t pid = proc_clone(flags, cgroup_fd, exit_signal, &pidfd);

	if (pid < 0)
		return (int)pid;
	if (pid == 0) {
		/* Handlers and the signal mask of the caller's event loop mean nothing in a container. */
		proc_reset_signals();
		return 0;
	}
	*ret = (struct proc){ pid, pidfd };
	return 1;
}

static int await_go(int sync)
{
	struct sync_msg m;
	int r = sync_recv(sync, &m, NULL, NULL);

	return r == 0 && m.type != SYNC_GO ? -EPROTO : r;
}

/* What the caller has open could be a way to the host for those among whom the new process will live
 * (CVE-2016-9962, CVE-2024-21626). */
static void shed(const struct fork_plan *p, int also /* -EBADF = none */)
{
	_cleanup_free_ int *keep = new_array(int, p->n_keep + 1);

	/* One that is alone in a new user namespace stays open to its caller until it is set up there. */
	if (!p->maps || p->join_fd >= 0 || p->join_fds)
		(void)prctl(PR_SET_DUMPABLE, 0);
	memcpy(keep, p->keep, p->n_keep * sizeof *keep);
	keep[p->n_keep] = also;
	fd_close_except(keep, p->n_keep + 1);
}

/* pid 0: the caller's own. A lower score than one has takes CAP_SYS_RESOURCE. */
static void set_oom_score(pid_t pid, const int64_t *score)
{
	_cleanup_free_ char *path = pid ? xasprintf("/proc/%d/oom_score_adj", pid)
					: xstrdup("/proc/self/oom_score_adj");
	_cleanup_free_ char *text = score ? xasprintf("%lld", (long long)*score) : NULL;
	int r = text ? fs_write(AT_FDCWD, path, text) : 0;

	if (r < 0)
		log_warn("process.oomScoreAdj: cannot be set to %s: %s", text, strerror(-r));
}

/* The new process waits for this. It is ended if it cannot have what it needs. */
static int let_in(const struct fork_plan *p, struct proc *child, struct err *e)
{
	int r = p->maps ? userns_map(child->pid, p->maps, e) : 0;

	if (r == 0 && p->maps)
		set_oom_score(child->pid, p->oom_score_adj);
	if (r == 0) {
		r = sync_send(p->sync_parent, SYNC_GO, 0, -EBADF);
		if (r < 0)
			err_set(e, ERR_SYSTEM, r, "let the new process go on");
	}
	if (r < 0) {
		(void)proc_kill(child, SIGKILL);
		(void)proc_wait(child, NULL);
		proc_done(child);
	}
	return r < 0 ? r : 1;
}

/* Before Linux 5.8 a pidfd does not lead to the namespaces of its process: they are joined one by one. */
static int join_files(const struct fork_plan *p, struct err *e)
{
	const struct proc target = { p->join_pid, p->join_fd };
	int fds[_OCI_NS_MAX], r = ns_open_of(&target, p->join_flags, fds);

	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "open the container's namespaces");
	r = ns_join(fds, true, e);
	ns_close(fds);
	return r;
}

static int join(const struct fork_plan *p, struct err *e)
{
	if (p->join_fds)
		return ns_join(p->join_fds, true, e);
	if (setns(p->join_fd, p->join_flags) == 0)
		return 0;
	return errno == EINVAL && p->join_pid
		       ? join_files(p, e) : err_set(e, ERR_SYSTEM, -errno, "join the container's namespaces");
}

static int clone_failed(const struct fork_plan *p, int r, struct err *e)
{
	const char *why = NULL;

	if (p->maps && r == -EINVAL)
		why = "the kernel has none (CONFIG_USER_NS)";
	else if (p->maps && r == -ENOSPC)
		why = "there may be no more (sysctl user.max_user_namespaces)";
	else if (p->maps && r == -EPERM)
		why = "they are not allowed here (sysctl kernel.unprivileged_userns_clone, AppArmor)";

	return why ? err_msg(e, ERR_SYSTEM, r, "cannot make a user namespace: %s", why)
		   : err_set(e, ERR_SYSTEM, r, "clone the container's init");
}

/* What the short-lived child does. Only in the process asked for does it return. */
static void make_joined(const struct fork_plan *p)
{
	_cleanup_err_ struct err e = ERR_INIT;
	struct proc child = PROC_INIT;
	int r;

	set_oom_score(0, p->maps ? NULL : p->oom_score_adj);
	shed(p, p->join_fd);
	r = join(p, &e);
	if (p->join_fd >= 0)
		close(p->join_fd);
	if (r == 0) {
		r = do_clone(p->flags | CLONE_PARENT, -EBADF, 0, &child);
		/* It says nothing before the caller knows it. */
		if (r == 0 && await_go(p->sync) < 0)
			_exit(1);
		if (r == 0)
			return;
		if (r < 0)
			clone_failed(p, r, &e);
	}
	r = r < 0 ? sync_send_error(p->sync, r, &e)
		  : sync_send(p->sync, SYNC_FORKED, child.pid, child.pidfd);
	_exit(r < 0);
}

static int fork_joined(const struct fork_plan *p, struct proc *ret, struct err *e)
{
	_cleanup_proc_ struct proc helper = PROC_INIT;
	struct sync_msg m;
	int r, code, pidfd = -EBADF;

	/* Into the cgroup before into its namespace: from inside, the way from the old group is not seen
	 * (ENOENT). */
	r = do_clone(0, p->cgroup_fd, SIGCHLD, &helper);
	if (r == 0) {
		make_joined(p);
		return 0;
	}
	if (r > 0)
		r = proc_wait(&helper, &code);
	if (r < 0 || code)
		return err_set(e, ERR_SYSTEM, r < 0 ? r : -EIO, "make the container's process");
	r = sync_recv(p->sync_parent, &m, &pidfd, e);
	if (r == 0 && (m.type != SYNC_FORKED || pidfd < 0))
		r = err_set(e, ERR_SYSTEM, -EPROTO, "make the container's process");
	if (r < 0) {
		fd_close(&pidfd);
		return r;
	}
	*ret = (struct proc){ m.r, pidfd };
	return let_in(p, ret, e);
}

int rt_fork(const struct fork_plan *p, struct proc *ret, struct err *e)
{
	int r;

	if (p->join_fd >= 0 || p->join_fds)
		return fork_joined(p, ret, e);
	r = do_clone(p->flags, p->cgroup_fd, SIGCHLD, ret);
	if (r < 0)
		return clone_failed(p, r, e);
	if (r == 0) {
		if (!p->maps)
			set_oom_score(0, p->oom_score_adj);
		shed(p, -EBADF);
		if (p->maps && await_go(p->sync) < 0)
			_exit(1);
		return 0;
	}
	return p->maps ? let_in(p, ret, e) : 1;
}
