/* Theory of operation.
 *
 * Names are resolved and entries made by lib/tree_writer: nothing that an archive says leads out of the root.
 * An entry replaces what stood there, except that a directory keeps its content.
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
#include "lib/tree_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* What no entry of a layer names gets this time, so that unpacking a layer gives the same tree everywhere:
 * its disk is then the same bit for bit. */
static const struct timespec unnamed = { 0 };

#define OPAQUE_MAX 10000
/* Of directories. What lies deeper than a path can say is beyond the tools that work on the tree. */
#define DEPTH_MAX 1000
/* How much is written, and how many entries are made, until the disk is looked at. */
#define ROOM_BYTES (64u << 10)
#define ROOM_ENTRIES 8

struct state {
	struct unpack *u;
	struct tar *tar;
	struct tree_writer w;
	size_t opaque;
	uint64_t bytes;		/* since the disk was looked at */
	unsigned entries;
};

/* Bombs end before the disk is full to the last byte. */
static int check_room(struct state *s, size_t bytes, unsigned entries)
{
	s->bytes += bytes;
	s->entries += entries;
	if (s->bytes < ROOM_BYTES && s->entries < ROOM_ENTRIES)
		return 0;
	s->bytes = s->entries = 0;
	return fs_check_room(s->u->root);
}

static bool all_zero(const char *p, size_t n)
{
	return n && *p == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* "./a//b/" -> "a/b". NULL if the name leaves the root. */
static char *clean_name(const char *path)
{
	char *c = path_clean(path), *p = c;

	while (*p == '/')
		p++;
	if (streq(p, "..") || str_starts(p, "../") || strlen(p) >= TREE_PATH_LIMIT) {
		free(c);
		return NULL;
	}
	p = xstrdup(*p ? p : ".");
	free(c);
	return p;
}

static int write_at(int fd, const char *p, size_t n, off_t off)
{
	for (size_t done = 0; done < n;) {
		ssize_t w = RETRY(pwrite(fd, p + done, n - done, off + (off_t)done));

		if (w < 0)
			return -errno;
		done += (size_t)w;
	}
	return 0;
}

static int write_data(struct state *s, int fd, uint64_t size, struct err *e)
{
	const void *p;
	size_t n;
	off_t off;
	int r;

	while ((r = tar_data(s->tar, &p, &n, &off, e)) > 0) {
		/* The file is new: what is not written reads as zeros, and takes no room. */
		if (all_zero(p, n))
			continue;
		r = check_room(s, n, 0);
		if (r < 0)
			return r;
		r = write_at(fd, p, n, off);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	s->u->size += size;
	return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

static int make_file(struct state *s, const char *base, const struct tar_entry *t, struct err *e)
{
	_cleanup_close_ int fd = tree_writer_file(&s->w, base);

	return fd < 0 ? fd : write_data(s, fd, t->size, e);
}

static int make_hardlink(struct state *s, const char *base, const struct tar_entry *t, struct err *e)
{
	_cleanup_free_ char *target = clean_name(t->hardlink);

	if (!target)
		return err_msg(e, ERR_INVALID, -EXDEV,
			       "invalid hardlink \"%s\" -> \"%s\": it is outside of the image", t->path,
			       t->hardlink);
	return tree_writer_hardlink(&s->w, base, target);
}

static int make_node(struct state *s, const char *base, const struct tar_entry *t, struct err *e)
{
	switch (t->mode & S_IFMT) {
	case S_IFREG:
		return make_file(s, base, t, e);
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
		if (s->u->files_only)
			return err_msg(e, ERR_INVALID, -EINVAL,
				       "invalid archive: \"%s\" is neither file nor directory", t->path);
		break;
	case S_IFDIR:
	case S_IFLNK:
		break;
	default:
		return err_msg(e, ERR_INVALID, -EINVAL, "invalid archive: \"%s\" is of an unknown type",
			       t->path);
	}
	return tree_writer_node(&s->w, base, t->mode, t->link, makedev(t->major, t->minor));
}

static int set_attributes(struct state *s, const char *base, const struct tar_entry *t)
{
	struct tree_attributes a = { t->mode, t->uid, t->gid, .mtime = t->mtime };
	int r = tree_writer_attributes(&s->w, base, &a);
	const char *name;
	const void *value;
	size_t n;

	while (r == 0 && tar_xattr(s->tar, &name, &value, &n))
		r = tree_writer_xattr(&s->w, base, t->mode, name, value, n, false);
	/* File systems that have room for few of them answer as if the disk were full. */
	return r == -ENOSPC && fs_check_room(s->u->root) == 0 ? -E2BIG : r;
}

/* Reported by name, so the name must be the directory's own and lead through no symlink. */
static int mark_opaque(struct state *s, const char *name, const char *base)
{
	_cleanup_free_ char *dir = base == name ? xstrdup(".") : xstrndup(name, (size_t)(base - name) - 1);
	_cleanup_close_ int fd = fs_open_beneath(s->u->root, dir, O_PATH | O_DIRECTORY, 0);

	if (fd < 0)
		return fd;
	if (strv_has(s->u->opaque, dir))
		return 1;
	if (s->opaque++ >= OPAQUE_MAX)
		return -E2BIG;
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
	r = tree_writer_make_room(&s->w, base, false);
	if (r == 0)
		r = tree_writer_node(&s->w, base, S_IFCHR | 0600, NULL, makedev(0, 0));
	if (r == 0)
		r = tree_writer_attributes(&s->w, base, &(struct tree_attributes){ .mtime = unnamed });
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
		return tree_writer_dir_time(&s->w, name, t->mtime);
	}
	if (s->u->layer && is_aufs(name))
		return 0;
	base = path_basename(name);
	r = tree_writer_parent(&s->w, name);
	if (r == 0 && s->u->layer)
		r = whiteout(s, name, base);
	if (r != 0)
		return r < 0 ? r : 0;
	r = tree_writer_make_room(&s->w, base, dir);
	if (r == 0)
		r = t->hardlink ? make_hardlink(s, base, t, e) : make_node(s, base, t, e);
	else if (r > 0)
		r = 0;
	if (r == 0 && !t->hardlink)
		r = set_attributes(s, base, t);
	if (r == 0 && dir)
		r = tree_writer_dir_time(&s->w, name, t->mtime);
	return r;
}

/* size: of the archive so far. */
struct tee { struct sha256 *hash; int keep_fd, failed; uint64_t size; };

static void tee_digest(void *ud, const void *p, size_t n)
{
	struct tee *t = ud;

	sha256_update(t->hash, p, n);
	if (t->keep_fd > 0 && t->failed == 0 && !all_zero(p, n))
		t->failed = write_at(t->keep_fd, p, n, (off_t)t->size);
	t->size += n;
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

int unpack(struct unpack *u, const struct tar_source *source, struct err *e)
{
	struct tee tee = { sha256_new(), u->keep_fd };
	struct state s = { .u = u };
	struct tar_entry t;
	char hex[65];
	int r = 0;

	tree_writer_init(&s.w, u->root);
	s.w.depth_max = DEPTH_MAX;
	if (u->layer) {
		s.w.made_time = &unnamed;
		r = tree_writer_dir_time(&s.w, ".", unnamed);
	}
	if (r == 0)
		r = tar_open(source, tee_digest, &tee, &s.tar, e);
	while (r == 0 && (r = tar_next(s.tar, &t, e)) > 0) {
		r = check_room(&s, 0, 1);
		if (r == 0)
			r = unpack_entry(&s, &t, e);
		if (r < 0 && (!e || !e->kind))
			err_set(e, r == -ENOSPC || r == -EDQUOT || r == -EIO ? ERR_SYSTEM : ERR_INVALID, r,
				"unpack \"%s\"", t.path);
	}
	if (r == 0)
		r = tar_drain(s.tar, e);
	if (r == 0 && tee.failed == 0 && u->keep_fd > 0 && ftruncate(u->keep_fd, (off_t)tee.size) < 0)
		tee.failed = -errno;
	if (r == 0 && tee.failed < 0)
		r = err_set(e, ERR_SYSTEM, tee.failed, "keep the archive");
	if (r == 0) {
		r = tree_writer_set_dir_times(&s.w);
		if (r < 0)
			err_set(e, ERR_SYSTEM, r, "set the times of directories");
		drop_replaced(u);
	}
	tar_close(s.tar);
	sha256_final(tee.hash, hex);
	snprintf(u->diff_id, sizeof u->diff_id, "sha256:%s", hex);
	tree_writer_done(&s.w);
	return r;
}

void unpack_done(struct unpack *u)
{
	strv_free(u->opaque);
	u->opaque = NULL;
}
