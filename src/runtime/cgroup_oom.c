/* What the OOM killer does in a group: counted, and told when it happens. */
#include "runtime/cgroup.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

uint64_t cgroup_oom_kills(const struct cgroup *cg)
{
	const struct cgroup_hier *h = cgroup_hier_of(cg, "memory");
	const char *file = cg->unified ? "memory.events" : "memory.oom_control";
	_cleanup_free_ char *path = h ? cgroup_file(cg, h, file) : NULL, *text = NULL;
	unsigned long long n = 0;
	const char *p;

	if (path && fs_read(AT_FDCWD, path, 64 << 10, &text, NULL) == 0 && (p = strstr(text, "oom_kill ")))
		(void)sscanf(p, "oom_kill %llu", &n);
	return n;
}

/* v1: an eventfd that the kernel raises; it is named, with the control file, in cgroup.event_control. */
static int watch_oom1(const struct cgroup *cg, const struct cgroup_hier *h)
{
	_cleanup_free_ char *path = cgroup_file(cg, h, "memory.oom_control"),
			    *control = cgroup_file(cg, h, "cgroup.event_control"), *line = NULL;
	_cleanup_close_ int file = open(path, O_RDONLY | O_CLOEXEC), fd = -EBADF;
	int r;

	if (file < 0)
		return -errno;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	line = xasprintf("%d %d", fd, file);
	r = fs_write(AT_FDCWD, control, line);
	return r < 0 ? r : TAKE_FD(fd);
}

int cgroup_watch_oom(const struct cgroup *cg)
{
	const struct cgroup_hier *h = cgroup_hier_of(cg, "memory");
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -EBADF;

	if (!h)
		return -ENOENT;
	if (!cg->unified)
		return watch_oom1(cg, h);
	path = cgroup_file(cg, h, "memory.events");
	fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (fd < 0 || inotify_add_watch(fd, path, IN_MODIFY) < 0)
		return -errno;
	return TAKE_FD(fd);
}
