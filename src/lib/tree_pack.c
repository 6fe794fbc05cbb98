#include "lib/tree.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define XATTRS_SIZE (64u << 10)
#define DEPTH_MAX 256		/* a descriptor each */

static int pack(struct tree_pack *p, int dirfd, const char *name, const char *as, unsigned depth,
		struct err *e);

static void xattrs_done(struct ustar_entry *t)
{
	for (size_t i = 0; i < t->n_xattrs; i++) {
		free(t->xattrs[i].name);
		free(t->xattrs[i].value);
	}
	free(t->xattrs);
}

/* Capabilities and what users have put there; trusted.* and system.* are the host's own affair. */
static int get_xattrs(int fd, struct ustar_entry *t)
{
	_cleanup_free_ char *list = xmalloc(XATTRS_SIZE), *value = NULL;
	ssize_t n = flistxattr(fd, list, XATTRS_SIZE);

	if (n < 0)
		return errno == ENOTSUP ? 0 : -errno;
	for (const char *p = list; p < list + n; p += strlen(p) + 1) {
		ssize_t size;

		if (!str_starts(p, "user.") && !streq(p, "security.capability"))
			continue;
		if (!value)
			value = xmalloc(XATTRS_SIZE);
		size = fgetxattr(fd, p, value, XATTRS_SIZE);
		if (size < 0)
			continue;
		t->xattrs = xrealloc(t->xattrs, t->n_xattrs + 1, sizeof *t->xattrs);
		t->xattrs[t->n_xattrs++] =
		    (struct ustar_xattr){ xstrdup(p), xmemdup(value, (size_t)size), (size_t)size };
	}
	return 0;
}

/* Exactly `size` bytes, whatever the file has become meanwhile. */
static int put_file(struct tree_pack *p, int fd, uint64_t size)
{
	char buf[32 << 10];
	int r = 0;

	while (r == 0 && size) {
		ssize_t n = RETRY(read(fd, buf, MIN(size, (uint64_t)sizeof buf)));

		if (n < 0)
			return -errno;
		if (n == 0) {
			n = (ssize_t)MIN(size, (uint64_t)sizeof buf);
			memset(buf, 0, (size_t)n);
		}
		r = ustar_put_data(p->w, buf, (size_t)n);
		size -= (uint64_t)n;
	}
	return r;
}

/* The name under which this file was put already, or NULL after remembering this one. */
static const char *link_of(struct tree_pack *p, const struct stat *st, const char *as)
{
	_cleanup_free_ char *key = xasprintf("%ju:%ju", (uintmax_t)st->st_dev, (uintmax_t)st->st_ino);
	const char *known = hmap_get(&p->links, key);

	if (!known)
		hmap_set(&p->links, key, xstrdup(as));
	return known;
}

static int put_regular(struct tree_pack *p, int dirfd, const char *name, struct ustar_entry *t)
{
	_cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENOENT;		/* exchanged since it was looked at */
	t->size = (uint64_t)st.st_size;
	r = get_xattrs(fd, t);
	if (r == 0)
		r = ustar_put(p->w, t);
	return r == 0 ? put_file(p, fd, t->size) : r;
}

static int put_marker(struct tree_pack *p, const char *dir, const char *prefix, const char *name)
{
	_cleanup_free_ char *path = xasprintf("%s%s%s%s", dir, *dir ? "/" : "", prefix, name);
	struct ustar_entry t = { .path = path, .mode = S_IFREG | 0600 };

	return ustar_put(p->w, &t);
}

static int put_dir(struct tree_pack *p, int dirfd, const char *name, struct ustar_entry *t, const char *as,
		   unsigned depth, struct err *e)
{
	_cleanup_close_ int fd =
	    openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_strv_ char **names = NULL;
	char mark;
	int r;

	if (fd < 0)
		return -errno;
	if (depth > DEPTH_MAX)
		return -ELOOP;
	r = get_xattrs(fd, t);
	if (r == 0 && *as)
		r = ustar_put(p->w, t);
	if (r == 0 && p->whiteouts && fgetxattr(fd, "trusted.overlay.opaque", &mark, 1) == 1 && mark == 'y')
		r = put_marker(p, as, ".wh..wh..opq", "");
	if (r == 0)
		r = fs_list(fd, &names);
	for (char **n = names; r == 0 && n && *n; n++) {
		_cleanup_free_ char *sub = !*as || streq(as, "/") ? xasprintf("%s%s", as, *n)
								   : xasprintf("%s/%s", as, *n);

		r = pack(p, fd, *n, sub, depth + 1, e);
	}
	return r;
}

static bool is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

static int put_whiteout(struct tree_pack *p, const char *as)
{
	const char *slash = strrchr(as, '/');
	_cleanup_free_ char *dir = slash ? xstrndup(as, (size_t)(slash - as)) : xstrdup("");

	return put_marker(p, dir, ".wh.", slash ? slash + 1 : as);
}

static int put_link(struct tree_pack *p, int dirfd, const char *name, struct ustar_entry *t)
{
	char target[4096];
	ssize_t n = readlinkat(dirfd, name, target, sizeof target - 1);

	if (n < 0)
		return -errno;
	target[n] = 0;
	t->link = target;
	return ustar_put(p->w, t);
}

static int put_entry(struct tree_pack *p, int dirfd, const char *name, const char *as, const struct stat *st,
		     unsigned depth, struct err *e)
{
	bool dir = S_ISDIR(st->st_mode);
	_cleanup_free_ char *path = xasprintf("%s%s", as, dir && !streq(as, "/") ? "/" : "");
	struct ustar_entry t = {
		.path = path, .mode = st->st_mode, .uid = st->st_uid, .gid = st->st_gid, .mtime = st->st_mtim,
		.major = major(st->st_rdev), .minor = minor(st->st_rdev),
	};
	const char *known = S_ISREG(st->st_mode) && st->st_nlink > 1 ? link_of(p, st, as) : NULL;
	int r;

	if (known) {
		t.hardlink = true;
		t.link = (char *)known;
		return ustar_put(p->w, &t);
	}
	if (S_ISLNK(st->st_mode))
		return put_link(p, dirfd, name, &t);
	if (dir)
		r = put_dir(p, dirfd, name, &t, as, depth, e);
	else
		r = S_ISREG(st->st_mode) ? put_regular(p, dirfd, name, &t) : ustar_put(p->w, &t);
	xattrs_done(&t);
	return r;
}

static int pack(struct tree_pack *p, int dirfd, const char *name, const char *as, unsigned depth,
		struct err *e)
{
	struct stat st;
	int r;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		/* what vanishes while it is read was not there */
		return depth && errno == ENOENT ? 0 : err_set(e, ERR_SYSTEM, -errno, "lstat /%s", as);
	if (S_ISSOCK(st.st_mode) || (p->skip && p->skip(p->userdata, dirfd, name, as, &st)))
		return 0;
	if (p->whiteouts && is_whiteout(&st))
		r = put_whiteout(p, as);
	else
		r = put_entry(p, dirfd, name, as, &st, depth, e);
	if (r == -ENOENT && depth)
		return 0;
	return r < 0 && (!e || !e->kind) ? err_set(e, ERR_SYSTEM, r, "archive /%s", as) : r;
}

int tree_pack(struct tree_pack *p, int dirfd, const char *name, const char *as, struct err *e)
{
	return pack(p, dirfd, name, as, 0, e);
}

void tree_pack_done(struct tree_pack *p)
{
	struct hmap_iter it = { 0 };

	while (hmap_next(&p->links, &it))
		free(it.entry->value);
	hmap_done(&p->links);
}
