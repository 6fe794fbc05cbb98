#include "api/routes_containers.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "engine/exec.h"

struct starting { struct request *req; struct engine *engine; char *id; bool detach, raw; };

static void starting_free(struct starting *s)
{
	free(s->id);
	free(s);
}

void route_exec_create(struct request *r, struct engine *e)
{
	struct container *c = request_container(r, e);
	_cleanup_err_ struct err err = ERR_INIT;
	const char *id;
	struct json *j;

	if (!c)
		return;
	if (exec_create(c, r->body, &id, &err) < 0) {
		resp_error(r, &err);
		return;
	}
	j = json_object();
	json_set_str(j, "Id", id);
	resp_json(r, 201, j);
}

static struct exec *request_exec(struct request *r, struct engine *e)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct exec *x = NULL;

	if (exec_find(e, req_param(r, 0), &x, &err) < 0)
		resp_error(r, &err);
	return x;
}

/* The client has been told by the supervisor, in its stream. */
static void told_in_stream(void *ud, int n, const struct err *e, void *result)
{
}

static void hijacked(void *ud, int fd, const void *preread, size_t n)
{
	struct starting *s = ud;

	exec_start(s->engine, s->id, fd, preread, n, told_in_stream, NULL);
	starting_free(s);
}

static void prepared(void *ud, int n, const struct err *e, void *result)
{
	struct starting *s = ud;

	if (n < 0) {
		resp_error(s->req, e);
		starting_free(s);
	} else if (s->detach) {
		exec_start(s->engine, s->id, -1, NULL, 0, answer_200, s->req);
		starting_free(s);
	} else {
		resp_hijack(s->req, !s->raw, hijacked, s);
	}
}

static void start(struct request *r, struct engine *e)
{
	struct exec *x = request_exec(r, e);
	const struct json *size;
	struct exec_start args;
	struct starting *s;

	if (!x)
		return;
	size = json_get(r->body, "ConsoleSize");
	args = (struct exec_start){
		.detach = json_get_bool(r->body, "Detach", false),
		.raw = json_get_bool(r->body, "Tty", false),
		.rows = (unsigned)json_uint(json_at(size, 0)), .cols = (unsigned)json_uint(json_at(size, 1)),
	};
	s = new0(struct starting);
	*s = (struct starting){r, e, xstrdup(exec_id(x)), args.detach, args.raw};
	exec_prepare(x, &args, prepared, s);
}

static void resize(struct request *r, struct engine *e)
{
	struct exec *x = request_exec(r, e);
	_cleanup_err_ struct err err = ERR_INIT;
	unsigned rows, cols;

	if (!x)
		return;
	if (request_size(r, &rows, &cols, &err) < 0)
		resp_error(r, &err);
	else
		exec_resize(x, rows, cols, answer_200, r);
}

static void inspect(struct request *r, struct engine *e)
{
	struct exec *x = request_exec(r, e);

	if (x)
		resp_json(r, 200, exec_inspect(x));
}

const struct route routes_exec[] = {
	{"POST", "/exec/{id}/start", start, BODY_JSON},
	{"POST", "/exec/{id}/resize", resize},
	{"GET", "/exec/{id}/json", inspect, .watch = true},
	{NULL},
};
