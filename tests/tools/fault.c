/* Runs a program, one of whose system calls fails:
 *
 *	fault N LOG PROGRAM [ARGUMENT...]
 *
 * The Nth call that the program or a process it has started makes is not done and answers EIO; its name goes
 * to LOG. Calls that only a lack of memory can fail, and those that end things, do not count. The exit code
 * is the program's; 200 if it made fewer calls. Whatever else it has started runs on. */
#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRACKED 64

static struct { pid_t pid; bool inside, failing; } tracked[TRACKED];
static long left;	/* calls until the one that fails */
static const char *log_path;

static const long spared[] = {
	SYS_brk, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_madvise, SYS_mremap, SYS_exit, SYS_exit_group,
	SYS_close, SYS_close_range, SYS_rt_sigreturn, SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_futex,
	SYS_arch_prctl, SYS_set_tid_address, SYS_set_robust_list, SYS_rseq, SYS_restart_syscall,
	SYS_getrandom,
};

static int find(pid_t pid)
{
	int empty = -1;

	for (int i = 0; i < TRACKED; i++) {
		if (tracked[i].pid == pid)
			return i;
		if (!tracked[i].pid && empty < 0)
			empty = i;
	}
	if (empty < 0)
		exit(201);
	tracked[empty].pid = pid;
	tracked[empty].inside = tracked[empty].failing = false;
	return empty;
}

static bool is_spared(long nr)
{
	for (size_t i = 0; i < sizeof spared / sizeof *spared; i++)
		if (spared[i] == nr)
			return true;
	return false;
}

static void note(long nr)
{
	char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, (int)nr);
	FILE *f = fopen(log_path, "we");

	if (f) {
		fprintf(f, "%s\n", name ? name : "?");
		fclose(f);
	}
	free(name);
}

static void at_call(pid_t pid)
{
	struct user_regs_struct regs;
	int i = find(pid);

	tracked[i].inside = !tracked[i].inside;
	if (ptrace(PTRACE_GETREGS, pid, 0, &regs) < 0)
		return;
	if (tracked[i].inside) {
		if (is_spared((long)regs.orig_rax) || --left != 0)
			return;
		note((long)regs.orig_rax);
		tracked[i].failing = true;
		regs.orig_rax = ~0ull;
	} else {
		if (!tracked[i].failing)
			return;
		tracked[i].failing = false;
		regs.rax = (unsigned long long)-EIO;
	}
	ptrace(PTRACE_SETREGS, pid, 0, &regs);
}

/* Returns the signal to deliver. */
static int at_stop(pid_t pid, int status)
{
	int sig = WSTOPSIG(status);

	if (sig == (SIGTRAP | 0x80)) {
		at_call(pid);
		return 0;
	}
	if (status >> 16)
		return 0;	/* fork, exec */
	/* A new process begins with one. */
	if (sig == SIGSTOP)
		return 0;
	return sig;
}

static int trace(pid_t first)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, __WALL)) > 0) {
		if (WIFEXITED(status) || WIFSIGNALED(status)) {
			tracked[find(pid)].pid = 0;
			if (pid != first)
				continue;
			if (left > 0)
				return 200;
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		}
		ptrace(PTRACE_SYSCALL, pid, 0, at_stop(pid, status));
	}
	return 202;
}

int main(int argc, char **argv)
{
	const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
			     PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
	int status;
	pid_t pid;

	if (argc < 4) {
		fprintf(stderr, "usage: fault N LOG PROGRAM [ARGUMENT...]\n");
		return 2;
	}
	left = atol(argv[1]);
	log_path = argv[2];
	pid = fork();
	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		execv(argv[3], argv + 3);
		_exit(203);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || ptrace(PTRACE_SETOPTIONS, pid, 0, options) < 0 ||
	    ptrace(PTRACE_SYSCALL, pid, 0, 0) < 0) {
		perror("fault");
		return 2;
	}
	return trace(pid);
}
