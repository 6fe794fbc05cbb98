/* IPv6 addresses: which subnet a network gets, and which address an endpoint.
 *
 * A network that names no subnet gets a /64 of the daemon's own unique local prefix (RFC 4193), which follows
 * from the id of the engine: two daemons do not clash. An endpoint gets the address that stands where its
 * IPv4 address stands in its subnet, or the next one that is free. */
#include "engine/network_int.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "engine/db.h"
#include "lib/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ULA_PREFIX 64
#define TRIES 65536

char *ip6_text(const struct in6_addr *ip)
{
	char buf[INET6_ADDRSTRLEN];

	return xstrdup(inet_ntop(AF_INET6, ip, buf, sizeof buf));
}

char *subnet6_text(const struct subnet6 *s)
{
	_cleanup_free_ char *ip = ip6_text(&s->net);

	return xasprintf("%s/%u", ip, s->prefix);
}

int ip6_parse(const char *text, struct in6_addr *ret)
{
	return !str_empty(text) && inet_pton(AF_INET6, text, ret) == 1 ? 0 : -EINVAL;
}

/* Clears what is behind the first n bits. */
static struct in6_addr masked(struct in6_addr ip, unsigned n)
{
	for (unsigned i = 0; i < 16; i++) {
		unsigned bits = n > i * 8 ? MIN(n - i * 8, 8u) : 0;

		ip.s6_addr[i] &= (uint8_t)(0xff00 >> bits);
	}
	return ip;
}

static bool same(const struct in6_addr *a, const struct in6_addr *b)
{
	return !memcmp(a, b, sizeof *a);
}

bool subnet6_has(const struct subnet6 *s, const struct in6_addr *ip)
{
	struct in6_addr net = masked(*ip, s->prefix);

	return same(&net, &s->net);
}

/* ip + n, within the last 64 bits. */
static struct in6_addr plus(struct in6_addr ip, uint64_t n)
{
	for (unsigned i = 16; i-- > 8 && n;) {
		n += ip.s6_addr[i];
		ip.s6_addr[i] = (uint8_t)n;
		n >>= 8;
	}
	return ip;
}

struct in6_addr subnet6_first(const struct subnet6 *s)
{
	return plus(s->net, 1);
}

int subnet6_parse(const char *text, bool exact, struct subnet6 *ret, struct err *err)
{
	struct nl_addr a;
	struct subnet6 s;

	if (!strchr(text, '/') || nl_addr_parse(text, &a) < 0 || a.family != AF_INET6)
		return err_msg(err, ERR_INVALID, 0, "invalid CIDR address: %s", text);
	s = (struct subnet6){ .net = masked(a.v6, a.prefix), .prefix = a.prefix };
	if (a.prefix < 8 || a.prefix > 126)
		return err_msg(err, ERR_INVALID, 0,
			       "invalid subnet %s: the prefix must be 8 to 126 bits long", text);
	if (exact && !same(&s.net, &a.v6)) {
		_cleanup_free_ char *good = subnet6_text(&s);

		return err_msg(err, ERR_INVALID, 0,
			       "invalid network config:\ninvalid subnet %s: it should be %s", text, good);
	}
	*ret = s;
	return 0;
}

static bool taken(struct networks *n, const struct subnet6 *s)
{
	list_for_each(w, &n->all, struct network, link)
		if (w->subnet6.prefix &&
		    (subnet6_has(&w->subnet6, &s->net) || subnet6_has(s, &w->subnet6.net)))
			return true;
	return false;
}

int subnet6_check_free(struct networks *n, const struct subnet6 *s, struct err *err)
{
	return taken(n, s) ? err_msg(err, ERR_FORBIDDEN, 0,
				     "invalid pool request: Pool overlaps with other one on this "
				     "address space")
			   : 0;
}

int subnet6_choose(struct networks *n, struct subnet6 *ret, struct err *err)
{
	struct subnet6 s = { .net.s6_addr = { 0xfd }, .prefix = ULA_PREFIX };
	unsigned byte;

	for (unsigned i = 0; i < 5 && sscanf(n->engine->id + 2 * i + (i > 3), "%2x", &byte) == 1; i++)
		s.net.s6_addr[1 + i] = (uint8_t)byte;
	for (unsigned k = 0; k < 0x10000; k++) {
		s.net.s6_addr[6] = (uint8_t)(k >> 8);
		s.net.s6_addr[7] = (uint8_t)k;
		if (!taken(n, &s)) {
			*ret = s;
			return 0;
		}
	}
	return err_msg(err, ERR_INVALID, 0, "all predefined address pools have been fully subnetted");
}

/* --- addresses --- */

static bool is_aux(const struct network *w, const struct in6_addr *ip)
{
	const struct json *config = json_get(w->ipam, "Config");
	struct in6_addr aux;

	for (size_t i = 0; i < json_len(config); i++) {
		struct json_iter it = { 0 };

		while (json_next(json_get(json_at(config, i), "AuxiliaryAddresses"), &it))
			if (ip6_parse(json_str(it.value), &aux) == 0 && same(&aux, ip))
				return true;
	}
	return false;
}

/* Whether an endpoint may have it, leaving aside who has it. */
static bool usable(const struct network *w, const struct in6_addr *ip)
{
	return subnet6_has(&w->subnet6, ip) && !same(ip, &w->gateway6) && !same(ip, &w->subnet6.net) &&
	       !is_aux(w, ip);
}

int ipam6_check(const struct network *w, const struct in6_addr *ip, struct err *err)
{
	if (!subnet6_has(&w->subnet6, ip)) {
		_cleanup_free_ char *text = ip6_text(ip);

		return err_msg(err, ERR_INVALID, 0,
			       "invalid config for network %s: invalid endpoint settings:\nno configured "
			       "subnet contains IP address %s",
			       w->name, text);
	}
	return usable(w, ip) ? 0 : err_msg(err, ERR_FORBIDDEN, -EADDRINUSE, "Address already in use");
}

int ipam6_taken(struct networks *n, const struct network *w, const struct in6_addr *ip, struct err *err)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	_cleanup_free_ char *text = ip6_text(ip);
	int r = db_query(n->engine->db, &s, err,
			 "SELECT 1 FROM endpoints WHERE network = ? AND ip6 = ?", "ss", w->id, text);

	return r < 0 ? r : stmt_step(s, err);
}

int ipam6_find(struct networks *n, const struct network *w, uint32_t at, struct in6_addr *ret,
	       struct err *err)
{
	unsigned room = 128 - w->range6.prefix;
	uint64_t size = room >= 32 ? UINT64_C(1) << 32 : UINT64_C(1) << room;

	for (uint64_t i = 0; i < MIN(size, (uint64_t)TRIES); i++) {
		struct in6_addr ip = plus(w->range6.net, (at + i) % size);
		int r = usable(w, &ip) ? ipam6_taken(n, w, &ip, err) : 1;

		if (r < 0)
			return r;
		if (r == 0) {
			*ret = ip;
			return 0;
		}
	}
	return err_msg(err, ERR_UNAVAILABLE, -EADDRNOTAVAIL,
		       "no available IPv6 addresses on this network's address pools: %s (%s)", w->name,
		       w->id);
}
