/* The processes of a control group: how one gets in, who is there, and how the group ends with them. */
#include "runtime/cgroup.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KILL_ROUNDS 2500		/* of 2 ms: a loaded host takes its time */

/* --- getting in --- */

int cgroup_open_v2(const struct cgroup *cg)
{
	for (size_t i = 0; i < cg->n; i++)
		if (cg->h[i].v2) {
			_cleanup_free_ char *dir = cgroup_file(cg, &cg->h[i], "");
			int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			return fd < 0 ? -errno : fd;
		}
	return -ENOENT;
}

int cgroup_open_tasks(const struct cgroup *cg, int ret[CGROUP_MAX_HIERARCHIES], size_t *ret_n, struct err *e)
{
	size_t n = 0;

	for (size_t i = 0; i < cg->n; i++) {
		_cleanup_free_ char *path = cg->h[i].v2 ? NULL : cgroup_file(cg, &cg->h[i], "tasks");
		int fd = path ? open(path, O_WRONLY | O_CLOEXEC) : -ENOENT;

		if (path && fd < 0 && errno != ENOENT) {
			int r = err_set(e, ERR_SYSTEM, -errno, "open '%s'", path);

			while (n)
				close(ret[--n]);
			return r;
		}
		if (path && fd >= 0)
			ret[n++] = fd;
	}
	*ret_n = n;
	return 0;
}

int cgroup_join(const int *tasks, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++)
		if (RETRY(write(tasks[i], "0", 1)) < 0)
			return err_set(e, ERR_SYSTEM, -errno, "join the container's cgroup");
	return 0;
}

int cgroup_enter(const struct cgroup *cg)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < cg->n; i++) {
		_cleanup_free_ char *path =
			cgroup_file(cg, &cg->h[i], cg->h[i].v2 ? "cgroup.procs" : "tasks");

		r = fs_write(AT_FDCWD, path, "0");
		if (r == -ENOENT)	/* a hierarchy that we may not write to */
			r = 0;
	}
	return r;
}

/* --- who is there --- */

static void add_pids(const char *dir, const char *file, pid_t **v, size_t *n)
{
	_cleanup_free_ char *path = path_join(dir, file), *text = NULL;
	struct dirent *de;
	DIR *d;

	if (fs_read(AT_FDCWD, path, 8 << 20, &text, NULL) == 0)
		for (char *save = NULL, *l = strtok_r(text, "\n", &save); l;
		     l = strtok_r(NULL, "\n", &save)) {
			pid_t pid = (pid_t)strtol(l, NULL, 10);
			bool known = false;

			for (size_t i = 0; i < *n; i++)
				known |= (*v)[i] == pid;
			if (pid <= 0 || known)
				continue;
			*v = xrealloc(*v, *n + 1, sizeof **v);
			(*v)[(*n)++] = pid;
		}
	d = opendir(dir);
	while (d && (de = readdir(d)))
		if (de->d_type == DT_DIR && de->d_name[0] != '.') {
			_cleanup_free_ char *sub = path_join(dir, de->d_name);

			add_pids(sub, file, v, n);
		}
	if (d)
		closedir(d);
}

/* The hierarchy that knows the container's processes best: v2 if it is there, else any. */
static const struct cgroup_hier *process_hier(const struct cgroup *cg)
{
	static const char *const order[] = { "pids", "freezer", "memory", "devices", "cpu" };

	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		const struct cgroup_hier *h = cgroup_hier_of(cg, order[i]);
		_cleanup_free_ char *dir = h ? cgroup_file(cg, h, "") : NULL;

		if (dir && fs_exists(dir))
			return h;
	}
	return cg->n ? &cg->h[0] : NULL;
}

int cgroup_pids(const struct cgroup *cg, pid_t **ret, size_t *ret_n)
{
	const struct cgroup_hier *h = process_hier(cg);
	_cleanup_free_ char *dir = h ? cgroup_file(cg, h, "") : NULL;

	*ret = NULL;
	*ret_n = 0;
	if (!dir)
		return -ENOENT;
	add_pids(dir, "cgroup.procs", ret, ret_n);
	return 0;
}

int cgroup_signal(const struct cgroup *cg, int signo)
{
	bool all_at_once = signo == SIGKILL && cg->unified;
	_cleanup_free_ char *at_once = all_at_once ? cgroup_file(cg, &cg->h[0], "cgroup.kill") : NULL;
	_cleanup_free_ pid_t *pids = NULL;
	size_t n;
	int r;

	/* Since Linux 5.14: nothing that forks meanwhile escapes, and the frozen die too. */
	if (at_once && fs_write(AT_FDCWD, at_once, "1") == 0)
		return 0;
	r = cgroup_pids(cg, &pids, &n);
	for (size_t i = 0; r == 0 && i < n; i++)
		(void)kill(pids[i], signo);
	if (signo == SIGKILL && cgroup_frozen(cg))
		(void)cgroup_freeze(cg, false, NULL);
	return r;
}

/* --- the end --- */

static int remove_tree(const char *dir)
{
	struct dirent *de;
	DIR *d;

	/* Most have no groups below them. */
	if (rmdir(dir) == 0)
		return 0;
	d = opendir(dir);
	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while ((de = readdir(d)))
		if (de->d_type == DT_DIR && de->d_name[0] != '.') {
			_cleanup_free_ char *sub = path_join(dir, de->d_name);

			(void)remove_tree(sub);
		}
	closedir(d);
	return rmdir(dir) < 0 && errno != ENOENT ? -errno : 0;
}

int cgroup_remove(struct cgroup *cg, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < cg->n; i++) {
		_cleanup_free_ char *dir = cgroup_file(cg, &cg->h[i], "");

		/* The kernel keeps a group busy for a moment after its last process; who refuses to go is
		 * killed. */
		for (int round = 0; round < KILL_ROUNDS; round++) {
			r = remove_tree(dir);
			if (r != -EBUSY)
				break;
			(void)cgroup_signal(cg, SIGKILL);
			usleep(round < 10 ? 200 : 2000);
		}
		if (r < 0)
			return err_set(e, ERR_SYSTEM, r, "cannot remove cgroup '%s'", dir);
	}
	return 0;
}
