/* insula-resolver: forwards the DNS queries of containers to the resolvers of the host.
 *
 * Containers cannot use a host's resolver that listens on 127.0.0.1 or 127.0.0.53 only; this process
 * listens on the gateway addresses of the bridges and asks for them. It knows nothing but its sockets:
 * after binding it is nobody, without capabilities. */
#pragma once

#include "base/hash.h"
#include "base/loop.h"
#include "base/sbuf.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>

#define DNS_PORT 53
#define DNS_HDR 12
#define DNS_MAX 65535
#define SERVERS_MAX 3			/* as MAXNS of resolv.conf(5) */
#define QUERIES_MAX 512			/* in flight, all clients together */
#define QUERIES_PER_CLIENT 128
#define TCP_MAX 64
#define TCP_PER_CLIENT 16

struct addr { struct sockaddr_storage ss; socklen_t len; };

/* conf.c */
struct conf {
	const char *path;
	struct addr servers[SERVERS_MAX];
	size_t n_servers;
	unsigned timeout_s, attempts;
	/* The file as it was read. */
	struct timespec mtime;
	ino_t ino;
	off_t size;
	uint64_t checked_us;
};

/* "1.2.3.4:53", "[::1]:53"; port 0 if none is given. 0 or -EINVAL. */
int addr_parse(const char *s, struct addr *ret);
bool addr_equal(const struct addr *a, const struct addr *b);		/* address and port */
bool addr_same_host(const struct addr *a, const struct addr *b);	/* address alone */
/* Parses the text of a resolv.conf. Addresses in `skip` are left out: they are this process. */
void conf_parse(struct conf *c, char *text, const struct addr *skip, size_t n_skip);
/* Reads the file again if it has changed; looks at most once per second. */
void conf_refresh(struct conf *c, const struct addr *skip, size_t n_skip);

/* packet.c */
/* Length of header and question of a message with exactly one question, 0 if it is not one. */
size_t dns_question_end(const uint8_t *p, size_t n);
bool dns_is_query(const uint8_t *p, size_t n);
/* Whether p answers the query q (same id and question). */
bool dns_answers(const uint8_t *p, size_t n, const uint8_t *q, size_t q_question_end);
static inline unsigned dns_rcode(const uint8_t *p) { return p[3] & 0x0f; }
/* Makes the answer "server failure" of a query in place; returns its length. */
size_t dns_make_servfail(uint8_t *p, size_t question_end);

struct resolver;

struct listener {
	struct resolver *r;
	struct addr addr;
	int udp, tcp;
};

struct resolver {
	struct loop *loop;
	struct conf conf;
	struct listener *listeners;
	size_t n_listeners;
	struct addr *own;		/* addresses of the listeners */
	struct list queries, tcp;
	size_t n_queries, n_tcp;
	struct loop_source *tick;
	bool ticking;
};

/* Runs resolver_tick until nothing is in flight. */
void resolver_tick_on(struct resolver *r);
/* udp.c, tcp.c: accept work from a listener, and end what is overdue. */
void udp_on_query(struct loop_source *s, int fd, uint32_t events, void *listener);
void udp_tick(struct resolver *r, uint64_t now_us);
void tcp_on_accept(struct loop_source *s, int fd, uint32_t events, void *listener);
void tcp_tick(struct resolver *r, uint64_t now_us);
