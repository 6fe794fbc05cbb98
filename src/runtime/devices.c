/* Device nodes and links of /dev, all relative to one descriptor of it: an image whose /dev is a symlink
 * must not make nodes on the host (CVE-2026-41579). Where no nodes can be made, as in a user namespace, the
 * host's own are mounted in their places. */
#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

static const struct { const char *path; unsigned major, minor;
} default_nodes[] = {
    {"/dev/null", 1, 3},   {"/dev/zero", 1, 5},	   {"/dev/full", 1, 7},
    {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
};

static const struct { const char *name, *target; } links[] = {
	{ "fd", "/proc/self/fd" }, { "stdin", "/proc/self/fd/0" }, { "stdout", "/proc/self/fd/1" },
	{ "stderr", "/proc/self/fd/2" }, { "core", "/proc/kcore" }, { "ptmx", "pts/ptmx" },
};

static bool is_node(int fd, mode_t mode, dev_t dev)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == (mode & S_IFMT) &&
	       (S_ISFIFO(mode) || st.st_rdev == dev);
}

/* The host's node of a device: at the same path, or where its driver has put it. */
static int open_host_node(const char *path, mode_t mode, dev_t dev)
{
	_cleanup_free_ char *uevent = xasprintf("/sys/dev/%s/%u:%u/uevent", S_ISBLK(mode) ? "block" : "char",
						major(dev), minor(dev));
	_cleanup_free_ char *text = NULL, *other = NULL;
	int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	char *name;

	if (fd >= 0 && is_node(fd, mode, dev))
		return fd;
	fd_close(&fd);
	name = fs_read(AT_FDCWD, uevent, 4096, &text, NULL) == 0 ? strstr(text, "DEVNAME=") : NULL;
	if (!name)
		return -ENODEV;
	name += strlen("DEVNAME=");
	name[strcspn(name, "\n")] = 0;
	other = path_join("/dev", name);
	fd = open(other, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && is_node(fd, mode, dev))
		return fd;
	fd_close(&fd);
	return -ENODEV;
}

static int bind_node(int dir, const char *path, mode_t mode, dev_t dev)
{
	const char *name = path_basename(path);
	_cleanup_close_ int host = open_host_node(path, mode, dev), target = -EBADF, mnt = -EBADF;
	struct stat st;

	if (host < 0)
		return host;
	target = openat(dir, name, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (target < 0 && errno == EEXIST)
		target = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (target < 0 || fstat(target, &st) < 0)
		return -errno;
	if (is_node(target, mode, dev))
		return 0;
	if (!S_ISREG(st.st_mode))
		return -EEXIST;
	mnt = mount_clone(host, false);
	return mnt < 0 ? mnt : mount_attach(mnt, target);
}

/* path: of the container, whose last part is made in dir. */
static int make_node(int dir, const char *path, mode_t mode, dev_t dev, uid_t uid, gid_t gid)
{
	const char *name = path_basename(path);
	bool made = mknodat(dir, name, mode, dev) == 0;
	_cleanup_close_ int fd = -EBADF;

	/* There is no umask: a new one has its mode already. */
	if (made && !uid && !gid)
		return 0;
	if (!made && errno != EEXIST)
		return errno == EPERM ? bind_node(dir, path, mode, dev) : -errno;
	fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* One that was there already must be the same. */
	if (!is_node(fd, mode, dev))
		return -EEXIST;
	if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0)
		return -errno;
	return chmod(fd_proc_path(fd).s, mode & 07777) < 0 ? -errno : 0;
}

static int make_defaults(int dev, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(default_nodes); i++) {
		const char *path = default_nodes[i].path;
		int r = make_node(dev, path, S_IFCHR | 0666,
				  makedev(default_nodes[i].major, default_nodes[i].minor), 0, 0);

		if (r < 0)
			return err_set(e, ERR_SYSTEM, r, "cannot make device %s", path);
	}
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		/* A ptmx of another devpts, as an image may bring, would open the wrong terminals. */
		if (streq(links[i].name, "ptmx"))
			(void)unlinkat(dev, "ptmx", 0);
		if (symlinkat(links[i].target, dev, links[i].name) < 0 && errno != EEXIST)
			return err_set(e, ERR_SYSTEM, -errno, "cannot make link /dev/%s", links[i].name);
	}
	return 0;
}

static int make_device(int rootfd, const struct oci_device *d, struct err *e)
{
	static const struct { char type; mode_t mode; } types[] = {
		{ 'c', S_IFCHR }, { 'u', S_IFCHR }, { 'b', S_IFBLK }, { 'p', S_IFIFO },
	};
	_cleanup_free_ char *clean = path_clean(d->path);
	_cleanup_free_ char *parent = xstrndup(clean, (size_t)(path_basename(clean) - clean));
	_cleanup_close_ int dir = fs_mkdir_in_root(rootfd, parent, 0755);
	mode_t mode = d->mode ? (mode_t)(*d->mode & 07777) : 0666;
	int r = dir;

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i].type == d->type[0])
			mode |= types[i].mode;
	if (r >= 0)
		r = make_node(dir, clean, mode, makedev((unsigned)d->major, (unsigned)d->minor), d->uid,
			      d->gid);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "cannot make device %s", d->path) : 0;
}

/* A /dev that the user bound from elsewhere is not ours to fill. */
static const struct oci_mount *dev_mount(const struct oci_spec *s)
{
	const struct oci_mount *found = NULL;

	for (size_t i = 0; i < s->mounts.n; i++) {
		_cleanup_free_ char *clean = path_clean(s->mounts.v[i].destination);

		if (streq(clean, "/dev"))
			found = &s->mounts.v[i];
	}
	return found;
}

int devices_setup(const struct oci_spec *s, int rootfd, struct err *e)
{
	const struct oci_mount *m = dev_mount(s);
	bool bound =
	    m && (streq(m->type, "bind") || strv_has(m->options, "bind") || strv_has(m->options, "rbind"));
	_cleanup_close_ int dev = -EBADF;
	mode_t mask;
	int r;

	if (bound)
		return 0;
	dev = fs_open_in_root(rootfd, "/dev", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (dev == -ENOENT)
		dev = fs_mkdir_in_root(rootfd, "/dev", 0755);
	if (dev < 0)
		return err_set(e, ERR_INVALID, dev, "\"/dev\" of the image is not a real directory");
	mask = umask(0);
	r = make_defaults(dev, e);
	for (size_t i = 0; r == 0 && i < s->devices.n; i++) {
		/* Engines list the host's own for a privileged container; here it is the link to pts/ptmx. */
		if (!streq(s->devices.v[i].path, "/dev/ptmx"))
			r = make_device(rootfd, &s->devices.v[i], e);
	}
	umask(mask);
	if (r == 0 && m && strv_has(m->options, "ro")) {
		r = mount_set(dev, false, MOUNT_ATTR_RDONLY, 0, 0);
		if (r < 0)
			return err_set(e, ERR_SYSTEM, r, "cannot make /dev read-only");
	}
	return r;
}
