/* Where programs that outlive their starter live: a cgroup of their own, so that they neither count nor end
 * with the service or the session that started them. */
#pragma once

#include <stddef.h>

#define GROUP_HOME_TASKS 16

struct group_home {
	int v2;				/* directory of the v2 group; -EBADF: none needed */
	int tasks[GROUP_HOME_TASKS];	/* v1: `tasks` of the group in each hierarchy */
	size_t n_tasks;
};
#define GROUP_HOME_INIT {.v2 = -EBADF}

/* Makes the group `path` ("/insula/supervisors") in each hierarchy in which the caller is not in the root,
 * and opens it. Who is in the root stays there: it costs nothing, and the root belongs to nobody. What cannot
 * be made is left out with a line in the log: a home is a courtesy. */
void group_home_open(const char *path, struct group_home *ret);
/* The caller, a single thread, moves in. */
void group_home_join(const struct group_home *h);
void group_home_close(struct group_home *h);
