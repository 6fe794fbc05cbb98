/* What a container may send into its network: frames with its own MAC and addresses, and nothing that makes
 * it a router or a DHCP server to its neighbours.
 *
 * A table of the family bridge looks at every frame that a container's interface gives to a bridge, before
 * the bridge or the host does anything with it. The rules never change; which interface may use what is in
 * sets, one transaction for each endpoint that comes or goes. An interface that is in none of our networks
 * is none of our business.
 *
 * It is asked for each frame, so what is neither a datagram nor about the network itself passes by the first
 * rules, with one look-up; all that they do not know goes the long way.
 *
 * Our bridges take addresses of 127/8 (publish.c), so no frame may carry one to them, be it from a port that
 * is not ours. None has a right to be on a wire (RFC 1122, 3.2.1.3), so the rule asks for no bridge: not
 * every kernel has `meta ibrname`, and a chain of the host that knows the bridge would see each packet of it.
 * ::1 comes in by lo alone: the kernel sees to that.
 *
 * Fragments need no thought: the kernel takes no neighbour discovery from fragments (RFC 6980). A frame with
 * a VLAN tag has none of the three types. */
#include "engine/network_int.h"

#include "base/alloc.h"
#include "base/log.h"
#include "engine/db.h"
#include "engine/publish.h"
#include "lib/netlink.h"
#include "lib/nft.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <string.h>

enum { SET_PORTS, SET_MACS, SET_IP, SET_IP6, SET_TARGETS, N_SETS };
static const char *const set_names[N_SETS] = {"ports", "macs", "own4", "own6", "targets"};

void guard_rules(const char *table, struct sbuf *out)
{
	static const char *const lines[] = {
		"add table bridge @",
		"add set bridge @ ports { type ifname; }",
		"add set bridge @ macs { type ifname . ether_addr; }",
		"add set bridge @ own4 { type ifname . ether_addr . ipv4_addr; }",
		"add set bridge @ own6 { type ifname . ether_addr . ipv6_addr; }",
		"add set bridge @ targets { typeof iifname . @th,64,128; }",
		"add chain bridge @ prerouting { type filter hook prerouting priority -300; policy accept; }",
		"add chain bridge @ sender", "add chain bridge @ from_arp", "add chain bridge @ from_ip4",
		"add chain bridge @ from_ip6",
		"flush chain bridge @ prerouting", "flush chain bridge @ sender",
		"flush chain bridge @ from_arp", "flush chain bridge @ from_ip4",
		"flush chain bridge @ from_ip6",
		/* most of what there is, by one look-up: see above */
		"add rule bridge @ prerouting ip daddr != 127.0.0.0/8 ip protocol != udp "
		"iifname . ether saddr . ip saddr @own4 accept",
		"add rule bridge @ prerouting ip6 nexthdr tcp iifname . ether saddr . ip6 saddr @own6 accept",
		"add rule bridge @ prerouting ip daddr 127.0.0.0/8 drop",
		"add rule bridge @ prerouting iifname @ports goto sender",
		"add rule bridge @ sender iifname . ether saddr != @macs drop",
		"add rule bridge @ sender ether type vmap "
		"{ arp : goto from_arp, ip : goto from_ip4, ip6 : goto from_ip6 }",
		"add rule bridge @ sender drop",
		"add rule bridge @ from_arp iifname . arp saddr ether != @macs drop",
		"add rule bridge @ from_arp iifname . arp saddr ether . arp saddr ip @own4 accept",
		"add rule bridge @ from_arp arp operation request arp saddr ip 0.0.0.0 accept",
		"add rule bridge @ from_arp drop",
		"add rule bridge @ from_ip4 udp sport 67 drop",
		"add rule bridge @ from_ip4 iifname . ether saddr . ip saddr @own4 accept",
		"add rule bridge @ from_ip4 drop",
		"add rule bridge @ from_ip6 icmpv6 type { nd-router-advert, nd-redirect } drop",
		"add rule bridge @ from_ip6 udp sport 547 drop",
		/* the address that a neighbour is told of; this nft has no name for it */
		"add rule bridge @ from_ip6 icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets "
		"drop",
		"add rule bridge @ from_ip6 iifname . ether saddr . ip6 saddr @own6 accept",
		"add rule bridge @ from_ip6 ip6 saddr :: icmpv6 type "
		"{ nd-neighbor-solicit, mld-listener-report, mld2-listener-report } accept",
		"add rule bridge @ from_ip6 drop",
	};

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		const char *at = strchr(lines[i], '@');

		sbuf_printf(out, "%.*s%s%s\n", (int)(at - lines[i]), lines[i], table, at + 1);
	}
}

/* ---- elements ---- */

struct guards { struct nft_elems sets[N_SETS]; };

static void guards_done(struct guards *g)
{
	for (size_t i = 0; i < N_SETS; i++)
		nft_elems_done(&g->sets[i]);
}

/* mac and p may be NULL. */
static void element(struct guards *g, size_t set, const char *ifname, const uint8_t mac[6], const void *p,
		    size_t n)
{
	struct nft_elem e = {0};

	nft_key_add_ifname(&e, ifname);
	if (mac)
		nft_key_add(&e, mac, 6);
	if (p)
		nft_key_add(&e, p, n);
	nft_elems_add(&g->sets[set], &e);
}

/* The address that the kernel makes of a MAC for the link alone. */
static struct in6_addr link_local(const uint8_t mac[6])
{
	return (struct in6_addr){.s6_addr = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff,
					     0xfe, mac[3], mac[4], mac[5]}};
}

static void guards_add(struct guards *g, const struct guard_port *p)
{
	_cleanup_free_ char *ifname = endpoint_host_ifname(p->ctr, p->slot);
	uint32_t ip = htonl(p->ip);
	struct in6_addr own[2];
	uint8_t mac[6];

	if (mac_parse(p->mac, mac) < 0)
		return;
	element(g, SET_PORTS, ifname, NULL, NULL, 0);
	element(g, SET_MACS, ifname, mac, NULL, 0);
	element(g, SET_IP, ifname, mac, &ip, sizeof ip);
	if (ip6_parse(p->ip6, &own[0]) < 0)
		return;
	own[1] = link_local(mac);
	for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
		element(g, SET_IP6, ifname, mac, &own[i], sizeof own[i]);
		element(g, SET_TARGETS, ifname, NULL, &own[i], sizeof own[i]);
	}
}

static int commit(struct networks *n, const struct guards *g, nft_change_fn change, bool flush)
{
	_cleanup_nft_batch_ struct nft_batch b = NFT_BATCH_INIT;
	_cleanup_free_ char *table = network_table(n->engine);
	struct nft *nft = publish_nft(n->engine);

	if (!nft)
		return -EPROTONOSUPPORT;
	for (size_t i = 0; i < N_SETS; i++) {
		const struct nft_set s = {NFPROTO_BRIDGE, table, set_names[i]};

		if (flush)
			nft_set_flush(&b, &s);
		change(&b, &s, &g->sets[i]);
	}
	return nft_batch_commit(nft, &b);
}

int guard_sync(struct networks *n)
{
	_cleanup_(guards_done) struct guards g = {0};
	_cleanup_stmt_ struct stmt *s = NULL;
	int r = db_query(n->engine->db, &s, NULL, "SELECT p.ctr, p.slot, p.ip, p.mac, p.ip6 FROM endpoints p "
			 "JOIN networks w ON w.id = p.network WHERE w.driver = 'bridge'", "");

	while (r == 0 && (r = stmt_step(s, NULL)) > 0) {
		guards_add(&g, &(struct guard_port){.ctr = stmt_str(s, 0), .slot = (unsigned)stmt_int(s, 1),
						    .ip = (uint32_t)stmt_int(s, 2), .mac = stmt_str(s, 3),
						    .ip6 = stmt_str(s, 4)});
		r = 0;
	}
	return r < 0 ? r : commit(n, &g, nft_set_add, true);
}

int guard_add(struct networks *n, const struct guard_port *p)
{
	_cleanup_(guards_done) struct guards g = {0};
	int r;

	guards_add(&g, p);
	r = commit(n, &g, nft_set_add, false);
	/* Somebody has taken the table away: it is on its way back, with all that is in the database. */
	return r == -ENOENT ? 0 : r == -EEXIST ? guard_sync(n) : r;
}

void guard_del(struct networks *n, const struct guard_port *p)
{
	_cleanup_(guards_done) struct guards g = {0};
	int r;

	guards_add(&g, p);
	r = commit(n, &g, nft_set_del, false);
	if (r == -ENOENT)
		r = guard_sync(n);
	if (r < 0 && r != -ENOENT)
		log_error("close the port of container %s: %s", p->ctr, strerror(-r));
}
