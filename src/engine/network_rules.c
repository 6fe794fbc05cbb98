/* The text of our nft tables of the families ip and ip6: one transaction that makes what is missing and
 * replaces our rules. What others keep in a table stays, published ports too, which are elements of maps, and
 * what is in the chain for the host's own rules (insula-user).
 *
 * The rules are the same for both families but for a few words. */
#include "engine/network_int.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "engine/publish.h"

#include <string.h>

struct family {
	const char *name;	/* %f */
	const char *address;	/* %a: the type of an address */
	const char *loopback;	/* %l */
	const char *output;	/* ::1 cannot lead away from lo: the supervisor serves it */
};
static const struct family families[] = {
	{"ip", "ipv4_addr", "127.0.0.0/8", "add rule %T output fib daddr type local goto publish"},
	{"ip6", "ipv6_addr", "::1", "add rule %T output %f daddr != %l fib daddr type local goto publish"},
};

/* %T: family and table.
 *
 * Between two of our bridges nothing passes but what was published; from an internal one nothing leaves, and
 * nothing enters. What publishing does is told in publish.c. */
static const char *const lines[] = {
	"add table %T",
	"add set %T bridges { type ifname; }", "flush set %T bridges",
	"add set %T internal { type ifname; }", "flush set %T internal",
	"add set %T same { type ifname . ifname; }", "flush set %T same",
	"add set %T gateways { type %a; }", "flush set %T gateways",
	"add set %T subnets { type %a; flags interval; }", "flush set %T subnets",
	"add map %T " PUBLISH_MAP_AT " { type inet_proto . %a . inet_service : %a . inet_service; }",
	"add map %T " PUBLISH_MAP_ANY " { type inet_proto . inet_service : %a . inet_service; }",
	"add chain %T insula-user",		/* not ours to empty */
	"add chain %T publish", "flush chain %T publish",
	"add chain %T prerouting { type nat hook prerouting priority dstnat; policy accept; }",
	"flush chain %T prerouting",
	"add chain %T output { type nat hook output priority -100; policy accept; }", "flush chain %T output",
	"add chain %T postrouting { type nat hook postrouting priority srcnat; policy accept; }",
	"flush chain %T postrouting",
	"add chain %T forward { type filter hook forward priority filter; policy accept; }",
	"flush chain %T forward",
	"add chain %T resolve { type nat hook prerouting priority dstnat - 1; policy accept; }",
	"flush chain %T resolve",

	"add rule %T publish dnat %f to meta l4proto . %f daddr . th dport map @" PUBLISH_MAP_AT,
	"add rule %T publish dnat %f to meta l4proto . th dport map @" PUBLISH_MAP_ANY,
	"add rule %T prerouting %f daddr != %l fib daddr type local goto publish",
	"add rule %T postrouting oifname @bridges %f saddr %l masquerade",
	"add rule %T postrouting oifname @bridges %f saddr @subnets ct status dnat masquerade",
	"add rule %T postrouting %f saddr @subnets oifname != @bridges masquerade",
	"add rule %T forward jump insula-user",
	"add rule %T forward iifname . oifname @same accept",
	"add rule %T forward iifname @internal drop",
	"add rule %T forward oifname @internal drop",
	"add rule %T forward oifname @bridges ct status dnat accept",
	"add rule %T forward iifname @bridges oifname @bridges drop",
	"add rule %T forward oifname @bridges ct state established,related accept",
	"add rule %T forward iifname @bridges accept",
};

static void add_line(const char *line, const struct family *f, const char *table, struct sbuf *b)
{
	for (const char *p = line; *p; p++) {
		if (*p != '%') {
			sbuf_add(b, p, 1);
			continue;
		}
		switch (*++p) {
		case 'T':
			sbuf_printf(b, "%s %s", f->name, table);
			break;
		case 'f':
			sbuf_puts(b, f->name);
			break;
		case 'a':
			sbuf_puts(b, f->address);
			break;
		default:
			sbuf_puts(b, f->loopback);
		}
	}
	sbuf_puts(b, "\n");
}

/* What the sets say of a network. */
static void add_network(const struct network *w, const struct family *f, const char *table, struct sbuf *b)
{
	bool v6 = f != families;
	_cleanup_free_ char *subnet = v6 ? subnet6_text(&w->subnet6) : subnet_text(&w->subnet),
			    *gateway = v6 ? ip6_text(&w->gateway6) : ip_text(w->gateway);

	sbuf_printf(b, "add element %s %s bridges { \"%s\" }\n", f->name, table, w->bridge);
	sbuf_printf(b, "add element %s %s same { \"%s\" . \"%s\" }\n", f->name, table, w->bridge, w->bridge);
	sbuf_printf(b, "add element %s %s subnets { %s }\n", f->name, table, subnet);
	sbuf_printf(b, "add element %s %s gateways { %s }\n", f->name, table, gateway);
	if (w->internal)
		sbuf_printf(b, "add element %s %s internal { \"%s\" }\n", f->name, table, w->bridge);
}

static bool is_in(const struct network *w, const struct family *f)
{
	return w->wanted && (f == families || w->subnet6.prefix);
}

static void add_family(struct networks *n, const struct family *f, const char *table, struct sbuf *b)
{
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		add_line(lines[i], f, table, b);
	add_line(f->output, f, table, b);
	list_for_each(w, &n->all, struct network, link)
		if (is_in(w, f))
			add_network(w, f, table, b);
}

bool network_host_ipv6(void)
{
	return fs_exists("/proc/net/if_inet6");
}

void network_rules_text(struct networks *n, struct sbuf *b)
{
	_cleanup_free_ char *table = network_table(n->engine);

	add_family(n, &families[0], table, b);
	if (network_host_ipv6())
		add_family(n, &families[1], table, b);
	/* the resolver has IPv4 sockets alone, and containers are told its IPv4 address */
	sbuf_printf(b,
		    "add rule ip %s resolve iifname @bridges ip daddr @gateways meta l4proto { tcp, udp } "
		    "th dport 53 redirect to :%u\n",
		    table, names_port(n));
	guard_rules(table, b);
}

void network_rules_gone(const struct engine *e, struct sbuf *b)
{
	_cleanup_free_ char *table = network_table(e);
	static const char *const all[] = {"ip", "ip6", "bridge"};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (!streq(all[i], "ip6") || network_host_ipv6())
			sbuf_printf(b, "add table %s %s\ndelete table %s %s\n", all[i], table, all[i], table);
}
