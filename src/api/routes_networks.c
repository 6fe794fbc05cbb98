#include "api/server.h"
#include "base/alloc.h"
#include "base/strv.h"
#include "engine/container.h"
#include "engine/events.h"
#include "engine/filters.h"
#include "engine/network.h"

static bool matches(const struct json *n, const struct filters *f, bool dangling)
{
	const char *name = json_get_str(n, "Name");
	bool builtin = network_name_builtin(name);

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
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *n = network_get(e, req_param(r, 0), &err);

	if (n)
		resp_json(r, 200, n);
	else
		resp_error(r, &err);
}

/* --- create --- */

struct creating { struct request *req; char *id; };

static void created(void *ud, int r, const struct err *e, void *result)
{
	struct creating *k = ud;
	struct json *j;

	if (r < 0) {
		/* nothing is on the host yet */
		(void)network_remove(k->req->engine, k->id, NULL);
		resp_error(k->req, e);
	} else {
		j = json_object();
		json_set_str(j, "Id", k->id);
		json_set_str(j, "Warning",
			     streq(network_driver(k->req->engine, k->id), "macvlan")
				     ? "On a macvlan network names of containers do not resolve, and no "
				       "ports are published."
				     : "");
		resp_json(k->req, 201, j);
	}
	free(k->id);
	free(k);
}

/* Bridge and rules are made at once, so that no start has to wait for them. */
static void create(struct request *r, struct engine *e)
{
	_cleanup_json_ struct json *attachments = json_object();
	_cleanup_err_ struct err err = ERR_INIT;
	struct creating *k;
	const char *id;

	if (network_create(e, r->body, &id, &err) < 0) {
		resp_error(r, &err);
		return;
	}
	json_set(attachments, id, json_object());
	k = new0(struct creating);
	*k = (struct creating){r, xstrdup(id)};
	networks_ensure(e, attachments, created, k);
}

static void remove_network(struct request *r, struct engine *e)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (network_remove(e, req_param(r, 0), &err) < 0)
		resp_error(r, &err);
	else
		resp_status(r, 204);
}

static void prune(struct request *r, struct engine *e)
{
	static const char *const allowed[] = {"until", "label", "label!", NULL};
	_cleanup_filters_ struct filters f = {0};
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *gone, *j;

	if (filters_parse(http_query_get(&r->query, "filters"), allowed, &f, &err) < 0 ||
	    networks_prune(e, &f, &gone, &err) < 0) {
		resp_error(r, &err);
		return;
	}
	event_prune(e, "network", 0);
	j = json_object();
	json_set(j, "NetworksDeleted", gone);
	resp_json(r, 200, j);
}

/* --- connect, disconnect --- */

static void changed(void *ud, int r, const struct err *e, void *result)
{
	struct request *req = ud;

	if (r < 0)
		resp_error(req, e);
	else
		resp_status(req, 200);
}

static struct container *the_container(struct request *r, struct engine *e)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct container *c;
	const char *name, *ref = json_get_str(r->body, "Container") ?: "";

	if (network_name(e, req_param(r, 0), &name, &err) < 0 || container_find(e, ref, &c, &err) < 0) {
		resp_error(r, &err);
		return NULL;
	}
	return c;
}

static void connect_container(struct request *r, struct engine *e)
{
	struct container *c = the_container(r, e);

	if (c)
		container_connect(c, req_param(r, 0), json_get(r->body, "EndpointConfig"), changed, r);
}

static void disconnect_container(struct request *r, struct engine *e)
{
	struct container *c = the_container(r, e);

	if (c)
		container_disconnect(c, req_param(r, 0), changed, r);
}

const struct route routes_networks[] = {
	{"GET", "/networks", list_networks, .watch = true},
	{"GET", "/networks/{id}", get_network, .watch = true},
	{"POST", "/networks/create", create, BODY_JSON},
	{"POST", "/networks/prune", prune},
	{"POST", "/networks/{id}/connect", connect_container, BODY_JSON},
	{"POST", "/networks/{id}/disconnect", disconnect_container, BODY_JSON},
	{"DELETE", "/networks/{id}", remove_network},
	{NULL},
};
