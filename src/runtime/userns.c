/* User namespaces.
 *
 * The init is born in its new one, with all other namespaces that it is to own, by the same single clone. It
 * waits until its caller, who stays outside, has written the maps of ids. Who may not write them (an ordinary
 * user) may still map himself, or asks newuidmap and newgidmap for the ranges that /etc/subuid gives him.
 *
 * Until it has opened the root, the init has the caller's ids, as the host knows them, and none of its
 * privileges; then it becomes root of the namespace. What only the caller can reach or do, such as idmapped
 * mounts, is made before (mount_source.c). */
#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"
#include "base/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

bool userns_other(const struct oci_spec *s)
{
	const struct oci_namespace *ns = &s->ns[OCI_NS_USER];
	struct stat own, st;

	if (!ns->given || !ns->path || stat(ns->path, &st) < 0 || stat("/proc/self/ns/user", &own) < 0)
		return ns->given;
	return st.st_ino != own.st_ino || st.st_dev != own.st_dev;
}

static int write_file(pid_t pid, const char *file, const char *text)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/%s", pid, file);

	return fs_write(AT_FDCWD, path, text);
}

/* The program of that name in the caller's $PATH. */
static char *find_program(const char *name)
{
	const char *path = getenv("PATH");
	_cleanup_strv_ char **dirs = strv_split(path ? path : "/usr/local/bin:/usr/bin:/bin", ":");

	for (char **d = dirs; d && *d; d++) {
		_cleanup_free_ char *full = path_join(*d, name);

		if (**d == '/' && access(full, X_OK) == 0)
			return TAKE_PTR(full);
	}
	return NULL;
}

static int run_helper(const char *name, const char *what, pid_t pid, const struct oci_id_maps *maps,
		      struct err *e)
{
	_cleanup_free_ char *path = find_program(name);
	_cleanup_strv_ char **argv = NULL;
	_cleanup_proc_ struct proc p = PROC_INIT;
	struct spawn_args a = { .path = path };
	int r, code;

	if (!path)
		return err_msg(e, ERR_SYSTEM, -EPERM,
			       "linux.%s: needs privileges, or the program %s (package uidmap)", what, name);
	strv_add(&argv, name);
	strv_addf(&argv, "%d", pid);
	for (size_t i = 0; i < maps->n; i++) {
		strv_addf(&argv, "%u", maps->v[i].inside);
		strv_addf(&argv, "%u", maps->v[i].outside);
		strv_addf(&argv, "%u", maps->v[i].size);
	}
	a.argv = argv;
	r = proc_spawn(&a, &p);
	if (r == 0)
		r = proc_wait(&p, &code);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "run %s", path);
	return code ? err_msg(e, ERR_INVALID, -EPERM,
			      "linux.%s: not allowed by %s: no such range in /etc/%s for the user %u", what,
			      name, streq(name, "newuidmap") ? "subuid" : "subgid", getuid())
		    : 0;
}

static bool only(const struct oci_id_maps *maps, uint32_t id)
{
	return maps->n == 1 && maps->v[0].size == 1 && maps->v[0].outside == id;
}

static int write_map(pid_t pid, bool gids, const struct oci_id_maps *maps, struct err *e)
{
	const char *what = gids ? "gidMappings" : "uidMappings", *file = gids ? "gid_map" : "uid_map";
	_cleanup_free_ char *text = oci_id_maps_text(maps);
	int r = write_file(pid, file, text);

	/* Without privileges one's own group can be mapped only if groups cannot be given up. */
	if (r == -EPERM && gids && only(maps, getegid()) && write_file(pid, "setgroups", "deny") == 0)
		r = write_file(pid, file, text);
	if (r == -EPERM)
		return run_helper(gids ? "newgidmap" : "newuidmap", what, pid, maps, e);
	if (r == -EINVAL)
		return err_msg(e, ERR_INVALID, r, "linux.%s: ranges overlap or cannot be mapped here", what);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "linux.%s: write '%s'", what, file) : 0;
}

int userns_map(pid_t pid, const struct id_maps *m, struct err *e)
{
	int r = write_map(pid, true, m->gids, e);

	return r == 0 ? write_map(pid, false, m->uids, e) : r;
}

struct mapping { const struct id_maps *maps; struct err *e; };

static int map_it(pid_t pid, void *arg)
{
	struct mapping *m = arg;

	return userns_map(pid, m->maps, m->e);
}

int userns_new(const struct id_maps *m, int *ret, struct err *e)
{
	struct mapping x = { m, e };
	int r = userns_open(map_it, &x);

	if (r < 0)
		return e && e->kind ? r : err_set(e, ERR_SYSTEM, r, "make a user namespace");
	*ret = r;
	return 0;
}

int userns_become_root(const struct oci_user *u, bool outlive, struct err *e)
{
	/* Denied where an ordinary user has mapped himself. */
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return err_set(e, ERR_SYSTEM, -errno, "cannot give up the caller's groups");
	/* A namespace without a root: as the user of the process, so that files can be made. */
	if ((setresgid(0, 0, 0) < 0 && setresgid(u->gid, u->gid, u->gid) < 0) ||
	    (setresuid(0, 0, 0) < 0 && setresuid(u->uid, u->uid, u->uid) < 0))
		return err_set(e, ERR_SYSTEM, -errno, "cannot become a user of the user namespace");
	/* Changing credentials has cleared it. */
	if (!outlive && prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot bind the process to its supervisor");
	return 0;
}

/* The maps of a process, as /proc tells them to its caller. */
static bool read_maps(pid_t pid, const char *file, struct oci_id_maps *ret)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/%s", pid, file), *text = NULL;
	char *save = NULL;

	if (fs_read(AT_FDCWD, path, 1 << 16, &text, NULL) < 0)
		return false;
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		struct oci_id_map m;

		if (sscanf(l, "%u %u %u", &m.inside, &m.outside, &m.size) != 3)
			return false;
		ret->v = xrealloc(ret->v, ret->n + 1, sizeof *ret->v);
		ret->v[ret->n++] = m;
	}
	return true;
}

void userns_give_stdio(pid_t pid, const int stdio[3], uint32_t uid)
{
	struct oci_id_maps maps = { 0 };
	uint32_t outside;

	if (read_maps(pid, "uid_map", &maps) && oci_id_maps_find(&maps, uid, &outside))
		process_give_stdio(stdio, outside);
	free(maps.v);
}

static bool same_maps(pid_t pid, const char *file, const struct oci_id_maps *want)
{
	struct oci_id_maps have = { 0 };
	bool same = read_maps(pid, file, &have) && have.n == want->n;

	for (size_t i = 0; same && i < want->n; i++) {
		same = false;
		for (size_t k = 0; k < have.n; k++)
			same |= !memcmp(&want->v[i], &have.v[k], sizeof want->v[i]);
	}
	free(have.v);
	return same;
}

int userns_check_maps(pid_t pid, const struct oci_spec *s, struct err *e)
{
	const char *wrong = s->uids.n && !same_maps(pid, "uid_map", &s->uids)	? "uidMappings"
			    : s->gids.n && !same_maps(pid, "gid_map", &s->gids) ? "gidMappings"
										: NULL;

	return wrong ? err_msg(e, ERR_INVALID, 0,
			       "linux.%s: not those of the user namespace that is joined", wrong)
		     : 0;
}
