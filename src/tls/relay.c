/* Theory of operation. A relay has two sides: the client's connection, with TLS on it, and a connection to
 * the daemon's unix socket, made when the handshake has shown that the client may come in. flow() moves bytes
 * both ways as far as it goes without waiting, then each side is watched for what would let it go on. A
 * client's half-close is passed on; when the daemon has ended its side and all was sent, the relay ends. It
 * then still takes what the client sends, until that ends too: to close before would reset the connection,
 * and take from the client what it has not read yet (RFC 9112, section 9.6). */
#include "tls/relay.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sbuf.h"
#include "base/sock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define BUF (32u << 10)
#define HANDSHAKE_US (10u * 1000000)
#define LINGER_US (5u * 1000000)

struct relay {
	struct list link;
	struct gate *gate;
	char from[64];			/* the client's address */
	struct tls *tls;
	int net, plain;
	struct loop_source *net_io, *plain_io;
	struct sbuf in, out;		/* for the daemon, for the client */
	bool ready;			/* the handshake is done */
	bool in_eof, in_shut;		/* the client has ended; the daemon was told */
	bool out_eof;			/* the daemon has ended */
	bool deaf;			/* the daemon reads no more */
	bool net_write;			/* TLS waits until it can write */
	bool left;			/* all is said: only the client's end is waited for */
	uint64_t since_us;		/* of its birth, or of the moment at which all was said */
};

static void relay_free(struct relay *r)
{
	list_remove(&r->link);
	r->gate->n_relays--;
	loop_source_free(r->net_io);
	loop_source_free(r->plain_io);
	tls_free(r->tls);
	fd_close(&r->net);
	fd_close(&r->plain);
	sbuf_done(&r->in);
	sbuf_done(&r->out);
	free(r);
}

static void on_side(struct loop_source *s, int fd, uint32_t events, void *ud);

/* All is said. 0 or -errno, as all steps of flow(). */
static int leave(struct relay *r)
{
	(void)shutdown(r->net, SHUT_WR);
	loop_source_free(TAKE_PTR(r->plain_io));
	fd_close(&r->plain);
	r->left = true;
	r->since_us = now_mono_us();
	return 0;
}

static int drain(struct relay *r)
{
	char buf[4096];
	ssize_t n;

	do {
		n = RETRY(recv(r->net, buf, sizeof buf, MSG_DONTWAIT));
	} while (n == (ssize_t)sizeof buf);
	return n > 0 || (n < 0 && errno == EAGAIN) ? 0 : -ESHUTDOWN;
}

static int handshake(struct relay *r)
{
	int n = tls_handshake(r->tls);

	r->net_write = n == -EAGAIN && tls_wants_write(r->tls);
	if (n == -EPROTO) {
		log_warn("%s is not let in: %s", r->from, tls_error(r->tls));
		return leave(r);
	}
	if (n < 0)
		return n == -EAGAIN ? 0 : n;
	r->ready = true;
	r->plain = sock_connect_unix(r->gate->socket);
	if (r->plain < 0) {
		log_warn("connect to '%s': %s", r->gate->socket, strerror(-r->plain));
		return r->plain;
	}
	n = fd_set_nonblock(r->plain, true);
	return n < 0 ? n : loop_add_io(r->gate->loop, r->plain, EPOLLIN, on_side, r, &r->plain_io);
}

static int from_client(struct relay *r)
{
	while (!r->in_eof && r->in.len < BUF) {
		char *p = sbuf_reserve(&r->in, BUF);
		ssize_t n = tls_read(r->tls, p, BUF);

		if (n == -EAGAIN) {
			r->net_write |= tls_wants_write(r->tls);
			break;
		}
		if (n < 0)
			return (int)n;
		r->in_eof = n == 0;
		sbuf_commit(&r->in, (size_t)n);
	}
	while (r->in.len && !r->deaf) {
		ssize_t n = RETRY(send(r->plain, r->in.buf, r->in.len, MSG_NOSIGNAL | MSG_DONTWAIT));

		if (n < 0 && errno == EAGAIN)
			break;
		r->deaf = n < 0;	/* its answer may still be on the way */
		if (n > 0)
			sbuf_consume(&r->in, (size_t)n);
	}
	if (r->deaf)
		sbuf_reset(&r->in);
	if (r->in_eof && !r->in.len && !r->in_shut) {
		r->in_shut = true;
		(void)shutdown(r->plain, SHUT_WR);
	}
	return 0;
}

static int from_daemon(struct relay *r)
{
	while (!r->out_eof && r->out.len < BUF) {
		char *p = sbuf_reserve(&r->out, BUF);
		ssize_t n = RETRY(recv(r->plain, p, BUF, MSG_DONTWAIT));

		if (n < 0 && errno == EAGAIN)
			break;
		r->out_eof = n <= 0;
		sbuf_commit(&r->out, n > 0 ? (size_t)n : 0);
	}
	while (r->out.len) {
		ssize_t n = tls_write(r->tls, r->out.buf, r->out.len);

		if (n == -EAGAIN) {
			r->net_write |= tls_wants_write(r->tls);
			break;
		}
		if (n < 0)
			return (int)n;
		sbuf_consume(&r->out, (size_t)n);
	}
	if (r->out_eof && !r->out.len) {
		tls_close(r->tls);
		return leave(r);
	}
	return 0;
}

static void watch(struct relay *r)
{
	bool more = r->left || (!r->in_eof && r->in.len < BUF);

	(void)loop_io_set(r->net_io,
			  (more ? (uint32_t)EPOLLIN : 0) | (r->net_write ? (uint32_t)EPOLLOUT : 0));
	if (!r->plain_io)
		return;
	more = !r->out_eof && r->out.len < BUF;
	(void)loop_io_set(r->plain_io,
			  (more ? (uint32_t)EPOLLIN : 0) | (r->in.len && !r->deaf ? (uint32_t)EPOLLOUT : 0));
}

static void flow(struct relay *r)
{
	int n = 0;

	r->net_write = false;
	if (!r->ready && !r->left)
		n = handshake(r);
	if (n == 0 && r->ready && !r->left)
		n = from_client(r);
	if (n == 0 && r->ready && !r->left)
		n = from_daemon(r);
	if (n == 0 && r->left)
		n = drain(r);
	if (n < 0)
		relay_free(r);
	else
		watch(r);
}

static void on_side(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	flow(ud);
}

void relay_new(struct gate *g, int fd, const char *from)
{
	struct relay *r = new0(struct relay);

	*r = (struct relay){.gate = g, .net = fd, .plain = -EBADF, .since_us = now_mono_us()};
	snprintf(r->from, sizeof r->from, "%s", from);
	list_append(&g->relays, &r->link);
	g->n_relays++;
	r->tls = tls_new(g->tls, fd);
	if (!r->tls || loop_add_io(g->loop, fd, EPOLLIN, on_side, r, &r->net_io) < 0)
		relay_free(r);
}

void relays_sweep(struct gate *g)
{
	uint64_t now = now_mono_us();

	list_for_each(r, &g->relays, struct relay, link)
		if ((!r->ready || r->left) && now - r->since_us > (r->left ? LINGER_US : HANDSHAKE_US))
			relay_free(r);
}
