/* insula-init: process 1 of a container run with --init, in both modes.
 *
 * Starts the command as a child in a process group of its own, passes on every signal it gets, reaps
 * whatever is orphaned to it, and ends as the command ended: its code, or 128 plus its signal.
 * Takes Docker's form: docker-init -- COMMAND [ARG...]. */
#include "base/macro.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

static int start(char **argv, const sigset_t *old, pid_t *ret)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		/* The command must own the terminal, if there is one, for its job control to work. */
		setpgid(0, 0);
		signal(SIGTTOU, SIG_IGN);
		(void)tcsetpgrp(0, getpid());
		signal(SIGTTOU, SIG_DFL);
		sigprocmask(SIG_SETMASK, old, NULL);
		execvp(argv[0], argv);
		fprintf(stderr, "exec %s: %s\n", argv[0], strerror(errno));
		_exit(errno == ENOENT ? 127 : 126);
	}
	*ret = pid;
	return 0;
}

/* Reaps all there is; the command's status ends us. */
static void reap(pid_t child)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == child)
			_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

int main(int argc, char **argv)
{
	static const int own[] = {SIGFPE,  SIGILL, SIGSEGV, SIGBUS, SIGABRT,
				  SIGTRAP, SIGSYS, SIGTTIN, SIGTTOU};
	char **command = argv + 1;
	sigset_t all, old;
	pid_t child = 0;
	int r;

	if (*command && !strcmp(*command, "--"))
		command++;
	if (argc < 2 || !*command) {
		fprintf(stderr, "usage: insula-init -- COMMAND [ARG...]\n");
		return 2;
	}
	sigfillset(&all);
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		sigdelset(&all, own[i]);
	sigprocmask(SIG_SETMASK, &all, &old);
	r = start(command, &old, &child);
	if (r < 0) {
		fprintf(stderr, "insula-init: fork: %s\n", strerror(-r));
		return 126;
	}
	for (;;) {
		siginfo_t si;

		if (sigwaitinfo(&all, &si) < 0)
			continue;
		if (si.si_signo == SIGCHLD)
			reap(child);
		else
			(void)kill(child, si.si_signo);
	}
}
