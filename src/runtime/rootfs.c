/* The container's root: making it a mount, resolving targets in it, making it the root of the process. */
#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static const struct { const char *name; unsigned long flag; } propagations[] = {
	{ "private", MS_PRIVATE | MS_REC }, { "rprivate", MS_PRIVATE | MS_REC },
	{ "slave", MS_SLAVE | MS_REC }, { "rslave", MS_SLAVE | MS_REC },
	{ "shared", MS_SHARED | MS_REC }, { "rshared", MS_SHARED | MS_REC },
	{ "unbindable", MS_UNBINDABLE | MS_REC }, { "runbindable", MS_UNBINDABLE | MS_REC },
};

static unsigned long propagation_flag(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(propagations); i++)
		if (streq(name, propagations[i].name))
			return propagations[i].flag;
	return 0;
}

static bool is_mount_root(int fd)
{
	struct statx sx;

	return statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, 0, &sx) == 0 &&
	       (sx.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) &&
	       (sx.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

/* Nothing done here may reach the host. Slave keeps what the host mounts later below a bind mount visible;
 * "shared" is given at the end, to the new root only. */
unsigned long rootfs_base_propagation(const struct oci_spec *s)
{
	return propagation_flag(s->rootfs_propagation) & MS_PRIVATE ? MS_PRIVATE : MS_SLAVE;
}

int rootfs_prepare(const struct oci_spec *s, const char *bundle, bool userns, int *ret_rootfd, struct err *e)
{
	_cleanup_free_ char *path = path_is_absolute(s->root.path) ? xstrdup(s->root.path)
								   : path_join(bundle, s->root.path);
	unsigned long flag = propagation_flag(s->rootfs_propagation);
	_cleanup_close_ int fd = -EBADF, mnt = -EBADF;
	int r;

	if (!str_empty(s->rootfs_propagation) && !flag)
		return err_msg(e, ERR_INVALID, 0, "linux.rootfsPropagation: unknown value '%s'",
			       s->rootfs_propagation);
	if (mount(NULL, "/", NULL, rootfs_base_propagation(s) | MS_REC, NULL) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot detach the mount tree from the host's");
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, ERR_SYSTEM, -errno, "invalid rootfs: '%s'", path);
	/* In a user namespace the mounts of the host are locked in their places. */
	if (userns || !is_mount_root(fd)) {
		mnt = mount_clone(fd, true);
		r = mnt < 0 ? mnt : mount_attach(mnt, fd);
		if (r < 0)
			return err_set(e, ERR_SYSTEM, r, "cannot mount rootfs '%s'", path);
		fd_close(&fd);
		fd = TAKE_FD(mnt);	/* attached: it names the root of the new mount now */
	}
	*ret_rootfd = TAKE_FD(fd);
	return 0;
}

/* Opens a directory without following any symlink: an image whose /proc is a link or a file must not
 * receive what is meant for the kernel (CVE-2019-19921, CVE-2023-27561). */
static int open_real_dir(int rootfd, const char *path)
{
	struct open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	int fd;

	for (int i = 0; i < 128; i++) {
		fd = (int)syscall(SYS_openat2, rootfd, path, &how, sizeof how);
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return fd < 0 ? -errno : fd;
}

static int make_file(int rootfd, const char *clean)
{
	_cleanup_free_ char *parent = xstrndup(clean, (size_t)(path_basename(clean) - clean));
	_cleanup_close_ int dir = fs_mkdir_in_root(rootfd, parent, 0755), fd = -EBADF;

	if (dir < 0)
		return dir;
	fd = openat(dir, path_basename(clean), O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0 && errno != EEXIST)
		return -errno;
	return fs_open_in_root(rootfd, clean, O_PATH, 0);
}

int rootfs_target(int rootfd, const char *path, bool dir, bool follow, bool *ret_created, struct err *e)
{
	_cleanup_free_ char *clean = path_clean(path);
	bool special = streq(clean, "/proc") || streq(clean, "/sys") || streq(clean, "/dev"), created = false;
	int fd = special ? open_real_dir(rootfd, clean)
			 : fs_open_in_root(rootfd, clean,
					   O_PATH | (dir ? O_DIRECTORY : 0) | (follow ? 0 : O_NOFOLLOW), 0);

	if (fd == -ENOENT) {
		created = true;
		fd = dir ? fs_mkdir_in_root(rootfd, clean, 0755) : make_file(rootfd, clean);
		if (fd >= 0 && special) {
			close(fd);
			fd = open_real_dir(rootfd, clean);
		}
	}
	if (fd < 0 && special && (fd == -ELOOP || fd == -ENOTDIR))
		return err_msg(e, ERR_INVALID, fd, "\"%s\" of the image is not a real directory", clean);
	if (fd < 0)
		return err_set(e, ERR_SYSTEM, fd, "cannot open or make the mount point");
	if (ret_created)
		*ret_created = created;
	return fd;
}

int rootfs_link(int rootfd, const char *path, const char *content, struct err *e)
{
	_cleanup_free_ char *clean = path_clean(path),
			    *parent = xstrndup(clean, (size_t)(path_basename(clean) - clean));
	_cleanup_close_ int dir = fs_mkdir_in_root(rootfd, parent, 0755);
	const char *name = path_basename(clean);
	char there[PATH_MAX];
	ssize_t n;

	if (dir < 0)
		return err_set(e, ERR_SYSTEM, dir, "make the directory of the link");
	if (symlinkat(content, dir, name) == 0)
		return 0;
	if (errno != EEXIST)
		return err_set(e, ERR_SYSTEM, -errno, "make the link");
	n = readlinkat(dir, name, there, sizeof there - 1);
	if (n >= 0)
		there[n] = 0;
	return n >= 0 && streq(there, content)
		       ? 0
		       : err_msg(e, ERR_INVALID, -EEXIST, "copy-symlink: something else is there already");
}

int rootfs_finish(const struct oci_spec *s, int rootfd, struct err *e)
{
	int r = s->root.readonly ? mount_set(rootfd, false, MOUNT_ATTR_RDONLY, 0, 0) : 0;

	return r < 0 ? err_set(e, ERR_SYSTEM, r, "cannot make the root read-only") : 0;
}

int rootfs_pivot(int rootfd, const char *propagation, bool no_pivot, struct err *e)
{
	unsigned long flag = propagation_flag(propagation);

	if (fchdir(rootfd) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot enter the root");
	if (no_pivot) {
		if (mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0)
			return err_set(e, ERR_SYSTEM, -errno, "cannot move the root");
	} else {
		/* The old root lands on top of the new one and goes from there (pivot_root(2), NOTES). */
		if (syscall(SYS_pivot_root, ".", ".") < 0)
			return err_set(e, ERR_SYSTEM, -errno, "pivot_root");
		if (umount2(".", MNT_DETACH) < 0)
			return err_set(e, ERR_SYSTEM, -errno, "cannot detach the old root");
	}
	if (chdir("/") < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot enter the root");
	if (flag && mount(NULL, "/", NULL, flag, NULL) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot set the propagation of the root");
	return 0;
}
