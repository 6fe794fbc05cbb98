/* What asks a registry besides pull: push, login, distribution. */
#include "api/registry_auth.h"
#include "base/alloc.h"
#include "base/strv.h"
#include "engine/image.h"
#include "engine/registry.h"

#include <errno.h>
#include <string.h>

#define HUB "https://index.docker.io/v1/"

/* --- push --- */

struct pushing {
	struct request *r;
	struct engine *engine;
	struct image_push *push;
	struct json *auth;
	char **names;		/* those that are still to come */
	size_t at;
	bool begun;
};

static void pushing_free(struct pushing *p)
{
	json_free(p->auth);
	strv_free(p->names);
	free(p);
}

static void push_line(void *ud, const struct json *line)
{
	struct pushing *p = ud;

	stream_line(p->r, &p->begun, line);
}

static void push_next(struct pushing *p);

static void push_done(void *ud, int res, const struct err *e, const struct image *i)
{
	struct pushing *p = ud;

	p->push = NULL;
	if (res == 0 && p->names[++p->at]) {
		push_next(p);
		return;
	}
	p->r->gone = NULL;
	if (res < 0)
		stream_fail(p->r, p->begun, e);
	else
		resp_stream_end(p->r);
	pushing_free(p);
}

static const struct image_pull_ops push_ops = { push_line, push_done };

static void push_next(struct pushing *p)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (image_push(p->engine, p->names[p->at], p->auth, &push_ops, p, &p->push, &err) >= 0)
		return;
	p->r->gone = NULL;
	stream_fail(p->r, p->begun, &err);
	pushing_free(p);
}

static void push_gone(struct request *r)
{
	struct pushing *p = r->userdata;

	image_push_cancel(p->push);
	pushing_free(p);
}

/* The tags of a repository; without a tag all of them are pushed. */
static char **tags_of(struct engine *e, const char *name)
{
	size_t n, len = strlen(name);
	struct image *const *all = images_all(e, &n);
	char **names = NULL;

	for (size_t k = 0; k < n; k++)
		for (char **t = all[k]->tags; t && *t; t++)
			if (str_starts(*t, name) && (*t)[len] == ':' && !strchr(*t + len, '/'))
				strv_add(&names, *t);
	return names;
}

static void push_image(struct request *r, struct engine *e)
{
	const char *tag = http_query_get(&r->query, "tag");
	_cleanup_ref_ struct ref ref = { 0 };
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_free_ char *name = NULL, *text = NULL;
	struct pushing *p;

	if (ref_parse(req_param(r, 0), &ref, &err) < 0) {
		resp_error(r, &err);
		return;
	}
	name = ref_familiar_name(&ref);
	p = new0(struct pushing);
	*p = (struct pushing){ .r = r, .engine = e, .auth = registry_auth(r) };
	if (str_empty(tag))
		p->names = tags_of(e, name);
	else
		strv_addf(&p->names, "%s:%s", name, tag);
	if (!p->names) {
		pushing_free(p);
		resp_errorf(r, ERR_NOT_FOUND, "An image does not exist locally with the tag: %s", name);
		return;
	}
	r->userdata = p;
	r->gone = push_gone;
	text = xasprintf("The push refers to repository [%s/%s]", ref.domain, ref.path);
	stream_status(r, &p->begun, text);
	push_next(p);
}

/* --- one question --- */

struct question { struct request *r; struct registry_call *call; struct json *tags; };

static void question_free(struct question *q)
{
	json_free(q->tags);
	free(q);
}

static void question_gone(struct request *r)
{
	struct question *q = r->userdata;

	registry_cancel(q->call);
	question_free(q);
}

/* o: the answer, taken over; or NULL and e says why not. */
static void question_answer(struct question *q, const struct err *e, struct json *o)
{
	q->r->gone = NULL;
	if (o)
		resp_json(q->r, 200, o);
	else
		resp_error(q->r, e);
	question_free(q);
}

/* It has no blobs to ask for. */
static void no_message(void *ud, const struct json *m)
{
}

static void ask(struct request *r, struct engine *e, const struct json *request,
		const struct registry_ops *ops)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct question *q = new0(struct question);

	q->r = r;
	q->tags = json_array();
	if (registry_call(e, request, ops, q, &q->call, &err) < 0) {
		question_free(q);
		resp_error(r, &err);
		return;
	}
	r->userdata = q;
	r->gone = question_gone;
}

/* op of the repository or image that the path names. */
static void ask_about(struct request *r, struct engine *e, const char *op, const struct registry_ops *ops)
{
	_cleanup_json_ struct json *auth = registry_auth(r), *request = NULL;
	_cleanup_ref_ struct ref ref = { 0 };
	_cleanup_err_ struct err err = ERR_INIT;

	if (ref_parse(req_param(r, 0), &ref, &err) < 0) {
		resp_error(r, &err);
		return;
	}
	request = registry_request(e, op, &ref, "pull", auth);
	ask(r, e, request, ops);
}

static void lookup_done(void *ud, int res, const struct err *e, const struct json *result)
{
	struct json *o = res < 0 ? NULL : json_object();

	if (o) {
		json_set(o, "Descriptor", json_copy(json_get(result, "descriptor")));
		json_set(o, "Platforms", json_copy(json_get(result, "platforms")));
	}
	question_answer(ud, e, o);
}

static void distribution(struct request *r, struct engine *e)
{
	static const struct registry_ops ops = { no_message, lookup_done };

	ask_about(r, e, "lookup", &ops);
}

/* --- the tags of a repository --- */

static void tags_message(void *ud, const struct json *m)
{
	struct question *q = ud;
	const struct json *list = json_get(m, "tags");

	for (size_t i = 0; i < json_len(list); i++)
		json_add_str(q->tags, json_str(json_at(list, i)) ?: "");
}

static void tags_done(void *ud, int res, const struct err *e, const struct json *result)
{
	struct question *q = ud;
	struct json *o = res < 0 ? NULL : json_object();

	if (o) {
		json_set_str(o, "Name", req_param(q->r, 0));
		json_set(o, "Tags", TAKE_PTR(q->tags));
	}
	question_answer(q, e, o);
}

static void tags(struct request *r, struct engine *e)
{
	static const struct registry_ops ops = { tags_message, tags_done };

	ask_about(r, e, "tags", &ops);
}

static void login_done(void *ud, int res, const struct err *e, const struct json *result)
{
	struct json *o = res < 0 ? NULL : json_object();

	if (o) {
		json_set_str(o, "Status", "Login Succeeded");
		json_set_str(o, "IdentityToken", "");
	}
	question_answer(ud, e, o);
}

/* "https://host:5000/v1/" and "host:5000" are the same registry. */
static char *server_host(const char *address)
{
	const char *s = strstr(address, "://");

	if (str_empty(address) || streq(address, HUB))
		return xstrdup("docker.io");
	s = s ? s + 3 : address;
	return xstrndup(s, strcspn(s, "/"));
}

static void login(struct request *r, struct engine *e)
{
	static const struct registry_ops ops = { no_message, login_done };
	const char *address = json_get_str(r->body, "serveraddress");
	_cleanup_free_ char *host = server_host(address ? address : ""), *name = xasprintf("%s/x", host);
	_cleanup_json_ struct json *request = NULL;
	_cleanup_ref_ struct ref ref = { 0 };
	_cleanup_err_ struct err err = ERR_INIT;

	if (json_type(r->body) != JSON_OBJECT || ref_parse(name, &ref, NULL) < 0 ||
	    !streq(ref.domain, host)) {
		resp_errorf(r, ERR_INVALID, "invalid server address \"%s\"", address ? address : "");
		return;
	}
	request = registry_request(e, "login", &ref, "", r->body);
	json_set_str(request, "path", "");
	ask(r, e, request, &ops);
}

const struct route routes_registry[] = {
	{ "POST", "/images/{name...}/push", push_image },
	{ "GET", "/distribution/{name...}/json", distribution },
	{ "GET", "/distribution/{name...}/tags", tags },
	{ "POST", "/auth", login, BODY_JSON },
	{ NULL },
};
