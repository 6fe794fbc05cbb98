/* What the API shows of networks and of the endpoints of a container. */
#include "engine/network_int.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "engine/container.h"
#include "engine/db.h"

#include <string.h>

/* --- of a container --- */

/* What the endpoint has, while it has it. */
static void add_address(struct networks *n, const char *ctr, bool runs, const struct network *w,
			const char *mac, struct json_writer *o)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	bool has = runs &&
		   db_query(n->engine->db, &s, NULL,
			    "SELECT id, ip, mac, ip6 FROM endpoints WHERE ctr = ? AND network = ?", "ss", ctr,
			    w->id) >= 0 &&
		   stmt_step(s, NULL) > 0;
	_cleanup_free_ char *ip = has ? ip_text((uint32_t)stmt_int(s, 1)) : xstrdup(""),
			    *gateway = has && w->gateway && !w->internal ? ip_text(w->gateway) : xstrdup(""),
			    *gateway6 = NULL;

	jw_str(o, "MacAddress", has ? stmt_str(s, 2) : mac);
	jw_str(o, "NetworkID", w->id);
	jw_str(o, "EndpointID", has ? stmt_str(s, 0) : "");
	jw_str(o, "Gateway", gateway);
	jw_str(o, "IPAddress", ip);
	jw_int(o, "IPPrefixLen", has ? w->subnet.prefix : 0);
	has &= w->subnet6.prefix != 0;
	gateway6 = has && !w->internal ? ip6_text(&w->gateway6) : xstrdup("");
	jw_str(o, "IPv6Gateway", gateway6);
	jw_str(o, "GlobalIPv6Address", has ? stmt_str(s, 3) : "");
	jw_int(o, "GlobalIPv6PrefixLen", has ? w->subnet6.prefix : 0);
}

static void put_or_null(struct json_writer *o, const char *key, const struct json *settings)
{
	const struct json *v = json_get(settings, key);

	jw_value(o, key, json_len(v) ? v : NULL);
}

/* As who it is known on a network of a user's. */
static void show_names(struct networks *n, struct json_writer *o, const char *ctr,
		       const struct json *settings)
{
	_cleanup_strv_ char **names = container_dns_names(n->engine, ctr, ""),
			    **aliases = json_get_strv(settings, "Aliases");

	for (char **a = aliases; a && *a; a++)
		if (!strv_has(names, *a))
			strv_add(&names, *a);
	jw_strv(o, "DNSNames", names);
}

static void show_endpoint(struct networks *n, struct json_writer *o, const char *ctr, bool runs,
			  const char *name, const struct json *settings)
{
	const char *mac = json_get_str(settings, "MacAddress") ?: "";
	struct network *w;
	bool found = network_find(n, name, &w, NULL) >= 0;

	jw_object(o, name);
	put_or_null(o, "IPAMConfig", settings);
	jw_null(o, "Links");
	put_or_null(o, "Aliases", settings);
	jw_null(o, "DriverOpts");
	jw_int(o, "GwPriority", json_get_int(settings, "GwPriority", 0));
	if (found)
		add_address(n, ctr, runs, w, mac, o);
	else
		jw_str(o, "MacAddress", mac);
	if (found && !w->builtin)
		show_names(n, o, ctr, settings);
	else
		jw_null(o, "DNSNames");
	jw_end(o);
}

void endpoints_show(struct engine *e, struct json_writer *w, const char *ctr, bool runs,
		    const struct json *attachments)
{
	struct json_iter it = { 0 };

	jw_object(w, "Networks");
	while (json_next(attachments, &it))
		show_endpoint(e->networks, w, ctr, runs, it.key, it.value);
	jw_end(w);
}

/* --- of a network --- */

/* The auxiliary addresses that were asked for with this subnet. */
static void add_aux(const struct network *w, const char *subnet, struct json *c)
{
	const struct json *config = json_get(w->ipam, "Config");

	for (size_t i = 0; i < json_len(config); i++) {
		const struct json *aux = json_get(json_at(config, i), "AuxiliaryAddresses");

		if (json_len(aux) && streq(json_get_str(json_at(config, i), "Subnet"), subnet))
			json_set(c, "AuxiliaryAddresses", json_copy(aux));
	}
}

static void add_config(const struct network *w, struct json *config, const char *subnet, const char *range,
		       const char *gateway)
{
	struct json *c = json_add(config, json_object());

	json_set_str(c, "Subnet", subnet);
	if (!streq(range, subnet))
		json_set_str(c, "IPRange", range);
	json_set_str(c, "Gateway", gateway);
	add_aux(w, subnet, c);
}

static void add_ipam(const struct network *w, struct json *o)
{
	struct json *ipam = json_set(o, "IPAM", json_object()), *config;
	const struct json *options = json_get(w->ipam, "Options");

	json_set_str(ipam, "Driver", "default");
	json_set(ipam, "Options", w->builtin ? NULL : options ? json_copy(options) : json_object());
	config = json_set(ipam, "Config", network_has_addresses(w) ? json_array() : NULL);
	if (!config)
		return;
	_cleanup_free_ char *net = subnet_text(&w->subnet), *range = subnet_text(&w->range),
			    *gw = ip_text(w->gateway);

	add_config(w, config, net, range, gw);
	if (w->subnet6.prefix) {
		_cleanup_free_ char *net6 = subnet6_text(&w->subnet6), *range6 = subnet6_text(&w->range6),
				    *gw6 = ip6_text(&w->gateway6);

		add_config(w, config, net6, range6, gw6);
	}
}

static void add_endpoints(struct networks *n, const struct network *w, struct json *o)
{
	struct json *ctrs = json_set(o, "Containers", json_object());
	_cleanup_stmt_ struct stmt *s = NULL;

	if (db_query(n->engine->db, &s, NULL,
		     "SELECT p.ctr, p.ip, p.mac, c.name, p.id, p.ip6 FROM endpoints p JOIN containers c "
		     "ON c.id = p.ctr WHERE p.network = ?",
		     "s", w->id) < 0)
		return;
	while (stmt_step(s, NULL) > 0) {
		if (!sandbox_occupied(n->engine, stmt_str(s, 0)))
			continue;
		struct json *c = json_set(ctrs, stmt_str(s, 0), json_object());
		_cleanup_free_ char *ip = ip_text((uint32_t)stmt_int(s, 1));
		_cleanup_free_ char *cidr = xasprintf("%s/%u", ip, w->subnet.prefix), *cidr6 = NULL;

		json_set_str(c, "Name", stmt_str(s, 3));
		json_set_str(c, "EndpointID", stmt_str(s, 4));
		json_set_str(c, "MacAddress", stmt_str(s, 2));
		json_set_str(c, "IPv4Address", cidr);
		cidr6 = *stmt_str(s, 5) ? xasprintf("%s/%u", stmt_str(s, 5), w->subnet6.prefix) : xstrdup("");
		json_set_str(c, "IPv6Address", cidr6);
	}
}

/* What the default network is made with, as clients know it of Docker's. */
static void add_bridge_options(const struct networks *n, const struct network *w, struct json *o)
{
	_cleanup_free_ char *mtu = xasprintf("%u", w->mtu);

	json_set_str(o, "com.docker.network.bridge.default_bridge", "true");
	json_set_str(o, "com.docker.network.bridge.enable_icc", "true");
	json_set_str(o, "com.docker.network.bridge.enable_ip_masquerade", "true");
	json_set_str(o, "com.docker.network.bridge.host_binding_ipv4",
		     n->engine->cfg.publish_ip ?: "0.0.0.0");
	json_set_str(o, "com.docker.network.bridge.name", w->bridge);
	json_set_str(o, "com.docker.network.driver.mtu", mtu);
}

static struct json *network_document(struct networks *n, const struct network *w)
{
	struct json *o = json_object(), *opts;
	_cleanup_free_ char *created = time_rfc3339(w->created_ns);

	json_set_str(o, "Name", w->name);
	json_set_str(o, "Id", w->id);
	json_set_str(o, "Created", created);
	json_set_str(o, "Scope", "local");
	json_set_str(o, "Driver", net_driver_name(w->driver));
	json_set_bool(o, "EnableIPv4", true);
	json_set_bool(o, "EnableIPv6", w->subnet6.prefix != 0);
	add_ipam(w, o);
	json_set_bool(o, "Internal", w->internal);
	json_set_bool(o, "Attachable", w->attachable);
	json_set_bool(o, "Ingress", false);
	json_set_str(json_set(o, "ConfigFrom", json_object()), "Network", "");
	json_set_bool(o, "ConfigOnly", false);
	add_endpoints(n, w, o);
	opts = json_set(o, "Options", json_copy(w->options));
	if (w->builtin && w->driver == NET_BRIDGE)
		add_bridge_options(n, w, opts);
	json_set(o, "Labels", json_copy(w->labels));
	return o;
}

struct json *network_list(struct engine *e)
{
	struct json *a = json_array();

	list_for_each(w, &e->networks->all, struct network, link)
		json_add(a, network_document(e->networks, w));
	return a;
}

struct json *network_get(struct engine *e, const char *name_or_id, struct err *err)
{
	struct network *w;

	return network_find(e->networks, name_or_id, &w, err) < 0 ? NULL : network_document(e->networks, w);
}
