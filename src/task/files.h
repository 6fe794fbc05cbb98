/* Operations on the files of a container (msg files), for a process of their own: they block. */
#pragma once

#include "task/local.h"

#include <sys/stat.h>

struct files_job {
	const struct msg_files *m;
	struct local_hooks *hooks;
	void *userdata;		/* of the hooks */
	const char *bundle;
	int fd;			/* the data; -EBADF if the operation has none */
};

/* A worker_fn for a struct files_job: does the work; a STAT's answer goes to out. Leaves mounts in the mount
 * namespace that it makes for its process. */
int files_run(void *job, struct sbuf *out, struct err *e);

/* changes.c: compares a writable layer with what is below it. */
struct changes {
	int fd;			/* "A/path\0", "C/path\0" and "D/path\0" go here */
	struct sbuf buf;
	uint64_t n;
};
int changes_write(struct changes *c, int upper, int lower);
void changes_done(struct changes *c);
/* Whether name in dirfd is but a mount point (or a folder of such) that the runtime has made, which is not in
 * the image. path: without a leading slash. */
bool is_mount_point(int lower, int dirfd, const char *name, const char *path, const struct stat *st);
