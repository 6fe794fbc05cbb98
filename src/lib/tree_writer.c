#include "lib/tree_writer.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/xattr.h>

#define DIRS_LIMIT (64u << 20)

struct dir_time { struct list link; struct timespec mtime; char path[]; };

void tree_writer_init(struct tree_writer *w, int root)
{
	*w = (struct tree_writer){ .root = root, .parent = -EBADF };
	list_init(&w->dirs);
}

void tree_writer_done(struct tree_writer *w)
{
	list_for_each(d, &w->dirs, struct dir_time, link)
		free(d);
	fd_close(&w->parent);
	free(w->parent_path);
}

/* The directory part of a clean path. */
static char *dir_of(const char *name)
{
	size_t n = (size_t)(path_basename(name) - name);

	return n ? xstrndup(name, n) : xstrdup(".");
}

/* Remembers the time for those of the path's directories that are not there yet. */
static int time_of_missing(struct tree_writer *w, const char *dir)
{
	for (const char *end = strchrnul(dir, '/');; end = strchrnul(end + 1, '/')) {
		_cleanup_free_ char *prefix = xstrndup(dir, (size_t)(end - dir));
		_cleanup_close_ int fd = fs_open_in_root(w->root, prefix, O_PATH, 0);
		int r = fd == -ENOENT ? tree_writer_dir_time(w, prefix, *w->made_time) : 0;

		if (r < 0 || !*end)
			return r;
	}
}

static int make_parent(struct tree_writer *w, const char *dir)
{
	int r = w->made_time ? time_of_missing(w, dir) : 0;
	int fd = r < 0 ? r : fs_mkdir_in_root(w->root, dir, 0755);

	if (fd < 0)
		return fd;
	close(fd);
	return fs_open_in_root(w->root, dir, O_RDONLY | O_DIRECTORY, 0);
}

/* How deep fd lies, by going up to the root, but no further than one beyond the limit. */
static unsigned depth_of(const struct tree_writer *w, int fd)
{
	_cleanup_close_ int up = openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat root, at;
	unsigned depth = 0;

	if (fstat(w->root, &root) < 0)
		return UINT_MAX;
	for (; depth <= w->depth_max; depth++) {
		int next;

		if (up < 0 || fstat(up, &at) < 0)
			return UINT_MAX;
		if (at.st_ino == root.st_ino && at.st_dev == root.st_dev)
			break;
		next = openat(up, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		close(up);
		up = next;
	}
	return depth;
}

/* Of dir, which fd is: its name tells, unless that leads through symbolic links. */
static bool too_deep(const struct tree_writer *w, const char *dir, int fd)
{
	_cleanup_close_ int straight = fs_open_beneath(w->root, dir, O_PATH | O_DIRECTORY, 0);
	unsigned depth = 1;

	if (straight < 0)
		return depth_of(w, fd) > w->depth_max;
	while ((dir = strchr(dir, '/')) && *++dir)
		depth++;
	return depth > w->depth_max;
}

int tree_writer_parent(struct tree_writer *w, const char *name)
{
	_cleanup_free_ char *dir = dir_of(name);
	int fd;

	/* Entries of a directory come together: a cache of one. */
	if (w->parent >= 0 && streq(dir, w->parent_path))
		return 0;
	fd = fs_open_in_root(w->root, dir, O_RDONLY | O_DIRECTORY, 0);
	if (fd == -ENOENT)
		fd = make_parent(w, dir);
	if (fd < 0)
		return fd;
	if (w->depth_max && too_deep(w, dir, fd)) {
		close(fd);
		return -ENAMETOOLONG;
	}
	fd_close(&w->parent);
	w->parent = fd;
	str_replace(&w->parent_path, dir);
	return 0;
}

int tree_writer_make_room(struct tree_writer *w, const char *base, bool keep_dir)
{
	struct stat st;

	if (fstatat(w->parent, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISDIR(st.st_mode) && keep_dir)
		return 1;
	return fs_rm_rf(w->parent, base);
}

int tree_writer_file(struct tree_writer *w, const char *base)
{
	int fd = openat(w->parent, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

int tree_writer_hardlink(struct tree_writer *w, const char *base, const char *target)
{
	_cleanup_free_ char *dir = dir_of(target);
	_cleanup_close_ int from = fs_open_in_root(w->root, dir, O_PATH | O_DIRECTORY, 0);

	if (from < 0)
		return from;
	return linkat(from, path_basename(target), w->parent, base, 0) < 0 ? -errno : 0;
}

int tree_writer_node(struct tree_writer *w, const char *base, mode_t mode, const char *link, dev_t dev)
{
	int r;

	if (S_ISDIR(mode))
		r = mkdirat(w->parent, base, 0700);
	else if (S_ISLNK(mode))
		r = symlinkat(link ? link : "", w->parent, base);
	else
		r = mknodat(w->parent, base, mode, dev);
	return r < 0 ? -errno : 0;
}

int tree_writer_attributes(struct tree_writer *w, const char *base, const struct tree_attributes *a)
{
	struct timespec times[2] = { a->mtime, a->mtime };

	if (!a->keep_owner && fchownat(w->parent, base, a->uid, a->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	/* Changing the owner clears set-id bits: the mode comes after. */
	if (!S_ISLNK(a->mode) && fchmodat(w->parent, base, a->mode & 07777, 0) < 0)
		return -errno;
	return utimensat(w->parent, base, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int tree_writer_xattr(struct tree_writer *w, const char *base, mode_t mode, const char *name,
		      const void *value, size_t n, bool lenient)
{
	_cleanup_close_ int fd = -EBADF;

	if (!str_starts(name, "user.") && !streq(name, "security.capability"))
		return 0;
	if (!S_ISREG(mode) && !S_ISDIR(mode))
		return 0;
	fd = openat(w->parent, base, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fsetxattr(fd, name, value, n, 0) == 0 || errno == ENOTSUP || (errno == EPERM && lenient))
		return 0;
	return -errno;
}

int tree_writer_dir_time(struct tree_writer *w, const char *name, struct timespec mtime)
{
	size_t size = sizeof(struct dir_time) + strlen(name) + 1;
	struct dir_time *d;

	if (w->dirs_size + size > DIRS_LIMIT)
		return -E2BIG;
	w->dirs_size += size;
	d = xmalloc(size);
	d->link = (struct list){ 0 };
	d->mtime = mtime;
	strcpy(d->path, name);
	list_append(&w->dirs, &d->link);
	return 0;
}

int tree_writer_set_dir_times(struct tree_writer *w)
{
	list_for_each(d, &w->dirs, struct dir_time, link) {
		struct timespec times[2] = { d->mtime, d->mtime };
		_cleanup_close_ int fd =
		    fs_open_in_root(w->root, d->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

		/* A later entry may have replaced it. */
		if (fd >= 0 && futimens(fd, times) < 0)
			return -errno;
	}
	return 0;
}
