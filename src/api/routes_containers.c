#include "api/routes_containers.h"

#include "api/df.h"
#include "base/alloc.h"
#include "base/strv.h"
#include <errno.h>
#include <signal.h>
#include <string.h>

struct container *request_container(struct request *r, struct engine *e)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct container *c = NULL;

	if (container_find(e, req_param(r, 0), &c, &err) < 0)
		resp_error(r, &err);
	return c;
}

static void answer(struct request *r, int status, int n, const struct err *e)
{
	if (n < 0 && e->kind == ERR_NOT_MODIFIED)
		resp_status(r, 304);
	else if (n < 0)
		resp_error(r, e);
	else
		resp_status(r, status);
}

void answer_204(void *ud, int n, const struct err *e, void *result)
{
	answer(ud, 204, n, e);
}

void answer_200(void *ud, int n, const struct err *e, void *result)
{
	answer(ud, 200, n, e);
}

static int query_int(struct request *r, const char *key, int64_t def, int64_t *ret, struct err *err)
{
	const char *s = http_query_get(&r->query, key);

	*ret = def;
	if (str_empty(s) || str_to_i64(s, ret) == 0)
		return 0;
	return err_msg(err, ERR_INVALID, 0, "invalid value for '%s': \"%s\" is not an integer", key, s);
}

int request_size(struct request *r, unsigned *ret_rows, unsigned *ret_cols, struct err *err)
{
	int64_t h, w;
	int n = query_int(r, "h", 0, &h, err);

	if (n >= 0)
		n = query_int(r, "w", 0, &w, err);
	if (n < 0)
		return n;
	if (h < 0 || h > 65535 || w < 0 || w > 65535)
		return err_msg(err, ERR_INVALID, 0, "invalid terminal size %lldx%lld", (long long)h,
			       (long long)w);
	*ret_rows = (unsigned)h;
	*ret_cols = (unsigned)w;
	return 0;
}

static void show(struct request *r, struct json *j)
{
	if (http_query_bool(&r->query, "size", false))
		answer_with_sizes(r, j);
	else
		resp_json(r, 200, j);
}

/* With sizes as a tree: a worker has to fill them in. */
static void list(struct request *r, struct engine *e)
{
	_cleanup_filters_ struct filters f = {0};
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_sbuf_ struct sbuf text = SBUF_INIT_MAX(LIST_MAX);
	bool sizes = http_query_bool(&r->query, "size", false);
	struct list_args a = {.all = http_query_bool(&r->query, "all", false), .filters = &f};
	struct json_writer w = {.text = sizes ? NULL : &text, .spill = resp_json_spill, .userdata = r};
	int n = query_int(r, "limit", 0, &a.limit, &err);

	if (n >= 0)
		n = filters_parse(http_query_get(&r->query, "filters"), container_filters, &f, &err);
	if (n >= 0)
		n = containers_list(e, &a, &w, &err);
	if (n < 0)
		resp_error(r, &err);
	else if (sizes)
		answer_with_sizes(r, w.root);
	else
		resp_json_text(r, 200, &text);
}

static void inspect(struct request *r, struct engine *e)
{
	struct container *c = request_container(r, e);

	if (c)
		show(r, container_inspect(c));
}

static void start(struct request *r, struct engine *e)
{
	struct container *c = request_container(r, e);

	if (c)
		container_start(c, answer_204, r);
}

/* t and signal of stop and restart. */
static int stop_args(struct request *r, int *ret_signo, int64_t *ret_timeout, struct err *err)
{
	const char *s = http_query_get(&r->query, "signal");
	int n = query_int(r, "t", INT64_MIN, ret_timeout, err);

	*ret_signo = 0;
	if (n >= 0 && !str_empty(s))
		n = signal_parse(s, ret_signo, err);
	return n;
}

static void stop_or_restart(struct request *r, struct engine *e, bool again)
{
	struct container *c = request_container(r, e);
	_cleanup_err_ struct err err = ERR_INIT;
	int64_t timeout;
	int signo;

	if (!c)
		return;
	if (stop_args(r, &signo, &timeout, &err) < 0)
		resp_error(r, &err);
	else if (again)
		container_restart(c, signo, timeout, answer_204, r);
	else
		container_stop(c, signo, timeout, answer_204, r);
}

static void stop(struct request *r, struct engine *e)
{
	stop_or_restart(r, e, false);
}

static void restart(struct request *r, struct engine *e)
{
	stop_or_restart(r, e, true);
}

static void killed(void *ud, int n, const struct err *e, void *result)
{
	struct request *r = ud;

	if (n < 0)
		resp_errorf(r, e->kind, "cannot kill container: %s: %s", req_param(r, 0), err_text(e));
	else
		resp_status(r, 204);
}

static void kill_container(struct request *r, struct engine *e)
{
	const char *s = http_query_get(&r->query, "signal");
	_cleanup_err_ struct err err = ERR_INIT;
	struct container *c = NULL;
	int signo = SIGKILL;

	if (!str_empty(s) && signal_parse(s, &signo, &err) < 0)
		resp_error(r, &err);
	else if (container_find(e, req_param(r, 0), &c, &err) < 0)
		killed(r, -ENOENT, &err, NULL);
	else
		container_kill(c, signo, killed, r);
}

static void remove_container(struct request *r, struct engine *e)
{
	struct container *c = request_container(r, e);

	if (!c)
		return;
	if (http_query_bool(&r->query, "link", false))
		resp_errorf(r, ERR_INVALID, "--link is not supported by insula: containers have no links");
	else
		container_remove(c, http_query_bool(&r->query, "force", false),
				 http_query_bool(&r->query, "v", false), answer_204, r);
}

static void rename_container(struct request *r, struct engine *e)
{
	struct container *c = request_container(r, e);
	_cleanup_err_ struct err err = ERR_INIT;

	if (c)
		answer_204(r, container_rename(c, http_query_get(&r->query, "name") ?: "", &err), &err, NULL);
}

static void resize(struct request *r, struct engine *e)
{
	struct container *c = request_container(r, e);
	_cleanup_err_ struct err err = ERR_INIT;
	unsigned rows, cols;

	if (!c)
		return;
	if (request_size(r, &rows, &cols, &err) < 0)
		resp_error(r, &err);
	else
		container_resize(c, NULL, rows, cols, answer_200, r);
}

static void pause_container(struct request *r, struct engine *e)
{
	struct container *c = request_container(r, e);

	if (c)
		container_pause(c, true, answer_204, r);
}

static void unpause(struct request *r, struct engine *e)
{
	struct container *c = request_container(r, e);

	if (c)
		container_pause(c, false, answer_204, r);
}

static void update_done(void *ud, int n, const struct err *e, void *result)
{
	struct json *j;

	if (n < 0) {
		resp_error(ud, e);
		return;
	}
	j = json_object();
	json_set_null(j, "Warnings");
	resp_json(ud, 200, j);
}

static void update(struct request *r, struct engine *e)
{
	struct container *c = request_container(r, e);

	if (c)
		container_update(c, r->body, update_done, r);
}

static void top_done(void *ud, int n, const struct err *e, void *result)
{
	if (n < 0)
		resp_error(ud, e);
	else
		resp_json(ud, 200, json_ref(result));
}

static void top(struct request *r, struct engine *e)
{
	struct container *c = request_container(r, e);

	if (c)
		container_top(c, http_query_get(&r->query, "ps_args"), top_done, r);
}

const struct route routes_containers[] = {
	{"GET", "/containers/json", list, .watch = true},
	{"POST", "/containers/create", route_container_create, BODY_JSON},
	{"GET", "/containers/{id}/json", inspect, .watch = true},
	{"POST", "/containers/{id}/start", start},
	{"POST", "/containers/{id}/stop", stop},
	{"POST", "/containers/{id}/restart", restart},
	{"POST", "/containers/{id}/kill", kill_container},
	{"POST", "/containers/{id}/pause", pause_container},
	{"POST", "/containers/{id}/unpause", unpause},
	{"POST", "/containers/{id}/update", update, BODY_JSON},
	{"GET", "/containers/{id}/stats", route_container_stats, .watch = true},
	{"POST", "/containers/{id}/rename", rename_container},
	{"POST", "/containers/{id}/resize", resize},
	{"POST", "/containers/{id}/wait", route_container_wait},
	{"POST", "/containers/{id}/attach", route_container_attach},
	{"GET", "/containers/{id}/logs", route_container_logs, .watch = true},
	{"GET", "/containers/{id}/top", top, .watch = true},
	{"POST", "/containers/{id}/exec", route_exec_create, BODY_JSON},
	{"DELETE", "/containers/{id}", remove_container},
	{NULL},
};
