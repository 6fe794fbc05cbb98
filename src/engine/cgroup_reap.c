/* What is left of containers whose supervisor was killed: their processes, and their machine's. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "engine/worker.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define REAP_DEPTH 16

/* Every process of the group and of those below is killed, then the groups go, the innermost first. */
static int reap_tree(const char *dir, unsigned depth)
{
	_cleanup_free_ char *procs = path_join(dir, "cgroup.procs"), *text = NULL;
	_cleanup_strv_ char **pids = NULL;
	DIR *d = opendir(dir);
	struct dirent *de;

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while (depth < REAP_DEPTH && (de = readdir(d)))
		if (de->d_type == DT_DIR && de->d_name[0] != '.') {
			_cleanup_free_ char *sub = path_join(dir, de->d_name);

			(void)reap_tree(sub, depth + 1);
		}
	closedir(d);
	if (fs_read(AT_FDCWD, procs, 1 << 20, &text, NULL) >= 0)
		pids = strv_split(text, "\n");
	for (char **p = pids; p && *p; p++) {
		_cleanup_proc_ struct proc proc = PROC_INIT;
		uint64_t pid;

		if (str_to_u64(*p, &pid) == 0 && pid > 1 && proc_open((pid_t)pid, &proc) == 0)
			(void)proc_kill(&proc, SIGKILL);
	}
	for (unsigned i = 0; i < 200; i++) {
		if (rmdir(dir) == 0 || errno == ENOENT)
			return 0;
		usleep(10000);
	}
	return -EBUSY;
}

/* Whether it is the group of one of them, or of its machine. */
static bool belongs(const char *group, char *const *ids)
{
	for (; *ids; ids++) {
		const char *suffix = str_starts(group, *ids) ? group + strlen(*ids) : NULL;

		if (suffix && (!*suffix || streq(suffix, "-vm")))
			return true;
	}
	return false;
}

/* Their groups, wherever they are: --cgroup-parent may be anything. */
static void reap_named(const char *dir, char *const *ids, unsigned depth)
{
	DIR *d = depth < REAP_DEPTH ? opendir(dir) : NULL;
	struct dirent *de;

	while (d && (de = readdir(d))) {
		_cleanup_free_ char *sub = NULL;

		if (de->d_type != DT_DIR || de->d_name[0] == '.')
			continue;
		sub = path_join(dir, de->d_name);
		if (belongs(de->d_name, ids))
			(void)reap_tree(sub, 0);
		else
			reap_named(sub, ids, depth + 1);
	}
	if (d)
		closedir(d);
}

struct reaping {
	char **ids;
	void (*done)(void *ud);
	void *userdata;
};

static int reap_worker(void *arg, struct sbuf *out, struct err *err)
{
	const struct reaping *p = arg;

	reap_named("/sys/fs/cgroup", p->ids, 0);
	return 0;
}

static void reap_done(void *ud, int r, const struct err *e, const struct sbuf *out)
{
	struct reaping *p = ud;

	if (p->done)
		p->done(p->userdata);
	strv_free(p->ids);
	free(p);
}

void cgroup_reap(struct engine *e, char *const *ids, void (*done)(void *ud), void *ud)
{
	struct reaping *p = new0(struct reaping);

	*p = (struct reaping){strv_copy(ids), done, ud};
	if (worker_run(e->loop, reap_worker, p, reap_done, p) < 0)
		reap_done(p, 0, NULL, NULL);
}
