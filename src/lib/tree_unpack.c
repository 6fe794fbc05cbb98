/* Every name is resolved inside the root by openat2: the parent directory is opened first (and made if it is
 * missing), the last component is made relative to it and never followed. Times of directories are set last,
 * since making their entries changes them. */
#include "lib/tree.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define PATH_LIMIT 4096
#define DIRS_LIMIT (1u << 20)

struct dir_time { struct list link; struct timespec mtime; char path[]; };

struct state {
	const struct tree_unpack *u;
	struct ustar_reader *in;
	char *parent_path;	/* cache of one: entries of a directory come together */
	int parent;
	struct list dirs;
	size_t n_dirs;
};

/* Docker's way to give what is copied another name: "/" stands for the names of a whole root. */
static char *renamed(const struct tree_unpack *u, const char *name)
{
	size_t n = u->from && !streq(u->from, "/") ? strlen(u->from) : 0;

	if (!u->from || strncmp(name, u->from, n) || (name[n] && name[n] != '/'))
		return xstrdup(name);
	return xasprintf("%s%s", u->to, name + n);
}

/* "dest" and "./a//b/" -> "/dest/a/b". NULL if the name leaves dest. */
static char *full_name(const struct state *s, const char *name)
{
	_cleanup_free_ char *other = renamed(s->u, name), *clean = path_clean(other), *all = NULL;
	const char *p = clean;

	while (*p == '/')
		p++;
	if (streq(p, "..") || str_starts(p, "../"))
		return NULL;
	all = xasprintf("/%s/%s", s->u->dest, p);
	return strlen(all) < PATH_LIMIT ? path_clean(all) : NULL;
}

static int open_parent(struct state *s, const char *path)
{
	_cleanup_free_ char *dir = xstrndup(path, (size_t)(path_basename(path) - path));
	int fd;

	if (s->parent >= 0 && streq(dir, s->parent_path))
		return 0;
	fd = fs_open_in_root(s->u->root, dir, O_RDONLY | O_DIRECTORY, 0);
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

/* 1: a directory stands there and stays. */
static int make_room(struct state *s, const char *path, bool dir, struct err *e)
{
	const char *base = path_basename(path);
	struct stat st;

	if (fstatat(s->parent, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (s->u->keep_types && dir && !S_ISDIR(st.st_mode))
		return err_msg(e, ERR_INVALID, -EEXIST,
			       "cannot overwrite non-directory \"%s\" with directory \"%s\"", path,
			       s->u->dest);
	if (s->u->keep_types && !dir && S_ISDIR(st.st_mode))
		return err_msg(e, ERR_INVALID, -EEXIST,
			       "cannot overwrite directory \"%s\" with non-directory \"%s\"", path,
			       s->u->dest);
	if (S_ISDIR(st.st_mode) && dir)
		return 1;
	return fs_rm_rf(s->parent, base);
}

static int make_file(struct state *s, const char *base)
{
	_cleanup_close_ int fd =
	    openat(s->parent, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	char buf[64 << 10];
	ssize_t n;
	int r = 0;

	if (fd < 0)
		return -errno;
	while (r == 0 && (n = ustar_data(s->in, buf, sizeof buf)) != 0)
		r = n < 0 ? (int)n : fd_write_full(fd, buf, (size_t)n);
	return r;
}

static int make_hardlink(struct state *s, const char *base, const struct ustar_entry *t, struct err *e)
{
	_cleanup_free_ char *target = full_name(s, t->link), *dir = NULL;
	_cleanup_close_ int from = -EBADF;

	if (!target)
		return err_msg(e, ERR_INVALID, -EXDEV, "invalid hardlink \"%s\" -> \"%s\"", t->path, t->link);
	dir = xstrndup(target, (size_t)(path_basename(target) - target));
	from = fs_open_in_root(s->u->root, dir, O_PATH | O_DIRECTORY, 0);
	if (from < 0)
		return from;
	return linkat(from, path_basename(target), s->parent, base, 0) < 0 ? -errno : 0;
}

static int make_node(struct state *s, const char *base, const struct ustar_entry *t, struct err *e)
{
	if (t->hardlink)
		return make_hardlink(s, base, t, e);
	if (S_ISDIR(t->mode))
		return mkdirat(s->parent, base, 0700) < 0 ? -errno : 0;
	if (S_ISREG(t->mode))
		return make_file(s, base);
	if (S_ISLNK(t->mode))
		return symlinkat(t->link ? t->link : "", s->parent, base) < 0 ? -errno : 0;
	return mknodat(s->parent, base, t->mode, makedev(t->major, t->minor)) < 0 ? -errno : 0;
}

static int set_xattrs(struct state *s, const char *base, const struct ustar_entry *t)
{
	_cleanup_close_ int fd = -EBADF;

	if (!t->n_xattrs || (!S_ISREG(t->mode) && !S_ISDIR(t->mode)))
		return 0;
	fd = openat(s->parent, base, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < t->n_xattrs; i++) {
		const struct ustar_xattr *x = &t->xattrs[i];

		if (!str_starts(x->name, "user.") && !streq(x->name, "security.capability"))
			continue;
		/* file systems that know none, and users who may not: as cp(1) does, without */
		if (fsetxattr(fd, x->name, x->value, x->n, 0) < 0 && errno != ENOTSUP && errno != EPERM)
			return -errno;
	}
	return 0;
}

static int set_attributes(struct state *s, const char *base, const struct ustar_entry *t)
{
	const struct tree_unpack *u = s->u;
	struct timespec times[2] = { t->mtime, t->mtime };
	int r;

	if (!u->own_ids && fchownat(s->parent, base, u->owner ? u->uid : t->uid,
				    u->owner ? u->gid : t->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	/* Changing the owner clears set-id bits: the mode comes after. */
	if (!S_ISLNK(t->mode) && fchmodat(s->parent, base, t->mode & 07777, 0) < 0)
		return -errno;
	r = set_xattrs(s, base, t);
	if (r == 0 && utimensat(s->parent, base, times, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	return r;
}

static int remember_dir(struct state *s, const char *path, const struct ustar_entry *t)
{
	struct dir_time *d;

	if (++s->n_dirs > DIRS_LIMIT)
		return -E2BIG;
	d = xmalloc(sizeof *d + strlen(path) + 1);
	d->link = (struct list){ 0 };
	d->mtime = t->mtime;
	strcpy(d->path, path);
	list_append(&s->dirs, &d->link);
	return 0;
}

static int unpack_entry(struct state *s, const struct ustar_entry *t, struct err *e)
{
	_cleanup_free_ char *path = full_name(s, t->path), *dest = NULL;
	bool dir = !t->hardlink && S_ISDIR(t->mode);
	int r;

	if (!path)
		return err_msg(e, ERR_INVALID, -EXDEV, "\"%s\" is outside of \"%s\"", t->path, s->u->dest);
	dest = full_name(s, ".");
	if (streq(path, dest))
		return 0;		/* the directory itself, which is there: it stays as it is */
	r = open_parent(s, path);
	if (r == 0)
		r = make_room(s, path, dir, e);
	if (r == 0)
		r = make_node(s, path_basename(path), t, e);
	else if (r > 0)
		r = 0;
	if (r == 0 && !t->hardlink)
		r = set_attributes(s, path_basename(path), t);
	if (r == 0 && dir)
		r = remember_dir(s, path, t);
	return r;
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

int tree_unpack(const struct tree_unpack *u, struct ustar_reader *in, struct err *e)
{
	struct state s = { .u = u, .in = in, .parent = -EBADF };
	const struct ustar_entry *t;
	int r;

	list_init(&s.dirs);
	while ((r = ustar_next(in, &t, e)) > 0) {
		r = unpack_entry(&s, t, e);
		if (r < 0 && (!e || !e->kind))
			err_set(e, ERR_SYSTEM, r, "unpack \"%s\"", t->path);
		if (r < 0)
			break;
	}
	if (r == 0)
		r = ustar_drain(in);
	if (r == 0) {
		r = set_dir_times(&s);
		if (r < 0)
			err_set(e, ERR_SYSTEM, r, "set the times of directories");
	}
	list_for_each(d, &s.dirs, struct dir_time, link)
		free(d);
	fd_close(&s.parent);
	free(s.parent_path);
	return r;
}
