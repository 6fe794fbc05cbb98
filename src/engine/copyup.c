/* The image's tree is seen through a read-only overlay that is mounted nowhere: fsmount(2) gives a descriptor
 * of it, and paths are resolved inside (RESOLVE_IN_ROOT), so that links in the image lead into the image. */
#include "engine/copyup.h"

#include "base/alloc.h"
#include "base/copy.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

static int overlay_open(char *const *layers)
{
	_cleanup_close_ int fs = -EBADF;
	_cleanup_free_ char *joined = NULL;
	int mnt, r = 0;

	if (!layers[1])		/* an overlay needs two directories */
		return open(layers[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fs = fsopen("overlay", FSOPEN_CLOEXEC);
	if (fs < 0)
		return -1;
	for (char *const *l = layers; r == 0 && *l; l++)
		r = fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", *l, 0);
	if (r < 0) {		/* before Linux 6.5 */
		joined = strv_join(layers, ":");
		r = fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir", joined, 0);
	}
	if (r < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY);
	return mnt;
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
		return err_set(err, ERR_SYSTEM, -errno, "open the image's file system");
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
