/* Networks of this version: the default bridge, none and host.
 *
 * The daemon owns what many containers share: the bridge, its address, masquerading and the table of
 * addresses. The veth or tap of a container belongs to its supervisor and vanishes with it, so there
 * is nothing to clean up after a crash. Addresses are rows of the database: they survive the daemon,
 * and rows of containers that are gone are dropped when it starts. */
#include "engine/network.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/strv.h"
#include "engine/db.h"
#include "engine/paths.h"
#include "engine/publish.h"
#include "engine/worker.h"
#include "lib/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define BRIDGE_MTU 1500

struct ensure { engine_done_fn done; void *userdata; struct ensure *next; };

struct networks {
	struct engine *engine;
	char *ids[3];			/* bridge, host, none: stable, kept in the database */
	uint32_t net, mask;		/* of the default bridge, host byte order */
	unsigned prefix;
	bool nft_loaded, nft_busy;
	struct ensure *waiting;		/* callers of ensure while nft runs */
	struct proc resolver;
};

static const struct { const char *name, *driver; } builtin[] = {
	{ "bridge", "bridge" }, { "host", "host" }, { "none", "null" },
};

static char *ip_text(uint32_t ip)
{
	struct in_addr a = { htonl(ip) };
	char buf[INET_ADDRSTRLEN];

	return xstrdup(inet_ntop(AF_INET, &a, buf, sizeof buf));
}

static int builtin_ids(struct networks *n, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(builtin); i++) {
		_cleanup_free_ char *key = xasprintf("network.%s.id", builtin[i].name);
		int r;

		n->ids[i] = db_meta_get(n->engine->db, key);
		if (n->ids[i])
			continue;
		n->ids[i] = xstrdup(id_new().s);
		r = db_meta_set(n->engine->db, key, n->ids[i], err);
		if (r < 0)
			return err_wrap(err, r, "open network '%s'", builtin[i].name);
	}
	return 0;
}

/* Whether a route of the host, other than the bridge's own, overlaps the subnet. */
static bool subnet_taken(const struct networks *n, uint32_t net, uint32_t mask)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_strv_ char **lines = NULL;

	if (fs_read(AT_FDCWD, "/proc/net/route", 1 << 20, &text, NULL) < 0)
		return false;
	lines = strv_split(text, "\n");
	for (size_t i = 1; lines && lines[i]; i++) {
		char dev[32];
		unsigned dst, gw, flags, refs, use, metric, m;

		if (sscanf(lines[i], "%31s %x %x %x %u %u %u %x", dev, &dst, &gw, &flags, &refs, &use,
			   &metric, &m) != 8)
			continue;
		dst = ntohl(dst);
		m = ntohl(m);
		if (!m || streq(dev, n->engine->cfg.bridge))
			continue;
		if ((dst & mask & m) == (net & mask & m))
			return true;
	}
	return false;
}

/* The subnet in use before, else the configured one, else the first free /16 of 172.16/12 and 10/8. */
static int subnet_choose(struct networks *n, struct err *err)
{
	_cleanup_free_ char *text = db_meta_get(n->engine->db, "network.bridge.subnet");
	bool stored = text != NULL;
	struct nl_addr a;

	if (!stored)
		str_replace(&text, n->engine->cfg.subnet);
	if (nl_addr_parse(text, &a) < 0 || a.family != AF_INET || a.prefix < 8 || a.prefix > 29)
		return err_msg(err, ERR_INVALID, 0,
			       "invalid subnet '%s' of the default bridge: need an IPv4 network "
			       "such as 172.30.0.0/16",
			       text);
	n->prefix = a.prefix;
	n->mask = ~0u << (32 - a.prefix);
	n->net = ntohl(a.v4.s_addr) & n->mask;
	if (stored)
		return 0;
	for (unsigned i = 0; i < 272 && subnet_taken(n, n->net, n->mask); i++) {
		n->prefix = 16;
		n->mask = 0xffff0000;
		n->net = i < 16 ? (172u << 24 | (16 + i) << 16) : (10u << 24 | (i - 16) << 16);
	}
	_cleanup_free_ char *ip = ip_text(n->net), *cidr = xasprintf("%s/%u", ip, n->prefix);

	return db_meta_set(n->engine->db, "network.bridge.subnet", cidr, err);
}

int networks_open(struct engine *e, struct err *err)
{
	struct networks *n = new0(struct networks);
	int r;

	n->engine = e;
	n->resolver = (struct proc)PROC_INIT;
	e->networks = n;
	r = builtin_ids(n, err);
	if (r == 0)
		r = subnet_choose(n, err);
	if (r == 0)
		r = db_run(e->db, err, "DELETE FROM addresses WHERE ctr NOT IN (SELECT id FROM containers)",
			   "");
	return r;
}

/* --- the bridge --- */

static int bridge_make(struct networks *n, bool *ret_made, struct err *err)
{
	const char *name = n->engine->cfg.bridge;
	_cleanup_nl_ struct nl *nl = NULL;
	struct nl_addr gw = { .family = AF_INET, .v4 = { htonl(n->net + 1) }, .prefix = n->prefix };
	int index, r;

	r = nl_open(&nl);
	if (r == 0)
		r = nl_link_index(nl, name, &index);
	*ret_made = r == -ENODEV;
	if (r == -ENODEV) {
		r = nl_bridge_add(nl, name);
		if (r == 0 || r == -EEXIST)
			r = nl_link_index(nl, name, &index);
		if (r == 0)
			r = nl_addr_add(nl, index, &gw);
		if (r == 0)
			r = nl_link_set_up(nl, index, true);
	}
	return r < 0 ? err_set(err, ERR_SYSTEM, r, "create bridge '%s'", name) : 0;
}

/* Runs in a worker: forwarding on, and one atomic nft transaction that replaces our table. */
static int load_rules(void *arg, struct sbuf *out, struct err *err)
{
	static const char *const places[] = { "/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft" };
	const char *rules = arg, *nft = NULL;
	_cleanup_close_ int fd = -EBADF;
	_cleanup_proc_ struct proc p = PROC_INIT;
	int r, code = 0;

	(void)fs_write(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", "1");
	for (size_t i = 0; i < ARRAY_SIZE(places) && !nft; i++)
		if (fs_exists(places[i]))
			nft = places[i];
	if (!nft)
		return err_msg(err, ERR_SYSTEM, -ENOENT, "set up the bridge network: nft is not installed "
			       "(install nftables, or run with --network none)");
	fd = fd_from_bytes("nft", rules, strlen(rules));
	if (fd < 0)
		return fd;
	char *argv[] = { (char *)"nft", (char *)"-f", (char *)"-", NULL };
	struct fd_map map[] = { { fd, 0 } };
	struct spawn_args a = { .path = nft, .argv = argv, .fds = map, .n_fds = 1, .keep_stderr = true };

	r = proc_spawn(&a, &p);
	if (r == 0)
		r = proc_wait(&p, &code);
	if (r < 0)
		return err_set(err, ERR_SYSTEM, r, "run nft");
	return code ? err_msg(err, ERR_SYSTEM, -EIO,
			      "set up the bridge network: nft failed with exit code %d "
			      "(see the daemon's log)",
			      code)
		    : 0;
}

static void rules_loaded(void *userdata, int r, const struct err *e, const struct sbuf *out)
{
	struct networks *n = userdata;
	struct ensure *w = n->waiting, *next;

	n->nft_busy = false;
	n->nft_loaded = r == 0;
	if (r == 0) {
		publish_bridge_open(n->engine->cfg.bridge);
		publish_sync(n->engine);
	}
	n->waiting = NULL;
	for (; w; w = next) {
		next = w->next;
		w->done(w->userdata, r, e, NULL);
		free(w);
	}
}

char *network_table(const struct engine *e)
{
	const char *inst = e->cfg.instance;

	return xasprintf("insula%s%s", *inst ? "_" : "", inst);
}

static char *rules_text(struct networks *n)
{
	_cleanup_free_ char *ip = ip_text(n->net), *table = network_table(n->engine);
	_cleanup_free_ char *subnet = xasprintf("%s/%u", ip, n->prefix);
	const char *br = n->engine->cfg.bridge;
	struct sbuf out = SBUF_INIT;

	/* One transaction that makes what is missing and replaces our rules; published ports, which are
	 * elements of maps, stay, and so does what is in the chain for the host's own rules. */
	sbuf_printf(&out,
		    "add table ip %s\n"
		    "add chain ip %s postrouting { type nat hook postrouting priority srcnat; "
		    "policy accept; }\n"
		    "add chain ip %s forward { type filter hook forward priority filter; policy accept; }\n"
		    "flush chain ip %s postrouting\nflush chain ip %s forward\n",
		    table, table, table, table, table);
	publish_rules(table, &out);
	publish_bridge_rules(table, br, subnet, &out);
	sbuf_printf(&out,
		    "add rule ip %s postrouting ip saddr %s oifname != \"%s\" masquerade\n"
		    "add rule ip %s forward jump insula-user\n"
		    "add rule ip %s forward oifname \"%s\" ct state established,related accept\n"
		    "add rule ip %s forward oifname \"%s\" ct status dnat accept\n"
		    "add rule ip %s forward iifname \"%s\" accept\n",
		    table, subnet, br, table, table, br, table, br, table, br);
	return sbuf_steal(&out);
}

void network_rules_renew(struct engine *e, engine_done_fn done, void *ud)
{
	e->networks->nft_loaded = false;
	network_bridge_ensure(e, done, ud);
}

void network_bridge_ensure(struct engine *e, engine_done_fn done, void *ud)
{
	struct networks *n = e->networks;
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_free_ char *rules = NULL;
	struct ensure *w;
	bool made;
	int r = bridge_make(n, &made, &err);

	if (r < 0 || (!made && n->nft_loaded)) {
		done(ud, r, &err, NULL);
		return;
	}
	w = new0(struct ensure);
	*w = (struct ensure){ done, ud, n->waiting };
	n->waiting = w;
	if (n->nft_busy)
		return;
	n->nft_busy = true;
	rules = rules_text(n);
	r = worker_run(e->loop, load_rules, rules, rules_loaded, n);
	if (r < 0) {
		err_set(&err, ERR_SYSTEM, r, "set up the bridge network");
		rules_loaded(n, r, &err, NULL);
	}
}

static bool addresses_in_use(struct networks *n)
{
	_cleanup_stmt_ struct stmt *s = NULL;

	return !n->mask || db_query(n->engine->db, &s, NULL, "SELECT 1 FROM addresses LIMIT 1", "") < 0 ||
	       stmt_step(s, NULL) != 0;
}

/* A daemon that ends and leaves no container running takes its bridge and table along. */
static void bridge_remove(struct networks *n)
{
	_cleanup_free_ char *table = network_table(n->engine),
			    *rules = xasprintf("add table ip %s\ndelete table ip %s\n", table, table);
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_nl_ struct nl *nl = NULL;
	int index;

	if (nl_open(&nl) < 0 || nl_link_index(nl, n->engine->cfg.bridge, &index) < 0)
		return;
	(void)nl_link_del(nl, index);
	if (firewall_user_rules(table))
		return;
	if (load_rules(rules, NULL, &err) < 0)
		log_warn("%s", err_text(&err));
}

void networks_close(struct engine *e)
{
	struct networks *n = e->networks;

	if (!n)
		return;
	if (!addresses_in_use(n))
		bridge_remove(n);
	for (size_t i = 0; i < ARRAY_SIZE(n->ids); i++)
		free(n->ids[i]);
	proc_done(&n->resolver);
	free(n);
	e->networks = NULL;
}

/* --- addresses --- */

static int address_find_free(struct networks *n, uint32_t *ret, struct err *err)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	uint32_t last = n->net | ~n->mask, want = n->net + 2;
	int r = db_query(n->engine->db, &s, err,
			 "SELECT ip FROM addresses WHERE network = 'bridge' ORDER BY ip", "");

	if (r < 0)
		return r;
	while ((r = stmt_step(s, err)) > 0) {
		uint32_t ip = (uint32_t)stmt_int(s, 0);

		if (ip > want)
			break;
		if (ip == want)
			want++;
	}
	if (r < 0)
		return r;
	if (want >= last)
		return err_msg(err, ERR_UNAVAILABLE, -EADDRNOTAVAIL,
			       "no available IPv4 addresses on network bridge");
	*ret = want;
	return 0;
}

static int address_lookup(struct networks *n, const char *ctr, uint32_t *ret_ip)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	int r = db_query(n->engine->db, &s, NULL, "SELECT ip FROM addresses WHERE ctr = ?", "s", ctr);

	if (r == 0)
		r = stmt_step(s, NULL);
	if (r > 0)
		*ret_ip = (uint32_t)stmt_int(s, 0);
	return r > 0 ? 0 : r < 0 ? r : -ENOENT;
}

static char *mac_text(uint32_t ip)
{
	return xasprintf("02:42:%02x:%02x:%02x:%02x", ip >> 24, ip >> 16 & 255, ip >> 8 & 255, ip & 255);
}

int network_address_take(struct engine *e, const char *ctr, struct msg_sandbox *m, struct err *err)
{
	struct networks *n = e->networks;
	_cleanup_free_ char *mac = NULL;
	uint32_t ip;
	int r = address_lookup(n, ctr, &ip);

	if (r == -ENOENT) {
		r = address_find_free(n, &ip, err);
		if (r < 0)
			return r;
		mac = mac_text(ip);
		r = db_run(e->db, err,
			   "INSERT INTO addresses(ctr, network, ip, mac) VALUES(?, 'bridge', ?, ?)", "sis",
			   ctr, (int64_t)ip, mac);
	}
	if (r < 0)
		return err_wrap(err, r, "allocate an address");
	str_replace(&m->net, "bridge");
	str_replace(&m->bridge, e->cfg.bridge);
	free(m->ifname);
	m->ifname = xasprintf("in%.12s", ctr);
	free(m->mac);
	m->mac = mac_text(ip);
	free(m->address);
	m->address = ip_text(ip);
	m->prefix = n->prefix;
	free(m->gateway);
	m->gateway = ip_text(n->net + 1);
	m->mtu = BRIDGE_MTU;
	return 0;
}

void network_address_release(struct engine *e, const char *ctr)
{
	(void)db_run(e->db, NULL, "DELETE FROM addresses WHERE ctr = ?", "s", ctr);
}

/* --- name resolution --- */

static bool loopback_server(const char *line)
{
	const char *a = line + strcspn(line, " \t");

	a += strspn(a, " \t");
	return str_starts(a, "127.") || str_starts(a, "::1");
}

/* Copies search, options and the servers a container can reach; returns how many servers were left. */
static size_t filter_resolv(const char *text, bool bridged, struct sbuf *out)
{
	_cleanup_strv_ char **lines = strv_split(text, "\n");
	size_t servers = 0;

	for (char **l = lines; l && *l; l++) {
		if (str_starts(*l, "nameserver")) {
			if (bridged && loopback_server(*l))
				continue;
			servers++;
		} else if (!str_starts(*l, "search") && !str_starts(*l, "options") &&
			   !str_starts(*l, "domain")) {
			continue;
		}
		sbuf_printf(out, "%s\n", *l);
	}
	return servers;
}

/* Where every resolver of the host listens on loopback only, ours forwards to them from the gateway. */
static void resolver_start(struct networks *n, const char *gateway)
{
	_cleanup_free_ char *program = engine_program(n->engine, "insula-resolver");
	_cleanup_free_ char *listen = xasprintf("%s:53", gateway);
	char *argv[] = { (char *)"insula-resolver", (char *)"--listen", listen, NULL };
	struct spawn_args a = { .path = program, .argv = argv, .new_session = true, .keep_stderr = true,
				 .home = &n->engine->home };

	if (!program || proc_alive(&n->resolver))
		return;
	proc_done(&n->resolver);
	(void)proc_spawn(&a, &n->resolver);
}

char *network_resolv_conf(struct engine *e, bool bridged)
{
	static const char *const sources[] = { "/etc/resolv.conf", "/run/systemd/resolve/resolv.conf" };
	struct sbuf out = SBUF_INIT_MAX(64 << 10);

	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		_cleanup_free_ char *text = NULL;

		if (fs_read(AT_FDCWD, sources[i], 64 << 10, &text, NULL) < 0)
			continue;
		sbuf_reset(&out);
		if (filter_resolv(text, bridged, &out) || !bridged)
			return sbuf_steal(&out);
	}
	_cleanup_free_ char *gateway = ip_text(e->networks->net + 1);

	resolver_start(e->networks, gateway);
	sbuf_printf(&out, "nameserver %s\n", gateway);
	return sbuf_steal(&out);
}

/* --- what the API shows --- */

static size_t builtin_index(const char *mode)
{
	for (size_t i = 0; i < ARRAY_SIZE(builtin); i++)
		if (streq(builtin[i].name, mode))
			return i;
	return 0;
}

struct json *network_inspect(struct engine *e, const char *ctr, const char *mode)
{
	struct networks *n = e->networks;
	struct json *all = json_object(), *o = json_set(all, mode, json_object());
	bool has_ip = false;
	uint32_t ip = 0;

	if (streq(mode, "bridge"))
		has_ip = address_lookup(n, ctr, &ip) == 0;
	_cleanup_free_ char *address = has_ip ? ip_text(ip) : xstrdup("");
	_cleanup_free_ char *gateway = has_ip ? ip_text(n->net + 1) : xstrdup("");
	_cleanup_free_ char *mac = has_ip ? mac_text(ip) : xstrdup("");

	json_set_null(o, "IPAMConfig");
	json_set_null(o, "Links");
	json_set_null(o, "Aliases");
	json_set_str(o, "MacAddress", mac);
	json_set_null(o, "DriverOpts");
	json_set_str(o, "NetworkID", n->ids[builtin_index(mode)]);
	json_set_str(o, "EndpointID", has_ip ? ctr : "");
	json_set_str(o, "Gateway", gateway);
	json_set_str(o, "IPAddress", address);
	json_set_int(o, "IPPrefixLen", has_ip ? n->prefix : 0);
	json_set_str(o, "IPv6Gateway", "");
	json_set_str(o, "GlobalIPv6Address", "");
	json_set_int(o, "GlobalIPv6PrefixLen", 0);
	json_set_null(o, "DNSNames");
	return all;
}

static void add_ipam(struct networks *n, struct json *o, bool bridge)
{
	struct json *ipam = json_set(o, "IPAM", json_object());

	json_set_str(ipam, "Driver", "default");
	json_set_null(ipam, "Options");
	struct json *config = json_set(ipam, "Config", bridge ? json_array() : NULL);

	if (bridge) {
		struct json *c = json_add(config, json_object());
		_cleanup_free_ char *net = ip_text(n->net), *gw = ip_text(n->net + 1);
		_cleanup_free_ char *cidr = xasprintf("%s/%u", net, n->prefix);

		json_set_str(c, "Subnet", cidr);
		json_set_str(c, "Gateway", gw);
	}
}

static void add_endpoints(struct networks *n, struct json *o)
{
	struct json *ctrs = json_set(o, "Containers", json_object());
	_cleanup_stmt_ struct stmt *s = NULL;

	if (db_query(n->engine->db, &s, NULL,
		     "SELECT a.ctr, a.ip, a.mac, c.name FROM addresses a JOIN containers c "
		     "ON c.id = a.ctr WHERE a.network = 'bridge'",
		     "") < 0)
		return;
	while (stmt_step(s, NULL) > 0) {
		struct json *c = json_set(ctrs, stmt_str(s, 0), json_object());
		_cleanup_free_ char *ip = ip_text((uint32_t)stmt_int(s, 1));
		_cleanup_free_ char *cidr = xasprintf("%s/%u", ip, n->prefix);

		json_set_str(c, "Name", stmt_str(s, 3));
		json_set_str(c, "EndpointID", stmt_str(s, 0));
		json_set_str(c, "MacAddress", stmt_str(s, 2));
		json_set_str(c, "IPv4Address", cidr);
		json_set_str(c, "IPv6Address", "");
	}
}

static struct json *network_document(struct networks *n, size_t i)
{
	struct json *o = json_object(), *opts;
	bool bridge = i == 0;

	json_set_str(o, "Name", builtin[i].name);
	json_set_str(o, "Id", n->ids[i]);
	json_set_str(o, "Created", "0001-01-01T00:00:00Z");
	json_set_str(o, "Scope", "local");
	json_set_str(o, "Driver", builtin[i].driver);
	json_set_bool(o, "EnableIPv4", true);
	json_set_bool(o, "EnableIPv6", false);
	add_ipam(n, o, bridge);
	json_set_bool(o, "Internal", false);
	json_set_bool(o, "Attachable", false);
	json_set_bool(o, "Ingress", false);
	json_set_str(json_set(o, "ConfigFrom", json_object()), "Network", "");
	json_set_bool(o, "ConfigOnly", false);
	if (bridge)
		add_endpoints(n, o);
	else
		json_set(o, "Containers", json_object());
	opts = json_set(o, "Options", json_object());
	if (bridge) {
		json_set_str(opts, "com.docker.network.bridge.default_bridge", "true");
		json_set_str(opts, "com.docker.network.bridge.enable_ip_masquerade", "true");
		json_set_str(opts, "com.docker.network.bridge.name", n->engine->cfg.bridge);
	}
	json_set(o, "Labels", json_object());
	return o;
}

struct json *network_list(struct engine *e)
{
	struct json *a = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(builtin); i++)
		json_add(a, network_document(e->networks, i));
	return a;
}

struct json *network_get(struct engine *e, const char *name_or_id)
{
	for (size_t i = 0; i < ARRAY_SIZE(builtin); i++)
		if (streq(name_or_id, builtin[i].name) ||
		    (strlen(name_or_id) >= 4 && str_starts(e->networks->ids[i], name_or_id)))
			return network_document(e->networks, i);
	return NULL;
}
