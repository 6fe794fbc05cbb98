/* The namespaces of a container. Most are made by the clone that makes the init, or joined by it before it
 * does anything else. Two it makes itself: the cgroup namespace, whose root is the group that it has joined
 * by then, and the time namespace, whose clocks can be set only before anybody is in it. */
#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>

static const struct { int flag; bool late; } kinds[_OCI_NS_MAX] = {
	[OCI_NS_MNT] = { CLONE_NEWNS, false }, [OCI_NS_PID] = { CLONE_NEWPID, false },
	[OCI_NS_NET] = { CLONE_NEWNET, false }, [OCI_NS_IPC] = { CLONE_NEWIPC, false },
	[OCI_NS_UTS] = { CLONE_NEWUTS, false }, [OCI_NS_CGROUP] = { CLONE_NEWCGROUP, true },
	[OCI_NS_TIME] = { CLONE_NEWTIME, true },
};

int ns_open(const struct rt_create_args *a, int fds[_OCI_NS_MAX], uint64_t *ret_flags, struct err *e)
{
	*ret_flags = 0;
	for (int i = 0; i < _OCI_NS_MAX; i++) {
		const struct oci_namespace *ns = &a->spec->ns[i];
		int given = i == OCI_NS_NET ? a->net_ns_fd : i == OCI_NS_IPC ? a->ipc_ns_fd : -EBADF;

		fds[i] = -EBADF;
		if (given >= 0) {
			fds[i] = fcntl(given, F_DUPFD_CLOEXEC, 3);
		} else if (ns->path) {
			fds[i] = open(ns->path, O_RDONLY | O_CLOEXEC);
		} else {
			if (ns->given && !kinds[i].late)
				*ret_flags |= (uint64_t)kinds[i].flag;
			continue;
		}
		if (fds[i] < 0)
			return err_set(e, ERR_SYSTEM, -errno, "open %s namespace '%s'",
				       oci_ns_name((enum oci_ns)i), ns->path ? ns->path : "");
	}
	return 0;
}

int ns_join(const int fds[_OCI_NS_MAX], struct err *e)
{
	for (int i = 0; i < _OCI_NS_MAX; i++)
		if (fds[i] >= 0 && i != OCI_NS_PID && setns(fds[i], kinds[i].flag) < 0)
			return err_set(e, ERR_SYSTEM, -errno, "join the %s namespace",
				       oci_ns_name((enum oci_ns)i));
	return 0;
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
		if (i != OCI_NS_TIME)
			flags |= kinds[i].flag;
	return flags;
}
