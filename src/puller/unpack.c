/* Theory of operation.
 *
 * Every name in the archive is resolved inside the target root by openat2 (RESOLVE_IN_ROOT): symlinks
 * that earlier entries have planted lead nowhere but into the root. The parent directory is opened
 * first (and made if missing), the last component is then created relative to it and never followed.
 * An entry replaces what stood there, except that a directory keeps its content. Times of directories
 * are set last, since making their entries changes them.
 *
 * In a layer `.wh.NAME` becomes a character device 0:0 called NAME, which overlayfs takes as "deleted
 * below"; `.wh..wh..opq` marks its directory as opaque; other names beginning `.wh..wh.` are AUFS's own
 * and dropped. */
#include "puller/puller.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/hash.h"
#include "lib/digest.h"
#include "lib/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define PATH_LIMIT 4096
#define DIRS_LIMIT (1u << 20)

struct dir_time { struct list link; struct timespec mtime; char path[]; };

struct state {
	struct unpack *u;
	struct tar *tar;
	char *parent_path;	/* cache of one: entries of a directory come together */
	int parent;
	struct list dirs;
	size_t n_dirs;
};

/* "./a//b/" -> "a/b". NULL if the name leaves the root. */
static char *clean_name(const char *path)
{
	char *c = path_clean(path), *p = c;

	while (*p == '/')
		p++;
	if (streq(p, "..") || str_starts(p, "../") || strlen(p) >= PATH_LIMIT) {
		free(c);
		return NULL;
	}
	p = xstrdup(*p ? p : ".");
	free(c);
	return p;
}

static int open_parent(struct state *s, const char *name)
{
	_cleanup_free_ char *dir = xstrndup(name, (size_t)(path_basename(name) - name));
	int fd;

	if (s->parent >= 0 && streq(dir, s->parent_path))
		return 0;
	fd = fs_open_in_root(s->u->root, *dir ? dir : ".", O_RDONLY | O_DIRECTORY, 0);
	if (fd == -ENOENT) {
		fd = fs_mkdir_in_root(s->u->root, dir, 0755);
		if (fd >= 0) {
			close(fd);
			fd = fs_open_in_root(s->u->root, dir, O_RDONLY | O_DIRECTORY, 0);
		}
	}
	if (fd < 0)
		return fd;
	fd_close(&s->parent);
	s->parent = fd;
	str_replace(&s->parent_path, dir);
	return 0;
}

static int make_room(struct state *s, const char *base, bool keep_dir)
{
	struct stat st;

	if (fstatat(s->parent, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISDIR(st.st_mode) && keep_dir)
		return 1;
	return fs_rm_rf(s->parent, base);
}

static int write_data(struct state *s, int fd, uint64_t size, struct err *e)
{
	const void *p;
	size_t n;
	off_t off;
	int r;

	while ((r = tar_data(s->tar, &p, &n, &off, e)) > 0) {
		for (size_t done = 0; done < n;) {
			ssize_t w = RETRY(pwrite(fd, (const char *)p + done, n - done, off + (off_t)done));

			if (w < 0)
				return -errno;
			done += (size_t)w;
		}
	}
	if (r < 0)
		return r;
	s->u->size += size;
	return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

static int make_file(struct state *s, const char *base, const struct tar_entry *t, struct err *e)
{
	_cleanup_close_ int fd =
	    openat(s->parent, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : write_data(s, fd, t->size, e);
}

static int make_hardlink(struct state *s, const char *base, const struct tar_entry *t, struct err *e)
{
	_cleanup_free_ char *target = clean_name(t->hardlink), *dir = NULL;
	_cleanup_close_ int from = -EBADF;

	if (!target)
		return err_msg(e, ERR_INVALID, -EXDEV,
			       "invalid hardlink \"%s\" -> \"%s\": it is outside of the image", t->path,
			       t->hardlink);
	dir = xstrndup(target, (size_t)(path_basename(target) - target));
	from = fs_open_in_root(s->u->root, *dir ? dir : ".", O_PATH | O_DIRECTORY, 0);
	if (from < 0)
		return from;
	return linkat(from, path_basename(target), s->parent, base, 0) < 0 ? -errno : 0;
}

static int make_node(struct state *s, const char *base, const struct tar_entry *t, struct err *e)
{
	switch (t->mode & S_IFMT) {
	case S_IFDIR:
		return mkdirat(s->parent, base, 0700) < 0 ? -errno : 0;
	case S_IFREG:
		return make_file(s, base, t, e);
	case S_IFLNK:
		return symlinkat(t->link ? t->link : "", s->parent, base) < 0 ? -errno : 0;
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
		if (s->u->files_only)
			return err_msg(e, ERR_INVALID, -EINVAL,
				       "invalid archive: \"%s\" is neither file nor directory", t->path);
		return mknodat(s->parent, base, t->mode, makedev(t->major, t->minor)) < 0 ? -errno : 0;
	}
	return err_msg(e, ERR_INVALID, -EINVAL, "invalid archive: \"%s\" is of an unknown type", t->path);
}

static int set_xattrs(struct state *s, const char *base, mode_t type)
{
	const char *name;
	const void *value;
	size_t n;

	while (tar_xattr(s->tar, &name, &value, &n)) {
		_cleanup_close_ int fd = -EBADF;

		/* trusted.* and system.* say things of the host's own: never from an image. */
		if (!str_starts(name, "user.") && !streq(name, "security.capability"))
			continue;
		if (type != S_IFREG && type != S_IFDIR)
			continue;
		fd = openat(s->parent, base, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		if (fsetxattr(fd, name, value, n, 0) < 0 && errno != ENOTSUP)
			return -errno;
	}
	return 0;
}

static int set_owner_and_mode(struct state *s, const char *base, const struct tar_entry *t)
{
	mode_t type = t->mode & S_IFMT;
	struct timespec times[2] = { t->mtime, t->mtime };

	if (fchownat(s->parent, base, t->uid, t->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	/* Changing the owner clears set-id bits: the mode comes after. */
	if (type != S_IFLNK && fchmodat(s->parent, base, t->mode & 07777, 0) < 0)
		return -errno;
	int r = set_xattrs(s, base, type);

	if (r == 0 && utimensat(s->parent, base, times, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	return r;
}

static int remember_dir(struct state *s, const char *name, const struct tar_entry *t)
{
	struct dir_time *d;

	if (++s->n_dirs > DIRS_LIMIT)
		return -E2BIG;
	d = xmalloc(sizeof *d + strlen(name) + 1);
	d->link = (struct list){ 0 };
	d->mtime = t->mtime;
	strcpy(d->path, name);
	list_append(&s->dirs, &d->link);
	return 0;
}

/* Reported by name, so the name must be the directory's own and lead through no symlink. */
static int mark_opaque(struct state *s, const char *name, const char *base)
{
	_cleanup_free_ char *dir = base == name ? xstrdup(".") : xstrndup(name, (size_t)(base - name) - 1);
	_cleanup_close_ int fd = fs_open_beneath(s->u->root, dir, O_PATH | O_DIRECTORY, 0);

	if (fd < 0)
		return fd;
	if (!strv_has(s->u->opaque, dir))
		strv_add(&s->u->opaque, dir);
	return 1;
}

/* 1 if the name was a whiteout and is dealt with. */
static int whiteout(struct state *s, const char *name, const char *base)
{
	int r;

	if (!str_starts(base, ".wh."))
		return 0;
	if (streq(base, ".wh..wh..opq"))
		return mark_opaque(s, name, base);
	base += 4;
	if (!*base || streq(base, ".") || streq(base, ".."))
		return -EINVAL;
	r = make_room(s, base, false);

	if (r == 0 && mknodat(s->parent, base, S_IFCHR | 0600, makedev(0, 0)) < 0)
		r = -errno;
	return r < 0 ? r : 1;
}

/* AUFS's own files, and what is in its folders; the opaque mark only looks like one of them. */
static bool is_aufs(const char *name)
{
	const char *p = str_starts(name, ".wh..wh.") ? name : strstr(name, "/.wh..wh.");

	return p && !streq(path_basename(name), ".wh..wh..opq");
}

static int unpack_entry(struct state *s, const struct tar_entry *t, struct err *e)
{
	_cleanup_free_ char *name = clean_name(t->path);
	bool dir = !t->hardlink && S_ISDIR(t->mode);
	const char *base;
	int r;

	if (!name)
		return err_msg(e, ERR_INVALID, -EXDEV, "invalid archive: \"%s\" is outside of the image",
			       t->path);
	if (streq(name, ".")) {
		if (fchown(s->u->root, t->uid, t->gid) < 0 || fchmod(s->u->root, t->mode & 07777) < 0)
			return -errno;
		return remember_dir(s, name, t);
	}
	if (s->u->layer && is_aufs(name))
		return 0;
	base = path_basename(name);
	r = open_parent(s, name);
	if (r == 0 && s->u->layer)
		r = whiteout(s, name, base);
	if (r != 0)
		return r < 0 ? r : 0;
	r = make_room(s, base, dir);
	if (r == 0)
		r = t->hardlink ? make_hardlink(s, base, t, e) : make_node(s, base, t, e);
	else if (r > 0)
		r = 0;
	if (r == 0 && !t->hardlink)
		r = set_owner_and_mode(s, base, t);
	if (r == 0 && dir)
		r = remember_dir(s, name, t);
	return r;
}

struct tee { struct sha256 *hash; int keep_fd, failed; };

static void tee_digest(void *ud, const void *p, size_t n)
{
	struct tee *t = ud;

	sha256_update(t->hash, p, n);
	if (t->keep_fd > 0 && t->failed == 0)
		t->failed = fd_write_full(t->keep_fd, p, n);
}

static int set_dir_times(struct state *s)
{
	list_for_each(d, &s->dirs, struct dir_time, link) {
		struct timespec times[2] = { d->mtime, d->mtime };
		_cleanup_close_ int fd =
		    fs_open_in_root(s->u->root, d->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

		/* A later entry may have replaced it. */
		if (fd >= 0 && futimens(fd, times) < 0)
			return -errno;
	}
	return 0;
}

/* A later entry may have replaced a directory that was opaque: nothing of it is left to be marked. */
static void drop_replaced(struct unpack *u)
{
	char **kept = NULL;

	for (char **o = u->opaque; o && *o; o++) {
		_cleanup_close_ int fd = fs_open_beneath(u->root, *o, O_PATH | O_DIRECTORY, 0);

		if (fd >= 0)
			strv_add(&kept, *o);
	}
	strv_free(u->opaque);
	u->opaque = kept;
}

int unpack(struct unpack *u, int fd, struct err *e)
{
	struct tee tee = { sha256_new(), u->keep_fd, 0 };
	struct state s = { .u = u, .parent = -EBADF };
	struct tar_entry t;
	char hex[65];
	int r;

	list_init(&s.dirs);
	r = tar_open(fd, tee_digest, &tee, &s.tar, e);
	while (r == 0 && (r = tar_next(s.tar, &t, e)) > 0) {
		r = unpack_entry(&s, &t, e);
		if (r < 0 && (!e || !e->kind))
			err_set(e, r == -ENOSPC || r == -EDQUOT || r == -EIO ? ERR_SYSTEM : ERR_INVALID, r,
				"unpack \"%s\"", t.path);
	}
	if (r == 0)
		r = tar_drain(s.tar, e);
	if (r == 0 && tee.failed < 0)
		r = err_set(e, ERR_SYSTEM, tee.failed, "keep the archive");
	if (r == 0) {
		r = set_dir_times(&s);
		if (r < 0)
			err_set(e, ERR_SYSTEM, r, "set the times of directories");
		drop_replaced(u);
	}
	tar_close(s.tar);
	sha256_final(tee.hash, hex);
	snprintf(u->diff_id, sizeof u->diff_id, "sha256:%s", hex);
	list_for_each(d, &s.dirs, struct dir_time, link)
		free(d);
	fd_close(&s.parent);
	free(s.parent_path);
	return r;
}

void unpack_done(struct unpack *u)
{
	strv_free(u->opaque);
	u->opaque = NULL;
}
