#include "registry/registry.h"
#include "base/alloc.h"
#include "lib/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOBODY 65534

/* Sockets, the descriptors that came, memory, threads, and reading files: resolver and certificates. */
static const char *const syscalls[] = {
    "read",
    "write",
    "readv",
    "writev",
    "pread64",
    "pwrite64",
    "close",
    "lseek",
    "fstat",
    "fstatfs",
    "newfstatat",
    "statx",
    "stat",
    "lstat",
    "ftruncate",
    "fsync",
    "getdents64",
    "fcntl",
    "ioctl",
    "access",
    "faccessat",
    "faccessat2",
    "readlink",
    "readlinkat",
    "getcwd",
    "connect",
    "bind",
    "getsockname",
    "getpeername",
    "getsockopt",
    "setsockopt",
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "sendmmsg",
    "recvmmsg",
    "shutdown",
    "socketpair",
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "epoll_create1",
    "epoll_ctl",
    "epoll_wait",
    "epoll_pwait",
    "eventfd2",
    "pipe2",
    "brk",
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "futex",
    "clock_gettime",
    "gettimeofday",
    "time",
    "nanosleep",
    "clock_nanosleep",
    "getrandom",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    "exit",
    "exit_group",
    "getpid",
    "gettid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "sched_yield",
    "getrlimit",
    "sysinfo",
    "uname",
    "rseq",
    "set_robust_list",
    "membarrier",
    "restart_syscall",
    "sched_getaffinity",
};

static int load_filter(struct err *e)
{
	const struct confine_rule rules[] = {
	    /* nothing is opened for writing or made */
	    {"openat", 2, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY},
	    {"open", 1, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY},
	    /* no local sockets: nobody's to talk to, the engine's own included */
	    {"socket", 0, UINT64_MAX, AF_INET},
	    {"socket", 0, UINT64_MAX, AF_INET6},
	    {"socket", 0, UINT64_MAX, AF_NETLINK},
	    /* threads, not processes */
	    {"clone", 0, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM},
	    {"tgkill", 0, UINT64_MAX, (uint64_t)getpid()},
	    {"prlimit64", 0, UINT64_MAX, 0},
	};

	return confine_syscalls(syscalls, ARRAY_SIZE(syscalls), rules, ARRAY_SIZE(rules), true, e);
}

/* A sanitizer's runtime makes calls of its own. */
#ifdef __SANITIZE_ADDRESS__
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

int registry_sandbox(struct err *e)
{
	struct rlimit core = { 0, 0 };
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2] = { 0 };

	(void)setrlimit(RLIMIT_CORE, &core);
	/* Started by another user it stays who it is: there are no rights to lose. */
	if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
			       setresuid(NOBODY, NOBODY, NOBODY) < 0))
		return err_set(e, ERR_SYSTEM, -errno, "become nobody");
	if (syscall(SYS_capset, &h, none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "drop capabilities");
	return sanitized ? 0 : load_filter(e);
}
