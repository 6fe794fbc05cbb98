#include "base/fs.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/hash.h"
#include "base/id.h"
#include "base/strv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#define ROOM_MAX (64ull << 20)
#define ROOM_INODES_MAX 1000

int fs_read(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len)
{
	_cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT_MAX(max);

	if (fd < 0)
		return -errno;
	for (;;) {
		char chunk[4096];
		ssize_t n = RETRY(read(fd, chunk, sizeof chunk));

		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		sbuf_add(&b, chunk, (size_t)n);
		if (!sbuf_ok(&b))
			return -EFBIG;
	}
	if (ret_len)
		*ret_len = b.len;
	*ret = sbuf_steal(&b);
	return 0;
}

int fs_read_line(int dirfd, const char *path, char **ret)
{
	int r = fs_read(dirfd, path, 64 << 10, ret, NULL);

	if (r == 0)
		(*ret)[strcspn(*ret, "\n")] = 0;
	return r;
}

char *fs_boot_id(void)
{
	char *id = NULL;

	return fs_read_line(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &id) < 0 ? xstrdup("") : id;
}

int fs_write(int dirfd, const char *path, const char *s)
{
	_cleanup_close_ int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	size_t n = strlen(s);
	ssize_t w;

	if (fd < 0)
		return -errno;
	w = RETRY(write(fd, s, n));
	if (w < 0)
		return -errno;
	return (size_t)w == n ? 0 : -EIO;
}

int fs_write_atomic(int dirfd, const char *path, const void *p, size_t n, mode_t mode, bool durable)
{
	uint64_t rnd;
	_cleanup_free_ char *tmp = NULL;
	_cleanup_close_ int fd = -EBADF;
	int r;

	random_bytes(&rnd, sizeof rnd);
	tmp = xasprintf("%s.%016llx", path, (unsigned long long)rnd);
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return -errno;
	r = fd_write_full(fd, p, n);
	if (r == 0 && fchmod(fd, mode) < 0)
		r = -errno;
	if (r == 0 && durable && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && renameat(dirfd, tmp, dirfd, path) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(dirfd, tmp, 0);
	return r;
}

int fs_mkdir_p(const char *path, mode_t mode)
{
	_cleanup_free_ char *copy = xstrdup(path);
	struct stat st;

	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	if (mkdir(copy, mode) < 0 && errno != EEXIST)
		return -errno;
	if (stat(copy, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

/* Removing a tree. Each level that is gone down takes a descriptor: what lies deeper than RM_DEPTH is moved
 * up into the directory that is removed, and is met there again. */
#define RM_DEPTH 128

struct rm { int top; dev_t dev; unsigned moved; };

static int rm_tree(struct rm *rm, int at, const char *name, unsigned depth);

static int rm_move_up(struct rm *rm, int at, const char *name)
{
	char to[40];

	do
		snprintf(to, sizeof to, ".insula-rm-%u", rm->moved++);
	while (renameat2(at, name, rm->top, to, RENAME_NOREPLACE) < 0 && errno == EEXIST);
	return faccessat(at, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ? -EBUSY : 0;
}

/* fd, a directory, is taken over. */
static int rm_content(struct rm *rm, int fd, unsigned depth)
{
	struct dirent *de;
	unsigned moved;
	int r = 0;
	DIR *d = fdopendir(fd);

	if (!d) {
		close(fd);
		return -errno;
	}
	if (depth == 0)
		rm->top = fd;
	do {
		moved = rm->moved;
		rewinddir(d);
		while (r == 0 && (de = readdir(d)))
			if (strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
				r = rm_tree(rm, fd, de->d_name, depth + 1);
	} while (r == 0 && depth == 0 && rm->moved > moved);
	closedir(d);
	return r;
}

static int rm_tree(struct rm *rm, int at, const char *name, unsigned depth)
{
	struct stat st;
	int fd, r;

	if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (unlinkat(at, name, AT_REMOVEDIR) == 0)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return -errno;
	if (depth > RM_DEPTH)
		return rm_move_up(rm, at, name);
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = fstat(fd, &st) < 0 ? -errno : depth > 0 && st.st_dev != rm->dev ? -EXDEV : 0;
	if (r < 0) {
		close(fd);
		return r;
	}
	rm->dev = st.st_dev;
	r = rm_content(rm, fd, depth);
	if (r == 0 && unlinkat(at, name, AT_REMOVEDIR) < 0)
		r = -errno;
	return r;
}

int fs_rm_rf(int dirfd, const char *name)
{
	struct rm rm = { .top = -EBADF };

	return rm_tree(&rm, dirfd, name, 0);
}

static int do_openat2(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.mode = flags & (O_CREAT | O_TMPFILE) ? mode : 0,
		.resolve = resolve,
	};

	/* EAGAIN means a rename raced with the walk: bounded, so that nobody can stall us for ever. */
	for (int i = 0; i < 128; i++) {
		int fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof how);

		if (fd >= 0)
			return fd;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
	return -EAGAIN;
}

int fs_open_in_root(int rootfd, const char *path, int flags, mode_t mode)
{
	return do_openat2(rootfd, *path ? path : ".", flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int fs_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
	return do_openat2(dirfd, path, flags, mode,
			  RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

int fs_mkdir_in_root(int rootfd, const char *path, mode_t mode)
{
	_cleanup_free_ char *clean = path_clean(path), *prefix = NULL;
	_cleanup_close_ int cur = -EBADF;
	char *save = NULL;

	cur = fs_open_in_root(rootfd, ".", O_PATH | O_DIRECTORY, 0);
	if (cur < 0)
		return cur;
	/* Each prefix is resolved from the root again, so that symlinks mean what they mean inside it. */
	prefix = xstrdup("");
	for (char *c = strtok_r(clean, "/", &save); c; c = strtok_r(NULL, "/", &save)) {
		char *next = xasprintf("%s/%s", prefix, c);
		int fd;

		free(prefix);
		prefix = next;
		fd = fs_open_in_root(rootfd, prefix, O_PATH | O_DIRECTORY, 0);
		if (fd == -ENOENT) {
			if (mkdirat(cur, c, mode) < 0 && errno != EEXIST)
				return -errno;
			fd = fs_open_in_root(rootfd, prefix, O_PATH | O_DIRECTORY, 0);
		}
		if (fd < 0)
			return fd;
		close(cur);
		cur = fd;
	}
	return TAKE_FD(cur);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int fs_list(int dirfd, char ***ret)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *de;
	size_t n = 0, room = 0;

	if (!d) {
		int r = -errno;

		fd_close(&fd);
		return r;
	}
	*ret = NULL;
	while ((de = readdir(d))) {
		if (streq(de->d_name, ".") || streq(de->d_name, ".."))
			continue;
		if (n + 1 >= room)
			*ret = xrealloc(*ret, room = room ? room * 2 : 64, sizeof **ret);
		(*ret)[n++] = xstrdup(de->d_name);
		(*ret)[n] = NULL;
	}
	closedir(d);
	if (n)
		qsort(*ret, n, sizeof **ret, by_name);
	return 0;
}

static int copy_extent(int from, int to, off_t off, off_t end)
{
	while (off < end) {
		off_t in = off, out = off;
		ssize_t n = RETRY(copy_file_range(from, &in, to, &out, (size_t)(end - off), 0));

		if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)) {
			char buf[64 << 10];
			ssize_t got = RETRY(pread(from, buf, MIN(sizeof buf, (size_t)(end - off)), off));

			if (got > 0)
				n = RETRY(pwrite(to, buf, (size_t)got, off));
			else
				n = got;
		}
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		off += n;
	}
	return 0;
}

int fs_copy_sparse(int from, int to)
{
	off_t off = 0;
	struct stat st;

	if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
		return -errno;
	while (off < st.st_size) {
		off_t data = lseek(from, off, SEEK_DATA), hole;
		int r;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		hole = lseek(from, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		r = copy_extent(from, to, data, hole);
		if (r < 0)
			return r;
		off = hole;
	}
	return 0;
}

/* Whether the file was met before, under another name. */
static bool du_seen(struct hmap *links, const struct stat *st)
{
	char key[40];

	if (S_ISDIR(st->st_mode) || st->st_nlink < 2)
		return false;
	snprintf(key, sizeof key, "%jx:%jx", (uintmax_t)st->st_dev, (uintmax_t)st->st_ino);
	if (hmap_get(links, key))
		return true;
	hmap_set(links, key, links);
	return false;
}

/* Deeper directories count as nothing: each level takes a descriptor. */
#define DU_DEPTH 2048

static int du_tree(int at, const char *name, unsigned depth, struct hmap *links, uint64_t *sum)
{
	_cleanup_close_ int fd = -EBADF;
	struct dirent *de;
	struct stat st;
	int r = 0;
	DIR *d;

	if (fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!du_seen(links, &st))
		*sum += (uint64_t)st.st_blocks * 512;
	if (!S_ISDIR(st.st_mode) || depth > DU_DEPTH)
		return 0;
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d)
		return -errno;
	TAKE_FD(fd);
	while (r == 0 && (de = readdir(d)))
		if (strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
			r = du_tree(dirfd(d), de->d_name, depth + 1, links, sum);
	closedir(d);
	return r;
}

int fs_du(int dirfd, const char *name, uint64_t *ret)
{
	struct hmap links = HMAP_INIT;
	uint64_t sum = 0;
	int r = du_tree(dirfd, name, 0, &links, &sum);

	hmap_done(&links);
	if (r == 0)
		*ret = sum;
	return r;
}

int fs_check_room(int fd)
{
	struct statvfs s;
	uint64_t bytes, inodes;

	if (fstatvfs(fd, &s) < 0)
		return -errno;
	bytes = MIN((uint64_t)s.f_blocks * s.f_frsize / 100, ROOM_MAX);
	inodes = MIN((uint64_t)s.f_files / 100, ROOM_INODES_MAX);
	/* Some file systems have no number of inodes. */
	return (uint64_t)s.f_bavail * s.f_frsize < bytes || (s.f_files && s.f_favail < inodes) ? -ENOSPC : 0;
}

bool fs_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

const char *fs_kernel_lacks(void)
{
	static const struct { long nr; const char *name; } needed[] = {
		{ SYS_openat2, "openat2 (Linux 5.6)" },
		{ SYS_open_tree, "open_tree (Linux 5.2)" },
		{ SYS_move_mount, "move_mount (Linux 5.2)" },
		{ SYS_fsopen, "fsopen (Linux 5.2)" },
		{ SYS_fsconfig, "fsconfig (Linux 5.2)" },
		{ SYS_fsmount, "fsmount (Linux 5.2)" },
		{ SYS_pidfd_open, "pidfd_open (Linux 5.3)" },
		{ SYS_pidfd_send_signal, "pidfd_send_signal (Linux 5.1)" },
	};

	/* Arguments that each of them refuses. */
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (syscall(needed[i].nr, -1L, -1L, -1L, -1L, -1L) < 0 && errno == ENOSYS)
			return needed[i].name;
	return NULL;
}
