/* The namespaces of a container. Most are made by the clone that makes the init, or joined by it before it
 * does anything else. Two it makes itself: the cgroup namespace, whose root is the group that it has joined
 * by then, and the time namespace, whose clocks can be set only before anybody is in it.
 *
 * Some can be joined only by another process, before it makes the init: a pid namespace, which takes effect
 * for children; a user namespace, to which the others that are made are to belong; and any when a user
 * namespace is made, as nobody can join those of the host from inside of it. */
#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>

static const struct { int flag; bool late; const char *file; } kinds[_OCI_NS_MAX] = {
	[OCI_NS_MNT] = { CLONE_NEWNS, false, "mnt" }, [OCI_NS_PID] = { CLONE_NEWPID, false, "pid" },
	[OCI_NS_NET] = { CLONE_NEWNET, false, "net" }, [OCI_NS_IPC] = { CLONE_NEWIPC, false, "ipc" },
	[OCI_NS_UTS] = { CLONE_NEWUTS, false, "uts" }, [OCI_NS_CGROUP] = { CLONE_NEWCGROUP, true, "cgroup" },
	[OCI_NS_TIME] = { CLONE_NEWTIME, true, "time" }, [OCI_NS_USER] = { CLONE_NEWUSER, false, "user" },
};

void ns_close(int fds[_OCI_NS_MAX])
{
	for (int i = 0; i < _OCI_NS_MAX; i++)
		fd_close(&fds[i]);
}

int ns_open(const struct rt_create_args *a, int fds[_OCI_NS_MAX], uint64_t *ret_flags, struct err *e)
{
	*ret_flags = 0;
	for (int i = 0; i < _OCI_NS_MAX; i++)
		fds[i] = -EBADF;
	for (int i = 0; i < _OCI_NS_MAX; i++) {
		const struct oci_namespace *ns = &a->spec->ns[i];
		int given = i == OCI_NS_NET ? a->net_ns_fd : i == OCI_NS_IPC ? a->ipc_ns_fd : -EBADF;

		if (given >= 0) {
			fds[i] = fcntl(given, F_DUPFD_CLOEXEC, 3);
		} else if (i == OCI_NS_USER && ns->path && !userns_other(a->spec)) {
			continue;	/* the kernel refuses what would change nothing */
		} else if (ns->path) {
			fds[i] = open(ns->path, O_RDONLY | O_CLOEXEC);
		} else {
			if (ns->given && !kinds[i].late)
				*ret_flags |= (uint64_t)kinds[i].flag;
			continue;
		}
		if (fds[i] < 0) {
			int r = err_set(e, ERR_SYSTEM, -errno, "open %s namespace '%s'",
					oci_ns_name((enum oci_ns)i), ns->path ? ns->path : "");

			ns_close(fds);
			return r;
		}
	}
	return 0;
}

int ns_open_of(const struct proc *target, int flags, int fds[_OCI_NS_MAX])
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/ns", target->pid);
	_cleanup_close_ int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r = dir < 0 ? -errno : 0;

	for (int i = 0; i < _OCI_NS_MAX; i++)
		fds[i] = -EBADF;
	/* If it lives now, the directory is that of no other process. */
	if (r == 0 && !proc_alive(target))
		r = -ESRCH;
	for (int i = 0; r == 0 && i < _OCI_NS_MAX; i++) {
		if (!(flags & kinds[i].flag))
			continue;
		fds[i] = openat(dir, kinds[i].file, O_RDONLY | O_CLOEXEC);
		r = fds[i] < 0 ? -errno : 0;
	}
	if (r < 0)
		ns_close(fds);
	return r;
}

bool ns_join_first(const int fds[_OCI_NS_MAX], uint64_t flags)
{
	bool any = false;

	for (int i = 0; i < _OCI_NS_MAX; i++)
		any |= fds[i] >= 0;
	return fds[OCI_NS_PID] >= 0 || fds[OCI_NS_USER] >= 0 || (any && flags & CLONE_NEWUSER);
}

static int join_one(int fd, int i, struct err *e)
{
	return setns(fd, kinds[i].flag) < 0 ? err_set(e, ERR_SYSTEM, -errno, "join the %s namespace",
						      oci_ns_name((enum oci_ns)i))
					    : 0;
}

int ns_join(const int fds[_OCI_NS_MAX], bool pid, struct err *e)
{
	bool later[_OCI_NS_MAX] = { false };
	int r = 0;

	/* Those of the host's user namespace have to be joined first, those of the joined one after it. */
	for (int i = 0; r == 0 && i < _OCI_NS_MAX; i++) {
		if (fds[i] < 0 || i == OCI_NS_USER || (i == OCI_NS_PID && !pid))
			continue;
		r = join_one(fds[i], i, e);
		if (r == -EPERM && fds[OCI_NS_USER] >= 0) {
			err_clear(e);
			later[i] = true;
			r = 0;
		}
	}
	if (r == 0 && fds[OCI_NS_USER] >= 0)
		r = join_one(fds[OCI_NS_USER], OCI_NS_USER, e);
	for (int i = 0; r == 0 && i < _OCI_NS_MAX; i++)
		if (later[i])
			r = join_one(fds[i], i, e);
	return r;
}

static int set_clocks(const struct oci_time_offset *offsets, struct err *e)
{
	static const char *const names[_OCI_CLOCK_MAX] = {
		[OCI_CLOCK_MONOTONIC] = "monotonic", [OCI_CLOCK_BOOTTIME] = "boottime",
	};

	for (int i = 0; i < _OCI_CLOCK_MAX; i++) {
		_cleanup_free_ char *line = offsets[i].given ? xasprintf("%s %lld %u", names[i],
									 (long long)offsets[i].secs,
									 offsets[i].nanosecs)
							     : NULL;
		int r = line ? fs_write(AT_FDCWD, "/proc/self/timens_offsets", line) : 0;

		if (r < 0)
			return err_set(e, ERR_SYSTEM, r, "linux.timeOffsets: cannot set the %s clock",
				       names[i]);
	}
	return 0;
}

static int make_time(const struct oci_spec *s, struct err *e)
{
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (unshare(CLONE_NEWTIME) < 0)
		return errno == EINVAL ? err_msg(e, ERR_SYSTEM, -EOPNOTSUPP,
						 "this kernel has no time namespaces (CONFIG_TIME_NS)")
				       : err_set(e, ERR_SYSTEM, -errno, "make a time namespace");
	r = set_clocks(s->time_offsets, e);
	if (r < 0)
		return r;
	fd = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
	return fd < 0 || setns(fd, CLONE_NEWTIME) < 0
		       ? err_set(e, ERR_SYSTEM, -errno, "enter the time namespace")
		       : 0;
}

int ns_make_late(const struct oci_spec *s, struct err *e)
{
	const struct oci_namespace *cgroup = &s->ns[OCI_NS_CGROUP], *time = &s->ns[OCI_NS_TIME];

	if (cgroup->given && !cgroup->path && unshare(CLONE_NEWCGROUP) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "make a cgroup namespace");
	return time->given && !time->path ? make_time(s, e) : 0;
}

int ns_join_flags(const struct oci_spec *s)
{
	int flags = s->ns[OCI_NS_TIME].given ? CLONE_NEWTIME : 0;

	/* These whether or not they are its own: the caller's may be others than they were at create. */
	for (int i = 0; i < _OCI_NS_MAX; i++)
		if (i != OCI_NS_TIME && (i != OCI_NS_USER || userns_other(s)))
			flags |= kinds[i].flag;
	return flags;
}

/* The caller may have no right to join again what the container shares with him. */
int ns_join_needed(int flags, pid_t init)
{
	for (int i = 0; i < _OCI_NS_MAX; i++) {
		_cleanup_free_ char *own = xasprintf("/proc/self/ns/%s", kinds[i].file),
				    *its = xasprintf("/proc/%d/ns/%s", init, kinds[i].file);
		struct stat a, b;

		if (stat(own, &a) == 0 && stat(its, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev)
			flags &= ~kinds[i].flag;
	}
	return flags;
}
