#include "runtime/internal.h"
#include "base/fd.h"
#include "base/sock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int sync_pair(int ret[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret) < 0 ? -errno : 0;
}

static int send_msg(int fd, const struct sync_msg *m, int pass_fd)
{
	ssize_t n = sock_send_fds(fd, m, sizeof *m, &pass_fd, pass_fd >= 0 ? 1 : 0);

	return n < 0 ? (int)n : n == sizeof *m ? 0 : -EIO;
}

int sync_send(int fd, enum sync_type type, int r, int pass_fd)
{
	struct sync_msg m = { .type = type, .r = r };

	return send_msg(fd, &m, pass_fd);
}

int sync_send_error(int fd, int r, const struct err *e)
{
	struct sync_msg m = { .type = SYNC_ERROR, .r = r, .kind = e->kind ? e->kind : ERR_SYSTEM };

	snprintf(m.text, sizeof m.text, "%s", err_text(e));
	return send_msg(fd, &m, -EBADF);
}

int sync_recv(int fd, struct sync_msg *ret, int *ret_fd, struct err *e)
{
	_cleanup_close_ int got = -EBADF;
	size_t n_fds = 1;
	ssize_t n = sock_recv_fds(fd, ret, sizeof *ret, &got, &n_fds);

	/* Told once if the other end left without having read all; what it had to say is still there. */
	if (n == -ECONNRESET) {
		n_fds = 1;
		n = sock_recv_fds(fd, ret, sizeof *ret, &got, &n_fds);
	}
	if (n < 0)
		return err_set(e, ERR_SYSTEM, (int)n, "container process: no message");
	if (n == 0)
		return -ECONNRESET;
	if (n != sizeof *ret)
		return err_set(e, ERR_SYSTEM, -EPROTO, "container process: bad message");
	if (ret->type == SYNC_ERROR) {
		ret->text[sizeof ret->text - 1] = 0;
		return err_msg(e, ret->kind < _ERR_KIND_MAX ? ret->kind : ERR_SYSTEM,
			       ret->r < 0 ? ret->r : -EIO, "%s", ret->text);
	}
	if (ret_fd)
		*ret_fd = TAKE_FD(got);
	return 0;
}

int gate_release(int fd, const struct rt_container *c, pid_t pid, struct err *e)
{
	struct sync_msg m;
	int r = sync_send(fd, SYNC_GO, 0, -EBADF);

	if (r == -EPIPE || r == -ECONNRESET)
		return err_msg(e, ERR_CONFLICT, -ESRCH, "cannot start a container that has stopped");
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "cannot start the container's init");
	for (;;) {
		_cleanup_close_ int listener = -EBADF;

		r = sync_recv(fd, &m, &listener, e);
		if (r < 0)
			return r == -ECONNRESET ? 0 : r;
		if (m.type != SYNC_LISTENER || listener < 0)
			return err_msg(e, ERR_SYSTEM, -EPROTO, "container process: bad message");
		r = listener_send(c, pid, listener, e);
		if (r < 0)
			return r;
	}
}
