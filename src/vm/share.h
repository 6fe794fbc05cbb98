/* Volumes of a VM: one virtiofsd per share, sandboxed, serving one directory. */
#pragma once

#include "base/err.h"
#include "base/proc.h"
#include "vm/output.h"
#include <stdbool.h>

struct cgroup;

struct share {
	struct proc proc;
	int fd;			/* connected vhost-user socket, for QEMU */
	struct output errors;
};
#define SHARE_INIT {.proc = PROC_INIT, .fd = -EBADF, .errors = OUTPUT_INIT}

/* Serves path. words: see SANDBOX in proto/msg.def. A single file is served as a directory that holds it
 * alone, under its own name. Read-only shares are read-only here, on the host's side, whatever the guest
 * says, and of a sub path nothing else is there to be seen. cgroup: see jail.h. */
int share_start(struct share *s, struct loop *l, const char *path, const char *words,
		const struct cgroup *cgroup, struct err *e);
void share_stop(struct share *s);
