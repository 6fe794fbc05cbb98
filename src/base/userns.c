#include "base/userns.h"
#include "base/alloc.h"
#include "base/proc.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

int userns_open(int (*write)(pid_t pid, void *arg), void *arg)
{
	_cleanup_free_ char *path = NULL;
	struct proc p = PROC_INIT;
	int r = proc_clone(CLONE_NEWUSER, -EBADF, SIGCHLD, &p.pidfd);

	if (r == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	if (r < 0)
		return r;
	p.pid = r;
	r = write(p.pid, arg);
	path = xasprintf("/proc/%d/ns/user", p.pid);
	if (r == 0) {
		r = open(path, O_RDONLY | O_CLOEXEC);
		if (r < 0)
			r = -errno;
	}
	(void)proc_kill(&p, SIGKILL);
	(void)proc_wait(&p, NULL);
	proc_done(&p);
	return r;
}
