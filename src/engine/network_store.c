/* The table of networks: rows of the database, kept in memory too, for every start looks at it. */
#include "engine/network_int.h"

#include "base/alloc.h"
#include "base/id.h"
#include "base/strv.h"
#include "engine/db.h"

#include <errno.h>
#include <string.h>

#define BRIDGE_MTU 1500
#define OPT_BRIDGE_NAME "com.docker.network.bridge.name"
#define OPT_MTU "com.docker.network.driver.mtu"

const char *const network_drivers[] = {
	[NET_BRIDGE] = "bridge", [NET_HOST] = "host", [NET_NULL] = "null",
	[NET_MACVLAN] = "macvlan", NULL,
};

static const struct { const char *name; enum net_driver driver; } builtin[] = {
	{ "bridge", NET_BRIDGE }, { "host", NET_HOST }, { "none", NET_NULL },
};

const char *net_driver_name(enum net_driver d)
{
	return network_drivers[d];
}

void network_free(struct network *w)
{
	if (!w)
		return;
	free(w->id);
	free(w->name);
	free(w->bridge);
	json_free(w->labels);
	json_free(w->options);
	json_free(w->ipam);
	free(w);
}

bool network_name_builtin(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(builtin); i++)
		if (streq(builtin[i].name, name))
			return true;
	return false;
}

/* What follows from the rest. */
static void derive(struct networks *n, struct network *w)
{
	uint64_t mtu = 0;

	w->builtin = network_name_builtin(w->name);
	w->mtu = w->driver == NET_MACVLAN ? 0 : BRIDGE_MTU;
	if (!network_has_addresses(w))
		return;
	if (w->driver == NET_MACVLAN)
		w->parent = json_get_str(w->options, "parent");
	else if (w->builtin)
		w->bridge = xstrdup(n->engine->cfg.bridge);
	else if (!str_empty(json_get_str(w->options, OPT_BRIDGE_NAME)))
		w->bridge = xstrdup(json_get_str(w->options, OPT_BRIDGE_NAME));
	else
		w->bridge = xasprintf("in-%.12s", w->id);
	if (str_to_u64(json_get_str(w->options, OPT_MTU) ?: "", &mtu) == 0 && mtu >= 68 && mtu <= 65535)
		w->mtu = (unsigned)mtu;
	if (!w->gateway && w->subnet.mask)
		w->gateway = w->subnet.net + 1;
	if (!w->range.mask)
		w->range = w->subnet;
	if (w->subnet6.prefix && IN6_IS_ADDR_UNSPECIFIED(&w->gateway6))
		w->gateway6 = subnet6_first(&w->subnet6);
	if (!w->range6.prefix)
		w->range6 = w->subnet6;
}

static struct json *parse_object(const char *s)
{
	struct json *j = NULL;

	return json_parse(s, strlen(s), &j, NULL) < 0 ? json_object() : j;
}

static int read_row6(struct network *w, struct stmt *s, int col, struct err *err)
{
	const char *subnet = stmt_str(s, col), *range = stmt_str(s, col + 2);
	int r = 0;

	if (*subnet)
		r = subnet6_parse(subnet, false, &w->subnet6, err);
	if (r == 0 && *range)
		r = subnet6_parse(range, false, &w->range6, err);
	(void)ip6_parse(stmt_str(s, col + 1), &w->gateway6);
	return r;
}

/* A row of: id, name, driver, created_ns, subnet, gateway, ip_range, internal, attachable, labels, options,
 * ipam, subnet6, gateway6, ip_range6. */
static int read_row(struct networks *n, struct stmt *s, struct err *err)
{
	struct network *w = new0(struct network);
	const char *subnet = stmt_str(s, 4), *range = stmt_str(s, 6);
	int r = 0;

	w->id = xstrdup(stmt_str(s, 0));
	w->name = xstrdup(stmt_str(s, 1));
	for (size_t i = 0; network_drivers[i]; i++)
		if (streq(network_drivers[i], stmt_str(s, 2)))
			w->driver = (enum net_driver)i;
	w->created_ns = (uint64_t)stmt_int(s, 3);
	if (*subnet)
		r = subnet_parse(subnet, false, &w->subnet, err);
	if (r == 0 && *range)
		r = subnet_parse(range, false, &w->range, err);
	(void)ip_parse(stmt_str(s, 5), &w->gateway);
	w->internal = stmt_int(s, 7);
	w->attachable = stmt_int(s, 8);
	w->labels = parse_object(stmt_str(s, 9));
	w->options = parse_object(stmt_str(s, 10));
	w->ipam = parse_object(stmt_str(s, 11));
	if (r == 0)
		r = read_row6(w, s, 12, err);
	if (r < 0) {
		network_free(w);
		return r;
	}
	derive(n, w);
	list_append(&n->all, &w->link);
	return 0;
}

static int load_rows(struct networks *n, struct err *err)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	int r = db_query(n->engine->db, &s, err,
			 "SELECT id, name, driver, created_ns, subnet, gateway, ip_range, internal, "
			 "attachable, labels, options, ipam, subnet6, gateway6, ip_range6 FROM networks "
			 "ORDER BY created_ns, name",
			 "");

	while (r == 0 && (r = stmt_step(s, err)) > 0)
		r = read_row(n, s, err);
	return r;
}

static int insert(struct networks *n, const struct network *w, struct err *err)
{
	_cleanup_free_ char *subnet = w->subnet.mask ? subnet_text(&w->subnet) : xstrdup(""),
			    *gateway = w->gateway ? ip_text(w->gateway) : xstrdup(""),
			    *range = w->range.mask ? subnet_text(&w->range) : xstrdup(""),
			    *subnet6 = w->subnet6.prefix ? subnet6_text(&w->subnet6) : xstrdup(""),
			    *gateway6 = w->subnet6.prefix ? ip6_text(&w->gateway6) : xstrdup(""),
			    *range6 = w->range6.prefix ? subnet6_text(&w->range6) : xstrdup(""),
			    *labels = json_dump(w->labels), *options = json_dump(w->options),
			    *ipam = json_dump(w->ipam);

	return db_run(n->engine->db, err,
		      "INSERT INTO networks (id, name, driver, created_ns, subnet, gateway, ip_range, "
		      "internal, attachable, labels, options, ipam, subnet6, gateway6, ip_range6) "
		      "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		      "sssisssiissssss", w->id, w->name, network_drivers[w->driver], (int64_t)w->created_ns,
		      subnet, gateway, range, (int64_t)w->internal, (int64_t)w->attachable, labels, options,
		      ipam, subnet6, gateway6, range6);
}

int network_add(struct networks *n, struct network *w, struct err *err)
{
	int r;

	derive(n, w);
	r = insert(n, w, err);
	if (r < 0) {
		network_free(w);
		return r;
	}
	list_append(&n->all, &w->link);
	return 0;
}

int network_del(struct network *w, struct networks *n, struct err *err)
{
	int r = db_run(n->engine->db, err, "DELETE FROM networks WHERE id = ?", "s", w->id);

	if (r < 0)
		return r;
	list_remove(&w->link);
	network_free(w);
	return 0;
}

static struct network *by_name(struct networks *n, const char *name)
{
	list_for_each(w, &n->all, struct network, link)
		if (streq(w->name, name))
			return w;
	return NULL;
}

static int add_builtin(struct networks *n, const char *name, enum net_driver driver, struct err *err)
{
	struct network *w = new0(struct network);

	w->id = xstrdup(id_new().s);
	w->name = xstrdup(name);
	w->driver = driver;
	w->labels = json_object();
	w->options = json_object();
	w->ipam = json_object();
	return network_add(n, w, err);
}

static int give_subnet(struct networks *n, struct network *w, const char *first, unsigned skip,
		       struct err *err)
{
	_cleanup_free_ char *text = NULL;
	const struct subnet before = w->subnet;
	struct subnet s;
	int r;

	w->subnet = (struct subnet){ 0 };	/* it does not stand in its own way */
	r = subnet_choose(n, first, skip, &s, err);
	if (r < 0) {
		w->subnet = before;
		return r;
	}
	w->subnet = w->range = s;
	w->gateway = s.net + 1;
	text = subnet_text(&s);
	return db_run(n->engine->db, err, "UPDATE networks SET subnet = ? WHERE id = ?", "ss", text, w->id);
}

int network_resubnet(struct networks *n, struct network *w, unsigned skip, struct err *err)
{
	return give_subnet(n, w, w->builtin ? n->engine->cfg.subnet : NULL, skip, err);
}

int networks_load(struct networks *n, struct err *err)
{
	struct network *w;
	int r = load_rows(n, err);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(builtin); i++)
		if (!by_name(n, builtin[i].name))
			r = add_builtin(n, builtin[i].name, builtin[i].driver, err);
	if (r < 0)
		return r;
	w = by_name(n, "bridge");
	/* the configured one, if it is free now; whether it still is when the bridge is made is seen then */
	return w->subnet.mask ? 0 : network_resubnet(n, w, 0, err);
}

int network_find(struct networks *n, const char *ref, struct network **ret, struct err *err)
{
	struct network *found = by_name(n, ref);
	bool ambiguous = false;

	if (!found)
		list_for_each(w, &n->all, struct network, link) {
			if (!*ref || !str_starts(w->id, ref))
				continue;
			ambiguous |= found != NULL;
			found = w;
		}
	if (ambiguous && strlen(ref) < ID_LEN)
		return err_msg(err, ERR_INVALID, 0,
			       "network %s is ambiguous (2 matches found based on ID prefix)",
			       ref);
	if (!found)
		return err_msg(err, ERR_NOT_FOUND, 0, "network %s not found", ref);
	*ret = found;
	return 0;
}
