/* Attributes and propagation of mounts. */
#pragma once

#include "base/macro.h"
#include <stdbool.h>
#include <stdint.h>

/* Changes the attached mount whose root fd is, and with recursive all that is mounted below it. set, clear:
 * MOUNT_ATTR_*; propagation: MS_SHARED and the like, 0 = leave. fd_proc_path() must work: not inside a
 * container. */
int mount_set(int fd, bool recursive, uint64_t set, uint64_t clear, uint64_t propagation);
/* Maps the ids of a mount that is not attached yet, as the user namespace does. -ENOSYS before Linux 5.12. */
int mount_set_idmap(int fd, bool recursive, int userns);
/* The mount on which path lies: its place, and whether mounts below it come from (slave) or go to (shared)
 * others. ret_point is heap. */
int mount_of(const char *path, char **ret_point, bool *ret_shared, bool *ret_slave);
