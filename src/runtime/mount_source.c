/* The sources of bind mounts, and their mapping of ids.
 *
 * An init in a user namespace has the caller's id and none of his privileges: it does not reach a source
 * below somebody else's private directory, and may not map ids of the host's file systems. So the caller
 * makes such mounts, detached, before the init is born, which has only to attach them. */
#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

/* The path of "/proc/PID/root/PATH", which is in the root of another container; NULL if it is none. */
static const char *foreign_path(const char *source, int *ret_pid)
{
	int n = 0;

	return sscanf(source, "/proc/%d/root/%n", ret_pid, &n) == 1 && n ? source + n - 1 : NULL;
}

/* Such a source is resolved there, not by way of our root, and cloned from within its mount namespace, as the
 * kernel clones only what the caller's own has. */
static int clone_foreign(const char *source, bool recursive, struct err *e)
{
	int pid;
	const char *path = foreign_path(source, &pid);
	_cleanup_free_ char *at = xasprintf("/proc/%d/root", pid), *ns = xasprintf("/proc/%d/ns/mnt", pid);
	_cleanup_close_ int root = -EBADF, from = -EBADF, theirs = -EBADF, own = -EBADF, mnt = -EBADF;

	root = open(at, O_PATH | O_DIRECTORY | O_CLOEXEC);
	theirs = open(ns, O_RDONLY | O_CLOEXEC);
	own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	if (root < 0 || theirs < 0 || own < 0)
		return err_set(e, ERR_SYSTEM, -errno, "source '%s'", source);
	from = fs_open_in_root(root, path, O_PATH, 0);
	if (from < 0)
		return err_set(e, ERR_SYSTEM, from, "source '%s'", source);
	if (setns(theirs, CLONE_NEWNS) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "join the mount namespace of '%s'", source);
	mnt = mount_clone(from, recursive);
	/* Without a way back there is no going on. */
	if (setns(own, CLONE_NEWNS) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "leave the mount namespace of '%s'", source);
	return mnt < 0 ? err_set(e, ERR_SYSTEM, mnt, "source '%s'", source) : TAKE_FD(mnt);
}

int source_open(const char *bundle, const struct oci_mount *m, const struct mount_opts *o, struct err *e)
{
	_cleanup_free_ char *source = NULL;
	_cleanup_close_ int from = -EBADF;
	int mnt, pid;

	if (str_empty(m->source))
		return err_msg(e, ERR_INVALID, 0, "a bind mount needs a source");
	source = path_is_absolute(m->source) ? xstrdup(m->source) : path_join(bundle, m->source);
	if (foreign_path(source, &pid))
		return clone_foreign(source, o->recursive, e);
	from = open(source, O_PATH | O_CLOEXEC | (o->src_nofollow || o->copy_symlink ? O_NOFOLLOW : 0));
	if (from < 0)
		return err_set(e, ERR_SYSTEM, -errno, "source '%s'", source);
	if (!str_empty(m->subpath)) {
		int below = fs_open_in_root(from, m->subpath, O_PATH, 0);

		if (below < 0)
			return err_set(e, ERR_SYSTEM, below, "cannot access path '%s' in '%s'", m->subpath,
				       source);
		close(from);
		from = below;
	}
	mnt = mount_clone(from, o->recursive);
	return mnt < 0 ? err_set(e, ERR_SYSTEM, mnt, "source '%s'", source) : mnt;
}

/* --- idmapped mounts --- */

/* The user namespace whose maps the mount is to have. */
static int open_maps(const struct oci_spec *s, const struct oci_mount *m, const struct mount_opts *o,
		     int *ret, struct err *e)
{
	const char *path = s->ns[OCI_NS_USER].path;
	struct oci_id_maps uids = { 0 }, gids = { 0 };
	struct id_maps maps = { &m->uids, &m->gids };
	int r = 0;

	if (!m->uids.n != !m->gids.n)
		return err_msg(e, ERR_INVALID, 0, "uidMappings and gidMappings must be given together");
	if (!m->uids.n && o->idmap_maps) {
		if (oci_id_maps_parse(o->idmap_maps, &s->uids, &s->gids, &uids, &gids) < 0)
			r = err_msg(e, ERR_INVALID, 0, "idmap=%s: cannot be understood", o->idmap_maps);
		maps = (struct id_maps){ &uids, &gids };
	} else if (!m->uids.n && path) {
		*ret = open(path, O_RDONLY | O_CLOEXEC);
		return *ret < 0 ? err_set(e, ERR_SYSTEM, -errno, "open '%s'", path) : 0;
	} else if (!m->uids.n) {
		if (!s->ns[OCI_NS_USER].given)
			r = err_msg(e, ERR_INVALID, 0,
				    "idmap: needs mappings, or a user namespace of the container");
		maps = (struct id_maps){ &s->uids, &s->gids };
	}
	if (r == 0)
		r = userns_new(&maps, ret, e);
	free(uids.v);
	free(gids.v);
	return r;
}

static int map_ids(int mnt, const struct oci_spec *s, const struct oci_mount *m, const struct mount_opts *o,
		   struct err *e)
{
	_cleanup_close_ int userns = -EBADF;
	int r = open_maps(s, m, o, &userns, e);

	if (r < 0)
		return r;
	r = mount_set_idmap(mnt, o->idmap_rec, userns);
	switch (-r) {
	case 0:
		return 0;
	case ENOSYS:
		return err_msg(e, ERR_SYSTEM, -EOPNOTSUPP,
			       "idmapped mounts are not there before Linux 5.12 (mount_setattr)");
	case EPERM:
		return err_msg(e, ERR_SYSTEM, -EACCES,
			       "idmapped mounts need privileges over the file system of '%s'", m->source);
	case EINVAL:
		return err_msg(e, ERR_SYSTEM, -EOPNOTSUPP,
			       "the file system of '%s' cannot be idmapped, or is already", m->source);
	default:
		return err_set(e, ERR_SYSTEM, r, "cannot map the ids of '%s'", m->source);
	}
}

/* --- all --- */

/* -EPERM: the caller has no more rights than the init, which may try. */
static int open_one(const struct oci_spec *s, const char *bundle, const struct oci_mount *m,
		    const struct mount_opts *o, struct err *e)
{
	_cleanup_close_ int mnt = source_open(bundle, m, o, e);
	bool mapped = o->idmap || m->uids.n || m->gids.n;
	int r = mnt < 0 ? mnt : 0;

	if (r == -EPERM && mapped)
		return err_msg(e, ERR_SYSTEM, -EACCES, "idmapped mounts need privileges");
	if (r == 0 && mapped)
		r = map_ids(mnt, s, m, o, e);
	if (r < 0)
		return r;
	/* What the container does below it must not come back to the host. */
	r = mount_set(mnt, true, 0, 0, rootfs_base_propagation(s));
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "source '%s'", m->source) : TAKE_FD(mnt);
}

static bool wants_map(const struct oci_mount *m)
{
	for (char **o = m->options; o && *o; o++)
		if (str_starts(*o, "idmap") || str_starts(*o, "ridmap"))
			return true;
	return m->uids.n || m->gids.n;
}

/* *ret: -EBADF = left to the init. */
static int open_if_needed(const struct oci_spec *s, const char *bundle, const struct oci_mount *m,
			  bool userns, int *ret, struct err *e)
{
	_cleanup_(mount_opts_done) struct mount_opts o = { 0 };
	_cleanup_err_ struct err why = ERR_INIT;
	bool mapped = wants_map(m);
	int r = userns || mapped ? mount_opts_parse(m->options, &o, &why) : 0;

	if (r == 0 && mapped && !mount_is_bind(m, &o))
		r = err_msg(&why, ERR_INVALID, -EOPNOTSUPP, "only bind mounts can be idmapped");
	else if (r == 0 && (mapped || (userns && mount_is_bind(m, &o))))
		r = open_one(s, bundle, m, &o, &why);
	else
		return r < 0 ? mount_failed(m, r, &why, e) : 0;
	if (r < 0)
		return r == -EPERM ? 0 : mount_failed(m, r, &why, e);
	*ret = r;
	return 0;
}

int sources_open(const struct oci_spec *s, const char *bundle, bool userns, int **ret, struct err *e)
{
	bool any = userns;
	int *fds, r = 0;

	for (size_t i = 0; !any && i < s->mounts.n; i++)
		any = wants_map(&s->mounts.v[i]);
	if (!any)
		return 0;
	fds = new_array(int, s->mounts.n + 1);
	for (size_t i = 0; i < s->mounts.n; i++)
		fds[i] = -EBADF;
	for (size_t i = 0; r == 0 && i < s->mounts.n; i++)
		r = open_if_needed(s, bundle, &s->mounts.v[i], userns, &fds[i], e);
	if (r < 0) {
		sources_close(s, fds);
		return r;
	}
	*ret = fds;
	return 0;
}

void sources_close(const struct oci_spec *s, int *sources)
{
	for (size_t i = 0; sources && i < s->mounts.n; i++)
		fd_close(&sources[i]);
	free(sources);
}
