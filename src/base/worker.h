/* Work that would block the loop, done in a forked process: copying, removing, mkfs, unpacking. */
#pragma once

#include "base/err.h"
#include "base/loop.h"
#include "base/sbuf.h"

/* Runs in the child with SIGPIPE ignored: returns 0 or -errno; may fill e and may write a result of
 * at most 16 MiB to out. Must not touch the caller's loop, database or sockets. */
typedef int (*worker_fn)(void *arg, struct sbuf *out, struct err *e);
/* In the parent, once. out: what the worker wrote. */
typedef void (*worker_done_fn)(void *userdata, int r, const struct err *e, const struct sbuf *out);

/* Forks; a worker that dies of a signal is an error like any other. 0, or -errno and done is not called.
 * The child keeps ordinary descriptors, but none of the sockets. */
int worker_run(struct loop *l, worker_fn fn, void *arg, worker_done_fn done, void *userdata);
/* The same, but of all descriptors above 2 the child keeps keep_fd only (-EBADF = none): for programs whose
 * pipes somebody else waits to see closed. */
int worker_run_alone(struct loop *l, worker_fn fn, void *arg, int keep_fd, worker_done_fn done,
		     void *userdata);

/* A descriptor that workers must not keep (lock files): closed in each. */
void worker_guard_fd(int fd);
