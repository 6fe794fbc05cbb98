/* Queries over TCP. The first of a connection decides: if it is about containers it is answered, and that
 * is all; else bytes are passed through to the first server that takes the connection. */
#include "resolver/resolver.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <sys/epoll.h>

#define BUF (16u << 10)
#define IDLE_US (10 * 1000000ull)

struct side {
	int fd;
	struct loop_source *io;
	struct sbuf out;	/* bytes for this side */
	bool eof, shut;		/* it has ended; our end has */
};

struct relay {
	struct list link;
	struct resolver *r;
	struct addr client_addr;
	struct side client, server;
	struct addr servers[SERVERS_MAX];
	size_t n_servers;
	unsigned tries;
	bool decided;		/* where the first query goes */
	bool answered;		/* by us: the end comes when it is sent */
	bool connected;
	uint64_t active_us;
};

static void on_side(struct loop_source *s, int fd, uint32_t events, void *userdata);

static void side_done(struct side *s)
{
	loop_source_free(s->io);
	s->io = NULL;
	fd_close(&s->fd);
}

static void relay_done(struct relay *y)
{
	list_remove(&y->link);
	y->r->n_tcp--;
	side_done(&y->client);
	side_done(&y->server);
	sbuf_done(&y->client.out);
	sbuf_done(&y->server.out);
	free(y);
}

static int server_try(struct relay *y, const struct addr *a)
{
	struct side *s = &y->server;

	side_done(s);
	s->fd = socket(a->ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		return -errno;
	if (connect(s->fd, (const struct sockaddr *)&a->ss, a->len) < 0 && errno != EINPROGRESS)
		return -errno;
	return loop_add_io(y->r->loop, s->fd, EPOLLOUT, on_side, y, &s->io);
}

/* False: no server is left, and the connection is gone. */
static bool server_next(struct relay *y)
{
	while (y->tries < y->n_servers)
		if (server_try(y, &y->servers[y->tries++]) == 0)
			return true;
	relay_done(y);
	return false;
}

/* Moves bytes one way. 0 or -errno, after which the connection is to be closed. */
static int move(struct side *from, struct side *to, bool can_write)
{
	while (!from->eof && to->out.len < BUF) {
		char *p = sbuf_reserve(&to->out, BUF);
		ssize_t n = p ? recv(from->fd, p, BUF, MSG_DONTWAIT) : 0;

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n < 0)
			break;
		from->eof = n == 0;
		sbuf_commit(&to->out, (size_t)n);
	}
	while (can_write && to->out.len) {
		ssize_t n = send(to->fd, to->out.buf, to->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n < 0)
			break;
		sbuf_consume(&to->out, (size_t)n);
	}
	if (can_write && from->eof && !to->out.len && !to->shut) {
		to->shut = true;
		(void)shutdown(to->fd, SHUT_WR);
	}
	return 0;
}

static void side_watch(struct side *s, const struct side *other)
{
	bool in = !s->eof && other->out.len < BUF;

	(void)loop_io_set(s->io, (in ? EPOLLIN : 0) | (s->out.len ? EPOLLOUT : 0));
}

static void answer_with(struct relay *y, const uint8_t *p, size_t n)
{
	const uint8_t head[2] = { (uint8_t)(n >> 8), (uint8_t)n };

	sbuf_add(&y->client.out, head, sizeof head);
	sbuf_add(&y->client.out, p, n);
	y->answered = true;
}

/* Looks at the first query once it is whole; -EAGAIN until then. */
static int decide(struct relay *y)
{
	const struct sbuf *in = &y->server.out;
	const uint8_t *p = (const uint8_t *)in->buf;
	uint8_t out[DNS_OUT_MAX];
	size_t n, len = 0;

	n = in->len < 2 ? 0 : (size_t)p[0] << 8 | p[1];
	if (in->len < 2 || in->len < 2 + n)
		return y->client.eof || in->len >= BUF ? -EPROTO : -EAGAIN;
	if (!dns_is_query(p + 2, n))
		return -EPROTO;
	y->decided = true;
	switch (names_answer(y->r->names, &y->client_addr, p + 2, dns_question_end(p + 2, n), out, &len)) {
	case NAMES_ANSWER:	answer_with(y, out, len); return 0;
	case NAMES_DROP:	return -EPERM;
	default:		return 0;
	}
}

/* The client has sent something of its first query. False: the relay is gone, or has to wait. */
static bool relay_decide(struct relay *y)
{
	int r = move(&y->client, &y->server, false);

	if (r == 0)
		r = decide(y);
	if (r == -EAGAIN)
		return false;
	if (r < 0) {
		relay_done(y);
		return false;
	}
	return y->answered || server_next(y);
}

/* Our own answer goes out. */
static void relay_finish(struct relay *y)
{
	struct sbuf *out = &y->client.out;
	ssize_t n = send(y->client.fd, out->buf, out->len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n > 0)
		sbuf_consume(out, (size_t)n);
	if (!out->len || (n < 0 && errno != EAGAIN && errno != EINTR))
		relay_done(y);
	else
		(void)loop_io_set(y->client.io, EPOLLOUT);
}

static void relay_flow(struct relay *y)
{
	y->active_us = now_mono_us();
	if (!y->decided && !relay_decide(y))
		return;
	if (y->answered) {
		relay_finish(y);
		return;
	}
	if (move(&y->client, &y->server, y->connected) < 0 ||
	    (y->connected && move(&y->server, &y->client, true) < 0) || (y->client.shut && y->server.shut)) {
		relay_done(y);
		return;
	}
	side_watch(&y->client, &y->server);
	if (y->connected)
		side_watch(&y->server, &y->client);
}

static void on_side(struct loop_source *s, int fd, uint32_t events, void *userdata)
{
	struct relay *y = userdata;

	if (fd == y->server.fd && !y->connected) {
		int error = 0;
		socklen_t len = sizeof(error);

		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error) {
			(void)server_next(y);
			return;
		}
		y->connected = true;
	}
	relay_flow(y);
}

static bool over_limit(struct resolver *r, const struct addr *client)
{
	size_t n = 0;

	if (r->n_tcp >= TCP_MAX)
		return true;
	list_for_each(y, &r->tcp, struct relay, link)
		n += addr_same_host(&y->client_addr, client);
	return n >= TCP_PER_CLIENT;
}

void tcp_on_accept(struct loop_source *s, int fd, uint32_t events, void *userdata)
{
	struct listener *l = userdata;
	struct resolver *r = l->r;
	struct addr client = {.len = sizeof(client.ss)};
	_cleanup_close_ int c =
	    accept4(fd, (struct sockaddr *)&client.ss, &client.len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct relay *y;

	if (r->names)
		names_refresh(r->names);
	if (c < 0 || over_limit(r, &client) || (r->names && !names_serves(r->names, &client)))
		return;
	conf_refresh(&r->conf, r->own, r->n_listeners);
	y = new0(struct relay);
	*y = (struct relay){.r = r, .client_addr = client, .client.fd = TAKE_FD(c), .server.fd = -EBADF,
			    .active_us = now_mono_us()};
	y->decided = !r->names;
	y->n_servers = resolver_servers(r, &client, y->servers);
	list_append(&r->tcp, &y->link);
	r->n_tcp++;
	resolver_tick_on(r);
	if (loop_add_io(r->loop, y->client.fd, EPOLLIN, on_side, y, &y->client.io) < 0)
		relay_done(y);
	else if (y->decided)
		(void)server_next(y);
}

void tcp_tick(struct resolver *r, uint64_t now_us)
{
	list_for_each(y, &r->tcp, struct relay, link) {
		/* A server that does not answer the connection request is passed over as in UDP. */
		bool connecting = y->decided && !y->answered && !y->connected;
		uint64_t limit = connecting ? (uint64_t)r->conf.timeout_s * 1000000 : IDLE_US;

		if (now_us - y->active_us < limit)
			continue;
		y->active_us = now_us;
		if (connecting)
			(void)server_next(y);
		else
			relay_done(y);
	}
}
