/* Docker's default seccomp profile.
 *
 * An allow list: what is not named fails with EPERM. Rows may depend on a capability that the container
 * has or has not, and on comparisons of arguments. Names that the build machine's libseccomp or the
 * architecture does not know are skipped when the filter is compiled, so one list serves all. */
#include "oci/defaults.h"
#include "base/alloc.h"
#include "base/strv.h"

#include <errno.h>
#include <string.h>

static const char allow_always[] =
    "accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 "
    "clock_adjtime "
    "clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep "
    "clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create "
    "epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd "
    "eventfd2 "
    "execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark "
    "fchdir "
    "fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock "
    "fork "
    "fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex "
    "futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents "
    "getdents64 "
    "getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid "
    "getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit "
    "get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid "
    "getuid32 "
    "getxattr inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy "
    "io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill "
    "landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat "
    "listen "
    "listxattr llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack "
    "membarrier "
    "memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect "
    "mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 "
    "mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at "
    "nanosleep newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 "
    "pkey_alloc "
    "pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease "
    "process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read "
    "readahead "
    "readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr "
    "rename "
    "renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo "
    "rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity "
    "sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler "
    "sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam "
    "sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send "
    "sendfile "
    "sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups "
    "setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid "
    "setresuid32 "
    "setreuid setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address setuid "
    "setuid32 setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask "
    "sigreturn "
    "socketcall socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range "
    "syncfs "
    "sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 "
    "timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime "
    "timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe "
    "utime "
    "utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev "
#if defined(__x86_64__)
    "arch_prctl modify_ldt "
#elif defined(__aarch64__)
    "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls "
#elif defined(__riscv)
    "riscv_flush_icache riscv_hwprobe "
#endif
    ;

/* The capability decides whether these may be called; the kernel checks it again inside. */
static const struct { const char *cap, *names;
} allow_with_cap[] = {
    {"CAP_DAC_READ_SEARCH", "open_by_handle_at"},
    {"CAP_SYS_ADMIN",
     "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr "
     "move_mount "
     "open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 "
     "unshare"},
    {"CAP_SYS_BOOT", "reboot"},
    {"CAP_SYS_CHROOT", "chroot"},
    {"CAP_SYS_MODULE", "delete_module init_module finit_module"},
    {"CAP_SYS_PACCT", "acct"},
    {"CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"},
    {"CAP_SYS_RAWIO", "iopl ioperm"},
    {"CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"},
    {"CAP_SYS_TTY_CONFIG", "vhangup"},
    {"CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"},
    {"CAP_SYSLOG", "syslog"},
    {"CAP_BPF", "bpf"},
    {"CAP_PERFMON", "perf_event_open"},
};

#define CLONE_NEW_FLAGS 0x7e020000	/* CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET} */
#define AF_VSOCK_NR 40			/* reaches the host past the network namespace */

static const struct { const char *name, *op; int64_t value, value_two; } allow_with_arg[] = {
	{ "personality", "SCMP_CMP_EQ", 0x0, 0 },
	{ "personality", "SCMP_CMP_EQ", 0x0008, 0 },		/* PER_LINUX32 */
	{ "personality", "SCMP_CMP_EQ", 0x20000, 0 },		/* UNAME26 */
	{ "personality", "SCMP_CMP_EQ", 0x20008, 0 },
	{ "personality", "SCMP_CMP_EQ", 0xffffffff, 0 },	/* query */
	{ "socket", "SCMP_CMP_NE", AF_VSOCK_NR, 0 },
};

static struct json *rule(const char *names, const char *action)
{
	struct json *o = json_object(), *list = json_set(o, "names", json_array());
	_cleanup_strv_ char **v = strv_split(names, " ");

	for (size_t i = 0; v && v[i]; i++)
		json_add_str(list, v[i]);
	json_set_str(o, "action", action);
	return o;
}

static void rule_arg(struct json *o, const char *op, int64_t value, int64_t value_two)
{
	struct json *arg = json_add(json_set(o, "args", json_array()), json_object());

	json_set_int(arg, "index", 0);
	json_set_int(arg, "value", value);
	json_set_int(arg, "valueTwo", value_two);
	json_set_str(arg, "op", op);
}

struct json *oci_default_seccomp(char *const *caps)
{
	struct json *o = json_object(), *rules, *archs, *r;

	json_set_str(o, "defaultAction", "SCMP_ACT_ERRNO");
	json_set_int(o, "defaultErrnoRet", EPERM);
	archs = json_set(o, "architectures", json_array());
#if defined(__x86_64__)
	json_add_str(archs, "SCMP_ARCH_X86_64");
	json_add_str(archs, "SCMP_ARCH_X86");
	json_add_str(archs, "SCMP_ARCH_X32");
#elif defined(__aarch64__)
	json_add_str(archs, "SCMP_ARCH_AARCH64");
	json_add_str(archs, "SCMP_ARCH_ARM");
#elif defined(__riscv)
	json_add_str(archs, "SCMP_ARCH_RISCV64");
#endif
	rules = json_set(o, "syscalls", json_array());
	json_add(rules, rule(allow_always, "SCMP_ACT_ALLOW"));
	for (size_t i = 0; i < ARRAY_SIZE(allow_with_arg); i++) {
		r = json_add(rules, rule(allow_with_arg[i].name, "SCMP_ACT_ALLOW"));
		rule_arg(r, allow_with_arg[i].op, allow_with_arg[i].value, allow_with_arg[i].value_two);
	}
	for (size_t i = 0; i < ARRAY_SIZE(allow_with_cap); i++)
		if (strv_has(caps, allow_with_cap[i].cap))
			json_add(rules, rule(allow_with_cap[i].names, "SCMP_ACT_ALLOW"));
	if (!strv_has(caps, "CAP_SYS_ADMIN")) {
		/* New namespaces are for the privileged. A filter cannot look into clone3's struct, so libc
		 * is told that there is no clone3 and uses clone. */
		r = json_add(rules, rule("clone", "SCMP_ACT_ALLOW"));
		rule_arg(r, "SCMP_CMP_MASKED_EQ", CLONE_NEW_FLAGS, 0);
		r = json_add(rules, rule("clone3", "SCMP_ACT_ERRNO"));
		json_set_int(r, "errnoRet", ENOSYS);
	}
	return o;
}
