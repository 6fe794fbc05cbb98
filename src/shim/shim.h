/* The parts of insula-shim. */
#pragma once

#include "base/err.h"
#include "proto/msg.h"

struct sandbox {
	int net_ns, ipc_ns;	/* held for the containers of this sandbox */
};

/* Makes the sandbox's namespaces and plugs it in the bridge. The shim itself stays where it is. */
int sandbox_make(struct sandbox *s, const struct msg_sandbox *m, struct err *e);

/* Gives the shim a mount namespace of its own: nothing mounted later reaches the host. */
int rootfs_private_mounts(void);
/* Mounts the overlay of m->lower, upper, work on <bundle>/rootfs. */
int rootfs_mount(const struct msg_create *m, struct err *e);
int rootfs_umount(const char *bundle, struct err *e);
