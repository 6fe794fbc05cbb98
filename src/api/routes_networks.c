#include "api/server.h"
#include "base/strv.h"
#include "engine/filters.h"
#include "engine/network.h"

static bool matches(const struct json *n, const struct filters *f, bool dangling)
{
	const char *name = json_get_str(n, "Name");
	bool builtin = streq(name, "bridge") || streq(name, "host") || streq(name, "none");

	if (filters_has(f, "dangling") && (builtin || json_len(json_get(n, "Containers")) > 0) == dangling)
		return false;
	return filters_match_part(f, "name", name) && filters_match_prefix(f, "id", json_get_str(n, "Id")) &&
	       filters_match(f, "driver", json_get_str(n, "Driver")) &&
	       filters_match(f, "scope", json_get_str(n, "Scope")) &&
	       filters_match(f, "type", builtin ? "builtin" : "custom") &&
	       filters_match_labels(f, "label", json_get(n, "Labels"));
}

static void list_networks(struct request *r, struct engine *e)
{
	static const char *const allowed[] = {"dangling", "driver", "id",   "label",
					      "name",     "scope",  "type", NULL};
	_cleanup_filters_ struct filters f = {0};
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_json_ struct json *all = NULL;
	struct json *out;
	bool dangling = false;

	if (filters_parse(http_query_get(&r->query, "filters"), allowed, &f, &err) < 0 ||
	    filters_bool(&f, "dangling", false, &dangling, &err) < 0) {
		resp_error(r, &err);
		return;
	}
	all = network_list(e);
	out = json_array();
	for (size_t i = 0; i < json_len(all); i++)
		if (matches(json_at(all, i), &f, dangling))
			json_add(out, json_ref(json_at(all, i)));
	resp_json(r, 200, out);
}

static void get_network(struct request *r, struct engine *e)
{
	struct json *n = network_get(e, req_param(r, 0));

	if (n)
		resp_json(r, 200, n);
	else
		resp_errorf(r, ERR_NOT_FOUND, "network %s not found", req_param(r, 0));
}

const struct route routes_networks[] = {
	{"GET", "/networks", list_networks},
	{"GET", "/networks/{id}", get_network},
	{NULL},
};
