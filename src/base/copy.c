#include "base/copy.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define XATTR_MAX (64u << 10)
#define DEPTH_MAX 512

/* Names and values of extended attributes, without overlay's own. Paths are of the form
 * /proc/self/fd/N[/name]. */
static int copy_xattrs(const char *from, const char *to)
{
	_cleanup_free_ char *names = xmalloc(XATTR_MAX), *value = xmalloc(XATTR_MAX);
	ssize_t n = llistxattr(from, names, XATTR_MAX);

	if (n < 0)
		return errno == EOPNOTSUPP ? 0 : -errno;
	for (char *name = names; name < names + n; name += strlen(name) + 1) {
		ssize_t len;

		if (str_starts(name, "trusted.overlay.") || str_starts(name, "user.overlay."))
			continue;
		len = lgetxattr(from, name, value, XATTR_MAX);
		if (len >= 0 && lsetxattr(to, name, value, (size_t)len, 0) < 0 && errno != EOPNOTSUPP)
			return -errno;
	}
	return 0;
}

static int copy_meta(int to_dir, const char *name, const struct stat *st, const char *from_path)
{
	_cleanup_free_ char *to_path = xasprintf("/proc/self/fd/%d/%s", to_dir, name);
	const struct timespec times[] = {st->st_atim, st->st_mtim};
	int r;

	if (fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISLNK(st->st_mode) && fchmodat(to_dir, name, st->st_mode & 07777, 0) < 0)
		return -errno;
	r = copy_xattrs(from_path, to_path);
	if (r < 0)
		return r;
	return utimensat(to_dir, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int copy_file(int from_dir, int to_dir, const char *name)
{
	_cleanup_close_ int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC),
			    to = -EBADF;

	if (from < 0)
		return -errno;
	to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return to < 0 ? -errno : fs_copy_sparse(from, to);
}

static int copy_link(int from_dir, int to_dir, const char *name)
{
	char buf[4096];
	ssize_t n = readlinkat(from_dir, name, buf, sizeof buf - 1);

	if (n < 0)
		return -errno;
	buf[n] = 0;
	return symlinkat(buf, to_dir, name) < 0 ? -errno : 0;
}

static int copy_dir(int from, int to, unsigned depth);

static int copy_subdir(int from_dir, int to_dir, const char *name, unsigned depth)
{
	_cleanup_close_ int from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
			    to = -EBADF;

	if (from < 0 || mkdirat(to_dir, name, 0700) < 0)
		return -errno;
	to = openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return to < 0 ? -errno : copy_dir(from, to, depth + 1);
}

static int copy_entry(int from_dir, int to_dir, const char *name, unsigned depth)
{
	_cleanup_free_ char *path = xasprintf("/proc/self/fd/%d/%s", from_dir, name);
	struct stat st;
	int r;

	if (fstatat(from_dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		r = copy_subdir(from_dir, to_dir, name, depth);
	else if (S_ISREG(st.st_mode))
		r = copy_file(from_dir, to_dir, name);
	else if (S_ISLNK(st.st_mode))
		r = copy_link(from_dir, to_dir, name);
	else if (S_ISSOCK(st.st_mode))
		return 0;
	else
		r = mknodat(to_dir, name, st.st_mode & (S_IFMT | 0600), st.st_rdev) < 0 ? -errno : 0;
	return r < 0 ? r : copy_meta(to_dir, name, &st, path);
}

static int copy_dir(int from, int to, unsigned depth)
{
	DIR *d;
	struct dirent *de;
	int r = 0;

	if (depth > DEPTH_MAX)
		return -ELOOP;
	d = fdopendir(fcntl(from, F_DUPFD_CLOEXEC, 3));
	if (!d)
		return -errno;
	while (r >= 0 && (de = readdir(d)))
		if (!streq(de->d_name, ".") && !streq(de->d_name, ".."))
			r = copy_entry(from, to, de->d_name, depth);
	closedir(d);
	return r;
}

int fs_copy_tree(int from, int to)
{
	_cleanup_free_ char *path = xasprintf("/proc/self/fd/%d/.", from);
	struct stat st;
	int r;

	if (fstat(from, &st) < 0)
		return -errno;
	r = copy_dir(from, to, 0);
	return r < 0 ? r : copy_meta(to, ".", &st, path);
}
