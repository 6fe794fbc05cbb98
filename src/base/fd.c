#include "base/fd.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>

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

#define FD_WALK 65536	/* without close_range: descriptors above are not looked for */

int fd_cloexec_from(int from)
{
	if (syscall(SYS_close_range, (unsigned)from, ~0u, CLOSE_RANGE_CLOEXEC) == 0)
		return 0;
	/* Kernels before 5.11 know no flags: walk what can be open. */
	for (int fd = from; fd < FD_WALK; fd++)
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 && errno != EBADF)
			return -errno;
	return 0;
}

void fd_close_range(unsigned first, unsigned last)
{
	if (syscall(SYS_close_range, first, last, 0) == 0 || errno != ENOSYS)
		return;
	for (unsigned fd = first; fd <= MIN(last, (unsigned)FD_WALK); fd++)
		(void)close((int)fd);
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
