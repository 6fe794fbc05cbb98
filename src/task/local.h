/* Tasks as processes of this kernel. Used by insula-shim (host) and insula-agent (guest). */
#pragma once

#include "task/backend.h"

struct local_hooks {
	/* Makes the root file system of a container appear at <bundle>/rootfs in this process's mount
	 * namespace (overlay of m->lower/upper/work). The host and the guest differ only here. */
	int (*rootfs_mount)(void *userdata, const struct msg_create *m, struct err *e);
	int (*rootfs_umount)(void *userdata, const char *ctr, struct err *e);
	/* Mounts what is below the container's writable layer, the image, read-only at target (exists). */
	int (*lower_mount)(void *userdata, const char *ctr, const char *target, struct err *e);
	/* The directory of the writable layer (heap). */
	char *(*upper)(void *userdata, const char *ctr);
	/* The directory that holds rootfs/, hosts, ... of m->ctr (heap). Host: m->bundle. */
	char *(*bundle)(void *userdata, const struct msg_create *m);
	/* Optional: the sandbox request (namespaces, veth); NULL = succeed at once. */
	int (*sandbox)(void *userdata, const struct msg_sandbox *m, struct err *e);
	/* Optional: the sandbox's interfaces from now on; NULL = refuse. */
	int (*network)(void *userdata, const struct msg_network *m, struct err *e);
	/* Namespaces that containers join instead of making their own, -EBADF = none of it. */
	int net_ns_fd, ipc_ns_fd;
	/* Optional: undoes `sandbox`. Every container of it has ended. */
	void (*shutdown)(void *userdata);
};

int local_new(struct loop *l, struct local_hooks *hooks /* borrowed */, void *userdata, struct backend **ret);
