/* netask send HOST PORT COUNT BYTES: sends BYTES to a sink COUNT times and prints for each how many MiB
 * passed in a second.
 * netask tcp|udp HOST PORT COUNT BYTES: asks netserve COUNT times and compares what comes back. tcp: COUNT
 * connections, at most 50 open at a time, BYTES through each. udp: datagrams of BYTES from one socket, each
 * repeated until its answer is there. Prints how many were right; exit code 0 if all. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define OPEN 50
#define TRIES 20
#define PATIENCE_MS 20000

/* What goes through one connection: a pattern of its own. */
static unsigned char pattern(size_t i, unsigned n)
{
	return (unsigned char)(i * 31 + i / 251 + n * 7);
}

struct server { int type; struct sockaddr_storage ss; socklen_t n; };

static bool parse(const char *host, const char *port, struct server *ret)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&ret->ss;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&ret->ss;

	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)atoi(port));
		ret->n = sizeof *v4;
		return true;
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t)atoi(port));
	ret->n = sizeof *v6;
	return inet_pton(AF_INET6, host, &v6->sin6_addr) == 1;
}

static int dial(const struct server *s)
{
	int fd = socket(s->ss.ss_family, s->type | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&s->ss, s->n) == 0)
		return fd;
	close(fd);
	return -1;
}

static bool wait_for(int fd, short events, int ms)
{
	struct pollfd p = {.fd = fd, .events = events};

	return poll(&p, 1, ms) == 1;
}

/* Both ways at once: the echo begins before we are done. */
static bool stream(int fd, size_t bytes, unsigned n)
{
	size_t sent = 0, got = 0;
	unsigned words = 0;
	char buf[65536];

	for (;;) {
		ssize_t k;

		if (!wait_for(fd, (short)(POLLIN | (sent < bytes ? POLLOUT : 0)), PATIENCE_MS))
			return false;
		if (sent < bytes) {
			size_t part = bytes - sent < sizeof buf ? bytes - sent : sizeof buf;

			for (size_t i = 0; i < part; i++)
				buf[i] = (char)pattern(sent + i, n);
			k = send(fd, buf, part, MSG_DONTWAIT | MSG_NOSIGNAL);
			if (k > 0 && (sent += (size_t)k) == bytes)
				shutdown(fd, SHUT_WR);
		}
		k = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
		if (k == 0)
			return sent == bytes && got == bytes;
		for (ssize_t i = 0; i < k; i++)
			if (words < 2)		/* who asks, and by which port */
				words += buf[i] == ' ';
			else if ((unsigned char)buf[i] != pattern(got++, n))
				return false;
	}
}

static unsigned streams(const struct server *s, unsigned count, size_t bytes)
{
	int fds[OPEN];
	unsigned right = 0;

	for (unsigned done = 0; done < count;) {
		unsigned open = 0;

		for (; open < OPEN && done + open < count; open++)
			fds[open] = dial(s);
		for (unsigned i = 0; i < open; i++) {
			right += fds[i] >= 0 && stream(fds[i], bytes, done + i);
			close(fds[i]);
		}
		done += open;
	}
	return right;
}

static bool datagram(int fd, size_t bytes, unsigned n)
{
	static char out[65536], in[65536 + 128];

	for (size_t i = 0; i < bytes; i++)
		out[i] = (char)pattern(i, n);
	for (int t = 0; t < TRIES; t++) {
		(void)send(fd, out, bytes, 0);
		while (wait_for(fd, POLLIN, 500)) {
			ssize_t k = recv(fd, in, sizeof in, 0);

			if (k >= (ssize_t)bytes && !memcmp(in + k - bytes, out, bytes))
				return true;
		}
	}
	return false;
}

/* The end is when the other side has taken all and closed. What the path can carry is asked, not what a
 * congestion control makes of it: one that paces by its own model (bbr) is as fast as its first guesses. */
static unsigned sends(const struct server *s, unsigned count, size_t bytes)
{
	static char buf[1 << 20];
	unsigned right = 0;

	for (unsigned i = 0; i < count; i++) {
		struct timespec a, b;
		size_t sent = 0;
		ssize_t n = 1;
		int fd = dial(s);

		(void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
		clock_gettime(CLOCK_MONOTONIC, &a);
		while (fd >= 0 && n > 0 && sent < bytes) {
			size_t part = bytes - sent < sizeof buf ? bytes - sent : sizeof buf;

			n = send(fd, buf, part, MSG_NOSIGNAL);
			sent += n > 0 ? (size_t)n : 0;
		}
		shutdown(fd, SHUT_WR);
		n = recv(fd, buf, sizeof buf, 0);
		close(fd);
		clock_gettime(CLOCK_MONOTONIC, &b);
		printf("%.1f\n", (double)sent / (1 << 20) /
		       ((double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9));
		right += sent == bytes && n == 0;
	}
	return right;
}

int main(int argc, char **argv)
{
	struct server s = {0};
	unsigned count, right = 0;

	if (argc != 6) {
		fprintf(stderr, "usage: netask tcp|udp|send HOST PORT COUNT BYTES\n");
		return 2;
	}
	s.type = strcmp(argv[1], "udp") ? SOCK_STREAM : SOCK_DGRAM;
	if (!parse(argv[2], argv[3], &s)) {
		fprintf(stderr, "netask: '%s' is no address\n", argv[2]);
		return 2;
	}
	count = (unsigned)atoi(argv[4]);
	if (!strcmp(argv[1], "send"))
		return sends(&s, count, (size_t)atol(argv[5])) != count;
	if (s.type == SOCK_STREAM) {
		right = streams(&s, count, (size_t)atol(argv[5]));
	} else {
		int fd = dial(&s);

		for (unsigned i = 0; fd >= 0 && i < count; i++)
			right += datagram(fd, (size_t)atol(argv[5]), i);
	}
	printf("%u\n", right);
	return right == count ? 0 : 1;
}
