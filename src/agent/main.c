#include "agent/agent.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Process 1 inherits orphans. Children that somebody waits for are held by pidfd and reaped by the
 * event loop as soon as they end; they must not be stolen here, since their exit code would be lost.
 * So a dead child that is still there a second later, seen by two sweeps, belongs to nobody. */
#define SWEEP_US 1000000

static void sweep(struct loop_source *s, void *userdata)
{
	struct agent *a = userdata;

	for (;;) {
		siginfo_t si = {0};

		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0 || si.si_pid == 0) {
			a->zombie = 0;
			return;
		}
		if (si.si_pid != a->zombie) {
			a->zombie = si.si_pid;
			loop_timer_set(s, SWEEP_US, 0);
			return;
		}
		log_debug("reaping orphan %d", (int)si.si_pid);
		(void)waitid(P_PID, (id_t)si.si_pid, &si, WEXITED | WNOHANG | __WALL);
		a->zombie = 0;
	}
}

static void on_sigchld(struct loop_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	struct agent *a = userdata;

	if (a->zombie == 0)
		loop_timer_set(a->sweep, SWEEP_US, 0);
}

static void on_uevent(struct loop_source *s, int fd, uint32_t events, void *userdata)
{
	struct agent *a = userdata;

	if (uevent_drain(fd))
		guest_poke(a);
}

static void init_log(void)
{
	_cleanup_free_ char *cmdline = NULL;
	_cleanup_strv_ char **words = NULL;

	if (fs_read_line(AT_FDCWD, "/proc/cmdline", &cmdline) >= 0)
		words = strv_split(cmdline, " ");
	log_init("insula-agent", strv_has(words, "insula.debug") ? LOG_LVL_DEBUG : LOG_LVL_WARN);
}

/* What a service of the distribution would have, so that containers start with the same limits. */
static void init_limits(void)
{
	struct rlimit nofile = {.rlim_cur = 1024, .rlim_max = 524288};
	struct rlimit core = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};

	(void)setrlimit(RLIMIT_NOFILE, &nofile);
	(void)setrlimit(RLIMIT_CORE, &core);
}

static int agent_init(struct agent *a)
{
	int r;

	r = loop_new(&a->loop);
	if (r < 0)
		return r;
	list_init(&a->relays);
	r = loop_add_timer(a->loop, 0, 0, sweep, a, &a->sweep);
	if (r < 0)
		return r;
	(void)loop_timer_set(a->sweep, 0, 0);
	r = loop_add_signal(a->loop, SIGCHLD, on_sigchld, a, NULL);
	if (r < 0)
		return r;
	a->hooks = (struct local_hooks){
		.rootfs_mount = rootfs_mount,
		.rootfs_umount = rootfs_umount,
		.bundle = rootfs_bundle,
		.lower_mount = rootfs_lower_mount,
		.upper = rootfs_upper,
		.net_ns_fd = -EBADF,
		.ipc_ns_fd = -EBADF,
	};
	r = local_new(a->loop, &a->hooks, a, &a->backend);
	if (r < 0)
		return r;
	a->backend->events = &task_events;
	a->backend->userdata = a;
	r = loop_add_io(a->loop, a->uevent_fd, EPOLLIN, on_uevent, a, &a->uevent);
	if (r < 0)
		return r;
	r = memory_init(a);
	if (r == 0)
		r = failing_init(a);
	if (r < 0)
		return r;
	r = link_open(a);
	return r < 0 ? r : link_listen(a);
}

int main(void)
{
	static struct agent agent = {
		.port_fd = -EBADF, .errors_fd = -EBADF, .uevent_fd = -EBADF, .inotify_fd = -EBADF,
		.aside_ns_fd = -EBADF,
	};
	int r;

	if (getpid() != 1) {
		log_init("insula-agent", LOG_LVL_WARN);
		log_error("runs only as process 1 of a guest");
		return 1;
	}
	r = boot(&agent);
	init_log();
	init_limits();
	signal(SIGPIPE, SIG_IGN);
	if (r < 0) {
		log_error("boot: %s", strerror(-r));
		return 1;
	}
	r = agent_init(&agent);
	if (r < 0) {
		log_error("start: %s", strerror(-r));
		return 1;
	}
	log_debug("ready after %llu ms", (unsigned long long)(now_mono_us() / 1000));
	r = loop_run(agent.loop);
	log_error("event loop ended: %s", strerror(r < 0 ? -r : r));
	return 1;
}
