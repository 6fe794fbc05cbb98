/* Theory of operation.
 *
 * A stream: a client is accepted, a connection to the container is begun, and bytes are carried both ways
 * through a buffer for each direction, as fast as the slower side takes them. The end of a direction is
 * passed on; when both have ended, or either side fails, it is over.
 *
 * Datagrams: every client (its address, and ours that it spoke to) has a connected socket to the container,
 * by which answers are known to be for it. It goes when nothing has passed for a while, or, if there are
 * too many, the one that came first.
 *
 * Everything is bounded: clients of a port, bytes of a direction. */
#include "super/ports.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/hash.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define BUFFER (16u << 10)
#define DATAGRAM 65536
#define MAX_FLOWS 1024		/* clients of a port at a time */
#define QUIET_US 60000000	/* after which a client of a datagram port is forgotten */
#define RETRY_US 1000000	/* when there were no descriptors left */
#define ROUND 32		/* datagrams taken at a time, so that one port does not starve the rest */

struct flow;
static void on_sweep(struct loop_source *src, void *ud);

struct port_relay {
	struct loop *loop;
	int fd;
	bool stream;
	const struct sockaddr_in *target;
	struct loop_source *io, *sweep;
	struct list flows;
	size_t n_flows;
};

/* Where a datagram came from, and which of our addresses it came to. */
struct route {
	struct sockaddr_storage from;
	socklen_t n_from;
	struct in6_pktinfo to6;
	struct in_pktinfo to4;
};

struct side {
	struct flow *flow;
	int fd;
	struct loop_source *io;
	char *buf;			/* read here, to be written to the other side */
	size_t at, n;
	bool eof, told;			/* it has ended; the other side knows */
};

struct flow {
	struct port_relay *relay;
	struct list link;
	struct side client, ctr;	/* datagrams: ctr alone */
	bool connecting;
	struct route route;
	uint64_t used_us;
};

static void side_done(struct side *s)
{
	loop_source_free(s->io);
	fd_close(&s->fd);
	free(s->buf);
}

static void flow_free(struct flow *f)
{
	struct port_relay *r = f->relay;

	list_remove(&f->link);
	/* it was full, and nobody was let in */
	if (r->n_flows-- == MAX_FLOWS && r->stream)
		(void)loop_io_set(r->io, EPOLLIN);
	side_done(&f->client);
	side_done(&f->ctr);
	free(f);
}

static struct flow *flow_new(struct port_relay *r)
{
	struct flow *f = new0(struct flow);

	f->relay = r;
	f->client = (struct side){.flow = f, .fd = -EBADF};
	f->ctr = (struct side){.flow = f, .fd = -EBADF};
	list_append(&r->flows, &f->link);
	r->n_flows++;
	return f;
}

/* A socket to the container; a stream is not there yet. */
static int connect_target(struct flow *f, int type)
{
	int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	f->ctr.fd = fd;
	if (connect(fd, (const struct sockaddr *)f->relay->target, sizeof *f->relay->target) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	f->connecting = true;
	return 0;
}

/* Wakes us up once, while there is something to wake up for. */
static void sweep_later(struct port_relay *r, uint64_t us)
{
	if (r->sweep)
		(void)loop_timer_set(r->sweep, us, 0);
	else
		(void)loop_add_timer(r->loop, us, 0, on_sweep, r, &r->sweep);
}

static void on_sweep(struct loop_source *src, void *ud)
{
	struct port_relay *r = ud;
	uint64_t now = now_mono_us();

	if (r->stream) {
		(void)loop_io_set(r->io, EPOLLIN);
		return;
	}
	list_for_each(f, &r->flows, struct flow, link)
		if (now - f->used_us > QUIET_US)
			flow_free(f);
	if (r->n_flows)
		sweep_later(r, QUIET_US);
}

/* --- streams --- */

static struct side *other(struct side *s)
{
	return s == &s->flow->client ? &s->flow->ctr : &s->flow->client;
}

static void watch(struct side *s)
{
	bool out = other(s)->n > 0 || (s->flow->connecting && s == &s->flow->ctr);

	(void)loop_io_set(s->io, (!s->eof && !s->n ? (uint32_t)EPOLLIN : 0) | (out ? (uint32_t)EPOLLOUT : 0));
}

/* 0, or -errno: the flow is over. */
static int side_write(struct side *from)
{
	struct side *to = other(from);

	while (from->n) {
		ssize_t n = RETRY(send(to->fd, from->buf + from->at, from->n, MSG_NOSIGNAL));

		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		from->at += (size_t)n;
		from->n -= (size_t)n;
	}
	if (from->eof && !from->told) {
		from->told = true;
		if (shutdown(to->fd, SHUT_WR) < 0)
			return -errno;
	}
	return from->told && to->told ? -EPIPE : 0;
}

static int side_read(struct side *s)
{
	ssize_t n = RETRY(recv(s->fd, s->buf, BUFFER, 0));

	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	s->at = 0;
	s->n = (size_t)n;
	s->eof = n == 0;
	return side_write(s);
}

static int connected(struct flow *f)
{
	int error = 0;
	socklen_t n = sizeof error;

	f->connecting = false;
	return getsockopt(f->ctr.fd, SOL_SOCKET, SO_ERROR, &error, &n) < 0 ? -errno : -error;
}

static void on_side(struct loop_source *src, int fd, uint32_t events, void *ud)
{
	struct side *s = ud;
	struct flow *f = s->flow;
	int r = 0;

	if (f->connecting && s == &f->ctr)
		r = connected(f);
	if (r == 0 && events & EPOLLOUT)
		r = side_write(other(s));
	if (r == 0 && !f->connecting && !s->eof && !s->n && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		r = side_read(s);
	if (r < 0) {
		flow_free(f);
		return;
	}
	watch(&f->client);
	watch(&f->ctr);
}

static int stream_begin(struct flow *f)
{
	struct loop *l = f->relay->loop;
	int r = connect_target(f, SOCK_STREAM);

	f->client.buf = xmalloc(BUFFER);
	f->ctr.buf = xmalloc(BUFFER);
	if (r == 0)
		r = loop_add_io(l, f->client.fd, f->connecting ? 0 : EPOLLIN, on_side, &f->client,
				&f->client.io);
	if (r == 0)
		r = loop_add_io(l, f->ctr.fd, f->connecting ? EPOLLOUT : EPOLLIN, on_side, &f->ctr,
				&f->ctr.io);
	return r;
}

static void on_accept(struct loop_source *src, int lfd, uint32_t events, void *ud)
{
	struct port_relay *r = ud;
	int fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct flow *f;

	if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
		(void)loop_io_set(r->io, 0);
		sweep_later(r, RETRY_US);
	}
	if (fd < 0)
		return;
	f = flow_new(r);
	f->client.fd = fd;
	if (r->n_flows == MAX_FLOWS)
		(void)loop_io_set(r->io, 0);
	if (stream_begin(f) < 0)
		flow_free(f);
}

/* --- datagrams --- */

union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

static bool same_route(const struct route *a, const struct route *b)
{
	return a->n_from == b->n_from && !memcmp(&a->from, &b->from, a->n_from) &&
	       !memcmp(&a->to6.ipi6_addr, &b->to6.ipi6_addr, sizeof a->to6.ipi6_addr) &&
	       a->to4.ipi_addr.s_addr == b->to4.ipi_addr.s_addr;
}

static ssize_t datagram_get(int fd, void *buf, struct route *ret)
{
	union control control;
	struct iovec iov = {buf, DATAGRAM};
	struct msghdr m = {.msg_name = &ret->from, .msg_namelen = sizeof ret->from, .msg_iov = &iov,
			   .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n;

	*ret = (struct route){0};
	n = RETRY(recvmsg(fd, &m, 0));
	if (n < 0)
		return -errno;
	ret->n_from = m.msg_namelen;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO)
			memcpy(&ret->to6, CMSG_DATA(c), sizeof ret->to6);
		else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
			memcpy(&ret->to4, CMSG_DATA(c), sizeof ret->to4);
	}
	return n;
}

static void datagram_put(int fd, const void *buf, size_t n, struct route *to)
{
	bool v6 = to->from.ss_family == AF_INET6;
	size_t n_info = v6 ? sizeof to->to6 : sizeof to->to4;
	union control control = {0};
	struct iovec iov = {(void *)buf, n};
	struct msghdr m = {.msg_name = &to->from, .msg_namelen = to->n_from, .msg_iov = &iov, .msg_iovlen = 1,
			   .msg_control = &control, .msg_controllen = CMSG_SPACE(n_info)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	struct in_pktinfo from4 = {.ipi_spec_dst = to->to4.ipi_addr};

	c->cmsg_level = v6 ? IPPROTO_IPV6 : IPPROTO_IP;
	c->cmsg_type = v6 ? IPV6_PKTINFO : IP_PKTINFO;
	c->cmsg_len = CMSG_LEN(n_info);
	memcpy(CMSG_DATA(c), v6 ? (void *)&to->to6 : (void *)&from4, n_info);
	(void)sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);	/* datagrams may be lost */
}

static void on_answer(struct loop_source *src, int fd, uint32_t events, void *ud)
{
	static char buf[DATAGRAM];
	struct flow *f = ud;

	for (unsigned i = 0; i < ROUND; i++) {
		ssize_t n = RETRY(recv(fd, buf, sizeof buf, 0));

		if (n < 0)
			return;		/* nothing more, or nobody listens there: as if it were lost */
		f->used_us = now_mono_us();
		datagram_put(f->relay->fd, buf, (size_t)n, &f->route);
	}
}

static struct flow *datagram_flow(struct port_relay *r, const struct route *route)
{
	struct flow *f;

	list_for_each(o, &r->flows, struct flow, link)
		if (same_route(&o->route, route))
			return o;
	if (r->n_flows >= MAX_FLOWS)
		flow_free(list_first(&r->flows, struct flow, link));
	f = flow_new(r);
	if (r->n_flows == 1)
		sweep_later(r, QUIET_US);
	f->route = *route;
	if (connect_target(f, SOCK_DGRAM) == 0 &&
	    loop_add_io(r->loop, f->ctr.fd, EPOLLIN, on_answer, f, &f->ctr.io) == 0)
		return f;
	flow_free(f);
	return NULL;
}

static void on_datagram(struct loop_source *src, int fd, uint32_t events, void *ud)
{
	static char buf[DATAGRAM];
	struct port_relay *r = ud;

	for (unsigned i = 0; i < ROUND; i++) {
		struct route route;
		ssize_t n = datagram_get(fd, buf, &route);
		struct flow *f = n < 0 ? NULL : datagram_flow(r, &route);

		if (n < 0)
			return;
		if (!f)
			continue;
		f->used_us = now_mono_us();
		(void)send(f->ctr.fd, buf, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
}

/* --- both --- */

int port_relay_new(struct loop *l, int fd, bool stream, const struct sockaddr_in *target,
		   struct port_relay **ret)
{
	struct port_relay *p = new0(struct port_relay);
	int r;

	*p = (struct port_relay){.loop = l, .fd = fd, .stream = stream, .target = target};
	list_init(&p->flows);
	r = loop_add_io(l, fd, EPOLLIN, stream ? on_accept : on_datagram, p, &p->io);
	if (r < 0)
		port_relay_free(p);
	else
		*ret = p;
	return r;
}

void port_relay_free(struct port_relay *r)
{
	if (!r)
		return;
	list_for_each(f, &r->flows, struct flow, link)
		flow_free(f);
	loop_source_free(r->io);
	loop_source_free(r->sweep);
	free(r);
}
