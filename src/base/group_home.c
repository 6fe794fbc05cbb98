#include "base/group_home.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define ROOT "/sys/fs/cgroup"

/* A line of /proc/self/cgroup (cgroups(7)): "ID:CONTROLLERS:PATH". Where the hierarchy is mounted; NULL if
 * the caller is in its root. */
static char *mount_of(char *line, bool *ret_v2)
{
	char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;

	if (!path || streq(path + 1, "/"))
		return NULL;
	*controllers++ = 0;
	*path = 0;
	*ret_v2 = !*controllers;
	if (*ret_v2)
		return xstrdup(fs_exists(ROOT "/cgroup.controllers") ? ROOT : ROOT "/unified");
	return xasprintf(ROOT "/%s", str_starts(controllers, "name=") ? controllers + 5 : controllers);
}

/* An empty cpuset takes nobody in. */
static void inherit_cpuset(const char *dir)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *file = path_join(dir, files[i]),
				    *up = xasprintf("%s/../%s", dir, files[i]);
		_cleanup_free_ char *value = NULL, *old = NULL;

		if (fs_read_line(AT_FDCWD, file, &old) >= 0 && str_empty(old) &&
		    fs_read_line(AT_FDCWD, up, &value) >= 0 && !str_empty(value))
			(void)fs_write(AT_FDCWD, file, value);
	}
}

static void open_one(char *line, const char *path, struct group_home *h)
{
	bool v2;
	_cleanup_free_ char *mount = mount_of(line, &v2), *dir = NULL, *tasks = NULL;
	int fd, r;

	if (!mount || !fs_exists(mount) || (!v2 && h->n_tasks == GROUP_HOME_TASKS))
		return;
	dir = xasprintf("%s%s", mount, path);
	tasks = path_join(dir, "tasks");
	r = fs_mkdir_p(dir, 0755);
	if (r == 0 && !v2 && str_ends(mount, "cpuset")) {
		_cleanup_free_ char *up = xstrndup(dir, (size_t)(path_basename(dir) - dir) - 1);

		inherit_cpuset(up);
		inherit_cpuset(dir);
	}
	fd = r < 0 ? r
	     : v2  ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
		   : open(tasks, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		log_warn("stay in the caller's cgroup: '%s': %s", dir, strerror(r < 0 ? -r : errno));
	else if (v2)
		h->v2 = fd;
	else
		h->tasks[h->n_tasks++] = fd;
}

void group_home_open(const char *path, struct group_home *ret)
{
	_cleanup_free_ char *own = NULL;
	_cleanup_strv_ char **lines = NULL;

	*ret = (struct group_home)GROUP_HOME_INIT;
	if (fs_read(AT_FDCWD, "/proc/self/cgroup", 64 << 10, &own, NULL) < 0)
		return;
	lines = strv_split(own, "\n");
	for (char **l = lines; l && *l; l++)
		open_one(*l, path, ret);
}

void group_home_join(const struct group_home *h)
{
	_cleanup_close_ int procs = h->v2 < 0 ? -EBADF : openat(h->v2, "cgroup.procs", O_WRONLY | O_CLOEXEC);

	for (size_t i = 0; i < h->n_tasks; i++)
		(void)!write(h->tasks[i], "0", 1);
	if (procs >= 0)
		(void)!write(procs, "0", 1);
}

void group_home_close(struct group_home *h)
{
	fd_close(&h->v2);
	while (h->n_tasks)
		close(h->tasks[--h->n_tasks]);
}
