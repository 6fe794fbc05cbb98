/* mount_setattr (Linux 5.12), and what does the same before it: a remount of each mount by its descriptor.
 * That needs the mount to be attached, so all callers attach first; nobody else lives in their mount
 * namespace. */
#include "base/mount.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#ifndef ST_NOSYMFOLLOW
#define ST_NOSYMFOLLOW 0x2000
#endif
#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

/* The same attribute as mount_setattr, statvfs and mount call it. */
static const struct { uint64_t attr; unsigned long st, ms; } flags[] = {
	{ MOUNT_ATTR_RDONLY, ST_RDONLY, MS_RDONLY }, { MOUNT_ATTR_NOSUID, ST_NOSUID, MS_NOSUID },
	{ MOUNT_ATTR_NODEV, ST_NODEV, MS_NODEV }, { MOUNT_ATTR_NOEXEC, ST_NOEXEC, MS_NOEXEC },
	{ MOUNT_ATTR_NODIRATIME, ST_NODIRATIME, MS_NODIRATIME },
	{ MOUNT_ATTR_NOSYMFOLLOW, ST_NOSYMFOLLOW, MS_NOSYMFOLLOW },
};

static unsigned long atime_flag(uint64_t attrs)
{
	uint64_t kind = attrs & MOUNT_ATTR__ATIME;

	return kind == MOUNT_ATTR_NOATIME ? MS_NOATIME : kind == MOUNT_ATTR_STRICTATIME ? MS_STRICTATIME
											: MS_RELATIME;
}

static int remount_one(int fd, uint64_t set, uint64_t clear)
{
	unsigned long ms = MS_REMOUNT | MS_BIND;
	struct statvfs now;

	if (fstatvfs(fd, &now) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (set & flags[i].attr || (now.f_flag & flags[i].st && !(clear & flags[i].attr)))
			ms |= flags[i].ms;
	if ((set | clear) & MOUNT_ATTR__ATIME)
		ms |= atime_flag(set);
	else
		ms |= now.f_flag & ST_NOATIME	 ? MS_NOATIME
		      : now.f_flag & ST_RELATIME ? MS_RELATIME
						 : MS_STRICTATIME;
	if (mount(NULL, fd_proc_path(fd).s, NULL, ms, NULL) < 0 || fstatvfs(fd, &now) < 0)
		return -errno;
	/* An older kernel passes over what it does not know. */
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (set & flags[i].attr && !(now.f_flag & flags[i].st))
			return -EOPNOTSUPP;
	return 0;
}

/* --- what is mounted below --- */

struct entry { int id, parent; char *path; bool below; };
struct table { struct entry *v; size_t n; };

static void table_done(struct table *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->v[i].path);
	free(t->v);
}

static int mount_id(int fd, int *ret)
{
	_cleanup_free_ char *path = xasprintf("/proc/self/fdinfo/%d", fd), *text = NULL;
	const char *at;
	int r = fs_read(AT_FDCWD, path, 4096, &text, NULL);

	at = r == 0 ? strstr(text, "mnt_id:") : NULL;
	return r < 0 ? r : at && sscanf(at, "mnt_id: %d", ret) == 1 ? 0 : -EPROTO;
}

/* "\040" and the like, which stand for white space in mountinfo (proc(5)). */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		unsigned c;

		if (*s == '\\' && sscanf(s + 1, "%3o", &c) == 1) {
			*to++ = (char)c;
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = 0;
}

static int read_table(int root, struct table *ret)
{
	_cleanup_free_ char *text = NULL;
	int r = fs_read(AT_FDCWD, "/proc/self/mountinfo", 4 << 20, &text, NULL);

	for (char *save = NULL, *l = r == 0 ? strtok_r(text, "\n", &save) : NULL; l;
	     l = strtok_r(NULL, "\n", &save)) {
		struct entry x = { 0 };

		/* ID PARENT MAJOR:MINOR ROOT MOUNTPOINT ... */
		if (sscanf(l, "%d %d %*s %*s %ms", &x.id, &x.parent, &x.path) != 3) {
			free(x.path);
			continue;
		}
		unescape(x.path);
		x.below = x.parent == root;
		ret->v = xrealloc(ret->v, ret->n + 1, sizeof *ret->v);
		ret->v[ret->n++] = x;
	}
	/* A mount may stand before the one it lies on. */
	for (bool more = true; r == 0 && more;) {
		more = false;
		for (size_t i = 0; i < ret->n; i++)
			for (size_t k = 0; !ret->v[i].below && k < ret->n; k++)
				if (ret->v[k].below && ret->v[i].parent == ret->v[k].id)
					more = ret->v[i].below = true;
	}
	return r;
}

/* Another mount lies on all of it, so nothing leads to it. */
static bool is_covered(const struct table *t, const struct entry *x)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->v[i].parent == x->id && streq(t->v[i].path, x->path))
			return true;
	return false;
}

static int remount_below(int fd, uint64_t set, uint64_t clear)
{
	_cleanup_(table_done) struct table t = { 0 };
	int root, r = mount_id(fd, &root);

	if (r == 0)
		r = read_table(root, &t);
	for (size_t i = 0; r == 0 && i < t.n; i++) {
		_cleanup_close_ int sub = -EBADF;
		int id;

		if (!t.v[i].below || is_covered(&t, &t.v[i]))
			continue;
		/* A path, but one that is believed only if it leads to the mount that is meant. */
		sub = open(t.v[i].path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		r = sub < 0 ? -errno : mount_id(sub, &id);
		if (r == 0 && id != t.v[i].id)
			r = -EAGAIN;
		if (r == 0)
			r = remount_one(sub, set, clear);
	}
	return r;
}

static int set_old(int fd, bool recursive, uint64_t set, uint64_t clear, uint64_t propagation)
{
	int r = set | clear ? remount_one(fd, set, clear) : 0;

	if (r == 0 && recursive && set | clear)
		r = remount_below(fd, set, clear);
	if (r == 0 && propagation &&
	    mount(NULL, fd_proc_path(fd).s, NULL, propagation | (recursive ? MS_REC : 0), NULL) < 0)
		r = -errno;
	return r;
}

int mount_set(int fd, bool recursive, uint64_t set, uint64_t clear, uint64_t propagation)
{
	struct mount_attr a = { .attr_set = set, .attr_clr = clear & ~set, .propagation = propagation };

	/* A field such as atime is exchanged as a whole: the kernel wants all its bits in attr_clr. */
	if ((set | clear) & MOUNT_ATTR__ATIME)
		a.attr_clr |= MOUNT_ATTR__ATIME;
	if (!a.attr_set && !a.attr_clr && !a.propagation)
		return 0;
	if (mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &a, sizeof a) == 0)
		return 0;
	return errno == ENOSYS ? set_old(fd, recursive, set, clear, propagation) : -errno;
}

int mount_set_idmap(int fd, bool recursive, int userns)
{
	struct mount_attr a = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)userns };
	int how = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);

	return mount_setattr(fd, "", how, &a, sizeof a) < 0 ? -errno : 0;
}

int mount_of(const char *path, char **ret_point, bool *ret_shared, bool *ret_slave)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
	_cleanup_free_ char *text = NULL;
	int id, r = fd < 0 ? -errno : mount_id(fd, &id);

	if (r == 0)
		r = fs_read(AT_FDCWD, "/proc/self/mountinfo", 4 << 20, &text, NULL);
	for (char *save = NULL, *l = r == 0 ? strtok_r(text, "\n", &save) : NULL; l;
	     l = strtok_r(NULL, "\n", &save)) {
		char *fields = strstr(l, " - ");
		int this;

		if (!fields || sscanf(l, "%d %*d %*s %*s %ms", &this, ret_point) != 2)
			continue;
		if (this != id) {
			freep(ret_point);
			continue;
		}
		unescape(*ret_point);
		*fields = 0;	/* optional ones stand before the dash */
		*ret_shared = strstr(l, " shared:");
		*ret_slave = strstr(l, " master:");
		return 0;
	}
	return r < 0 ? r : -ENOENT;
}
