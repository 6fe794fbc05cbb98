/* The end of the machine: tasks, then file systems, then the answer, then a reset, which ends QEMU. */
#include "agent/agent.h"
#include "base/alloc.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#define SHUTDOWN_DEADLINE_US (10 * 1000000ull)
#define FLUSH_MS 1000

static _noreturn_ void power_off(struct agent *a, struct pending *p, int r, const struct err *e)
{
	rootfs_umount_all(a);
	pending_reply(p, r, e, NULL, 0);
	if (a->conn)
		(void)conn_flush(a->conn, FLUSH_MS);
	(void)reboot(RB_AUTOBOOT);
	_exit(1);	/* the kernel panics, and the machine ends all the same */
}

static void on_shutdown(void *userdata, int r, const struct err *e, const void *payload, size_t n)
{
	struct pending *p = userdata;

	power_off(p->a, p, r, e);
}

/* Tasks that cannot be ended (stuck in the kernel) must not keep the disks from being written. */
static void on_deadline(struct loop_source *s, void *userdata)
{
	struct pending *p = userdata;

	log_warn("shutdown: some tasks did not end");
	power_off(p->a, p, 0, NULL);
}

void power_request(struct agent *a, uint32_t seq)
{
	struct pending *p = pending_new(a, seq, MSG_SHUTDOWN, "", "");
	struct loop_source *timer;

	if (a->stopping) {
		pending_reply(p, -EALREADY, NULL, NULL, 0);
		return;
	}
	a->stopping = true;
	(void)loop_add_timer(a->loop, SHUTDOWN_DEADLINE_US, 0, on_deadline, p, &timer);
	a->backend->ops->shutdown(a->backend, on_shutdown, p);
}
