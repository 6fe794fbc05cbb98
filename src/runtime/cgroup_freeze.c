/* Stopping and going on with all processes of a group at once. */
#include "runtime/cgroup.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define FREEZE_ROUNDS 1000	/* of 1 ms */
#define FREEZE_AGAIN 50

static char *freezer_file(const struct cgroup *cg)
{
	const struct cgroup_hier *h = cgroup_hier_of(cg, "freezer");

	return h ? cgroup_file(cg, h, cg->unified ? "cgroup.freeze" : "freezer.state") : NULL;
}

bool cgroup_frozen(const struct cgroup *cg)
{
	_cleanup_free_ char *path = freezer_file(cg), *text = NULL;

	if (!path || fs_read_line(AT_FDCWD, path, &text) < 0)
		return false;
	return streq(text, "1") || streq(text, "FROZEN") || streq(text, "FREEZING");
}

/* Whether every process has stopped, which the kernel tells elsewhere than it is asked for. */
static bool settled(const struct cgroup *cg, const char *path)
{
	_cleanup_free_ char *events = NULL, *text = NULL;

	if (!cg->unified)
		return fs_read_line(AT_FDCWD, path, &text) == 0 && streq(text, "FROZEN");
	events = cgroup_file(cg, &cg->h[0], "cgroup.events");
	return fs_read(AT_FDCWD, events, 4096, &text, NULL) == 0 && strstr(text, "frozen 1");
}

int cgroup_freeze(const struct cgroup *cg, bool on, struct err *e)
{
	_cleanup_free_ char *path = freezer_file(cg);
	const char *freeze = cg->unified ? "1" : "FROZEN", *thaw = cg->unified ? "0" : "THAWED";
	int r;

	if (!path)
		return err_msg(e, ERR_INVALID, -EOPNOTSUPP, "this host has no freezer cgroup controller");
	r = fs_write(AT_FDCWD, path, on ? freeze : thaw);
	/* A group that forks while it is frozen can stay half frozen on v1: thawing in between helps. */
	for (int i = 1; r == 0 && on && !settled(cg, path); i++) {
		if (i == FREEZE_ROUNDS) {
			(void)fs_write(AT_FDCWD, path, thaw);
			return err_msg(e, ERR_SYSTEM, -ETIMEDOUT, "unable to freeze cgroup '%s'", cg->path);
		}
		if (!cg->unified && i % FREEZE_AGAIN == 0) {
			(void)fs_write(AT_FDCWD, path, thaw);
			usleep(10000);
		}
		if (!cg->unified)
			r = fs_write(AT_FDCWD, path, freeze);
		usleep(1000);
	}
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "%s cgroup '%s'", on ? "freeze" : "thaw", cg->path) : 0;
}
