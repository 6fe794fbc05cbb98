/* What a container has changed, by Docker's rules: a directory counts as changed if its owner or mode is, or
 * anything in it; a file if owner, mode, size, time of change or capabilities are. So a file that was opened
 * for writing and left as it was is none. */
#include "task/files.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define FLUSH (32u << 10)
#define DEPTH_MAX 256

static int put(struct changes *c, char kind, const char *path)
{
	int r = 0;

	c->n++;
	sbuf_printf(&c->buf, "%c/%s", kind, path);
	sbuf_putc(&c->buf, 0);
	if (c->buf.len > FLUSH) {
		r = fd_write_full(c->fd, c->buf.buf, c->buf.len);
		sbuf_reset(&c->buf);
	}
	return r;
}

/* --- mount points --- */

static bool only_mount_points(int lower, int dirfd, const char *name, const char *path)
{
	_cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_strv_ char **names = NULL;

	if (fd < 0 || fs_list(fd, &names) < 0)
		return false;
	for (char **n = names; n && *n; n++) {
		_cleanup_free_ char *sub = path_join(path, *n);
		struct stat st;

		if (fstatat(fd, *n, &st, AT_SYMLINK_NOFOLLOW) < 0 || !is_mount_point(lower, fd, *n, sub, &st))
			return false;
	}
	return true;
}

bool is_mount_point(int lower, int dirfd, const char *name, const char *path, const struct stat *st)
{
	static const char *const paths[] = {
		".dockerenv", "dev", "dev/console", "dev/mqueue", "dev/pts", "dev/shm", "etc", "etc/hostname",
		"etc/hosts", "etc/mtab", "etc/resolv.conf", "proc", "sbin", "sbin/docker-init", "sys",
	};
	bool known = false;
	struct stat below;

	for (size_t i = 0; !known && i < ARRAY_SIZE(paths); i++)
		known = streq(paths[i], path);
	if (!known || fstatat(lower, path, &below, AT_SYMLINK_NOFOLLOW) == 0)
		return false;
	return S_ISDIR(st->st_mode) ? only_mount_points(lower, dirfd, name, path)
				    : S_ISREG(st->st_mode) && st->st_size == 0;
}

/* --- comparison --- */

/* Capabilities: the content of a file or link of the same inode number would be another matter. */
static size_t capability(int dirfd, const char *name, char *buf, size_t max)
{
	_cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : fgetxattr(fd, "security.capability", buf, max);

	return n < 0 ? 0 : (size_t)n;
}

static bool differs(int up, int low, const char *name, const struct stat *a, const struct stat *b)
{
	char x[64], y[64];
	size_t n;

	if (a->st_mode != b->st_mode || a->st_uid != b->st_uid || a->st_gid != b->st_gid ||
	    a->st_rdev != b->st_rdev)
		return true;
	if (S_ISDIR(a->st_mode))
		return false;
	if (a->st_size != b->st_size || a->st_mtim.tv_sec != b->st_mtim.tv_sec ||
	    a->st_mtim.tv_nsec != b->st_mtim.tv_nsec)
		return true;
	if (!S_ISREG(a->st_mode))
		return false;
	n = capability(up, name, x, sizeof x);
	return n != capability(low, name, y, sizeof y) || memcmp(x, y, n) != 0;
}

struct walk {
	struct changes *c;
	int lower;		/* its root */
};

static int walk_dir(struct walk *w, int up, int low, const char *path, unsigned depth);

static int walk_sub(struct walk *w, int up, int low, const char *name, const char *path, unsigned depth)
{
	_cleanup_close_ int sub = openat(up, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_close_ int below =
	    low < 0 ? -EBADF : openat(low, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (sub < 0)
		return -errno;
	return walk_dir(w, sub, below, path, depth + 1);
}

static int walk_entry(struct walk *w, int up, int low, const char *name, const char *path, unsigned depth)
{
	uint64_t before = w->c->n;
	struct stat a, b;
	bool known;
	int r = 0;

	if (fstatat(up, name, &a, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	known = low >= 0 && fstatat(low, name, &b, AT_SYMLINK_NOFOLLOW) == 0;
	if (S_ISCHR(a.st_mode) && a.st_rdev == makedev(0, 0))
		return known ? put(w->c, 'D', path) : 0;
	if (is_mount_point(w->lower, up, name, path, &a))
		return 0;
	if (!known)
		r = put(w->c, 'A', path);
	if (r == 0 && S_ISDIR(a.st_mode))
		r = walk_sub(w, up, low, name, path, depth);
	if (r == 0 && known && (w->c->n > before || differs(up, low, name, &a, &b)))
		r = put(w->c, 'C', path);
	return r;
}

/* What is below an opaque directory and not in it again is gone. */
static int walk_hidden(struct walk *w, int up, int low, const char *path)
{
	_cleanup_strv_ char **names = NULL;
	int r = fs_list(low, &names);

	for (char **n = names; r == 0 && n && *n; n++) {
		_cleanup_free_ char *sub = *path ? path_join(path, *n) : xstrdup(*n);

		if (faccessat(up, *n, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
			r = put(w->c, 'D', sub);
	}
	return r;
}

static int walk_dir(struct walk *w, int up, int low, const char *path, unsigned depth)
{
	_cleanup_strv_ char **names = NULL;
	char mark = 0;
	int r = depth > DEPTH_MAX ? -ELOOP : fs_list(up, &names);

	for (char **n = names; r == 0 && n && *n; n++) {
		_cleanup_free_ char *sub = *path ? path_join(path, *n) : xstrdup(*n);

		r = walk_entry(w, up, low, *n, sub, depth);
	}
	if (r == 0 && low >= 0 && fgetxattr(up, "trusted.overlay.opaque", &mark, 1) == 1 && mark == 'y')
		r = walk_hidden(w, up, low, path);
	return r;
}

int changes_write(struct changes *c, int upper, int lower)
{
	struct walk w = { c, lower };
	int r = walk_dir(&w, upper, lower, "", 0);

	return r == 0 && c->buf.len ? fd_write_full(c->fd, c->buf.buf, c->buf.len) : r;
}

void changes_done(struct changes *c)
{
	sbuf_done(&c->buf);
}
