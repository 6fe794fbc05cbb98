/* How the CPU and the disks serve the process: scheduler, I/O priority. */
#include "runtime/internal.h"

#include <errno.h>
#include <linux/ioprio.h>
#include <linux/sched/types.h>
#include <sys/syscall.h>

int sched_apply(const struct oci_process *p, struct err *e)
{
	const struct oci_scheduler *s = &p->scheduler;
	struct sched_attr a = {
		.size = sizeof a,
		.sched_policy = s->policy,
		.sched_flags = s->flags,
		.sched_nice = s->nice,
		.sched_priority = (uint32_t)s->priority,
		.sched_runtime = s->runtime,
		.sched_deadline = s->deadline,
		.sched_period = s->period,
	};

	if (s->given && syscall(SYS_sched_setattr, 0, &a, 0) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "process.scheduler: cannot be set");
	if (p->io_priority.given && syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, p->io_priority.value) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "process.ioPriority: cannot be set");
	return 0;
}
