/* GET /distribution/NAME/json and NAME/tags, POST /auth: questions that move no blob. */
#include "registry/registry.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/strv.h"

#include <errno.h>
#include <string.h>

static void add_platform(struct json *list, const struct json *from)
{
	static const char *const keys[] = { "architecture", "os", "os.version", "os.features", "variant" };
	struct json *p = json_add(list, json_object());

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (json_get(from, keys[i]))
			json_set(p, keys[i], json_copy(json_get(from, keys[i])));
}

/* Of a single image the config says what it runs on. */
static int config_platform(struct endpoint *p, struct web *w, const struct descriptor *d, struct json *list,
			   struct err *e)
{
	_cleanup_free_ char *url = xasprintf("/v2/%s/blobs/%s", p->path, d->digest);
	_cleanup_web_answer_ struct web_answer a = { 0 };
	_cleanup_json_ struct json *config = NULL;
	struct web_request q = { .method = "GET", .url = url, .max = CONFIG_BLOB_MAX };
	int r = endpoint_call(p, w, &q, true, &a, e);

	if (r == 0)
		r = json_parse_foreign(sbuf_str(&a.body), a.body.len, &config, e);
	if (r == 0)
		add_platform(list, config);
	return r;
}

static int lookup(struct endpoint *p, struct web *w, const struct json *request, struct err *e)
{
	struct fetched f = { 0 };
	struct json *o, *platforms;
	const struct json *list;
	int r = endpoint_probe(p, w, e);

	if (r == 0)
		r = fetch_manifest(p, w, json_get_str(request, "ref") ?: "latest", &f, e);
	if (r < 0)
		return r;
	o = json_object();
	json_set_str(o, "op", "result");
	json_set(o, "descriptor", descriptor_json(f.media_type, f.digest, (int64_t)f.bytes.len));
	platforms = json_set(o, "platforms", json_array());
	list = json_get(f.manifest.doc, "manifests");
	for (size_t i = 0; i < json_len(list); i++)
		if (json_get(json_at(list, i), "platform"))
			add_platform(platforms, json_get(json_at(list, i), "platform"));
	if (!f.manifest.index)
		r = config_platform(p, w, &f.manifest.config, platforms, e);
	fetched_done(&f);
	if (r == 0)
		link_send(o);
	else
		json_free(o);
	return r;
}

/* --- tags --- */

#define TAGS_PAGE_MAX (8u << 20)	/* bytes of one page */
#define TAGS_PAGES_MAX 200
#define TAGS_MAX 20000
#define TAG_LENGTH_MAX 128

/* A tag as the registry spells it is shown on terminals: what is none is refused. */
static bool is_tag(const char *s)
{
	size_t n = s ? strlen(s) : 0;

	return n > 0 && n <= TAG_LENGTH_MAX &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == n;
}

static int take_tags(const struct sbuf *page, char ***tags, struct err *e)
{
	_cleanup_json_ struct json *doc = NULL;
	const struct json *list;
	int r = json_parse_foreign(page->buf, page->len, &doc, e);

	if (r < 0)
		return err_wrap(e, r, "the registry's list of tags");
	list = json_get(doc, "tags");
	for (size_t i = 0; i < json_len(list); i++) {
		const char *tag = json_str(json_at(list, i));

		if (!is_tag(tag) || strv_len(*tags) >= TAGS_MAX)
			return err_msg(e, ERR_SYSTEM, -EBADMSG,
				       "the registry's list of tags is invalid or too long");
		strv_add(tags, tag);
	}
	return 0;
}

/* The page that `Link: <URL>; rel="next"` names, as it is seen from url. Heap; NULL: this was the last. */
static char *next_page(const char *base, const char *url, const struct web_answer *a)
{
	_cleanup_free_ char *from = *url == '/' ? xasprintf("%s%s", base, url) : xstrdup(url), *to = NULL;
	const char *link = web_header(a, "Link");
	char *next = NULL;

	if (!link || *link != '<' || !strstr(link, "rel=\"next\""))
		return NULL;
	to = xstrndup(link + 1, strcspn(link + 1, ">"));
	return web_resolve(from, to, &next) < 0 ? NULL : next;
}

/* Tags travel in pieces: a message of the link has a bounded size. */
static void send_tags(char *const *tags)
{
	struct json *o = json_object(), *list = json_set(o, "tags", json_array());
	size_t size = 0;

	json_set_str(o, "op", "tags");
	for (; tags && *tags; tags++) {
		if (size > LINK_MESSAGE_MAX / 2) {
			link_send(o);
			o = json_object();
			json_set_str(o, "op", "tags");
			list = json_set(o, "tags", json_array());
			size = 0;
		}
		json_add_str(list, *tags);
		size += strlen(*tags) + 8;
	}
	link_send(o);
	o = json_object();
	json_set_str(o, "op", "result");
	link_send(o);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int tags(struct endpoint *p, struct web *w, const struct json *request, struct err *e)
{
	_cleanup_free_ char *url = xasprintf("/v2/%s/tags/list", p->path);
	_cleanup_strv_ char **all = NULL;
	int r = endpoint_probe(p, w, e);

	for (unsigned page = 0; r == 0 && url; page++) {
		_cleanup_web_answer_ struct web_answer a = { 0 };
		struct web_request q = { .method = "GET", .url = url, .max = TAGS_PAGE_MAX };
		char *next;

		r = endpoint_call(p, w, &q, true, &a, e);
		if (r == 0)
			r = take_tags(&a.body, &all, e);
		next = r == 0 ? next_page(p->base, url, &a) : NULL;
		if (next && (page + 1 >= TAGS_PAGES_MAX || streq(next, url)))
			r = err_msg(e, ERR_SYSTEM, -ELOOP, "the registry's list of tags has no end");
		free(url);
		url = next;
	}
	if (r == 0) {
		if (all)
			qsort(all, strv_len(all), sizeof *all, by_name);
		send_tags(all);
	}
	return r;
}

/* --- login --- */

static int login(struct endpoint *p, struct web *w, const struct json *request, struct err *e)
{
	_cleanup_web_answer_ struct web_answer a = { 0 };
	struct web_request q = { .method = "GET", .url = "/v2/" };
	struct json *o;
	int r = endpoint_probe(p, w, e);

	if (r == 0)
		r = endpoint_call(p, w, &q, true, &a, e);
	if (r < 0)
		return a.status == 401 ? err_msg(e, ERR_UNAUTHORIZED, -EACCES,
						 "login attempt to %s/v2/ failed with status: "
						 "401 Unauthorized",
						 p->base)
				       : r;
	o = json_object();
	json_set_str(o, "op", "result");
	link_send(o);
	return 0;
}

static int with_registry(const struct json *request,
			 int (*fn)(struct endpoint *, struct web *, const struct json *, struct err *),
			 struct err *e)
{
	struct endpoint *v;
	struct web *w;
	size_t n;
	int r = endpoints_read(request, &v, &n, e);

	if (r < 0)
		return r;
	r = registry_sandbox(e);
	w = web_new();
	if (r == 0)
		r = fn(&v[n - 1], w, request, e);
	web_free(w);
	endpoints_free(v, n);
	return r;
}

int registry_lookup(const struct json *request, struct err *e)
{
	return with_registry(request, lookup, e);
}

int registry_tags(const struct json *request, struct err *e)
{
	return with_registry(request, tags, e);
}

int registry_login(const struct json *request, struct err *e)
{
	return with_registry(request, login, e);
}
