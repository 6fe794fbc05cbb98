#include "base/sock.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Fills sun; a path too long for it is reached through a descriptor of its directory (kept in *dirfd). */
static int sun_fill(const char *path, struct sockaddr_un *sun, int *dirfd)
{
	*sun = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) < sizeof sun->sun_path) {
		memcpy(sun->sun_path, path, strlen(path) + 1);
		return 0;
	}
	_cleanup_free_ char *dir = xstrndup(path, (size_t)(path_basename(path) - path));

	*dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*dirfd < 0)
		return -errno;
	if (snprintf(sun->sun_path, sizeof sun->sun_path, "/proc/self/fd/%d/%s", *dirfd,
		     path_basename(path)) >= (int)sizeof sun->sun_path)
		return -ENAMETOOLONG;
	return 0;
}

int sock_listen_unix(const char *path, mode_t mode)
{
	_cleanup_close_ int fd = -EBADF, dirfd = -EBADF;
	struct sockaddr_un sun;
	int r = sun_fill(path, &sun, &dirfd);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	/* Nobody may connect between bind and chmod. */
	if (fchmod(fd, mode) < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&sun, sizeof sun) < 0)
		return -errno;
	if (chmod(path, mode) < 0 || listen(fd, 512) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int sock_connect_unix(const char *path)
{
	_cleanup_close_ int fd = -EBADF, dirfd = -EBADF;
	struct sockaddr_un sun;
	int r = sun_fill(path, &sun, &dirfd);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (RETRY(connect(fd, (struct sockaddr *)&sun, sizeof sun)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int sock_pair(int ret[2])
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret) < 0 ? -errno : 0;
}

int sock_pair_packets(int ret[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret) < 0 ? -errno : 0;
}

ssize_t sock_send_fds(int fd, const void *p, size_t n, const int *fds, size_t n_fds)
{
	union { struct cmsghdr align; char buf[CMSG_SPACE(sizeof(int) * SOCK_MAX_FDS)]; } ctl = { 0 };
	struct iovec iov = { .iov_base = (void *)p, .iov_len = n };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t r;

	if (n_fds > SOCK_MAX_FDS)
		return -E2BIG;
	if (n_fds) {
		struct cmsghdr *c = &ctl.align;

		mh.msg_control = ctl.buf;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	r = RETRY(sendmsg(fd, &mh, MSG_NOSIGNAL));
	return r < 0 ? -errno : r;
}

ssize_t sock_recv_fds(int fd, void *p, size_t n, int *fds, size_t *n_fds)
{
	union { struct cmsghdr align; char buf[CMSG_SPACE(sizeof(int) * SOCK_MAX_FDS)]; } ctl;
	struct iovec iov = { .iov_base = p, .iov_len = n };
	struct msghdr mh = {
	    .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl.buf, .msg_controllen = sizeof ctl};
	size_t room = *n_fds, got = 0;
	ssize_t r;

	r = RETRY(recvmsg(fd, &mh, MSG_CMSG_CLOEXEC));
	*n_fds = 0;
	if (r < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int f;

			memcpy(&f, CMSG_DATA(c) + i * sizeof f, sizeof f);
			if (got < room)
				fds[got++] = f;
			else
				close(f);
		}
	}
	*n_fds = got;
	return r;
}

int sock_peer_cred(int fd, uid_t *ret_uid, gid_t *ret_gid, pid_t *ret_pid)
{
	struct ucred uc;
	socklen_t len = sizeof uc;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &uc, &len) < 0)
		return -errno;
	if (ret_uid)
		*ret_uid = uc.uid;
	if (ret_gid)
		*ret_gid = uc.gid;
	if (ret_pid)
		*ret_pid = uc.pid;
	return 0;
}
