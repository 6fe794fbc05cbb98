#include "lib/tree.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"
#include "lib/tree_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>

struct state {
	const struct tree_unpack *u;
	struct ustar_reader *in;
	struct tree_writer w;
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
	return strlen(all) < TREE_PATH_LIMIT ? path_clean(all) : NULL;
}

/* 1: a directory stands there and stays. */
static int make_room(struct state *s, const char *path, bool dir, struct err *e)
{
	const char *base = path_basename(path);
	struct stat st;

	if (s->u->keep_types && fstatat(s->w.parent, base, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (dir && !S_ISDIR(st.st_mode))
			return err_msg(e, ERR_INVALID, -EEXIST,
				       "cannot overwrite non-directory \"%s\" with directory \"%s\"", path,
				       s->u->dest);
		if (!dir && S_ISDIR(st.st_mode))
			return err_msg(e, ERR_INVALID, -EEXIST,
				       "cannot overwrite directory \"%s\" with non-directory \"%s\"", path,
				       s->u->dest);
	}
	return tree_writer_make_room(&s->w, base, dir);
}

static int make_file(struct state *s, const char *base)
{
	_cleanup_close_ int fd = tree_writer_file(&s->w, base);
	char buf[64 << 10];
	ssize_t n;
	int r = 0;

	if (fd < 0)
		return fd;
	while (r == 0 && (n = ustar_data(s->in, buf, sizeof buf)) != 0)
		r = n < 0 ? (int)n : fd_write_full(fd, buf, (size_t)n);
	return r;
}

static int make_hardlink(struct state *s, const char *base, const struct ustar_entry *t, struct err *e)
{
	_cleanup_free_ char *target = full_name(s, t->link);

	if (!target)
		return err_msg(e, ERR_INVALID, -EXDEV, "invalid hardlink \"%s\" -> \"%s\"", t->path, t->link);
	return tree_writer_hardlink(&s->w, base, target);
}

static int make_node(struct state *s, const char *base, const struct ustar_entry *t, struct err *e)
{
	if (t->hardlink)
		return make_hardlink(s, base, t, e);
	if (S_ISREG(t->mode))
		return make_file(s, base);
	return tree_writer_node(&s->w, base, t->mode, t->link, makedev(t->major, t->minor));
}

static int set_attributes(struct state *s, const char *base, const struct ustar_entry *t)
{
	const struct tree_unpack *u = s->u;
	struct tree_attributes a = { .mode = t->mode,
				     .uid = u->owner ? u->uid : t->uid,
				     .gid = u->owner ? u->gid : t->gid,
				     .keep_owner = u->own_ids,
				     .mtime = t->mtime };
	int r = tree_writer_attributes(&s->w, base, &a);

	/* Users who may not set one do without, as with cp(1). */
	for (size_t i = 0; r == 0 && i < t->n_xattrs; i++)
		r = tree_writer_xattr(&s->w, base, t->mode, t->xattrs[i].name, t->xattrs[i].value,
				      t->xattrs[i].n, true);
	return r;
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
	r = tree_writer_parent(&s->w, path);
	if (r == 0)
		r = make_room(s, path, dir, e);
	if (r == 0)
		r = make_node(s, path_basename(path), t, e);
	else if (r > 0)
		r = 0;
	if (r == 0 && !t->hardlink)
		r = set_attributes(s, path_basename(path), t);
	if (r == 0 && dir)
		r = tree_writer_dir_time(&s->w, path, t->mtime);
	return r;
}

int tree_unpack(const struct tree_unpack *u, struct ustar_reader *in, struct err *e)
{
	struct state s = { .u = u, .in = in };
	const struct ustar_entry *t;
	int r;

	tree_writer_init(&s.w, u->root);
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
		r = tree_writer_set_dir_times(&s.w);
		if (r < 0)
			err_set(e, ERR_SYSTEM, r, "set the times of directories");
	}
	tree_writer_done(&s.w);
	return r;
}
