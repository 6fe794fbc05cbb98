/* The OCI runtime as a library: insula-runtime, insula-shim and insula-agent are its users.
 * Functions block briefly (milliseconds); the caller holds the container's init by pidfd. */
#pragma once

#include "base/err.h"
#include "base/proc.h"
#include "oci/runtime_spec.h"
#include "runtime/stats.h"

struct rt_container;

/* First call of main() in programs that fork containers' processes, whose entry point is that of early.c:
 * unless the program runs from a read-only mount or a sealed memfd already, executes it again from a sealed
 * memfd, so that a container cannot overwrite it through /proc/PID/exe (CVE-2019-5736). Returns only when
 * protected (0) or when the kernel gives no means to be (-errno). */
int rt_protect_self(char *const argv[]);

struct rt_create_args {
	const char *id;			/* rt_id_valid() */
	const char *bundle; /* absolute; spec root.path and relative mount sources resolve against it */
	const struct oci_spec *spec;	/* borrowed during the call */
	int stdio[3]; /* become the init's 0,1,2; -EBADF = /dev/null. Ignored with process.terminal */
	int net_ns_fd, ipc_ns_fd;	/* joined instead of what the spec says; -EBADF = follow the spec */
	int preserve_fds;		/* runtime CLI: fds 3..3+n-1 are kept open in the container */
	bool no_pivot;
	bool systemd_cgroup; /* linux.cgroupsPath is "slice:prefix:name", and systemd makes the group */
	const char *console_socket;	/* runtime CLI: master is sent there; else returned */
	const char *seccomp_cache;	/* directory of compiled filters; NULL = SECCOMP_CACHE */
	/* A compiled program (seccomp_prog_encode) instead of the spec's profile; NULL, 0 = none. */
	const void *filter;
	size_t filter_len;
	int start_listen_fd; /* runtime CLI: if > 0, the init waits for a connection on this listening socket;
			      * else for rt_start */
	bool outlive;			/* its processes survive the caller */
	/* Called once the init exists (pid), while it builds its root; NULL = nothing to do meanwhile. What
	 * it returns below zero makes the creation fail. */
	int (*meanwhile)(const struct rt_container *c, pid_t pid, void *arg, struct err *e);
	void *meanwhile_arg;
};

/* Sets everything up to the point before exec: namespaces, cgroup, mounts, devices, masks, caps, seccomp
 * ready; the program is looked up (ERR_CMD_NOT_FOUND / ERR_CMD_NOT_EXECUTABLE come from here). On
 * failure nothing is left. ret_init: the waiting init, a child of the caller (reap it after exit).
 * ret_console: pty master with process.terminal, else -EBADF. */
int rt_create(const struct rt_create_args *a, struct rt_container **ret, struct proc *ret_init,
	      int *ret_console, struct err *e);
/* Lets the init exec. Reports an exec failure (then the init has exited). */
int rt_start(struct rt_container *c, struct err *e);
struct rt_exec_args {
	const struct oci_process *process;
	int stdio[3], preserve_fds;	/* as above */
	const char *cgroup;	/* a group below the container's, made if missing; NULL = its own */
	bool ignore_paused;	/* the process then runs once the container is resumed; else ERR_CONFLICT */
};

/* Runs another process in the container. stdio and console as above. The new process is the caller's child.
 */
int rt_exec(struct rt_container *c, const struct rt_exec_args *a, struct proc *ret, int *ret_console,
	    struct err *e);
/* Signals the init, or (all) every process in the container. -ESRCH once it is gone. */
int rt_kill(struct rt_container *c, int signo, bool all, struct err *e);
/* Pids (of the caller's pid namespace) of all processes in the container's cgroup. Heap array. */
int rt_pids(struct rt_container *c, pid_t **ret, size_t *ret_n, struct err *e);
/* Stops every process of the container, and lets them go on. ERR_CONFLICT if it is not running, is paused
 * already, or is not paused. A paused container can be killed: SIGKILL thaws it. */
int rt_pause(struct rt_container *c, struct err *e);
int rt_resume(struct rt_container *c, struct err *e);
bool rt_paused(const struct rt_container *c);
/* Changes limits; what res leaves out stays. Device rules are not touched. */
int rt_update(struct rt_container *c, const struct oci_resources *res, struct err *e);
/* What the container uses now. Free with rt_stats_done. */
int rt_stats(struct rt_container *c, struct rt_stats *ret, struct err *e);
/* Whether the kernel's OOM killer struck in the container. */
bool rt_oom_killed(struct rt_container *c);
/* After the init has exited: kills what is left, removes the cgroup. Frees nothing. */
int rt_destroy(struct rt_container *c, struct err *e);
void rt_free(struct rt_container *c);

/* The bind mounts of the configuration alone, attached in the root file system rootfd, in the caller's mount
 * namespace: what a container that does not run would see of its volumes. */
int rt_mount_binds(const struct oci_spec *s, const char *bundle, int rootfd, struct err *e);
