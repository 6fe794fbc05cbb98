/* The jail of QEMU: what a guest that has broken out of its device models finds itself in. */
#pragma once

#include "base/proc.h"
#include <stdbool.h>

#define JAIL_BINDS_MAX 8
#define JAIL_TAP (-2)	/* a tap in the jail's own network namespace, which leads nowhere */

struct cgroup;

struct jail_args {
	char *const *argv;		/* argv[0] = program, a path */
	const struct fd_map *fds;	/* nothing else is inherited; from may be JAIL_TAP */
	size_t n_fds;
	uint32_t uid;			/* and gid */
	const struct cgroup *cgroup;	/* made before; NULL = stay */
	bool kvm;			/* it needs /dev/kvm */
	bool proc;			/* it opens files by /proc/self/fd */
	const struct jail_bind { const char *from, *to; } *binds;	/* further files it may read */
	size_t n_binds;
};

/* Starts the program in namespaces of its own (mount, pid, net, ipc, uts), on a tiny read-only root with
 * its libraries and firmware, under its own uid, without capabilities, no_new_privs, dying with us. */
int jail_spawn(const struct jail_args *a, struct proc *ret);
/* Gives up every capability but those in the mask (bit n = capability n), for good, and sets no_new_privs. */
int drop_capabilities(uint64_t keep);
