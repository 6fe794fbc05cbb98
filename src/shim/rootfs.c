/* Theory of operation.
 *
 * A container's mounts exist in the shim's mount namespace only. It receives what the host unmounts and
 * gives nothing back, so no mount of the host is held busy and none of ours shows there.
 *
 * The layers go to overlayfs one by one (lowerdir+, Linux 6.7). Older kernels take them in one string of
 * at most a page (mount(2); fsconfig(2) takes 256 bytes only): there each directory is named by the number
 * of its descriptor, relative to /proc/self/fd, so that hundreds fit. Before Linux 6.5 overlayfs says only
 * when the file system is created that it does not know lowerdir+. */
#include "shim/shim.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/mount.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#define VALUE_MAX 255		/* of fsconfig(2) */
#define LAYERS_MAX 500		/* of overlayfs */

int rootfs_private_mounts(void)
{
	if (unshare(CLONE_NEWNS) < 0)
		return -errno;
	/* Slave: unmounts on the host still reach us, nothing of ours reaches the host. */
	return mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0 ? -errno : 0;
}

/* Descriptors of the directories of one mount, held until it is made. */
struct dirs { int fd[LAYERS_MAX + 3]; size_t n; };

static void dirs_close(struct dirs *d)
{
	while (d->n)
		close(d->fd[--d->n]);
}

static int dirs_open(struct dirs *d, const char *path)
{
	int fd = d->n < ARRAY_SIZE(d->fd) ? open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd < 0)
		return d->n < ARRAY_SIZE(d->fd) ? -errno : -E2BIG;
	return d->fd[d->n++] = fd;
}

static int set(int fs, struct dirs *d, const char *key, const char *path)
{
	struct fd_path by_fd;

	if (strlen(path) > VALUE_MAX) {
		int fd = dirs_open(d, path);

		if (fd < 0)
			return fd;
		by_fd = fd_proc_path(fd);
		path = by_fd.s;
	}
	return fsconfig(fs, FSCONFIG_SET_STRING, key, path, 0) < 0 ? -errno : 0;
}

/* A new overlay, not yet mounted anywhere. -EOPNOTSUPP if the kernel may not know lowerdir+. */
static int overlay_new(const struct msg_create *m, char log[256])
{
	_cleanup_(dirs_close) struct dirs d = { .n = 0 };
	_cleanup_close_ int fs = fsopen("overlay", FSOPEN_CLOEXEC);
	int r = 0, mnt;
	ssize_t n;

	if (fs < 0)
		return errno == ENOSYS ? -EOPNOTSUPP : -errno;
	for (char **l = m->lower; r == 0 && *l; l++)
		r = set(fs, &d, "lowerdir+", *l);
	if (r == 0 && *m->upper)
		r = set(fs, &d, "upperdir", m->upper);
	if (r == 0 && *m->upper)
		r = set(fs, &d, "workdir", m->work);
	if (r == 0 && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		r = -errno;
	if (r < 0) {
		/* What the kernel has to say about it: "e overlay: ..." */
		n = read(fs, log, 255);
		log[n > 0 ? n : 0] = 0;
		log[strcspn(log, "\n")] = 0;
		return r == -EINVAL ? -EOPNOTSUPP : r;
	}
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, *m->upper ? 0 : MOUNT_ATTR_RDONLY);
	return mnt < 0 ? -errno : mnt;
}

static int overlay_mount_old(const struct msg_create *m, const char *target)
{
	_cleanup_(dirs_close) struct dirs d = { .n = 0 };
	_cleanup_sbuf_ struct sbuf opts = SBUF_INIT;
	int fd, upper = 0, work = 0, r = 0;

	sbuf_puts(&opts, "lowerdir=");
	for (char **l = m->lower; *l; l++) {
		fd = dirs_open(&d, *l);
		if (fd < 0)
			return fd;
		sbuf_printf(&opts, "%s%d", l == m->lower ? "" : ":", fd);
	}
	if (*m->upper) {
		upper = dirs_open(&d, m->upper);
		work = upper < 0 ? upper : dirs_open(&d, m->work);
		if (work < 0)
			return work;
		sbuf_printf(&opts, ",upperdir=%d,workdir=%d", upper, work);
	}
	if (opts.len >= (size_t)sysconf(_SC_PAGESIZE))
		return -E2BIG;
	if (chdir("/proc/self/fd") < 0)
		return -errno;
	if (mount("overlay", target, "overlay", *m->upper ? 0 : MS_RDONLY, opts.buf) < 0)
		r = -errno;
	return chdir("/") < 0 ? -errno : r;
}

/* One directory alone is no overlay: it is mounted as it is, read-only if it is a layer. */
static int single_new(const char *dir)
{
	int mnt = open_tree(AT_FDCWD, dir, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	return mnt < 0 ? -errno : mnt;
}

int rootfs_mount(const struct msg_create *m, const char *target, struct err *e)
{
	_cleanup_close_ int mnt = -EBADF;
	char log[256] = "";
	size_t n = strv_len(m->lower);
	int r = fs_mkdir_p(target, 0755);

	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "create '%s'", target);
	if (!n || (n == 1 && !*m->upper))
		mnt = single_new(n ? m->lower[0] : m->upper);
	else
		mnt = overlay_new(m, log);
	if (mnt == -EOPNOTSUPP)
		r = overlay_mount_old(m, target);
	else if (mnt < 0)
		r = mnt;
	else if (move_mount(mnt, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		r = -errno;
	else if (!*m->upper)
		r = mount_set(mnt, false, MOUNT_ATTR_RDONLY, 0, 0);
	if (r < 0 && *log)
		return err_set(e, ERR_SYSTEM, r, "mount the root file system of container '%s' (%s)", m->ctr,
			       log);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "mount the root file system of container '%s'", m->ctr) : 0;
}

int rootfs_umount(const char *bundle, struct err *e)
{
	_cleanup_free_ char *target = path_join(bundle, "rootfs");

	if (umount2(target, MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
		return err_set(e, ERR_SYSTEM, -errno, "unmount '%s'", target);
	return 0;
}
