#include "base/fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#define PROC_ROOT_INO 1		/* <linux/proc_ns.h>: as old as procfs */

void fd_close(int *fd)
{
	closep(fd);
}

ssize_t fd_read_full(int fd, void *p, size_t n)
{
	size_t got = 0;

	while (got < n) {
		ssize_t r = RETRY(read(fd, (char *)p + got, n - got));

		if (r < 0)
			return -errno;
		if (r == 0)
			break;
		got += (size_t)r;
	}
	return (ssize_t)got;
}

int fd_write_full(int fd, const void *p, size_t n)
{
	while (n) {
		ssize_t r = RETRY(write(fd, p, n));

		if (r < 0 && errno == EAGAIN) {
			struct pollfd pfd = { .fd = fd, .events = POLLOUT };

			if (RETRY(poll(&pfd, 1, -1)) < 0)
				return -errno;
			continue;
		}
		if (r < 0)
			return -errno;
		p = (const char *)p + r;
		n -= (size_t)r;
	}
	return 0;
}

static int fd_flag(int fd, int get, int set, int flag, bool on)
{
	int f = fcntl(fd, get);

	if (f < 0)
		return -errno;
	if (!!(f & flag) == on)
		return 0;
	return fcntl(fd, set, on ? f | flag : f & ~flag) < 0 ? -errno : 0;
}

int fd_set_nonblock(int fd, bool on)
{
	return fd_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, on);
}

int fd_set_cloexec(int fd, bool on)
{
	return fd_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on);
}

/* Without close_range and without /proc: descriptors above are not looked for. poll() would tell what is open
 * of hundreds at once, but it takes those of O_PATH for closed. */
#define FD_WALK 65536

static int mark_cloexec(int fd)
{
	return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 && errno != EBADF ? -errno : 0;
}

static int close_one(int fd)
{
	(void)close(fd);
	return 0;
}

/* The directory of our descriptors. /proc may be a container's: then another file system, or something
 * mounted below, must not stand for it, or descriptors would be overlooked. */
static int open_list(void)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS,
	};
	_cleanup_close_ int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct statfs sf;
	struct stat st;
	int fd;

	if (proc < 0)
		return -errno;
	if (fstatfs(proc, &sf) < 0 || fstat(proc, &st) < 0)
		return -errno;
	if (sf.f_type != PROC_SUPER_MAGIC || st.st_ino != PROC_ROOT_INO)
		return -EXDEV;
	fd = (int)syscall(SYS_openat2, proc, "self/fd", &how, sizeof how);
	return fd < 0 ? -errno : fd;
}

/* Calls f on each open descriptor of first..last; -errno where /proc does not tell which there are. No
 * memory is allocated: this runs in children. */
static int for_each_listed(unsigned first, unsigned last, int (*f)(int fd))
{
	_cleanup_close_ int dir = open_list();
	_Alignas(struct dirent64) char buf[4096];
	ssize_t n;

	if (dir < 0)
		return dir;
	while ((n = getdents64(dir, buf, sizeof buf)) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *d = (const void *)(buf + at);
			unsigned long fd = strtoul(d->d_name, NULL, 10);

			at += d->d_reclen;
			if (d->d_name[0] == '.' || fd < first || fd > last || fd == (unsigned long)dir)
				continue;
			int r = f((int)fd);

			if (r < 0)
				return r;
		}
	}
	return n < 0 ? -errno : 0;
}

/* Kernels before 5.9 have no close_range, those before 5.11 not its flag. */
static int for_each_open(unsigned first, unsigned last, int (*f)(int fd))
{
	int r = for_each_listed(first, last, f);

	if (r == 0)
		return 0;
	r = 0;
	for (unsigned fd = first; r == 0 && fd <= MIN(last, (unsigned)FD_WALK); fd++)
		r = f((int)fd);
	return r;
}

int fd_cloexec_from(int from)
{
	if (syscall(SYS_close_range, (unsigned)from, ~0u, CLOSE_RANGE_CLOEXEC) == 0)
		return 0;
	return for_each_open((unsigned)from, ~0u, mark_cloexec);
}

void fd_close_range(unsigned first, unsigned last)
{
	if (syscall(SYS_close_range, first, last, 0) < 0 && errno == ENOSYS)
		(void)for_each_open(first, last, close_one);
}

static int compare_fds(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

void fd_close_except(int *keep, size_t n)
{
	unsigned next = 3;

	qsort(keep, n, sizeof *keep, compare_fds);
	for (size_t i = 0; i < n; i++) {
		if (keep[i] < (int)next)
			continue;
		if (keep[i] > (int)next)
			fd_close_range(next, (unsigned)keep[i] - 1);
		next = (unsigned)keep[i] + 1;
	}
	fd_close_range(next, ~0u);
}

struct fd_path fd_proc_path(int fd)
{
	struct fd_path p;

	snprintf(p.s, sizeof p.s, "/proc/self/fd/%d", fd);
	return p;
}

int fd_pipe(int ret[2], int flags)
{
	return pipe2(ret, O_CLOEXEC | flags) < 0 ? -errno : 0;
}

int fd_from_bytes(const char *name, const void *p, size_t n)
{
	_cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r;

	if (fd < 0)
		return -errno;
	r = fd_write_full(fd, p, n);
	if (r < 0)
		return r;
	if (lseek(fd, 0, SEEK_SET) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return -errno;
	return TAKE_FD(fd);
}
