/* The image's tree is seen through a read-only overlay that is mounted nowhere: fsmount(2) gives a descriptor
 * of it, and paths are resolved inside (RESOLVE_IN_ROOT), so that links in the image lead into the image. */
#include "engine/copyup.h"

#include "base/alloc.h"
#include "base/copy.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/sbuf.h"
#include "base/strv.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static int overlay_each(int fs, char *const *layers)
{
	for (; *layers; layers++)
		if (fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", *layers, 0) < 0)
			return -errno;
	return 0;
}

/* Before Linux 6.7 the layers come in one string of at most 255 bytes: as numbers of descriptors, relative to
 * /proc/self/fd, some sixty fit. They stay open until the worker that this runs in ends. */
static int overlay_joined(int fs, char *const *layers)
{
	_cleanup_sbuf_ struct sbuf names = SBUF_INIT;

	for (char *const *l = layers; *l; l++) {
		int fd = open(*l, O_PATH | O_DIRECTORY | O_CLOEXEC);

		if (fd < 0)
			return -errno;
		sbuf_printf(&names, "%s%d", l == layers ? "" : ":", fd);
	}
	if (chdir("/proc/self/fd") < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir", names.buf, 0) < 0)
		return -errno;
	return 0;
}

static int overlay_create(int (*set_layers)(int fs, char *const *layers), char *const *layers)
{
	_cleanup_close_ int fs = fsopen("overlay", FSOPEN_CLOEXEC);
	int r = fs < 0 ? -errno : set_layers(fs, layers), mnt;

	if (r == 0 && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		r = -errno;
	if (r < 0)
		return r;
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY);
	return mnt < 0 ? -errno : mnt;
}

static int overlay_open(char *const *layers)
{
	int fd;

	if (!layers[1]) {		/* an overlay needs two directories */
		fd = open(layers[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		return fd < 0 ? -errno : fd;
	}
	fd = overlay_create(overlay_each, layers);
	return fd == -EINVAL ? overlay_create(overlay_joined, layers) : fd;
}

static bool dir_empty(int fd)
{
	DIR *d = fdopendir(fcntl(fd, F_DUPFD_CLOEXEC, 3));
	struct dirent *de;
	bool empty = true;

	while (d && empty && (de = readdir(d)))
		empty = streq(de->d_name, ".") || streq(de->d_name, "..");
	if (d)
		closedir(d);
	return empty;
}

int copy_up(char *const *layers, const char *target, const char *to, struct err *err)
{
	_cleanup_close_ int root = -EBADF, from = -EBADF, dest = -EBADF;
	int r;

	if (!layers || !layers[0])
		return 0;
	root = overlay_open(layers);
	if (root < 0)
		return err_set(err, ERR_SYSTEM, root, "open the image's file system");
	from = fs_open_in_root(root, target, O_RDONLY | O_DIRECTORY, 0);
	if (from == -ENOENT || from == -ENOTDIR || from == -ELOOP)
		return 0;
	dest = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (from < 0 || dest < 0)
		return err_set(err, ERR_SYSTEM, from < 0 ? from : -errno,
			       "copy '%s' of the image to volume '%s'", target, to);
	if (!dir_empty(dest))
		return 0;
	r = fs_copy_tree(from, dest);
	return r < 0 ? err_set(err, ERR_SYSTEM, r, "copy '%s' of the image to volume '%s'", target, to) : 0;
}
