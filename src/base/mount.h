/* Attributes and propagation of mounts. */
#pragma once

#include "base/macro.h"
#include <stdbool.h>
#include <stdint.h>

/* Changes the attached mount whose root fd is, and with recursive all that is mounted below it. set, clear:
 * MOUNT_ATTR_*; propagation: MS_SHARED and the like, 0 = leave. fd_proc_path() must work: not inside a
 * container. */
int mount_set(int fd, bool recursive, uint64_t set, uint64_t clear, uint64_t propagation);
