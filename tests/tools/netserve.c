/* netserve tcp:PORT udp:PORT sink:PORT...: echoes, after a word on who asks and by which port of ours:
 * "ADDRESS PORT "; a sink takes all and says nothing. Runs in containers of the tests: linked statically. */
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

static void sink(int lfd, int port)
{
	static char buf[1 << 20];
	int fd = accept(lfd, NULL, NULL);

	if (fd >= 0 && fork() == 0) {
		while (recv(fd, buf, sizeof buf, MSG_TRUNC) > 0)
			;
		_exit(0);
	}
	close(fd);
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

static const struct { const char *word; int type; void (*serve)(int fd, int port); } kinds[] = {
	{"tcp:", SOCK_STREAM, stream}, {"udp:", SOCK_DGRAM, datagram}, {"sink:", SOCK_STREAM, sink},
};

static unsigned kind_of(const char *arg)
{
	unsigned k = 0;

	while (k < 2 && strncmp(arg, kinds[k].word, strlen(kinds[k].word)))
		k++;
	return k;
}

int main(int argc, char **argv)
{
	struct pollfd p[MAX];
	int port[MAX], n = 0, one = 1;

	signal(SIGCHLD, SIG_IGN);
	for (; n + 1 < argc && n < MAX; n++) {
		int type = kinds[kind_of(argv[n + 1])].type, fd = socket(AF_INET6, type, 0);
		struct sockaddr_in6 a = {.sin6_family = AF_INET6};

		port[n] = atoi(strchr(argv[n + 1], ':') + 1);
		a.sin6_port = htons((unsigned short)port[n]);
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
		if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
		    (type == SOCK_STREAM && listen(fd, 128) < 0)) {
			perror(argv[n + 1]);
			return 1;
		}
		p[n] = (struct pollfd){.fd = fd, .events = POLLIN};
	}
	while (poll(p, (nfds_t)n, -1) > 0)
		for (int i = 0; i < n; i++)
			if (p[i].revents)
				kinds[kind_of(argv[i + 1])].serve(p[i].fd, port[i]);
	return 0;
}
