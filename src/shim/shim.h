/* The parts of insula-shim. */
#pragma once

#include "base/err.h"
#include "proto/msg.h"
#include "task/local.h"

/* sandbox.c: makes the sandbox's namespaces (into hooks->net_ns_fd and ipc_ns_fd) and plugs it in the bridge.
 * The shim itself stays where it is. On failure nothing is left. */
int sandbox_make(struct local_hooks *hooks, const struct msg_sandbox *m, struct err *e);
/* Interfaces come and go while it runs. On failure none is new. */
int sandbox_network(struct local_hooks *hooks, const struct nics *have, const struct nics *want,
		    struct err *e);
/* Takes the sandbox off its bridges at once (its addresses may be given to others right after) and lets go
 * of the namespaces. */
void sandbox_end(struct local_hooks *hooks, const struct nics *nics);

/* rootfs.c: gives the shim a mount namespace of its own: nothing mounted later reaches the host. */
int rootfs_private_mounts(void);
/* Mounts the overlay of m->lower, upper, work on target, which is made if need be. Without upper it is
 * read-only. */
int rootfs_mount(const struct msg_create *m, const char *target, struct err *e);
int rootfs_umount(const char *bundle, struct err *e);
