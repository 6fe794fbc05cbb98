/* What runs inside the new namespaces, as the container's first process. At its start it shares with the
 * caller: files, the mount tree (a copy), user and credentials. Step by step:
 *
 *   1 join namespaces given by path
 *   2 host name, then the root: mounts, devices, sysctls, terminal, masks; hooks in between. Its v1 cgroups
 *     are made meanwhile, and joined as late as may be
 *   3 pivot_root: from here the host is out of sight
 *   4 process attributes, the program is looked up
 *   5 ready: wait at the gate, then filter, capabilities, exec */
#include "runtime/internal.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static int join_cgroups(struct init_plan *ip, struct err *e)
{
	int tasks[CGROUP_MAX_HIERARCHIES];
	size_t n = 0;
	int r = ip->cg ? cgroup_open_tasks(ip->cg, tasks, &n, e) : 0;

	if (r == 0)
		r = cgroup_join(tasks, n, e);
	for (size_t i = 0; i < n; i++)
		close(tasks[i]);
	return r;
}

static int enter_group(void *arg, struct err *e)
{
	struct init_plan *ip = arg;
	struct sync_msg m;
	int r = 0;

	if (ip->in_group)
		return 0;
	if (ip->await_group)
		r = sync_recv(ip->sync, &m, NULL, e);
	if (r == 0)
		r = join_cgroups(ip, e);
	if (r == 0)
		r = ns_make_late(ip->a->spec, e);
	ip->in_group = r == 0;
	return r;
}

static int set_names(const struct oci_spec *s, struct err *e)
{
	if (!str_empty(s->hostname) && sethostname(s->hostname, strlen(s->hostname)) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "set the host name");
	if (!str_empty(s->domainname) && setdomainname(s->domainname, strlen(s->domainname)) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "set the domain name");
	return 0;
}

/* The caller runs the hooks that belong to its namespaces while we wait. */
static int runtime_hooks(struct init_plan *ip, struct err *e)
{
	struct sync_msg m;
	int r;

	if (!ip->a->spec->hooks[OCI_HOOK_PRESTART].n && !ip->a->spec->hooks[OCI_HOOK_CREATE_RUNTIME].n)
		return 0;
	r = sync_send(ip->sync, SYNC_HOOKS, 0, -EBADF);
	return r == 0 ? sync_recv(ip->sync, &m, NULL, e) : r;
}

static int own_hooks(struct init_plan *ip, enum oci_hook_kind kind, const char *status, struct err *e)
{
	struct hook_state st = { ip->a->id, status, ip->a->bundle, getpid(), ip->a->spec->annotations };

	return hooks_run(&ip->a->spec->hooks[kind], oci_hook_name(kind), &st, e);
}

static int make_terminal(struct init_plan *ip, int rootfd, struct err *e)
{
	_cleanup_close_ int master = -EBADF, slave = -EBADF;
	int r = console_open(rootfd, ip->process.p, &master, &slave, e);

	if (r == 0)
		r = console_bind(rootfd, slave, e);
	if (r == 0)
		r = sync_send(ip->sync, SYNC_CONSOLE, 0, master);
	if (r == 0) {
		/* Stays open until it has become the process's stdio. */
		ip->process.stdio[0] = ip->process.stdio[1] = ip->process.stdio[2] = TAKE_FD(slave);
	}
	return r;
}

/* A working directory that the image lacks is made, as Docker's users expect. */
static int make_cwd(int rootfd, const char *cwd, struct err *e)
{
	_cleanup_close_ int fd = fs_open_in_root(rootfd, cwd, O_PATH, 0);

	if (fd == -ENOENT)
		fd = fs_mkdir_in_root(rootfd, cwd, 0755);
	return fd < 0 && fd != -EROFS ? err_set(e, ERR_SYSTEM, fd, "make the working directory \"%s\"", cwd)
				      : 0;
}

static int build_root(struct init_plan *ip, struct err *e)
{
	const struct oci_spec *s = ip->a->spec;
	_cleanup_close_ int rootfd = -EBADF, null = -EBADF;
	int r = rootfs_prepare(s, ip->a->bundle, ip->process.userns, &rootfd, e);

	if (r == 0)
		r = lsm_label_queues(s, e);
	if (r == 0 && ip->process.userns)
		r = userns_become_root(&ip->process.p->user, ip->process.outlive, e);
	if (r == 0 && s->masked_paths) {
		null = masks_null(e);
		r = null < 0 ? null : 0;
	}
	if (r == 0)
		r = mounts_apply(s, ip->a->bundle, ip->sources, ip->cg, rootfd, enter_group, ip, e);
	if (r == 0)
		r = devices_setup(s, rootfd, e);
	/* A procfs of our own: in a user namespace it is refused once parts of the container's are masked. */
	if (r == 0)
		r = sysctl_apply(s, e);
	if (r == 0)
		r = make_cwd(rootfd, ip->process.p->cwd, e);
	if (r == 0)
		r = enter_group(ip, e);
	if (r == 0)
		r = runtime_hooks(ip, e);
	if (r == 0)
		r = own_hooks(ip, OCI_HOOK_CREATE_CONTAINER, "created", e);
	if (r == 0 && ip->process.p->terminal)
		r = make_terminal(ip, rootfd, e);
	if (r == 0)
		r = masks_apply(s, rootfd, null, e);
	if (r == 0)
		r = rootfs_finish(s, rootfd, e);
	return r == 0 ? rootfs_pivot(rootfd, s->rootfs_propagation, ip->a->no_pivot, e) : r;
}

/* Whoever opens the gate gets what becomes of the exec. */
static int wait_at_gate(struct init_plan *ip, int *ret_gate, struct err *e)
{
	struct sync_msg m;
	int fd = ip->sync, r;

	if (ip->start_listen_fd > 0) {
		fd = accept4(ip->start_listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			return err_set(e, ERR_SYSTEM, -errno, "wait for start");
	}
	*ret_gate = fd;
	r = sync_recv(fd, &m, NULL, e);
	return r == 0 && m.type != SYNC_GO ? -EPROTO : r;
}

_noreturn_ void init_run(struct init_plan *ip)
{
	_cleanup_err_ struct err e = ERR_INIT;
	char *path = NULL;
	int gate = ip->sync, r;

	if (!ip->process.outlive)
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	r = fd_cloexec_from(3);
	if (r == 0)
		r = ns_join(ip->ns_fds, false, &e);
	/* The container's root may write neither to its groups nor to the clocks of its first process. */
	if (r == 0 && ip->process.userns)
		r = enter_group(ip, &e);
	if (ip->process.userns)
		(void)prctl(PR_SET_DUMPABLE, 0);
	if (r == 0)
		r = set_names(ip->a->spec, &e);
	if (r == 0)
		r = build_root(ip, &e);
	if (r == 0)
		r = process_prepare(&ip->process, &path, &e);
	if (r == 0)
		r = sync_send(ip->sync, SYNC_READY, 0, -EBADF);
	if (r == 0)
		r = wait_at_gate(ip, &gate, &e);
	if (r == 0)
		r = own_hooks(ip, OCI_HOOK_START_CONTAINER, "created", &e);
	ip->process.sync = gate;
	if (r == 0)
		r = process_exec(&ip->process, path, &e);
	(void)sync_send_error(gate, r, &e);
	_exit(e.kind == ERR_CMD_NOT_FOUND ? 127 : e.kind == ERR_CMD_NOT_EXECUTABLE ? 126 : 1);
}
