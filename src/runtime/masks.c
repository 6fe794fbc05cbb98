/* Paths that the container must not see or not change. A masked file gets the null device over it, taken from
 * the host's /dev before the root changes, because the container's own /dev/null may be something else
 * (CVE-2025-31133); all masked directories share one empty read-only directory. */
#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct mask_ctx {
	const struct oci_spec *spec;
	int rootfd, null, empty;
	bool null_used;		/* attached somewhere: from now on it can be cloned */
};

int masks_null(struct err *e)
{
	_cleanup_close_ int fd = open("/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	int mnt;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open /dev/null");
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		return err_msg(e, ERR_SYSTEM, -ENODEV, "/dev/null of the host is not the null device");
	mnt = mount_clone(fd, false);
	return mnt < 0 ? err_set(e, ERR_SYSTEM, mnt, "cannot clone /dev/null") : mnt;
}

static int mask_file(struct mask_ctx *c, int target)
{
	_cleanup_close_ int mnt = -EBADF;
	int r;

	if (!c->null_used) {
		r = mount_attach(c->null, target);
		c->null_used = r == 0;
		return r;
	}
	mnt = mount_clone(c->null, false);
	return mnt < 0 ? mnt : mount_attach(mnt, target);
}

static int mask_dir(struct mask_ctx *c, int target)
{
	char size[] = "nr_blocks=1", inodes[] = "nr_inodes=1", *data[] = { size, inodes, NULL };
	uint64_t attrs = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
	_cleanup_close_ int mnt = -EBADF;
	int r;

	/* The first is a file system of its own; once attached it can be cloned for the others. */
	mnt = c->empty < 0 ? mount_tmpfs(c->spec, "tmpfs", data, attrs, NULL) : mount_clone(c->empty, false);
	r = mnt < 0 ? mnt : mount_attach(mnt, target);
	if (r == 0 && c->empty < 0)
		c->empty = TAKE_FD(mnt);
	return r;
}

static int mask_one(struct mask_ctx *c, const char *path)
{
	_cleanup_close_ int target = fs_open_in_root(c->rootfd, path, O_PATH, 0);
	struct stat st;

	if (target == -ENOENT || target == -ENOTDIR)
		return 0;
	if (target < 0 || fstat(target, &st) < 0)
		return target < 0 ? target : -errno;
	return S_ISDIR(st.st_mode) ? mask_dir(c, target) : mask_file(c, target);
}

static int readonly_one(int rootfd, const char *path)
{
	_cleanup_close_ int target = fs_open_in_root(rootfd, path, O_PATH, 0), mnt = -EBADF;
	int r;

	if (target == -ENOENT || target == -ENOTDIR)
		return 0;
	if (target < 0)
		return target;
	mnt = mount_clone(target, true);
	r = mnt < 0 ? mnt : mount_attach(mnt, target);
	return r < 0 ? r : mount_set(mnt, true, MOUNT_ATTR_RDONLY, 0, 0);
}

int masks_apply(const struct oci_spec *s, int rootfd, int null, struct err *e)
{
	struct mask_ctx c = { s, rootfd, null, -EBADF, false };
	int r = 0;

	for (char **p = s->readonly_paths; r == 0 && p && *p; p++) {
		r = readonly_one(rootfd, *p);
		if (r < 0)
			err_set(e, ERR_SYSTEM, r, "cannot make path \"%s\" read-only", *p);
	}
	for (char **p = s->masked_paths; r == 0 && p && *p; p++) {
		r = mask_one(&c, *p);
		if (r < 0)
			err_set(e, ERR_SYSTEM, r, "cannot mask path \"%s\"", *p);
	}
	fd_close(&c.empty);
	return r;
}
