/* Work that would block the loop, done in a forked process: copying, removing, mkfs, unpacking. */
#pragma once

#include "engine/engine.h"

/* Runs in the child with SIGPIPE ignored: returns 0 or -errno; may fill e and may write a result of
 * at most 16 MiB to out. Must not touch the engine, its database or its sockets. */
typedef int (*worker_fn)(void *arg, struct sbuf *out, struct err *e);
/* In the parent, once. out: what the worker wrote. */
typedef void (*worker_done_fn)(void *userdata, int r, const struct err *e, const struct sbuf *out);

/* Forks; a worker that dies of a signal is an error like any other. 0, or -errno and done is not called. */
int worker_run(struct loop *l, worker_fn fn, void *arg, worker_done_fn done, void *userdata);

/* A descriptor that workers must not keep (lock files): closed in each. Sockets are closed anyway. */
void worker_guard_fd(int fd);

/* Moves path into the trash folder of the data root and deletes it in the background. */
void trash(struct engine *e, const char *path);
/* Deletes what is in the trash folder now (left by a crash). */
void trash_start(struct engine *e);
bool trash_empty(const struct engine *e);
