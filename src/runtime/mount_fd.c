/* The kernel's descriptor-based mount calls: a mount is made detached, attached to a descriptor, and changed
 * by its own (base/mount.h). No path takes part, so there is nothing for a container to exchange in between.
 */
#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>

/* "e tmpfs: Unknown parameter 'x'": what the kernel has to say about a failed fs context, or NULL. */
static char *context_message(int fs)
{
	char buf[512];
	ssize_t n = read(fs, buf, sizeof buf - 1);

	if (n <= 2)
		return NULL;
	buf[n] = 0;
	buf[strcspn(buf, "\n")] = 0;
	return xstrdup(buf + 2);
}

static int set_option(int fs, const char *option)
{
	const char *eq = strchr(option, '=');
	_cleanup_free_ char *key = eq ? xstrndup(option, (size_t)(eq - option)) : NULL;
	int r = eq ? fsconfig(fs, FSCONFIG_SET_STRING, key, eq + 1, 0)
		   : fsconfig(fs, FSCONFIG_SET_FLAG, option, NULL, 0);

	return r < 0 ? -errno : 0;
}

int mount_new_fs(const char *type, const char *source, char *const *data, uint64_t attrs, struct err *e)
{
	_cleanup_close_ int fs = fsopen(type, FSOPEN_CLOEXEC);
	_cleanup_free_ char *msg = NULL;
	int r = 0, mnt;

	if (fs < 0)
		return err_set(e, ERR_SYSTEM, -errno, "file system type '%s'", type);
	if (!str_empty(source) && fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0) < 0)
		r = -errno;
	for (; r == 0 && data && *data; data++)
		r = set_option(fs, *data);
	if (r == 0 && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		r = -errno;
	if (r < 0) {
		msg = context_message(fs);
		return msg ? err_msg(e, ERR_SYSTEM, r, "%s", msg)
			   : err_set(e, ERR_SYSTEM, r, "cannot mount %s", type);
	}
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, (unsigned)attrs);
	return mnt < 0 ? err_set(e, ERR_SYSTEM, -errno, "cannot mount %s", type) : mnt;
}

int mount_clone(int fd, bool recursive)
{
	int mnt = open_tree(
	    fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0));

	return mnt < 0 ? -errno : mnt;
}

int mount_attach(int mnt, int target)
{
	return move_mount(mnt, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0 ? -errno
												      : 0;
}
