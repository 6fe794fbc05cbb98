/* Being a daemon: one per root, away from the caller, the service manager. */
#pragma once

#include "engine/config.h"

/* Takes the lock files of both roots, so that two daemons never share one; held until the process ends.
 * ERR_CONFLICT names who holds it: -EADDRINUSE if it is the exec root (its daemon has our socket), -EBUSY if
 * it is the data root. */
int daemon_lock(const struct engine_config *c, struct err *e);

/* Leaves the caller's session, directory, umask, resource limits and descriptors; diagnostics go to
 * exec_root/insulad.log. Returns in the child only, with the descriptor for daemon_ready in *ret_fd; the
 * parent waits for it and ends: 0 once the daemon is ready, else 1 with the daemon's message on standard
 * error. */
int daemon_detach(const struct engine_config *c, int *ret_fd, struct err *e);
/* Tells the waiting parent: NULL = ready, else why not. Closes *fd. -EBADF = nobody waits. */
void daemon_ready(int *fd, const char *error);
/* Limits of the caller's shell are not the daemon's. */
void daemon_reset_limits(void);

/* sd_notify(3) without libsystemd; nothing where no service manager asks. */
void daemon_notify(const char *state);
