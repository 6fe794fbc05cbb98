/* Connects to a unix socket: standard input goes there, what comes goes to standard output.
 * -w: writes only. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static int put(int fd, const char *p, ssize_t n)
{
	while (n > 0) {
		ssize_t k = write(fd, p, n);

		if (k < 0)
			return -1;
		p += k;
		n -= k;
	}
	return 0;
}

int main(int argc, char **argv)
{
	int writes = argc > 2 && !strcmp(argv[1], "-w"), s = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct pollfd p[2] = {{.fd = 0, .events = POLLIN}, {.fd = s, .events = POLLIN}};
	char buf[65536];
	ssize_t n;

	if (argc < 2)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	snprintf(sun.sun_path, sizeof sun.sun_path, "%s", argv[1 + writes]);
	if (connect(s, (void *)&sun, sizeof sun) < 0)
		return fail("connect");
	if (writes)
		p[1].fd = -1;
	while (p[0].fd >= 0 || p[1].fd >= 0) {
		if (poll(p, 2, -1) < 0)
			return fail("poll");
		if (p[1].fd >= 0 && p[1].revents) {
			n = read(s, buf, sizeof buf);
			if (n < 0)
				return fail("read");
			if (n == 0)
				p[1].fd = -1;
			if (put(1, buf, n) < 0)
				return 0;
		}
		if (p[0].fd >= 0 && p[0].revents) {
			n = read(0, buf, sizeof buf);
			if (n <= 0) {
				p[0].fd = -1;
				shutdown(s, SHUT_WR);
			} else if (put(s, buf, n) < 0) {
				return fail("write");
			}
		}
	}
	return 0;
}
