/* Queries over UDP. Each in flight has a socket of its own, connected to the server: the kernel gives
 * it a random port and takes answers from that server alone; with a random id and the comparison of
 * the question an answer cannot be forged from outside (CVE-2008-1447). */
#include "resolver/resolver.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#define BATCH 64	/* queries taken in one round, so that answers get their turn */

struct query {
	struct list link;
	struct resolver *r;
	int listen_fd;
	struct addr client;
	uint8_t client_id[2];
	uint8_t *packet;	/* with our id */
	size_t n, question_end;
	int fd;
	struct loop_source *io;
	struct addr servers[SERVERS_MAX];
	size_t n_servers;
	unsigned tries;
	uint64_t deadline_us;
};

static uint8_t buffer[DNS_MAX];

static void query_done(struct query *q)
{
	list_remove(&q->link);
	q->r->n_queries--;
	loop_source_free(q->io);
	fd_close(&q->fd);
	free(q->packet);
	free(q);
}

static void query_reply(struct query *q, uint8_t *p, size_t n)
{
	memcpy(p, q->client_id, 2);
	(void)sendto(q->listen_fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&q->client.ss,
		     q->client.len);
	query_done(q);
}

static void on_answer(struct loop_source *s, int fd, uint32_t events, void *userdata);

static int query_send(struct query *q, const struct addr *server)
{
	int r;

	loop_source_free(q->io);
	q->io = NULL;
	fd_close(&q->fd);
	q->fd = socket(server->ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (q->fd < 0)
		return -errno;
	random_bytes(q->packet, 2);
	if (connect(q->fd, (const struct sockaddr *)&server->ss, server->len) < 0)
		return -errno;
	if (send(q->fd, q->packet, q->n, MSG_NOSIGNAL) < 0)
		return -errno;
	r = loop_add_io(q->r->loop, q->fd, EPOLLIN, on_answer, q, &q->io);
	if (r < 0)
		return r;
	q->deadline_us = now_mono_us() + (uint64_t)q->r->conf.timeout_s * 1000000;
	return 0;
}

static unsigned tries_max(const struct query *q)
{
	return (unsigned)q->n_servers * q->r->conf.attempts;
}

/* Asks the next server; after the last round the client is told of the failure. */
static void query_next(struct query *q)
{
	while (q->tries < tries_max(q))
		if (query_send(q, &q->servers[q->tries++ % q->n_servers]) == 0)
			return;
	query_reply(q, q->packet, dns_make_servfail(q->packet, q->question_end));
}

static void on_answer(struct loop_source *s, int fd, uint32_t events, void *userdata)
{
	struct query *q = userdata;
	ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	unsigned rcode;

	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			query_next(q);		/* nobody listens there */
		return;
	}
	if (!dns_answers(buffer, (size_t)n, q->packet, q->question_end))
		return;
	rcode = dns_rcode(buffer);
	/* SERVFAIL, NOTIMP and REFUSED tell of the server, not of the name. */
	if ((rcode == 2 || rcode == 4 || rcode == 5) && q->tries < q->n_servers)
		query_next(q);
	else
		query_reply(q, buffer, (size_t)n);
}

static bool over_limit(struct resolver *r, const struct addr *client)
{
	size_t n = 0;

	if (r->n_queries >= QUERIES_MAX)
		return true;
	list_for_each(q, &r->queries, struct query, link)
		n += addr_same_host(&q->client, client);
	return n >= QUERIES_PER_CLIENT;
}

/* True if there is nothing to forward. */
static bool answer_locally(struct listener *l, const struct addr *client, const uint8_t *p, size_t n)
{
	uint8_t out[DNS_OUT_MAX];
	enum names_verdict verdict;
	size_t len = 0;

	if (!l->r->names)
		return false;
	verdict = names_answer(l->r->names, client, p, dns_question_end(p, n), out, &len);
	if (verdict == NAMES_ANSWER)
		(void)sendto(l->udp, out, len, MSG_DONTWAIT | MSG_NOSIGNAL,
			     (const struct sockaddr *)&client->ss,
			     client->len);
	return verdict != NAMES_FORWARD;
}

static void query_begin(struct listener *l, const struct addr *client, const uint8_t *p, size_t n)
{
	struct resolver *r = l->r;
	struct query *q;

	/* No answer at all: the client's next try may fare better, and a flood gets nothing back. */
	if (!dns_is_query(p, n) || answer_locally(l, client, p, n) || over_limit(r, client))
		return;
	conf_refresh(&r->conf, r->own, r->n_listeners);
	q = new0(struct query);
	*q = (struct query){.r = r,
			    .listen_fd = l->udp,
			    .client = *client,
			    .client_id = {p[0], p[1]},
			    .packet = xmemdup(p, n),
			    .n = n,
			    .question_end = dns_question_end(p, n),
			    .fd = -EBADF};
	q->n_servers = resolver_servers(r, client, q->servers);
	list_append(&r->queries, &q->link);
	r->n_queries++;
	resolver_tick_on(r);
	query_next(q);
}

void udp_on_query(struct loop_source *s, int fd, uint32_t events, void *userdata)
{
	for (int i = 0; i < BATCH; i++) {
		struct addr client = {.len = sizeof(client.ss)};
		ssize_t n = recvfrom(fd, buffer, sizeof(buffer), MSG_DONTWAIT, (struct sockaddr *)&client.ss,
				     &client.len);

		if (n < 0)
			return;
		query_begin(userdata, &client, buffer, (size_t)n);
	}
}

void udp_tick(struct resolver *r, uint64_t now_us)
{
	list_for_each(q, &r->queries, struct query, link)
		if (now_us >= q->deadline_us)
			query_next(q);
}
