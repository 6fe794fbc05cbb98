/* `system dial-stdio`: the daemon's socket on stdin and stdout. docker -H ssh://HOST runs it there. */
#include "cli/cmds.h"

#include "base/fd.h"
#include "base/sock.h"
#include "base/strv.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK (64u << 10)

/* Bytes that are there: 1; the end: 0; -errno. Writing may wait, as the client's ssh does. */
static int copy_some(int from, int to)
{
	char buf[CHUNK];
	ssize_t n = RETRY(read(from, buf, sizeof buf));

	if (n <= 0)
		return n < 0 ? -errno : 0;
	n = fd_write_full(to, buf, (size_t)n);
	return n < 0 ? (int)n : 1;
}

static int relay(int sock)
{
	struct pollfd p[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = sock, .events = POLLIN}};

	for (;;) {
		int r;

		if (RETRY(poll(p, ARRAY_SIZE(p), -1)) < 0)
			return -errno;
		if (p[1].revents) {
			r = copy_some(sock, STDOUT_FILENO);
			if (r <= 0)
				return r;
		}
		if (p[0].revents) {
			r = copy_some(STDIN_FILENO, sock);
			if (r < 0)
				return r;
			if (r == 0) {	/* the end of input is a half-close: answers still come */
				shutdown(sock, SHUT_WR);
				p[0].fd = -1;
			}
		}
	}
}

int cmd_system_dial_stdio(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	const struct opt opts[] = {OPT_END};
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args))
		return c->exit_code;
	fd = cli_dial(c, &e);
	if (fd < 0)
		return cli_fail(&e);
	r = relay(fd);
	if (r < 0 && r != -EPIPE && r != -ECONNRESET) {
		err_set(&e, ERR_SYSTEM, r, "copy between the daemon and standard streams");
		return cli_fail(&e);
	}
	return 0;
}
