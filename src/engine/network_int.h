/* Inside of the network files of the engine; network.h is what others see. */
#pragma once

#include "base/hash.h"
#include "base/sbuf.h"
#include "engine/network.h"

#include <netinet/in.h>

enum net_driver { NET_BRIDGE, NET_HOST, NET_NULL, NET_MACVLAN };

/* IPv4, host byte order. */
struct subnet { uint32_t net, mask; unsigned prefix; };

/* prefix 0: there is none. */
struct subnet6 { struct in6_addr net; unsigned prefix; };

struct network {
	struct list link;
	char *id, *name;
	enum net_driver driver;
	bool builtin, internal, attachable;
	uint64_t created_ns;
	struct subnet subnet, range;	/* range: where addresses are taken from */
	uint32_t gateway;
	struct subnet6 subnet6, range6;
	struct in6_addr gateway6;
	char *bridge;			/* ours on the host; NULL if there is none */
	const char *parent;		/* of a macvlan: the host's interface; borrowed from options */
	unsigned mtu;
	struct json *labels, *options, *ipam;
	/* Our nft table knows it, is being told of it, is to know it. */
	bool loaded, loading, wanted;
};

struct network_wait { engine_done_fn done; void *userdata; struct network_wait *next; };

struct names;

struct networks {
	struct engine *engine;
	struct list all;		/* struct network; the built-in ones first */
	bool nft_busy, stale;		/* it runs; what it writes is not the latest */
	bool tables;			/* ours are in the kernel */
	char **commands;		/* for other firewalls, with the next run of nft */
	struct network_wait *waiting;	/* callers of ensure while nft runs */
	struct address_wait *awaiting;	/* callers of endpoints_await */
	struct names *names;		/* network_names.c */
};

/* Its endpoints have interfaces and addresses. */
static inline bool network_has_addresses(const struct network *w)
{
	return w->driver == NET_BRIDGE || w->driver == NET_MACVLAN;
}

/* ---- network_store.c: the table of networks ---- */

const char *net_driver_name(enum net_driver d);
int networks_load(struct networks *n, struct err *err);
/* Inserts w, which is taken over, into table and database. */
int network_add(struct networks *n, struct network *w, struct err *err);
/* Gives w another subnet, which nobody chose and nobody uses yet. */
int network_resubnet(struct networks *n, struct network *w, unsigned skip, struct err *err);
int network_del(struct network *w, struct networks *n, struct err *err);
void network_free(struct network *w);
/* By name, full id or unique prefix of the id; ERR_NOT_FOUND "network x not found". */
int network_find(struct networks *n, const char *ref, struct network **ret, struct err *err);

/* ---- network_ipam.c: addresses ---- */

char *ip_text(uint32_t ip);
char *subnet_text(const struct subnet *s);
/* "10.0.0.0/8"; ERR_INVALID. exact: no bits behind the prefix. */
int subnet_parse(const char *text, bool exact, struct subnet *ret, struct err *err);
int ip_parse(const char *text, uint32_t *ret);
static inline bool subnet_has(const struct subnet *s, uint32_t ip)
{
	return (ip & s->mask) == s->net;
}
/* A subnet that clashes with no network and with no route of the host. first: tried before the pools, may be
 * NULL. skip: so many that would do are passed over. */
int subnet_choose(struct networks *n, const char *first, unsigned skip, struct subnet *ret, struct err *err);
/* A route of the host that is not by our bridges leads into w's subnet. */
bool subnet_clashes(const struct networks *n, const struct network *w);
/* ERR_FORBIDDEN if another network has a part of it. */
int subnet_check_free(struct networks *n, const struct subnet *s, struct err *err);

/* Whether an endpoint of w may ask for ip, leaving aside who has it. */
int ipam_check(const struct network *w, uint32_t ip, struct err *err);
/* An address of w that nobody has. */
int ipam_find(struct networks *n, const struct network *w, uint32_t *ret, struct err *err);

/* ---- network_ipam6.c: the same for IPv6 ---- */

char *ip6_text(const struct in6_addr *ip);
char *subnet6_text(const struct subnet6 *s);
int subnet6_parse(const char *text, bool exact, struct subnet6 *ret, struct err *err);
int ip6_parse(const char *text, struct in6_addr *ret);
bool subnet6_has(const struct subnet6 *s, const struct in6_addr *ip);
struct in6_addr subnet6_first(const struct subnet6 *s);
int subnet6_choose(struct networks *n, struct subnet6 *ret, struct err *err);
int subnet6_check_free(struct networks *n, const struct subnet6 *s, struct err *err);
int ipam6_check(const struct network *w, const struct in6_addr *ip, struct err *err);
/* 1 = an endpoint has it, 0, or -errno. */
int ipam6_taken(struct networks *n, const struct network *w, const struct in6_addr *ip, struct err *err);
/* An address that nobody has, from the at-th of the range on. */
int ipam6_find(struct networks *n, const struct network *w, uint32_t at, struct in6_addr *ret,
	       struct err *err);

/* ---- network.c: bridge and rules on the host ---- */

/* The host has the interface that a macvlan network is to share. */
int parent_check(const char *name, struct err *err);
/* Takes a network's bridge and rules off the host. */
void network_host_remove(struct networks *n, struct network *w);

/* ---- network_endpoint.c ---- */

/* The veth or tap of an endpoint on the host; heap. */
char *endpoint_host_ifname(const char *ctr, unsigned slot);
/* The daemon ends: nobody is told any more. */
void endpoints_await_end(struct networks *n);

/* ---- network_guard.c: what a container may send ---- */

/* What the interface of an endpoint is known by, and may use. Borrowed strings. */
struct guard_port { const char *ctr, *mac; unsigned slot; uint32_t ip; const char *ip6 /* "" = none */; };
/* The table of the family bridge, as nft script; sets keep what is in them. */
void guard_rules(const char *table, struct sbuf *out);
/* Before the interface is there. */
int guard_add(struct networks *n, const struct guard_port *p);
/* When it is gone. */
void guard_del(struct networks *n, const struct guard_port *p);
/* Makes the sets what the endpoints are. */
int guard_sync(struct networks *n);

/* ---- network_rules.c: the tables of what is routed ---- */

void network_rules_text(struct networks *n, struct sbuf *b);
/* The transaction that takes all our tables away. */
void network_rules_gone(const struct engine *e, struct sbuf *b);

/* ---- network_names.c: the resolver and what it knows ---- */

int names_open(struct networks *n, struct err *err);
/* keep: containers that need it run on. */
void names_close(struct networks *n, bool keep);
/* Endpoints or names have changed: the resolver is told before the caller returns to the loop. */
void names_changed(struct networks *n);
/* Starts the resolver if it does not run: a network is going to be used. */
void names_want(struct networks *n);
/* The port that nft redirects queries to. */
unsigned names_port(const struct networks *n);

void network_event(struct engine *e, const char *action, const struct network *w, const char *ctr);
