#include "api/server.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "engine/volume.h"

static void list(struct request *r, struct engine *e)
{
	_cleanup_filters_ struct filters f = {0};
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *all, *j;

	if (filters_parse(http_query_get(&r->query, "filters"), volume_filters, &f, &err) < 0 ||
	    volumes_list(e, &f, &all, &err) < 0) {
		resp_error(r, &err);
		return;
	}
	j = json_object();
	json_set(j, "Volumes", all);
	json_set_null(j, "Warnings");
	resp_json(r, 200, j);
}

static void inspect(struct request *r, struct engine *e)
{
	struct json *v = volume_inspect(e, req_param(r, 0));

	if (v)
		resp_json(r, 200, v);
	else
		resp_errorf(r, ERR_NOT_FOUND, "get %s: no such volume", req_param(r, 0));
}

static const struct json_shape create_shape[] = {
	{"Name", JSON_STR, NULL}, {"Driver", JSON_STR, NULL}, {NULL},
};

static void create(struct request *r, struct engine *e)
{
	const char *driver = json_get_str(r->body, "Driver"), *name = json_get_str(r->body, "Name");
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_free_ char *made = NULL;

	if (json_check_shape(r->body, create_shape, "", &err) < 0) {
		resp_error(r, &err);
		return;
	}
	if (!str_empty(driver) && !streq(driver, "local")) {
		resp_errorf(r, ERR_NOT_FOUND,
			    "create %s: error looking up volume plugin %s: plugin \"%s\" not found",
			    name ?: "", driver, driver);
		return;
	}
	if (volume_create(e, name, str_empty(name), json_get(r->body, "Labels"),
			  json_get(r->body, "DriverOpts"), &made, &err) < 0) {
		resp_error(r, &err);
		return;
	}
	resp_json(r, 201, volume_inspect(e, made));
}

static void remove_volume(struct request *r, struct engine *e)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (volume_remove(e, req_param(r, 0), http_query_bool(&r->query, "force", false), &err) < 0)
		resp_error(r, &err);
	else
		resp_status(r, 204);
}

const struct route routes_volumes[] = {
	{"GET", "/volumes", list, .watch = true},
	{"POST", "/volumes/create", create, BODY_JSON},
	{"GET", "/volumes/{name}", inspect, .watch = true},
	{"DELETE", "/volumes/{name}", remove_volume},
	{NULL},
};
