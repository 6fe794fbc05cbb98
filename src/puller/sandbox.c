#include "puller/puller.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "lib/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

/* Why each: files of any owner and mode are made (CHOWN, FOWNER, FSETID, DAC_OVERRIDE), device nodes
 * (MKNOD), file capabilities (SETFCAP). */
static const int kept[] = { CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP };

/* What reading a pipe, making files and allocating memory takes; the rest ends the process. */
static const char *const syscalls[] = {
    "read",         "write",         "readv",
    "writev",       "pread64",       "pwrite64",
    "close",        "lseek",         "fstat",
    "newfstatat",   "statx",         "openat",
    "openat2",      "mkdirat",       "mknodat",
    "symlinkat",    "linkat",        "unlinkat",
    "renameat",     "renameat2",     "fchown",
    "fchownat",     "fchmod",        "fchmodat",
    "fchmodat2",    "utimensat",     "fsetxattr",
    "setxattr",     "lsetxattr",     "setxattrat",
    "ftruncate",    "fallocate",     "getdents64",
    "dup",          "dup2",          "dup3",
    "fcntl",        "fchdir",        "readlinkat",
    "faccessat",    "faccessat2",    "ioctl",
    "brk",          "mmap",          "munmap",
    "mremap",       "mprotect",      "madvise",
    "futex",        "clock_gettime", "gettimeofday",
    "getrandom",    "rt_sigaction",  "rt_sigprocmask",
    "rt_sigreturn", "sigaltstack",   "exit",
    "exit_group",   "getpid",        "gettid",
    "getuid",       "geteuid",       "getgid",
    "getegid",      "poll",          "ppoll",
    "select",       "pselect6",      "restart_syscall",
    "sched_yield",  "getrlimit",     "sysinfo",
    "uname",        "rseq",          "set_robust_list",
    "membarrier",   "readlink",      "fsync",
    "umask",        "time",          "fstatfs",
};

/* These calls reach other processes: on itself only (tgkill is what abort() calls; 0 = the caller). */
static int load_filter(struct err *e)
{
	const struct confine_rule of_self[] = {
	    {"tgkill", 0, UINT64_MAX, (uint64_t)getpid()},
	    {"prlimit64", 0, UINT64_MAX, 0},
	    /* threads, not processes */
	    {"clone", 0, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM},
	};

	return confine_syscalls(syscalls, ARRAY_SIZE(syscalls), of_self, ARRAY_SIZE(of_self), false, e);
}

static int drop_capabilities(void)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		d[kept[i] / 32].effective = d[kept[i] / 32].permitted |= 1u << (kept[i] % 32);
	for (int c = 0; c < 64; c++) {
		bool keep = false;

		for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
			keep |= kept[i] == c;
		if (!keep && prctl(PR_CAPBSET_DROP, c) < 0 && errno != EINVAL)
			return -errno;
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return syscall(SYS_capset, &h, d) < 0 ? -errno : 0;
}

/* A sanitizer's runtime makes calls of its own and reserves terabytes of addresses: under it there is neither
 * the filter nor the bound on memory. */
#ifdef __SANITIZE_ADDRESS__
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

int sandbox_enter(int dirfd, struct err *e)
{
	struct rlimit core = {0, 0}, memory = {1ull << 30, 1ull << 30}, file = {RLIM_INFINITY, RLIM_INFINITY};
	struct statvfs disk;
	int r;

	if (unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "leave the host's namespaces");
	if (fchdir(dirfd) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return err_set(e, ERR_SYSTEM, -errno, "enter the staging directory");
	(void)setrlimit(RLIMIT_CORE, &core);
	/* No file is larger than the disk, holes included: walking a hole of 8 EiB takes for ever. */
	signal(SIGXFSZ, SIG_IGN);
	if (fstatvfs(dirfd, &disk) == 0)
		file.rlim_cur = file.rlim_max = (rlim_t)disk.f_blocks * disk.f_frsize;
	(void)setrlimit(RLIMIT_FSIZE, &file);
	if (!sanitized)
		(void)setrlimit(RLIMIT_AS, &memory);
	r = drop_capabilities();
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "drop capabilities");
	return sanitized ? 0 : load_filter(e);
}
