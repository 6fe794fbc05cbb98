/* Child processes, held by pidfd, never by a bare pid. */
#pragma once

#include "base/group_home.h"
#include "base/macro.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct proc {
	pid_t pid;	/* for display and for protocols; signals go through pidfd */
	int pidfd;	/* owned */
};
#define PROC_INIT {.pid = 0, .pidfd = -EBADF}

struct fd_map { int from, to; };	/* in the child, descriptor `from` becomes number `to` */

struct spawn_args {
	const char *path;		/* executed as is: no PATH search */
	int exec_fd;			/* if > 0, executed instead of path (execveat) */
	char *const *argv;
	char *const *envp;		/* NULL = empty environment */
	const struct fd_map *fds;	/* everything else is closed; 0,1,2 not named become /dev/null */
	size_t n_fds;
	bool new_session;		/* setsid */
	bool keep_stderr;		/* 2 stays the caller's unless mapped */
	int pdeathsig;			/* 0 = none */
	const struct group_home *home;	/* NULL = it stays in the caller's cgroups */
	const char *chdir;		/* NULL = "/" */
	uint64_t memory;		/* bytes of addresses it may have; 0 = the caller's limit */
};

/* Starts a program (vfork-like clone: no page table copy). Signal mask and dispositions are reset,
 * umask 022. An exec failure is reported here. 0 or -errno. */
int proc_spawn(const struct spawn_args *a, struct proc *ret);
/* Opens a pidfd for an existing process. */
int proc_open(pid_t pid, struct proc *ret);
/* Signals through the pidfd: -ESRCH once it is gone. */
int proc_kill(const struct proc *p, int signo);
/* Waits (blocking) for the child and reaps it; exit code, or 128+signal. */
int proc_wait(struct proc *p, int *ret_code);
bool proc_alive(const struct proc *p);
/* Whether we are root of the host: root of another user namespace can do no more than an ordinary user. */
bool proc_is_root(void);
void proc_done(struct proc *p);		/* closes the pidfd */
#define _cleanup_proc_ _cleanup_(proc_done)

/* Every signal at its default and none blocked, those of the C library's own use (32, 33) included: what a
 * parent ignores would be ignored by whatever is executed. */
void proc_reset_signals(void);

/* clone3 with CLONE_PIDFD, or where there is none the same by clone: 0 in the child, in the parent the pid,
 * or -errno. flags are those of clone(2) without memory sharing; cgroup_fd: the cgroup v2 directory the child
 * starts in, < 0 = the caller's. */
pid_t proc_clone(uint64_t flags, int cgroup_fd, int exit_signal, int *ret_pidfd);

/* fork() that returns a pidfd too (CLONE_PIDFD), for workers: 0 in the child, 1 in the parent, -errno.
 * In the child the signal mask is emptied and SIGPIPE/SIGCHLD are default. */
int proc_fork(struct proc *ret);
/* Exit status of a siginfo from waitid as a shell would give it: code or 128+signal. */
int proc_exit_code(int code, int status);
