/* Commands run in a container besides its own: docker exec. */
#pragma once

#include "engine/container.h"

struct exec;

/* body: ExecConfig; borrowed. *ret_id is borrowed and lives as long as the exec. */
int exec_create(struct container *c, const struct json *body, const char **ret_id, struct err *err);
/* 404 "No such exec instance: x". Borrowed until the next return to the loop. */
int exec_find(struct engine *e, const char *id, struct exec **ret, struct err *err);
const char *exec_id(const struct exec *x);

/* Starting, in two halves, since the client's connection is taken over in between. prepare: the supervisor
 * knows it (409 if it was started before, or its container does not run). start: attaches the client (fd
 * taken, -EBADF = detached) and runs it; a command that cannot be run is told to the client by the
 * supervisor, and to done. */
/* raw: the client takes the stream for a terminal's; else it wants frames. Whether the exec has one says
 * nothing of that. */
struct exec_start { bool detach, raw; unsigned rows, cols; };
void exec_prepare(struct exec *x, const struct exec_start *s, engine_done_fn done, void *ud);
void exec_start(struct engine *e, const char *id, int fd, const void *preread, size_t n, engine_done_fn done,
		void *ud);
/* fn runs once, when the exec has ended; NULL: nothing runs. */
void exec_on_exit(struct engine *e, const char *id, void (*fn)(void *ud, int code), void *ud);
/* It will not be asked for any more. */
void exec_forget(struct engine *e, const char *id);
void exec_resize(struct exec *x, unsigned rows, unsigned cols, engine_done_fn done, void *ud);
struct json *exec_inspect(const struct exec *x);		/* new */
struct json *execs_of(const struct container *c);		/* ids of those not over, or null; new */
