#include "base/proc.h"
#include "base/alloc.h"
#include "base/fd.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

void proc_reset_signals(void)
{
	/* sigaction(3) refuses the C library's own two. A kernel sigaction of zeros is SIG_DFL. */
	static const char zeros[64];
	sigset_t none;

	for (int s = 1; s <= 64; s++)
		if (s != SIGKILL && s != SIGSTOP)
			(void)syscall(SYS_rt_sigaction, s, zeros, NULL, 8);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Moves the mapped descriptors to their places: first all sources above every target, then down. */
static int place_fds(const struct spawn_args *a)
{
	int tmp[64], top = 2, null_fd, r;
	bool std[3] = { false, false, a->keep_stderr };

	if (a->n_fds > ARRAY_SIZE(tmp))
		return -E2BIG;
	for (size_t i = 0; i < a->n_fds; i++)
		top = MAX(top, a->fds[i].to);
	for (size_t i = 0; i < a->n_fds; i++) {
		tmp[i] = fcntl(a->fds[i].from, F_DUPFD_CLOEXEC, top + 1);
		if (tmp[i] < 0)
			return -errno;
	}
	for (size_t i = 0; i < a->n_fds; i++) {
		if (dup2(tmp[i], a->fds[i].to) < 0)
			return -errno;
		if (a->fds[i].to <= 2)
			std[a->fds[i].to] = true;
	}
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int i = 0; i < 3; i++)
		if (!std[i] && (null_fd < 0 || dup2(null_fd, i) < 0))
			return -errno;
	/* Whatever else is open closes at exec, also what a library opened without the flag. */
	r = fd_cloexec_from(3);
	for (size_t i = 0; r == 0 && i < a->n_fds; i++)
		if (a->fds[i].to > 2)
			r = fd_set_cloexec(a->fds[i].to, false);
	return r;
}

static _noreturn_ void spawn_child(const struct spawn_args *a, int report, pid_t parent)
{
	char *empty[] = { NULL };
	char *const *envp = a->envp ? a->envp : empty;
	int r = 0, high;

	proc_reset_signals();
	if (a->pdeathsig && prctl(PR_SET_PDEATHSIG, a->pdeathsig) < 0)
		r = -errno;
	if (r == 0 && a->pdeathsig && getppid() != parent)
		_exit(127);
	if (r == 0 && a->new_session && setsid() < 0)
		r = -errno;
	for (size_t i = 0; a->home && i < a->home->n_tasks; i++)
		(void)!write(a->home->tasks[i], "0", 1);
	umask(022);
	if (r == 0 && chdir(a->chdir ? a->chdir : "/") < 0)
		r = -errno;
	high = fcntl(report, F_DUPFD_CLOEXEC, 512);
	if (high >= 0)
		report = high;
	if (r == 0)
		r = place_fds(a);
	if (a->memory)
		(void)setrlimit(RLIMIT_AS, &(struct rlimit){ a->memory, a->memory });
	if (r == 0) {
		if (a->exec_fd > 0)
			syscall(SYS_execveat, a->exec_fd, "", a->argv, envp, AT_EMPTY_PATH);
		else
			execve(a->path, a->argv, envp);
		r = -errno;
	}
	(void)!write(report, &r, sizeof r);
	_exit(127);
}

/* Without clone3 (a filter of an outer container answers ENOSYS) or its flag for cgroups (before Linux 5.7,
 * whose struct was shorter): clone, and the child moves itself. Only then does it make its cgroup namespace,
 * whose root is the group it is in. */
static pid_t clone_old(uint64_t flags, int cgroup_fd, int exit_signal, int *ret_pidfd)
{
	_cleanup_close_ int procs = -EBADF;
	uint64_t later = cgroup_fd >= 0 ? flags & CLONE_NEWCGROUP : 0;
	pid_t pid;

	if (cgroup_fd >= 0) {
		procs = openat(cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
		if (procs < 0)
			return -errno;
	}
	pid = (pid_t)syscall(SYS_clone, (flags & ~later) | CLONE_PIDFD | (uint64_t)exit_signal, NULL,
			     ret_pidfd, NULL, NULL);
	if (pid == 0 && ((procs >= 0 && write(procs, "0", 1) < 0) || (later && unshare((int)later) < 0)))
		_exit(127);
	return pid < 0 ? -errno : pid;
}

pid_t proc_clone(uint64_t flags, int cgroup_fd, int exit_signal, int *ret_pidfd)
{
	struct clone_args ca = {
		.flags = flags | CLONE_PIDFD,
		.pidfd = (uint64_t)(uintptr_t)ret_pidfd,
		.exit_signal = (uint64_t)exit_signal,
	};
	pid_t pid;

	if (cgroup_fd >= 0) {
		ca.flags |= CLONE_INTO_CGROUP;
		ca.cgroup = (uint64_t)cgroup_fd;
	}
	pid = (pid_t)syscall(SYS_clone3, &ca, sizeof ca);
	if (pid < 0 && (errno == ENOSYS || (errno == E2BIG && cgroup_fd >= 0)))
		return clone_old(flags, cgroup_fd, exit_signal, ret_pidfd);
	return pid < 0 ? -errno : pid;
}

int proc_spawn(const struct spawn_args *a, struct proc *ret)
{
	_cleanup_close_ int report_r = -EBADF, report_w = -EBADF;
	int pidfd = -EBADF, p[2], r, child_err = 0;
	pid_t pid, self = getpid();
	sigset_t all, old;

	r = fd_pipe(p, 0);
	if (r < 0)
		return r;
	report_r = p[0];
	report_w = p[1];
	/* No handler of ours may run in the child before it has reset them. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	pid = proc_clone(CLONE_VFORK, a->home ? a->home->v2 : -EBADF, SIGCHLD, &pidfd);
	if (pid == 0)
		spawn_child(a, report_w, self);
	r = pid < 0 ? (int)pid : 0;
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (r < 0)
		return r;
	fd_close(&report_w);
	if (fd_read_full(report_r, &child_err, sizeof child_err) == sizeof child_err) {
		struct proc dead = { pid, pidfd };
		int code;

		(void)proc_wait(&dead, &code);
		proc_done(&dead);
		return child_err;
	}
	*ret = (struct proc){ pid, pidfd };
	return 0;
}

int proc_open(pid_t pid, struct proc *ret)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0)
		return -errno;
	*ret = (struct proc){ pid, fd };
	return 0;
}

int proc_kill(const struct proc *p, int signo)
{
	if (p->pidfd < 0)
		return -ESRCH;
	return syscall(SYS_pidfd_send_signal, p->pidfd, signo, NULL, 0) < 0 ? -errno : 0;
}

int proc_exit_code(int code, int status)
{
	return code == CLD_EXITED ? status : 128 + status;
}

int proc_wait(struct proc *p, int *ret_code)
{
	siginfo_t si = { 0 };

	if (RETRY(waitid(P_PIDFD, (id_t)p->pidfd, &si, WEXITED)) < 0)
		return -errno;
	if (ret_code)
		*ret_code = proc_exit_code(si.si_code, si.si_status);
	return 0;
}

#define FIRST_USER_NS 0xEFFFFFFDu	/* PROC_USER_INIT_INO: its inode on every kernel */

bool proc_is_root(void)
{
	struct stat st;

	/* A kernel without user namespaces has no such file. */
	return geteuid() == 0 && (stat("/proc/self/ns/user", &st) < 0 || st.st_ino == FIRST_USER_NS);
}

bool proc_alive(const struct proc *p)
{
	struct pollfd pfd = { .fd = p->pidfd, .events = POLLIN };

	return p->pidfd >= 0 && RETRY(poll(&pfd, 1, 0)) == 0;
}

void proc_done(struct proc *p)
{
	fd_close(&p->pidfd);
	p->pid = 0;
}

int proc_fork(struct proc *ret)
{
	int pidfd = -EBADF;
	pid_t pid = proc_clone(0, -EBADF, SIGCHLD, &pidfd);

	if (pid < 0)
		return (int)pid;
	if (pid == 0) {
		proc_reset_signals();
		return 0;
	}
	*ret = (struct proc){ pid, pidfd };
	return 1;
}
