#include "lib/nl_sock.h"
#include "base/fd.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>

#define PATIENCE_S 10

int nl_sock_open(int protocol, int flags, uint32_t groups)
{
	struct sockaddr_nl sa = {.nl_family = AF_NETLINK, .nl_groups = groups};
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, protocol);
	struct timeval patience = {.tv_sec = PATIENCE_S};
	int one = 1;

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0)
		return -errno;
	/* The kernel has answered when send() returns; no error of its may hang us for ever. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0)
		return -errno;
	(void)setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
	return TAKE_FD(fd);
}

int nl_sock_answers(int fd, nl_answer_fn fn, void *userdata)
{
	char buf[32768] __attribute__((aligned(NLMSG_ALIGNTO)));

	for (;;) {
		struct sockaddr_nl from = {0};
		socklen_t n_from = sizeof from;
		size_t left;
		ssize_t got =
			RETRY(recvfrom(fd, buf, sizeof buf, MSG_TRUNC, (struct sockaddr *)&from, &n_from));

		if (got < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (from.nl_pid)
			continue;	/* not the kernel */
		left = MIN((size_t)got, sizeof buf);
		for (const struct nlmsghdr *h = (struct nlmsghdr *)buf; NLMSG_OK(h, left);
		     h = NLMSG_NEXT(h, left)) {
			int r = fn(userdata, h);

			if (r)
				return r < 0 ? r : 0;
		}
	}
}

int nl_verdict(const struct nlmsghdr *h)
{
	const struct nlmsgerr *e = NLMSG_DATA(h);

	if (h->nlmsg_len < NLMSG_LENGTH(sizeof e->error))
		return -EBADMSG;
	return e->error ? e->error : 1;
}

const struct rtattr *nl_attrs(const struct nlmsghdr *h, size_t head, size_t *ret_n)
{
	size_t at = NLMSG_ALIGN(NLMSG_LENGTH(head));

	if (h->nlmsg_len < at)
		return NULL;
	*ret_n = h->nlmsg_len - at;
	return (const struct rtattr *)((const char *)h + at);
}
