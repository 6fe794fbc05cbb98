/* netserve tcp:PORT udp:PORT...: echoes, after a word on who asks and by which port of ours: "ADDRESS PORT
 * ". Runs in containers of the tests: linked statically. */
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX 256

static int word(char *buf, const struct sockaddr_in6 *peer, int port)
{
	char text[INET6_ADDRSTRLEN];

	inet_ntop(AF_INET6, &peer->sin6_addr, text, sizeof text);
	return sprintf(buf, "%s %d ", strncmp(text, "::ffff:", 7) ? text : text + 7, port);
}

static void stream(int lfd, int port)
{
	struct sockaddr_in6 peer;
	socklen_t n = sizeof peer;
	int fd = accept(lfd, (struct sockaddr *)&peer, &n);
	char buf[65536];
	ssize_t got;

	if (fd < 0 || fork() > 0) {
		close(fd);
		return;
	}
	got = word(buf, &peer, port);
	do {
		for (ssize_t at = 0, w; at < got; at += w)
			if ((w = write(fd, buf + at, (size_t)(got - at))) <= 0)
				_exit(1);
	} while ((got = read(fd, buf, sizeof buf)) > 0);
	_exit(0);
}

static void datagram(int fd, int port)
{
	struct sockaddr_in6 peer;
	socklen_t n = sizeof peer;
	char buf[65536 + 128];
	char in[65536];
	ssize_t got = recvfrom(fd, in, sizeof in, 0, (struct sockaddr *)&peer, &n);
	int head = got < 0 ? 0 : word(buf, &peer, port);

	if (got < 0)
		return;
	memcpy(buf + head, in, (size_t)got);
	sendto(fd, buf, (size_t)(head + got), 0, (struct sockaddr *)&peer, n);
}

int main(int argc, char **argv)
{
	struct pollfd p[MAX];
	int port[MAX], n = 0, one = 1;

	signal(SIGCHLD, SIG_IGN);
	for (; n + 1 < argc && n < MAX; n++) {
		int udp = !strncmp(argv[n + 1], "udp:", 4);
		int fd = socket(AF_INET6, udp ? SOCK_DGRAM : SOCK_STREAM, 0);
		struct sockaddr_in6 a = {.sin6_family = AF_INET6};

		port[n] = atoi(argv[n + 1] + 4);
		a.sin6_port = htons((unsigned short)port[n]);
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
		if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || (!udp && listen(fd, 128) < 0)) {
			perror(argv[n + 1]);
			return 1;
		}
		p[n] = (struct pollfd){.fd = fd, .events = POLLIN};
	}
	while (poll(p, (nfds_t)n, -1) > 0)
		for (int i = 0; i < n; i++)
			if (p[i].revents)
				(strncmp(argv[i + 1], "udp:", 4) ? stream : datagram)(p[i].fd, port[i]);
	return 0;
}
