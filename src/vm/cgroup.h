/* The control groups that hold a machine's processes on the host: QEMU and its file servers. */
#pragma once

#include <stdint.h>

/* Makes the groups at `path` below each hierarchy (v1, v2 or both) and sets the limits: memory in bytes, the
 * processors of the machine and half a one for QEMU itself; 0 = none. A hierarchy that is not there is passed
 * over, a limit that cannot be set is said of in the log: the guest's own groups hold the container's. */
void cgroup_make(const char *path, uint64_t memory_max, unsigned vcpus);
/* Moves the calling process, which must have one thread, into them. */
void cgroup_join(const char *path);
/* Removes them, empty by now. NULL: nothing. */
void cgroup_remove(const char *path);
