/* Theory of operation.
 *
 * The parent clones a child into new namespaces. The child joins the machine's cgroups, builds a root of
 * read-only bind mounts on a tmpfs, pivots into it, places its descriptors, gives up uid, groups,
 * capabilities and the way to new ones, and executes QEMU. QEMU's own seccomp filter closes what is left.
 * It is process 1 of its pid namespace: it sees nobody, and dies with vmwp. */
#include "vm/jail.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "lib/netlink.h"
#include "runtime/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define NOFILE 1024
#define NPROC 512		/* threads: processors, and those that wait for disks */

/* What QEMU opens beside itself: the loader and libraries, its firmware. Those a host lacks are left out. */
static const char *const binds[] = {
    "/usr/lib",           "/usr/lib64",       "/lib",      "/lib64",       "/usr/share/qemu",
    "/usr/share/seabios", "/etc/ld.so.cache", "/dev/null", "/dev/urandom",
    /* The size of a huge page, which QEMU complains not to find. */
    "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size",
};

int drop_capabilities(uint64_t keep)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = { 0 };

	for (int c = 0; c < 64; c++)
		if (!(keep >> c & 1) && prctl(PR_CAPBSET_DROP, c) < 0 && errno != EINVAL)
			return -errno;
	for (int i = 0; i < 2; i++)
		d[i].effective = d[i].permitted = (uint32_t)(keep >> (32 * i));
	if (syscall(SYS_capset, &h, d) < 0)
		return -errno;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

/* --- the child --- */

static int bind_one(const char *path, const char *to)
{
	char target[256];
	struct stat st;
	char link[256];
	ssize_t n;

	/* Links of ours into /proc are followed, those of the host's layout (/lib -> usr/lib) kept. */
	if (fstatat(AT_FDCWD, path, &st, !strncmp(path, "/proc/", 6) ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	snprintf(target, sizeof target, "/tmp/%s", to + 1);
	for (char *p = target + 5; (p = strchr(p, '/')); p++) {
		*p = 0;
		if (mkdir(target, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	if (S_ISLNK(st.st_mode)) {
		n = readlink(path, link, sizeof link - 1);
		if (n < 0)
			return -errno;
		link[n] = 0;
		return symlink(link, target) < 0 && errno != EEXIST ? -errno : 0;
	}
	if (S_ISDIR(st.st_mode)) {
		if (mkdir(target, 0755) < 0 && errno != EEXIST)
			return -errno;
	} else {
		int fd = open(target, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

		if (fd < 0)
			return -errno;
		close(fd);
	}
	if (mount(path, target, NULL, MS_BIND, NULL) < 0)
		return -errno;
	if (S_ISCHR(st.st_mode))
		return 0;
	return mount(NULL, target, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) < 0
		   ? -errno
		   : 0;
}

/* A node of its own: the host's belongs to a group that this uid is not in. */
static int make_kvm(uint32_t uid)
{
	struct stat st;

	if (stat("/dev/kvm", &st) < 0)
		return -errno;
	if (mknod("/tmp/dev/kvm", S_IFCHR | 0600, st.st_rdev) < 0 || chown("/tmp/dev/kvm", uid, uid) < 0)
		return -errno;
	return 0;
}

/* The new root is built on a tmpfs over /tmp, which exists everywhere. */
static int enter_root(const struct jail_args *a)
{
	int files[JAIL_BINDS_MAX], r = 0;

	/* Held by descriptor first: the tmpfs may cover where they lie. */
	for (size_t i = 0; i < a->n_binds; i++) {
		files[i] = open(a->binds[i].from, O_PATH | O_CLOEXEC);
		if (files[i] < 0)
			return -errno;
	}
	if (mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0 ||
	    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID, "size=1m,mode=755") < 0)
		return -errno;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(binds); i++)
		r = bind_one(binds[i], binds[i]);
	if (r == 0)
		r = bind_one(a->argv[0], a->argv[0]);
	if (r == 0 && a->kvm)
		r = make_kvm(a->uid);
	if (r == 0 && a->proc &&
	    (mkdir("/tmp/proc", 0555) < 0 ||
	     mount("proc", "/tmp/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "subset=pid") < 0))
		r = -errno;
	for (size_t i = 0; r == 0 && i < a->n_binds; i++)
		r = bind_one(fd_proc_path(files[i]).s, a->binds[i].to);
	if (r < 0)
		return r;
	if (chdir("/tmp") < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
	    chdir("/") < 0)
		return -errno;
	return mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY | MS_NOSUID, NULL) < 0 ? -errno : 0;
}

static int place_fds(const struct jail_args *a, int tap)
{
	int tmp[64], r;

	if (a->n_fds > ARRAY_SIZE(tmp))
		return -E2BIG;
	for (size_t i = 0; i < a->n_fds; i++) {
		tmp[i] = fcntl(a->fds[i].from == JAIL_TAP ? tap : a->fds[i].from, F_DUPFD_CLOEXEC, 200);
		if (tmp[i] < 0)
			return -errno;
	}
	for (size_t i = 0; i < a->n_fds; i++)
		if (dup2(tmp[i], a->fds[i].to) < 0)
			return -errno;
	r = fd_cloexec_from(3);
	for (size_t i = 0; r == 0 && i < a->n_fds; i++)
		if (a->fds[i].to > 2)
			r = fd_set_cloexec(a->fds[i].to, false);
	return r;
}

static int limit(int resource, rlim_t value)
{
	struct rlimit now, l = { value, value };

	if (getrlimit(resource, &now) < 0)
		return -errno;
	if (now.rlim_max < value)
		return 0;
	return setrlimit(resource, &l) < 0 ? -errno : 0;
}

static int give_up_rights(const struct jail_args *a)
{
	int r = limit(RLIMIT_CORE, 0);

	if (r == 0)
		r = limit(RLIMIT_NOFILE, NOFILE);
	if (r == 0)
		r = limit(RLIMIT_NPROC, NPROC);
	if (r < 0)
		return r;
	if (setgroups(0, NULL) < 0 || setresgid(a->uid, a->uid, a->uid) < 0)
		return -errno;
	/* Bounding set first: that still takes a capability. */
	for (int c = 0; c < 64; c++)
		if (prctl(PR_CAPBSET_DROP, c) < 0 && errno != EINVAL)
			return -errno;
	if (setresuid(a->uid, a->uid, a->uid) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	/* Only now: changing the uid clears it. */
	return prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? -errno : 0;
}

/* Whoever reads the report is our parent: without a reader it died before it could take us along. */
static bool orphaned(int report)
{
	struct pollfd p = { .fd = report };

	return poll(&p, 1, 0) > 0 && (p.revents & POLLERR);
}

static _noreturn_ void child(const struct jail_args *a, int report_r, int report)
{
	char *envp[] = { (char *)"PATH=/usr/bin", NULL };
	int r, tap = -EBADF, high = fcntl(report, F_DUPFD_CLOEXEC, 500);
	sigset_t none;

	close(report_r);	/* or we would be a reader ourselves */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	umask(022);
	r = high < 0 ? -errno : 0;
	if (r == 0 && a->cgroup)
		r = cgroup_enter(a->cgroup);
	for (size_t i = 0; r == 0 && i < a->n_fds; i++)
		if (a->fds[i].from == JAIL_TAP && tap < 0)
			r = nl_tap_open("tap0", &tap);
	if (r == 0)
		r = enter_root(a);
	if (r == 0)
		r = place_fds(a, tap);
	if (r == 0)
		r = give_up_rights(a);
	if (r == 0 && orphaned(high))
		_exit(127);
	if (r == 0) {
		execve(a->argv[0], a->argv, envp);
		r = -errno;
	}
	(void)!write(high, &r, sizeof r);
	_exit(127);
}

int jail_spawn(const struct jail_args *a, struct proc *ret)
{
	_cleanup_close_ int report_r = -EBADF, report_w = -EBADF;
	int p[2], pidfd = -EBADF, child_err = 0, r;
	pid_t pid;

	r = fd_pipe(p, 0);
	if (r < 0)
		return r;
	report_r = p[0];
	report_w = p[1];
	pid = proc_clone(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, -EBADF,
			 SIGCHLD, &pidfd);
	if (pid == 0)
		child(a, report_r, report_w);
	if (pid < 0)
		return (int)pid;
	fd_close(&report_w);
	*ret = (struct proc){ pid, pidfd };
	if (fd_read_full(report_r, &child_err, sizeof child_err) == sizeof child_err) {
		(void)proc_wait(ret, NULL);
		proc_done(ret);
		return child_err;
	}
	return 0;
}
