/* What runs tasks: the contract between a supervisor (super/) or the agent, and where processes live.
 *
 * Two implementations: task/local.c (processes of this kernel, by the runtime library; used by
 * insula-shim and by insula-agent) and vm/guest.c (tasks behind the agent link; used by vmwp).
 * A task is (ctr, exec); exec "" is the container's init. All calls are asynchronous: `done` runs
 * exactly once, possibly before the call returns. */
#pragma once

#include "base/err.h"
#include "base/loop.h"
#include "proto/msg.h"

struct backend;

/* payload: START: u32 pid (LE); PS: an encoded ps_table; FILES: file_stat; CONTROL: stats_table;
 * else empty. */
typedef void (*backend_done_fn)(void *userdata, int r, const struct err *e, const void *payload, size_t n);

enum task_stream { TASK_STDIN_FD = 0, TASK_STDOUT = 1, TASK_STDERR = 2 };

struct backend_events {
	/* Output of a task. The bytes are valid during the call only. With a terminal all comes on stdout. */
	void (*output)(void *userdata, const char *ctr, const char *exec, enum task_stream s, const void *p,
		       size_t n);
	/* No more output on s: runs once per stdout and stderr (terminal: stdout only), before or after exit.
	 */
	void (*output_eof)(void *userdata, const char *ctr, const char *exec, enum task_stream s);
	/* stdin takes bytes again after stdin_write fell short. */
	void (*stdin_ready)(void *userdata, const char *ctr, const char *exec);
	/* The task's process has ended. reason: "" or why it was ended (VM died, ...). */
	void (*exited)(void *userdata, const char *ctr, const char *exec, int exit_code, uint64_t when_ns,
		       bool oom, const char *reason);
	/* The sandbox itself is lost (VM died): every task has been reported exited before. */
	void (*lost)(void *userdata, const char *reason);
};

struct backend_ops {
	const char *kind;	/* "process" or "hyperv" */
	/* template: what the machine is a clone of (vm/template.h), -EBADF = none; borrowed. */
	void (*sandbox)(struct backend *b, const struct msg_sandbox *m, int template, backend_done_fn done,
			void *ud);
	/* The interfaces that a sandbox has from now on. tap: for a new one, -EBADF = none; borrowed. */
	void (*network)(struct backend *b, const struct msg_network *m, int tap, backend_done_fn done,
			void *ud);
	void (*create)(struct backend *b, const struct msg_create *m, backend_done_fn done, void *ud);
	void (*start)(struct backend *b, const char *ctr, const char *exec, backend_done_fn done, void *ud);
	void (*kill)(struct backend *b, const char *ctr, const char *exec, int signo, bool all,
		     backend_done_fn done, void *ud);
	void (*resize)(struct backend *b, const char *ctr, const char *exec, unsigned rows, unsigned cols,
		       backend_done_fn done, void *ud);
	void (*ps)(struct backend *b, const char *ctr, backend_done_fn done, void *ud);
	/* Pause, resume, update, stats (msg control). */
	void (*control)(struct backend *b, const struct msg_control *m, backend_done_fn done, void *ud);
	/* An operation on a container's files (msg files). fd, taken over, carries the data: a socket, or
	 * -EBADF for those without. done runs when all is read or written. */
	void (*files)(struct backend *b, const struct msg_files *m, int fd, backend_done_fn done, void *ud);
	/* Frees what the task holds; deleting a container's init unmounts its rootfs. -EBUSY while it runs.
	 * discard: what the container has written is not wanted any more. */
	void (*del)(struct backend *b, const char *ctr, const char *exec, bool discard, backend_done_fn done,
		    void *ud);
	/* Ends everything: processes, VM. */
	void (*shutdown)(struct backend *b, backend_done_fn done, void *ud);

	/* These three report no events before they return. */
	size_t (*stdin_write)(struct backend *b, const char *ctr, const char *exec, const void *p,
			      size_t n); /* accepted */
	void (*stdin_close)(struct backend *b, const char *ctr, const char *exec);
	/* Backpressure: stop or go on reading the task's output. */
	void (*output_pause)(struct backend *b, const char *ctr, const char *exec, bool paused);
	void (*free)(struct backend *b);
};

struct backend {
	const struct backend_ops *ops;
	const struct backend_events *events;	/* set by the owner before the first call */
	void *userdata;				/* given to events */
};
