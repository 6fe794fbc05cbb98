/* Making and removing networks, as users ask for it. */
#include "engine/network_int.h"

#include "base/alloc.h"
#include "base/id.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "engine/container.h"
#include "engine/db.h"
#include "engine/events.h"
#include "lib/netlink.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Drivers that people know from Docker, and what to do instead. */
static const struct { const char *name, *hint; } no_drivers[] = {
	{ "ipvlan", "use the driver macvlan or bridge" },
	{ "overlay", "insula serves one host: use the driver bridge" },
};

/* What a network can be told, and by which drivers; only: the one value that there is. */
static const struct option { const char *name, *only; bool bridge, macvlan; } options[] = {
	{ "com.docker.network.bridge.name", NULL, true, false },
	{ "com.docker.network.bridge.enable_icc", "true", true, false },
	{ "com.docker.network.bridge.enable_ip_masquerade", "true", true, false },
	{ "com.docker.network.driver.mtu", NULL, true, true },
	{ "com.docker.network.enable_ipv4", "true", true, true },
	{ "com.docker.network.enable_ipv6", NULL, true, true },
	{ "parent", NULL, false, true },
	{ "macvlan_mode", "bridge", false, true },
};

static const struct json_shape ipam_config_shape[] = {
	{ "Subnet", JSON_STR, NULL }, { "IPRange", JSON_STR, NULL }, { "Gateway", JSON_STR, NULL },
	{ "AuxiliaryAddresses", JSON_OBJECT, NULL }, { NULL },
};
static const struct json_shape ipam_shape[] = {
	{ "Driver", JSON_STR, NULL }, { "Options", JSON_OBJECT, NULL },
	{ "Config", JSON_ARRAY, ipam_config_shape }, { NULL },
};
static const struct json_shape config_from_shape[] = { { "Network", JSON_STR, NULL }, { NULL } };
static const struct json_shape body_shape[] = {
	{ "Name", JSON_STR, NULL }, { "Driver", JSON_STR, NULL }, { "Scope", JSON_STR, NULL },
	{ "Internal", JSON_BOOL, NULL }, { "Attachable", JSON_BOOL, NULL }, { "Ingress", JSON_BOOL, NULL },
	{ "ConfigOnly", JSON_BOOL, NULL }, { "EnableIPv4", JSON_BOOL, NULL },
	{ "EnableIPv6", JSON_BOOL, NULL }, { "ConfigFrom", JSON_OBJECT, config_from_shape },
	{ "IPAM", JSON_OBJECT, ipam_shape }, { NULL },
};

void network_event(struct engine *e, const char *action, const struct network *w, const char *ctr)
{
	struct json *a = json_object();

	if (ctr)
		json_set_str(a, "container", ctr);
	json_set_str(a, "name", w->name);
	json_set_str(a, "type", net_driver_name(w->driver));
	event_emit(e, "network", action, w->id, a);
}

static int check_driver(const char *driver, enum net_driver *ret, struct err *err)
{
	*ret = streq(driver, "macvlan") ? NET_MACVLAN : NET_BRIDGE;
	if (str_empty(driver) || streq(driver, "default") || streq(driver, "bridge") || *ret == NET_MACVLAN)
		return 0;
	if (streq(driver, "host") || streq(driver, "null"))
		return err_msg(err, ERR_FORBIDDEN, 0, "only one instance of \"%s\" network is allowed",
			       driver);
	for (size_t i = 0; i < ARRAY_SIZE(no_drivers); i++)
		if (streq(no_drivers[i].name, driver))
			return err_msg(err, ERR_INVALID, 0,
				       "network driver \"%s\" is not supported by this version of insula: %s",
				       driver, no_drivers[i].hint);
	return err_msg(err, ERR_NOT_FOUND, 0,
		       "error looking up network plugin %s: plugin \"%s\" not found", driver, driver);
}

static int check_option(const char *name, const char *value, enum net_driver driver, struct err *err)
{
	const struct option *o = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (streq(options[i].name, name) &&
		    (driver == NET_MACVLAN ? options[i].macvlan : options[i].bridge))
			o = &options[i];
	if (!o)
		return err_msg(err, ERR_INVALID, 0,
			       "option %s is not supported by this version of insula: leave it out", name);
	if (o->only && !streq(o->only, value))
		return err_msg(err, ERR_INVALID, 0,
			       "option %s=%s is not supported by this version of insula: leave it out", name,
			       value);
	return 0;
}

static int check_options(const struct json *given, enum net_driver driver, struct err *err)
{
	const char *name = json_get_str(given, "com.docker.network.bridge.name"),
		   *parent = json_get_str(given, "parent");
	struct json_iter it = { 0 };
	int r = 0;

	while (r == 0 && json_next(given, &it))
		r = check_option(it.key, json_str(it.value) ?: "", driver, err);
	if (r < 0)
		return r;
	if (name && (!*name || strlen(name) > 15 || name[0] == '.' || strpbrk(name, "/ \t\n\"")))
		return err_msg(err, ERR_INVALID, 0, "invalid bridge name '%s'", name);
	if (driver == NET_MACVLAN && str_empty(parent))
		return err_msg(err, ERR_INVALID, 0,
			       "a macvlan network needs an interface of the host to share: -o parent=eth0");
	return driver == NET_MACVLAN ? parent_check(parent, err) : 0;
}

static int check_body(struct networks *n, const char *name, const struct json *body,
		      enum net_driver *ret_driver, struct err *err)
{
	const char *ipam = json_get_str(json_get(body, "IPAM"), "Driver");
	const char *scope = json_get_str(body, "Scope");
	int r;

	if (str_empty(name))
		return err_msg(err, ERR_INVALID, 0, "invalid network name: name is empty");
	if (network_name_builtin(name) || streq(name, "default"))
		return err_msg(err, ERR_FORBIDDEN, 0,
			       "operation is not permitted on predefined %s network ", name);
	/* words of the names file and parts of DNS names */
	if (!isalnum((unsigned char)*name) || (name[1] && !name_valid(name)) || strlen(name) > 255)
		return err_msg(err, ERR_INVALID, 0,
			       "invalid network name: %s: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name);
	r = json_check_strings(json_get(body, "Labels"), "Labels", err);
	if (r == 0)
		r = json_check_strings(json_get(body, "Options"), "Options", err);
	if (r == 0)
		r = check_driver(json_get_str(body, "Driver"), ret_driver, err);
	if (r == 0)
		r = check_options(json_get(body, "Options"), *ret_driver, err);
	if (r < 0)
		return r;
	list_for_each(w, &n->all, struct network, link)
		if (streq(w->name, name))
			return err_msg(err, ERR_CONFLICT, 0, "network with name %s already exists", name);
	if (json_get_bool(body, "Ingress", false) || json_get_bool(body, "ConfigOnly", false) ||
	    !str_empty(json_get_str(json_get(body, "ConfigFrom"), "Network")) || streq(scope, "swarm"))
		return err_msg(err, ERR_INVALID, 0,
			       "insula serves one host: ingress, config-only and swarm networks do not "
			       "exist");
	if (!json_get_bool(body, "EnableIPv4", true))
		return err_msg(err, ERR_INVALID, 0,
			       "--ipv4=false is not supported by this version of insula: leave it out");
	if (!str_empty(ipam) && !streq(ipam, "default"))
		return err_msg(err, ERR_INVALID, 0,
			       "IPAM driver \"%s\" is not supported by insula: leave it out",
			       ipam);
	return 0;
}

/* --- subnet, range and gateway --- */

static int check_inside(const struct network *w, const char *what, const char *text, uint32_t *ret,
			struct err *err)
{
	if (ip_parse(text, ret) < 0)
		return err_msg(err, ERR_INVALID, 0,
			       "invalid network config:\ninvalid %s %s: not an IPv4 address",
			       what, text);
	if (!subnet_has(&w->subnet, *ret)) {
		_cleanup_free_ char *subnet = subnet_text(&w->subnet);

		return err_msg(err, ERR_INVALID, 0, "invalid network config:\ninvalid %s %s: it is not in %s",
			       what, text, subnet);
	}
	return 0;
}

static int own_subnet(struct networks *n, const struct json *c, struct network *w, struct err *err)
{
	const char *range = json_get_str(c, "IPRange"), *gateway = json_get_str(c, "Gateway");
	struct json_iter it = { 0 };
	uint32_t ip;
	int r = subnet_parse(json_get_str(c, "Subnet"), true, &w->subnet, err);

	if (r == 0 && w->subnet.prefix > 30)
		r = err_msg(err, ERR_INVALID, 0,
			    "invalid network config:\ninvalid subnet %s: no room for a gateway and a "
			    "container",
			    json_get_str(c, "Subnet"));
	if (r == 0)
		r = subnet_check_free(n, &w->subnet, err);
	if (r == 0 && !str_empty(range)) {
		r = subnet_parse(range, false, &w->range, err);
		if (r == 0 && (w->range.prefix < w->subnet.prefix || !subnet_has(&w->subnet, w->range.net)))
			r = err_msg(err, ERR_INVALID, 0,
				    "invalid network config:\ninvalid ip-range %s: it is not in %s", range,
				    json_get_str(c, "Subnet"));
	}
	if (r == 0 && !str_empty(gateway))
		r = check_inside(w, "gateway address", gateway, &w->gateway, err);
	while (r == 0 && json_next(json_get(c, "AuxiliaryAddresses"), &it))
		r = check_inside(w, "auxiliary address", json_str(it.value) ?: "", &ip, err);
	return r;
}

static int check_inside6(const struct network *w, const char *what, const char *text, struct in6_addr *ret,
			 struct err *err)
{
	_cleanup_free_ char *subnet = subnet6_text(&w->subnet6);

	if (ip6_parse(text, ret) < 0)
		return err_msg(err, ERR_INVALID, 0,
			       "invalid network config:\ninvalid %s %s: not an IPv6 address", what, text);
	return subnet6_has(&w->subnet6, ret)
		       ? 0
		       : err_msg(err, ERR_INVALID, 0,
				 "invalid network config:\ninvalid %s %s: it is not in %s", what, text,
				 subnet);
}

static int own_subnet6(struct networks *n, const struct json *c, struct network *w, struct err *err)
{
	const char *range = json_get_str(c, "IPRange"), *gateway = json_get_str(c, "Gateway");
	struct json_iter it = { 0 };
	struct in6_addr ip;
	int r = subnet6_parse(json_get_str(c, "Subnet"), true, &w->subnet6, err);

	if (r == 0)
		r = subnet6_check_free(n, &w->subnet6, err);
	if (r == 0 && !str_empty(range)) {
		r = subnet6_parse(range, false, &w->range6, err);
		if (r == 0 && (w->range6.prefix < w->subnet6.prefix ||
			       !subnet6_has(&w->subnet6, &w->range6.net)))
			r = err_msg(err, ERR_INVALID, 0,
				    "invalid network config:\ninvalid ip-range %s: it is not in %s", range,
				    json_get_str(c, "Subnet"));
	}
	if (r == 0 && !str_empty(gateway))
		r = check_inside6(w, "gateway address", gateway, &w->gateway6, err);
	while (r == 0 && json_next(json_get(c, "AuxiliaryAddresses"), &it))
		r = check_inside6(w, "auxiliary address", json_str(it.value) ?: "", &ip, err);
	return r;
}

static bool wants_ipv6(const struct json *body)
{
	return json_get_bool(body, "EnableIPv6", false) ||
	       streq(json_get_str(json_get(body, "Options"), "com.docker.network.enable_ipv6"), "true");
}

/* One of the subnets that were asked for; which family it is tells itself. */
static int asked_subnet(struct networks *n, const struct json *c, bool ipv6, struct network *w,
			struct err *err)
{
	const char *subnet = json_get_str(c, "Subnet");
	bool v6 = subnet && strchr(subnet, ':');

	if (str_empty(subnet) && (!str_empty(json_get_str(c, "IPRange")) ||
				  !str_empty(json_get_str(c, "Gateway"))))
		return err_msg(err, ERR_INVALID, 0,
			       "invalid network config:\ngateway and ip-range need a subnet");
	if (str_empty(subnet))
		return 0;
	if (v6 && !ipv6)
		return err_msg(err, ERR_INVALID, 0,
			       "invalid network config:\ninvalid subnet %s: IPv6 is not enabled for this "
			       "network: add --ipv6",
			       subnet);
	if (v6 ? w->subnet6.prefix != 0 : w->subnet.mask != 0)
		return err_msg(err, ERR_INVALID, 0, "bridge driver doesn't support multiple subnets");
	return v6 ? own_subnet6(n, c, w, err) : own_subnet(n, c, w, err);
}

static int choose_subnet(struct networks *n, const struct json *body, struct network *w, struct err *err)
{
	const struct json *config = json_get(json_get(body, "IPAM"), "Config");
	bool ipv6 = wants_ipv6(body);
	int r = 0;

	if (ipv6 && !network_host_ipv6())
		return err_msg(err, ERR_INVALID, 0, "--ipv6: this host's kernel has no IPv6: leave it out");
	for (size_t i = 0; r == 0 && i < json_len(config); i++)
		r = asked_subnet(n, json_at(config, i), ipv6, w, err);
	if (r == 0 && !w->subnet.mask)
		r = subnet_choose(n, NULL, 0, &w->subnet, err);
	if (r == 0 && ipv6 && !w->subnet6.prefix)
		r = subnet6_choose(n, &w->subnet6, err);
	return r;
}

static struct json *copy_object(const struct json *o)
{
	return json_type(o) == JSON_OBJECT ? json_copy(o) : json_object();
}

static int bridge_name_free(struct networks *n, const struct json *body, struct err *err)
{
	const char *name = json_get_str(json_get(body, "Options"), "com.docker.network.bridge.name");
	_cleanup_nl_ struct nl *nl = NULL;
	int index;

	if (!name)
		return 0;
	list_for_each(w, &n->all, struct network, link)
		if (streq(w->bridge, name))
			return err_msg(err, ERR_FORBIDDEN, 0,
				       "networks have same bridge name: bridge %s belongs to network %s",
				       name,
				       w->name);
	if (nl_open(&nl) == 0 && nl_link_index(nl, name, &index) == 0)
		return err_msg(err, ERR_FORBIDDEN, 0,
			       "bridge name %s is taken by an interface of the host", name);
	return 0;
}

int network_create(struct engine *e, const struct json *body, const char **ret_id, struct err *err)
{
	struct networks *n = e->networks;
	const char *name = json_get_str(body, "Name");
	enum net_driver driver = NET_BRIDGE;
	struct network *w;
	int r = json_check_shape(body, body_shape, "", err);

	if (r == 0)
		r = check_body(n, name, body, &driver, err);
	if (r == 0)
		r = bridge_name_free(n, body, err);
	if (r < 0)
		return r;
	w = new0(struct network);
	r = choose_subnet(n, body, w, err);
	if (r < 0) {
		network_free(w);
		return r;
	}
	w->id = xstrdup(id_new().s);
	w->driver = driver;
	w->name = xstrdup(name);
	w->created_ns = now_real_ns();
	w->internal = json_get_bool(body, "Internal", false);
	w->attachable = json_get_bool(body, "Attachable", false);
	w->labels = copy_object(json_get(body, "Labels"));
	w->options = copy_object(json_get(body, "Options"));
	w->ipam = copy_object(json_get(body, "IPAM"));
	r = network_add(n, w, err);
	if (r < 0)
		return r;
	network_event(e, "create", w, NULL);
	*ret_id = w->id;
	return 0;
}

/* --- the end --- */

/* What an ended container has not given back yet does not count. */
static bool in_use(struct networks *n, const struct network *w)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	int r = db_query(n->engine->db, &s, NULL, "SELECT ctr FROM endpoints WHERE network = ?", "s", w->id);

	while (r == 0 && (r = stmt_step(s, NULL)) > 0) {
		if (sandbox_occupied(n->engine, stmt_str(s, 0)))
			return true;
		r = 0;
	}
	return r < 0;
}

static int remove_one(struct networks *n, struct network *w, struct err *err)
{
	int r = db_run(n->engine->db, err, "DELETE FROM endpoints WHERE network = ?", "s", w->id);

	if (r < 0)
		return r;
	network_event(n->engine, "destroy", w, NULL);
	network_host_remove(n, w);
	return network_del(w, n, err);
}

int network_remove(struct engine *e, const char *ref, struct err *err)
{
	struct networks *n = e->networks;
	struct network *w;
	int r = network_find(n, ref, &w, err);

	if (r < 0)
		return r;
	if (w->builtin)
		return err_msg(err, ERR_FORBIDDEN, 0, "%s is a pre-defined network and cannot be removed",
			       w->name);
	if (in_use(n, w))
		return err_msg(err, ERR_FORBIDDEN, 0,
			       "error while removing network: network %s id %s has active endpoints", w->name,
			       w->id);
	return remove_one(n, w, err);
}

int networks_prune(struct engine *e, const struct filters *f, struct json **ret, struct err *err)
{
	struct networks *n = e->networks;
	struct json *gone = json_array();
	_cleanup_strv_ char **until = filters_values(f, "until");
	uint64_t before = UINT64_MAX;
	int r = 0;

	if (until)
		r = time_parse_since(until[0], now_real_ns(), &before) < 0
			? err_msg(err, ERR_INVALID, 0, "invalid filter 'until=%s'", until[0])
			: 0;
	list_for_each(w, &n->all, struct network, link) {
		if (r < 0)
			break;
		if (w->builtin || w->created_ns > before || in_use(n, w) ||
		    !filters_match_labels(f, "label", w->labels) ||
		    (filters_has(f, "label!") && filters_match_labels(f, "label!", w->labels)))
			continue;
		json_add_str(gone, w->name);
		r = remove_one(n, w, err);
	}
	if (r < 0)
		json_free(gone);
	else
		*ret = gone;
	return r;
}
