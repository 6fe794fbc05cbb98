#include "vm/cgroup.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define ROOT "/sys/fs/cgroup"
#define PERIOD_US 100000

/* Those of v1, and v2's beside them on a hybrid host. */
static const char *const hierarchies[] = { "/memory", "/cpu", "/cpuacct", "/pids", "/freezer", "/unified" };

static bool is_v2(const char *hierarchy)
{
	return !*hierarchy || !strcmp(hierarchy, "/unified");
}

/* Calls fn with the group's directory in each hierarchy there is. */
static void each(const char *path, void (*fn)(const char *dir, bool v2, void *ud), void *ud)
{
	bool unified = fs_exists(ROOT "/cgroup.controllers");
	char dir[512];

	for (size_t i = 0; i < (unified ? 1 : ARRAY_SIZE(hierarchies)); i++) {
		const char *h = unified ? "" : hierarchies[i];

		snprintf(dir, sizeof dir, ROOT "%s", h);
		if (!fs_exists(dir))
			continue;
		snprintf(dir, sizeof dir, ROOT "%s%s", h, path);
		fn(dir, is_v2(h), ud);
	}
}

struct limits { uint64_t memory; unsigned vcpus; };

static void set(const char *dir, const char *file, uint64_t value)
{
	_cleanup_free_ char *path = path_join(dir, file);
	char text[32];
	int r;

	snprintf(text, sizeof text, "%llu", (unsigned long long)value);
	r = fs_exists(path) ? fs_write(AT_FDCWD, path, text) : 0;
	if (r < 0)
		log_warn("limit the virtual machine: write %s: %s", path, strerror(-r));
}

/* In v2 each group hands its controllers down explicitly. Those that are not to be had are left out. */
static void hand_down(const char *dir)
{
	char path[600];

	for (const char *p = dir + strlen(ROOT); p; p = strchr(p + 1, '/')) {
		static const char *const controllers[] = { "+memory", "+cpu", "+pids" };

		snprintf(path, sizeof path, "%.*s/cgroup.subtree_control", (int)(p - dir), dir);
		for (size_t i = 0; i < ARRAY_SIZE(controllers); i++)
			(void)fs_write(AT_FDCWD, path, controllers[i]);
	}
}

static void make(const char *dir, bool v2, void *ud)
{
	const struct limits *l = ud;
	uint64_t quota = (uint64_t)l->vcpus * PERIOD_US + PERIOD_US / 2;
	int r = fs_mkdir_p(dir, 0755);

	if (r < 0) {
		log_warn("limit the virtual machine: create %s: %s", dir, strerror(-r));
		return;
	}
	if (v2)
		hand_down(dir);
	if (l->memory)
		set(dir, v2 ? "memory.max" : "memory.limit_in_bytes", l->memory);
	if (l->vcpus)
		set(dir, v2 ? "cpu.max" : "cpu.cfs_quota_us", quota);
}

static void join(const char *dir, bool v2, void *ud)
{
	char path[600];

	/* A single thread that moves itself takes no global lock. */
	snprintf(path, sizeof path, "%s/%s", dir, v2 ? "cgroup.procs" : "tasks");
	(void)fs_write(AT_FDCWD, path, "0");
}

static void drop(const char *dir, bool v2, void *ud)
{
	/* The kernel lets go of the last process a moment after it was reaped; and what a file server has
	 * forked is not ours to reap, but dies with it: on a loaded host that takes longer. */
	for (int i = 0; i < 2500 && rmdir(dir) < 0 && errno == EBUSY; i++)
		usleep(2000);
}

void cgroup_make(const char *path, uint64_t memory_max, unsigned vcpus)
{
	struct limits l = { memory_max, vcpus };

	each(path, make, &l);
}

void cgroup_join(const char *path)
{
	each(path, join, NULL);
}

void cgroup_remove(const char *path)
{
	if (path)
		each(path, drop, NULL);
}
