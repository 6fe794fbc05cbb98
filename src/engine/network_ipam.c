/* IPv4 addresses: which subnet a network gets, and which address an endpoint.
 *
 * A network that names no subnet gets the first of Docker's pools that overlaps no other network and no route
 * of the host: a container must reach what the host reaches. */
#include "engine/network_int.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "engine/db.h"
#include "lib/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* Base, and the size of the networks in it: as dockerd's. */
static const struct { const char *base; unsigned prefix; } pools[] = {
	{ "172.17.0.0/16", 16 }, { "172.18.0.0/16", 16 }, { "172.19.0.0/16", 16 }, { "172.20.0.0/14", 16 },
	{ "172.24.0.0/14", 16 }, { "172.28.0.0/14", 16 }, { "192.168.0.0/16", 20 },
};

char *ip_text(uint32_t ip)
{
	struct in_addr a = { htonl(ip) };
	char buf[INET_ADDRSTRLEN];

	return xstrdup(inet_ntop(AF_INET, &a, buf, sizeof buf));
}

char *subnet_text(const struct subnet *s)
{
	_cleanup_free_ char *ip = ip_text(s->net);

	return xasprintf("%s/%u", ip, s->prefix);
}

int ip_parse(const char *text, uint32_t *ret)
{
	struct in_addr a;

	if (str_empty(text) || inet_pton(AF_INET, text, &a) != 1)
		return -EINVAL;
	*ret = ntohl(a.s_addr);
	return 0;
}

int subnet_parse(const char *text, bool exact, struct subnet *ret, struct err *err)
{
	struct nl_addr a;
	struct subnet s;
	uint32_t ip;

	if (!strchr(text, '/') || nl_addr_parse(text, &a) < 0 || a.family != AF_INET)
		return err_msg(err, ERR_INVALID, 0, "invalid CIDR address: %s", text);
	if (a.prefix < 1 || a.prefix > 32)
		return err_msg(err, ERR_INVALID, 0, "invalid subnet %s: the prefix must be 1 to 32 bits long",
			       text);
	ip = ntohl(a.v4.s_addr);
	s.prefix = a.prefix;
	s.mask = ~0u << (32 - a.prefix);
	s.net = ip & s.mask;
	if (exact && ip != s.net) {
		_cleanup_free_ char *good = subnet_text(&s);

		return err_msg(err, ERR_INVALID, 0,
			       "invalid network config:\ninvalid subnet %s: it should be %s", text, good);
	}
	*ret = s;
	return 0;
}

static bool overlap(const struct subnet *a, const struct subnet *b)
{
	return (a->net & a->mask & b->mask) == (b->net & a->mask & b->mask);
}

/* --- subnets --- */

/* The host's routes, but the default one and those of our own bridges. */
struct routes { struct subnet *v; size_t n; };

static bool own_bridge(const struct networks *n, const char *dev)
{
	list_for_each(w, &n->all, struct network, link)
		if (streq(w->bridge, dev))
			return true;
	return false;
}

static void routes_read(const struct networks *n, struct routes *ret)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_strv_ char **lines = NULL;

	*ret = (struct routes){ 0 };
	if (fs_read(AT_FDCWD, "/proc/net/route", 1 << 20, &text, NULL) < 0)
		return;
	lines = strv_split(text, "\n");
	ret->v = new_array(struct subnet, strv_len(lines) + 1);
	for (size_t i = 1; lines && lines[i]; i++) {
		char dev[32];
		unsigned dst, gw, flags, refs, use, metric, m;

		if (sscanf(lines[i], "%31s %x %x %x %u %u %u %x", dev, &dst, &gw, &flags, &refs, &use,
			   &metric, &m) != 8 ||
		    !m || own_bridge(n, dev))
			continue;
		ret->v[ret->n++] = (struct subnet){ .net = ntohl(dst), .mask = ntohl(m) };
	}
}

static const struct network *subnet_owner(struct networks *n, const struct subnet *s)
{
	list_for_each(w, &n->all, struct network, link)
		if (w->subnet.mask && overlap(&w->subnet, s))
			return w;
	return NULL;
}

static bool is_free(struct networks *n, const struct routes *routes, const struct subnet *s)
{
	for (size_t i = 0; i < routes->n; i++)
		if (overlap(&routes->v[i], s))
			return false;
	return !subnet_owner(n, s);
}

bool subnet_clashes(const struct networks *n, const struct network *w)
{
	struct routes routes;
	bool clash = false;

	routes_read(n, &routes);
	for (size_t i = 0; i < routes.n; i++)
		clash |= overlap(&routes.v[i], &w->subnet);
	free(routes.v);
	return clash;
}

int subnet_check_free(struct networks *n, const struct subnet *s, struct err *err)
{
	return subnet_owner(n, s) ? err_msg(err, ERR_FORBIDDEN, 0,
					    "invalid pool request: Pool overlaps with other one on this "
					    "address space")
				  : 0;
}

int subnet_choose(struct networks *n, const char *first, unsigned skip, struct subnet *ret, struct err *err)
{
	struct routes routes;
	struct subnet base, s;
	bool found = false;

	routes_read(n, &routes);
	if (first && subnet_parse(first, false, &s, NULL) == 0)
		found = is_free(n, &routes, &s) && !skip--;
	for (size_t i = 0; !found && i < ARRAY_SIZE(pools); i++) {
		(void)subnet_parse(pools[i].base, false, &base, NULL);
		for (uint32_t k = 0; !found && k < 1u << (pools[i].prefix - base.prefix); k++) {
			s = (struct subnet){ .net = base.net + (k << (32 - pools[i].prefix)),
					     .mask = ~0u << (32 - pools[i].prefix),
					     .prefix = pools[i].prefix };
			found = is_free(n, &routes, &s) && !skip--;
		}
	}
	free(routes.v);
	if (!found)
		return err_msg(err, ERR_INVALID, 0,
			       "all predefined address pools have been fully subnetted");
	*ret = s;
	return 0;
}

/* --- addresses --- */

static bool is_aux(const struct network *w, uint32_t ip)
{
	const struct json *config = json_get(w->ipam, "Config");
	uint32_t aux;

	for (size_t i = 0; i < json_len(config); i++) {
		struct json_iter it = { 0 };

		while (json_next(json_get(json_at(config, i), "AuxiliaryAddresses"), &it))
			if (ip_parse(json_str(it.value), &aux) == 0 && aux == ip)
				return true;
	}
	return false;
}

/* Whether an endpoint may have it, leaving aside who has it. */
static bool usable(const struct network *w, uint32_t ip)
{
	bool edges = w->subnet.prefix >= 31;	/* no address stands for all then */

	return subnet_has(&w->subnet, ip) && ip != w->gateway && !is_aux(w, ip) &&
	       (edges || (ip != w->subnet.net && ip != (w->subnet.net | ~w->subnet.mask)));
}

int ipam_check(const struct network *w, uint32_t ip, struct err *err)
{
	if (!subnet_has(&w->subnet, ip)) {
		_cleanup_free_ char *text = ip_text(ip);

		return err_msg(err, ERR_INVALID, 0,
			       "invalid config for network %s: invalid endpoint settings:\nno configured "
			       "subnet contains IP address %s",
			       w->name, text);
	}
	return usable(w, ip) ? 0 : err_msg(err, ERR_FORBIDDEN, -EADDRINUSE, "Address already in use");
}

/* The lowest that is free. Ordered rows and a counter: no bitmap to keep. */
int ipam_find(struct networks *n, const struct network *w, uint32_t *ret, struct err *err)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	uint32_t last = w->range.net | ~w->range.mask, want = w->range.net;
	int r = db_query(n->engine->db, &s, err,
			 "SELECT ip FROM endpoints WHERE network = ? AND ip >= ? ORDER BY ip",
			 "si", w->id, (int64_t)want);
	uint64_t next = want;

	while (r == 0 && next <= last && !usable(w, (uint32_t)next))
		next++;
	while (r == 0 && (r = stmt_step(s, err)) > 0) {
		r = 0;
		if ((uint64_t)stmt_int(s, 0) > next)
			break;
		if ((uint64_t)stmt_int(s, 0) < next)
			continue;
		do
			next++;
		while (next <= last && !usable(w, (uint32_t)next));
	}
	if (r < 0)
		return r;
	if (next > last)
		return err_msg(err, ERR_UNAVAILABLE, -EADDRNOTAVAIL,
			       "no available IPv4 addresses on this network's address pools: %s (%s)",
			       w->name, w->id);
	*ret = (uint32_t)next;
	return 0;
}
