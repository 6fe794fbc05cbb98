/* insula-resolver: answers the DNS queries of containers, about one another from a file that the daemon keeps
 * (names.c), about all else by asking the resolvers of the host.
 *
 * Containers cannot use a host's resolver that listens on 127.0.0.1 or 127.0.0.53 only; this process can.
 * Queries to the gateways of the networks reach its one port by a rule of the daemon's nft table. It knows
 * nothing but its sockets and that file: it is nobody, without capabilities. */
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
int addr_server(const char *s, struct addr *ret);	/* an address of resolv.conf, port 53 */
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

/* The question's name, lower case as it came, without the dot at its end, in ret[DNS_NAME_MAX]; its type. A
 * label with a dot or a NUL in it is nobody's name: "" then. */
#define DNS_NAME_MAX 256
unsigned dns_question(const uint8_t *q, size_t question_end, char *ret);
/* An answer in the making: the question of q, then records that repeat its name. */
#define DNS_NXDOMAIN 3
#define DNS_OUT_MAX 1024	/* two dozen addresses */
struct dns_out { uint8_t *p; size_t n; };
void dns_begin(struct dns_out *o, uint8_t *p, const uint8_t *q, size_t question_end, unsigned rcode);
/* A record of the type A or AAAA: the address as it goes over the wire. */
void dns_add_address(struct dns_out *o, unsigned type, const void *ip, size_t n);
void dns_add_pointer(struct dns_out *o, const char *name);

/* names.c */
struct names;
enum names_verdict { NAMES_FORWARD, NAMES_ANSWER, NAMES_DROP };
struct names *names_new(int dirfd /* that holds the file "names"; borrowed */);
void names_free(struct names *m);
/* Reads the file again if it has changed. */
void names_refresh(struct names *m);
void names_parse(struct names *m, char *text);
/* Whether the address belongs to one of the networks. */
bool names_serves(const struct names *m, const struct addr *client);
/* Answers the query q of client if it is about containers: out has room for DNS_OUT_MAX bytes. */
enum names_verdict names_answer(struct names *m, const struct addr *client, const uint8_t *q,
				size_t question_end, uint8_t *out, size_t *ret_n);
/* The servers that the client's container asks for; ret[SERVERS_MAX]. 0 = it leaves that to us. */
size_t names_servers(const struct names *m, const struct addr *client, struct addr *ret);

struct resolver;

struct listener {
	struct resolver *r;
	struct addr addr;
	int udp, tcp;
};

struct resolver {
	struct loop *loop;
	struct conf conf;
	struct names *names;		/* NULL: all is forwarded, for everybody */
	struct listener *listeners;
	size_t n_listeners;
	struct addr *own;		/* addresses of the listeners */
	struct list queries, tcp;
	size_t n_queries, n_tcp;
	struct loop_source *tick;
	bool ticking;
};

/* Where the questions of client go: its servers, at most SERVERS_MAX. */
size_t resolver_servers(struct resolver *r, const struct addr *client, struct addr *ret);
/* Runs resolver_tick until nothing is in flight. */
void resolver_tick_on(struct resolver *r);
/* udp.c, tcp.c: accept work from a listener, and end what is overdue. */
void udp_on_query(struct loop_source *s, int fd, uint32_t events, void *listener);
void udp_tick(struct resolver *r, uint64_t now_us);
void tcp_on_accept(struct loop_source *s, int fd, uint32_t events, void *listener);
void tcp_tick(struct resolver *r, uint64_t now_us);
