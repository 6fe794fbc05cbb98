/* Users by name: "name|uid[:group|gid]" against the container's own passwd and group files.
 *
 * Runs where the root file system is mounted (shim or agent), so the host never reads a file system
 * that a guest has written. The files are hostile: bounded, resolved inside the root, numbers strict
 * (CVE-2026-30892). */
#pragma once

#include "base/err.h"
#include <stdint.h>

struct user {
	uint32_t uid, gid;
	uint32_t *gids;		/* supplementary groups that name the user; heap */
	size_t n_gids;
	char *home;		/* from passwd, "/" if unknown; heap */
};

/* spec "" = root. Docker's texts: "unable to find user x: no matching entries in passwd file". */
int user_resolve(int rootfd, const char *spec, struct user *ret, struct err *e);
/* One group of --group-add, by name or number. */
int group_resolve(int rootfd, const char *spec, uint32_t *ret, struct err *e);
void user_done(struct user *u);
