#include "shim/shim.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>

int rootfs_private_mounts(void)
{
	if (unshare(CLONE_NEWNS) < 0)
		return -errno;
	/* Slave: unmounts on the host still reach us, nothing of ours reaches the host. */
	return mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0 ? -errno : 0;
}

static int set(int fs, const char *key, const char *value)
{
	return fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno : 0;
}

/* lowerdir= takes at most a page; lowerdir+ (6.5) has no such limit and needs no escaping. */
static int set_lower(int fs, char *const *lower)
{
	_cleanup_free_ char *joined = NULL;
	int r = 0;

	for (char *const *l = lower; r == 0 && *l; l++)
		r = set(fs, "lowerdir+", *l);
	if (r == 0 || r != -EINVAL)
		return r;
	joined = strv_join(lower, ":");
	return set(fs, "lowerdir", joined);
}

int rootfs_mount(const struct msg_create *m, struct err *e)
{
	_cleanup_free_ char *target = path_join(m->bundle, "rootfs");
	_cleanup_close_ int fs = -EBADF, mnt = -EBADF;
	int r = fs_mkdir_p(target, 0755);

	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "create '%s'", target);
	fs = fsopen("overlay", FSOPEN_CLOEXEC);
	if (fs < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open overlay file system");
	r = set_lower(fs, m->lower);
	if (r == 0)
		r = set(fs, "upperdir", m->upper);
	if (r == 0)
		r = set(fs, "workdir", m->work);
	if (r == 0 && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		r = -errno;
	if (r == 0) {
		mnt = fsmount(fs, FSMOUNT_CLOEXEC, 0);
		if (mnt < 0)
			r = -errno;
	}
	if (r == 0 && move_mount(mnt, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		r = -errno;
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "mount the root file system of container '%s'", m->ctr) : 0;
}

int rootfs_umount(const char *bundle, struct err *e)
{
	_cleanup_free_ char *target = path_join(bundle, "rootfs");

	if (umount2(target, MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
		return err_set(e, ERR_SYSTEM, -errno, "unmount '%s'", target);
	return 0;
}
