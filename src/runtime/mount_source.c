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
#include <sys/mount.h>

int source_open(const char *bundle, const struct oci_mount *m, const struct mount_opts *o, struct err *e)
{
	_cleanup_free_ char *source = NULL;
	_cleanup_close_ int from = -EBADF;
	int mnt;

	if (str_empty(m->source))
		return err_msg(e, ERR_INVALID, 0, "a bind mount needs a source");
	source = path_is_absolute(m->source) ? xstrdup(m->source) : path_join(bundle, m->source);
	from = open(source, O_PATH | O_CLOEXEC);
	if (from < 0)
		return err_set(e, ERR_SYSTEM, -errno, "source '%s'", source);
	mnt = mount_clone(from, o->recursive);
	return mnt < 0 ? err_set(e, ERR_SYSTEM, mnt, "source '%s'", source) : mnt;
}

/* -EPERM: the caller has no more rights than the init. */
static int open_one(const struct oci_spec *s, const char *bundle, const struct oci_mount *m,
		    const struct mount_opts *o, struct err *e)
{
	_cleanup_close_ int mnt = source_open(bundle, m, o, e);
	int r;

	if (mnt < 0)
		return mnt;
	/* What the container does below it must not come back to the host. */
	r = mount_set(mnt, true, 0, 0, rootfs_base_propagation(s));
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "source '%s'", m->source) : TAKE_FD(mnt);
}

int sources_open(const struct oci_spec *s, const char *bundle, bool userns, int **ret, struct err *e)
{
	int *fds, r = 0;

	if (!userns)
		return 0;
	fds = new_array(int, s->mounts.n + 1);
	for (size_t i = 0; i < s->mounts.n; i++)
		fds[i] = -EBADF;
	for (size_t i = 0; r >= 0 && i < s->mounts.n; i++) {
		const struct oci_mount *m = &s->mounts.v[i];
		_cleanup_(mount_opts_done) struct mount_opts o = { 0 };
		_cleanup_err_ struct err why = ERR_INIT;

		r = mount_opts_parse(m->options, &o, &why);
		if (r == 0 && mount_is_bind(m, &o))
			r = fds[i] = open_one(s, bundle, m, &o, &why);
		if (r == -EPERM)
			r = 0;
		if (r < 0)
			r = mount_failed(m, r, &why, e);
	}
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
