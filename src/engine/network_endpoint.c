/* Endpoints: the places that running containers have in networks, and the interfaces they become. */
#include "engine/network_int.h"

#include "base/alloc.h"
#include "base/id.h"
#include "base/log.h"
#include "base/strv.h"
#include "engine/container.h"
#include "engine/db.h"
#include "lib/netlink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_MAX MSG_NICS_MAX

struct endpoint { char *network; unsigned slot; uint32_t ip; char *mac, *ip6 /* "" = none */; };

static void endpoint_done(struct endpoint *p)
{
	free(p->network);
	free(p->mac);
	free(p->ip6);
}

/* At most 15 characters, and nobody else's. */
char *endpoint_host_ifname(const char *ctr, unsigned slot)
{
	return slot ? xasprintf("in%.12s%c", ctr, 'a' + slot - 1) : xasprintf("in%.12s", ctr);
}

static struct guard_port guarded(const char *ctr, const struct endpoint *p)
{
	return (struct guard_port){ .ctr = ctr, .mac = p->mac, .slot = p->slot, .ip = p->ip,
				    .ip6 = p->ip6 };
}

static int lookup(struct networks *n, const char *ctr, const char *network, struct endpoint *ret,
		  struct err *err)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	int r = db_query(n->engine->db, &s, err,
			 "SELECT slot, ip, mac, ip6 FROM endpoints WHERE ctr = ? AND network = ?", "ss", ctr,
			 network);

	if (r == 0)
		r = stmt_step(s, err);
	if (r > 0)
		*ret = (struct endpoint){ .network = xstrdup(network), .slot = (unsigned)stmt_int(s, 0),
					  .ip = (uint32_t)stmt_int(s, 1), .mac = xstrdup(stmt_str(s, 2)),
					  .ip6 = xstrdup(stmt_str(s, 3)) };
	return r > 0 ? 0 : r < 0 ? r : -ENOENT;
}

/* --- what an endpoint may ask for --- */

static int bad_settings(const struct network *w, const char *text, struct err *err)
{
	return err_msg(err, ERR_INVALID, 0, "invalid config for network %s: invalid endpoint settings:\n%s",
		       w->name, text);
}

static int check_address(const struct network *w, const struct json *ipam, struct err *err)
{
	const char *ip = json_get_str(ipam, "IPv4Address");
	const char *ip6 = json_get_str(ipam, "IPv6Address");
	struct in6_addr addr6;
	uint32_t addr;
	int r = 0;

	if (json_len(json_get(ipam, "LinkLocalIPs")))
		return bad_settings(w, "link-local addresses are not supported by this version of insula",
				    err);
	if (str_empty(ip) && str_empty(ip6))
		return 0;
	if (w->builtin)
		return bad_settings(w, "user specified IP address is supported on user defined networks only",
				    err);
	if (!json_len(json_get(w->ipam, "Config")))
		return bad_settings(w,
				    "user specified IP address is supported only when connecting to networks "
				    "with user configured subnets", err);
	if (!str_empty(ip))
		r = ip_parse(ip, &addr) < 0 ? bad_settings(w, "invalid IPv4 address", err)
					    : ipam_check(w, addr, err);
	if (r < 0 || str_empty(ip6))
		return r;
	return ip6_parse(ip6, &addr6) < 0 ? bad_settings(w, "invalid IPv6 address", err)
					  : ipam6_check(w, &addr6, err);
}

static const struct json_shape address_shape[] = {
	{"IPv4Address", JSON_STR, NULL}, {"IPv6Address", JSON_STR, NULL},
	{"LinkLocalIPs", JSON_ARRAY, NULL}, {NULL},
};
static const struct json_shape settings_shape[] = {
	{"IPAMConfig", JSON_OBJECT, address_shape}, {"Aliases", JSON_ARRAY, NULL},
	{"Links", JSON_ARRAY, NULL}, {"DriverOpts", JSON_OBJECT, NULL}, {"MacAddress", JSON_STR, NULL},
	{"GwPriority", JSON_INT, NULL}, {NULL},
};

int endpoint_check(struct engine *e, const char *network, const struct json *settings, struct err *err)
{
	const char *mac = json_get_str(settings, "MacAddress");
	struct network *w;
	uint8_t bytes[6];
	int r = network_find(e->networks, network, &w, err);

	if (r < 0)
		return r;
	if (json_type(settings) != JSON_NULL)
		r = json_check_shape(settings, settings_shape, "EndpointConfig", err);
	if (r == 0)
		r = check_address(w, json_get(settings, "IPAMConfig"), err);
	if (r < 0)
		return r;
	if (w->builtin && json_len(json_get(settings, "Aliases")))
		return bad_settings(w,
				    "network-scoped aliases are only supported for user-defined networks",
				    err);
	if (json_len(json_get(settings, "Links")))
		return bad_settings(w, "links are not supported by this version of insula: containers on a "
				    "user-defined network find one another by name", err);
	if (json_len(json_get(settings, "DriverOpts")))
		return bad_settings(w,
				    "driver options of an endpoint are not supported by this version of "
				    "insula",
				    err);
	if (!str_empty(mac) && (mac_parse(mac, bytes) < 0 || bytes[0] & 1))
		return bad_settings(w, "invalid MAC address", err);
	return 0;
}

/* --- taking --- */

static int free_slot(struct networks *n, const char *ctr, unsigned *ret, struct err *err)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	unsigned want = 0;
	int r = db_query(n->engine->db, &s, err, "SELECT slot FROM endpoints WHERE ctr = ? ORDER BY slot",
			 "s", ctr);

	while (r == 0 && (r = stmt_step(s, err)) > 0) {
		r = 0;
		if (stmt_int(s, 0) == want)
			want++;
	}
	if (r < 0)
		return r;
	if (want >= SLOTS_MAX)
		return err_msg(err, ERR_INVALID, -E2BIG, "a container can be in %d networks at most",
			       SLOTS_MAX);
	*ret = want;
	return 0;
}

static int address_in_use(struct err *err)
{
	return err_msg(err, ERR_FORBIDDEN, -EADDRINUSE, "Address already in use");
}

static int choose_ip(struct networks *n, const struct network *w, const struct json *settings, uint32_t *ret,
		     struct err *err)
{
	const char *ip = json_get_str(json_get(settings, "IPAMConfig"), "IPv4Address");
	_cleanup_stmt_ struct stmt *s = NULL;
	int r;

	if (str_empty(ip) || ip_parse(ip, ret) < 0)
		return ipam_find(n, w, ret, err);
	r = ipam_check(w, *ret, err);
	if (r == 0)
		r = db_query(n->engine->db, &s, err,
			     "SELECT 1 FROM endpoints WHERE network = ? AND ip = ?", "si",
			     w->id, (int64_t)*ret);
	if (r == 0)
		r = stmt_step(s, err);
	return r > 0 ? address_in_use(err) : r;
}

static int choose_ip6(struct networks *n, const struct network *w, const struct json *settings, uint32_t ip,
		      char **ret, struct err *err)
{
	const char *asked = json_get_str(json_get(settings, "IPAMConfig"), "IPv6Address");
	struct in6_addr ip6;
	int r;

	if (!w->subnet6.prefix) {
		*ret = xstrdup("");
		return 0;
	}
	if (str_empty(asked) || ip6_parse(asked, &ip6) < 0) {
		r = ipam6_find(n, w, ip - w->range.net, &ip6, err);
	} else {
		r = ipam6_check(w, &ip6, err);
		if (r == 0)
			r = ipam6_taken(n, w, &ip6, err);
		if (r > 0)
			r = address_in_use(err);
	}
	if (r == 0)
		*ret = ip6_text(&ip6);
	return r;
}

static char *mac_text(uint32_t ip)
{
	return xasprintf("02:42:%02x:%02x:%02x:%02x", ip >> 24, ip >> 16 & 255, ip >> 8 & 255, ip & 255);
}

static int take(struct networks *n, const char *ctr, const struct network *w, const struct json *settings,
		struct endpoint *ret, struct err *err)
{
	const char *mac = json_get_str(settings, "MacAddress");
	struct endpoint p = { 0 };
	struct id id = id_new();
	int r = lookup(n, ctr, w->id, ret, err);

	if (r != -ENOENT)
		return r;
	r = free_slot(n, ctr, &p.slot, err);
	if (r == 0)
		r = choose_ip(n, w, settings, &p.ip, err);
	if (r == 0)
		r = choose_ip6(n, w, settings, p.ip, &p.ip6, err);
	if (r < 0)
		return r;
	p.network = xstrdup(w->id);
	p.mac = str_empty(mac) ? mac_text(p.ip) : xstrdup(mac);
	r = db_run(n->engine->db, err,
		   "INSERT INTO endpoints (id, network, ctr, slot, ip, mac, ip6) "
		   "VALUES (?, ?, ?, ?, ?, ?, ?)",
		   "sssiiss", id.s, w->id, ctr, (int64_t)p.slot, (int64_t)p.ip, p.mac, p.ip6);
	if (r < 0) {
		endpoint_done(&p);
		return err_wrap(err, r, "allocate an address");
	}
	/* before the interface is there */
	struct guard_port port = guarded(ctr, &p);

	r = w->bridge ? guard_add(n, &port) : 0;
	if (r < 0) {
		endpoint_done(&p);
		return err_set(err, ERR_SYSTEM, r, "guard the interface of container %s", ctr);
	}
	network_event(n->engine, "connect", w, ctr);
	*ret = p;
	return 0;
}

static void add_nic(const char *ctr, const struct network *w, const struct endpoint *p, struct nics *nics)
{
	_cleanup_free_ char *ip = ip_text(p->ip);
	struct msg_nic *m = nics_add(nics);

	m->name = xasprintf("eth%u", p->slot);
	m->bridge = xstrdup(w->parent ?: w->bridge);
	m->kind = xstrdup(w->parent ? "macvlan" : "");
	m->ifname = endpoint_host_ifname(ctr, p->slot);
	m->mac = xstrdup(p->mac);
	m->mtu = w->mtu;
	strv_addf(&m->addresses, "%s/%u", ip, w->subnet.prefix);
	if (*p->ip6)
		strv_addf(&m->addresses, "%s/%u", p->ip6, w->subnet6.prefix);
}

/* As in Docker: the highest priority, then the first by name, of those that lead anywhere. */
static const struct network *gateway_network(struct networks *n, const struct json *attachments, bool ipv6)
{
	const struct network *best = NULL;
	struct json_iter it = { 0 };
	int64_t best_prio = 0;

	while (json_next(attachments, &it)) {
		int64_t prio = json_get_int(it.value, "GwPriority", 0);
		struct network *w;

		if (network_find(n, it.key, &w, NULL) < 0 || w->internal || !network_has_addresses(w) ||
		    (ipv6 && !w->subnet6.prefix))
			continue;
		if (!best || prio > best_prio || (prio == best_prio && strcmp(w->name, best->name) < 0)) {
			best = w;
			best_prio = prio;
		}
	}
	return best;
}

/* The networks with the default routes. */
struct gateways { const struct network *v4, *v6; };

static int take_one(struct networks *n, const char *ctr, const char *name, const struct json *settings,
		    const struct gateways *gw, struct nics *nics, struct err *err)
{
	struct endpoint p;
	struct network *w;
	int r = network_find(n, name, &w, err);

	if (r < 0 || !network_has_addresses(w))
		return r;
	r = take(n, ctr, w, settings, &p, err);
	if (r < 0)
		return r;
	add_nic(ctr, w, &p, nics);
	if (w == gw->v4)
		strv_take(&nics->v[nics->n - 1].gateways, ip_text(w->gateway));
	if (w == gw->v6)
		strv_take(&nics->v[nics->n - 1].gateways, ip6_text(&w->gateway6));
	endpoint_done(&p);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int by_ifname(const void *a, const void *b)
{
	return strcmp(((const struct msg_nic *)a)->ifname, ((const struct msg_nic *)b)->ifname);
}

/* The names in the order in which they get their interfaces. */
static char **ordered(const char *first, const struct json *attachments)
{
	struct json_iter it = { 0 };
	char **names = NULL, **v = NULL;

	if (json_get(attachments, first))
		strv_add(&v, first);
	while (json_next(attachments, &it))
		if (!streq(it.key, first))
			strv_add(&names, it.key);
	if (names)
		qsort(names, strv_len(names), sizeof *names, by_name);
	strv_extend(&v, names);
	strv_free(names);
	return v;
}

int endpoints_take(struct engine *e, const char *ctr, const char *first, const struct json *attachments,
		   struct nics *ret, struct err *err)
{
	struct networks *n = e->networks;
	const struct gateways gw = { gateway_network(n, attachments, false),
				     gateway_network(n, attachments, true) };
	_cleanup_strv_ char **names = ordered(first, attachments);
	struct nics nics = { 0 };
	int r = db_begin(e->db, err);

	for (char **v = names; r == 0 && v && *v; v++)
		r = take_one(n, ctr, *v, json_get(attachments, *v), &gw, &nics, err);
	if (r == 0)
		r = db_commit(e->db, err);
	else
		db_rollback(e->db);
	if (r < 0) {
		(void)guard_sync(n);	/* some of them may have been told */
		nics_done(&nics);
		return r;
	}
	if (nics.n)
		qsort(nics.v, nics.n, sizeof *nics.v, by_ifname);
	names_changed(n);
	*ret = nics;
	return 0;
}

/* --- waiting for one --- */

struct address_wait { struct address_wait *next; void (*fn)(void *ud); void *ud; };

/* Whether a container that has ended still has an address in the network. */
static bool awaits_one(struct networks *n, const struct network *w)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	int r = db_query(n->engine->db, &s, NULL, "SELECT ctr FROM endpoints WHERE network = ?", "s", w->id);

	while (r == 0 && (r = stmt_step(s, NULL)) > 0) {
		if (sandbox_lives(n->engine, stmt_str(s, 0)) && !sandbox_occupied(n->engine, stmt_str(s, 0)))
			return true;
		r = 0;
	}
	return false;
}

bool endpoints_await(struct engine *e, const struct json *attachments, void (*fn)(void *ud), void *ud)
{
	struct networks *n = e->networks;
	struct json_iter it = { 0 };
	struct address_wait *x;
	struct network *w;
	bool any = false;

	while (!any && json_next(attachments, &it))
		any = network_find(n, it.key, &w, NULL) == 0 && awaits_one(n, w);
	if (!any)
		return false;
	x = new0(struct address_wait);
	*x = (struct address_wait){n->awaiting, fn, ud};
	n->awaiting = x;
	return true;
}

void endpoints_await_end(struct networks *n)
{
	for (struct address_wait *x = TAKE_PTR(n->awaiting), *next; x; x = next) {
		next = x->next;
		free(x);
	}
}

/* From the loop: who gives one back is in the middle of something. */
static void wake(struct networks *n)
{
	for (struct address_wait *x = TAKE_PTR(n->awaiting), *next; x; x = next) {
		next = x->next;
		loop_defer(n->engine->loop, x->fn, x->ud);
		free(x);
	}
}

int endpoint_ifname(struct engine *e, const char *ctr, const char *network, char **ret, struct err *err)
{
	struct endpoint p;
	struct network *w;
	int r = network_find(e->networks, network, &w, err);

	if (r == 0)
		r = lookup(e->networks, ctr, w->id, &p, err);
	if (r < 0)
		return r;
	*ret = endpoint_host_ifname(ctr, p.slot);
	endpoint_done(&p);
	return 0;
}

/* --- giving back --- */

/* A machine's, which does not vanish with what used it. */
static void macvtap_delete(const char *ctr, unsigned slot)
{
	_cleanup_free_ char *name = endpoint_host_ifname(ctr, slot);
	_cleanup_nl_ struct nl *nl = NULL;
	int index, r = nl_open(&nl);

	if (r == 0 && nl_link_index(nl, name, &index) == 0)
		r = nl_link_del(nl, index);
	if (r < 0)
		log_warn("delete interface '%s': %s", name, strerror(-r));
}

void endpoints_release(struct engine *e, const char *ctr, const char *network)
{
	struct networks *n = e->networks;
	bool any = false;

	list_for_each(w, &n->all, struct network, link) {
		struct endpoint p;

		if ((network && !streq(network, w->name)) || lookup(n, ctr, w->id, &p, NULL) < 0)
			continue;
		struct guard_port port = guarded(ctr, &p);

		(void)db_run(e->db, NULL, "DELETE FROM endpoints WHERE ctr = ? AND network = ?", "ss", ctr,
			     w->id);
		if (w->bridge)
			guard_del(n, &port);
		else
			macvtap_delete(ctr, p.slot);
		endpoint_done(&p);
		network_event(e, "disconnect", w, ctr);
		any = true;
	}
	if (any)
		names_changed(n);
	wake(n);
}

void endpoints_settle(struct engine *e)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	_cleanup_strv_ char **ids = NULL;

	if (db_query(e->db, &s, NULL, "SELECT DISTINCT ctr FROM endpoints", "") < 0)
		return;
	while (stmt_step(s, NULL) > 0)
		if (!sandbox_lives(e, stmt_str(s, 0)))
			strv_add(&ids, stmt_str(s, 0));
	for (char **v = ids; v && *v; v++)
		endpoints_release(e, *v, NULL);
}
