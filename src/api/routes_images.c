#include "api/routes_images.h"
#include "api/registry_auth.h"
#include "base/alloc.h"
#include "base/id.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "engine/container.h"
#include "engine/events.h"
#include "engine/filters.h"
#include "engine/image.h"
#include "oci/image_spec.h"
#include "oci/ref.h"

#include <fnmatch.h>
#include <string.h>

/* --- list --- */

bool image_dangling(const struct image *i)
{
	return !i->tags && !i->digests;
}

/* before=/since=: an image named by reference bounds the time of creation. */
static int time_bound(struct engine *e, const struct filters *f, const char *key, uint64_t def, uint64_t *ret,
		      struct err *err)
{
	_cleanup_strv_ char **v = filters_values(f, key);
	struct image *i;
	int r;

	*ret = def;
	if (!v)
		return 0;
	r = image_find(e, v[0], &i, err);
	if (r == 0)
		*ret = i->created_ns;
	return r;
}

/* reference=: a name with or without tag, with * and ? as path.Match has them. */
static bool reference_matches(const char *pattern, const char *tag)
{
	const char *colon = strrchr(tag, ':');
	_cleanup_free_ char *name =
	    colon && !strchr(colon, '/') ? xstrndup(tag, (size_t)(colon - tag)) : xstrdup(tag);

	return fnmatch(pattern, tag, FNM_PATHNAME) == 0 || fnmatch(pattern, name, FNM_PATHNAME) == 0;
}

int image_common_filters(const struct filters *f, const struct image *i, bool *ret, struct err *err)
{
	const struct json *labels;
	_cleanup_strv_ char **until = NULL;
	uint64_t ns = UINT64_MAX;

	*ret = true;
	if (!f->keys)
		return 0;
	labels = json_get(json_get(i->config, "config"), "Labels");
	until = filters_values(f, "until");
	if (until && (strv_len(until) > 1 || time_parse_since(until[0], now_real_ns(), &ns) < 0))
		return err_msg(err, ERR_INVALID, 0, "invalid filter 'until=%s'", until[0]);
	*ret = i->created_ns < ns && filters_match_labels(f, "label", labels) &&
	       !(filters_has(f, "label!") && filters_match_labels(f, "label!", labels));
	return 0;
}

/* The tags that the filter `reference` leaves, heap; all of them if there is none. */
static char **wanted_tags(const struct image *i, const struct filters *f)
{
	_cleanup_strv_ char **v = filters_values(f, "reference");
	char **out = NULL;

	for (char **t = i->tags; t && *t; t++) {
		bool wanted = !v;

		for (char **p = v; p && *p; p++)
			wanted |= reference_matches(*p, *t);
		if (wanted)
			strv_add(&out, *t);
	}
	return out;
}

static void list_image(struct json_writer *w, const struct image *i, const struct filters *f)
{
	_cleanup_strv_ char **tags = wanted_tags(i, f);

	if (tags || !filters_has(f, "reference"))
		image_summary(w, i, tags);
}

static void list_images(struct request *r, struct engine *e)
{
	static const char *const allowed[] = {"before",    "dangling", "label", "label!",
					      "reference", "since",    "until", NULL};
	_cleanup_filters_ struct filters f = { 0 };
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT_MAX(LIST_MAX);
	struct json_writer w = {.text = &out, .spill = resp_json_spill, .userdata = r};
	uint64_t before, since;
	bool want = false;
	size_t n;

	if (filters_parse(http_query_get(&r->query, "filters"), allowed, &f, &err) < 0 ||
	    filters_bool(&f, "dangling", false, &want, &err) < 0 ||
	    time_bound(e, &f, "before", UINT64_MAX, &before, &err) < 0 ||
	    time_bound(e, &f, "since", 0, &since, &err) < 0) {
		resp_error(r, &err);
		return;
	}
	jw_array(&w, NULL);
	struct image *const *all = images_all(e, &n);

	/* Newest first, as Docker lists them. */
	for (size_t k = n; k-- > 0;) {
		const struct image *i = all[k];
		bool match;

		if (image_common_filters(&f, i, &match, &err) < 0) {
			resp_error(r, &err);
			return;
		}
		if (!match || (filters_has(&f, "dangling") && image_dangling(i) != want) ||
		    (filters_has(&f, "before") && i->created_ns >= before) ||
		    (filters_has(&f, "since") && i->created_ns <= since))
			continue;
		list_image(&w, i, &f);
		jw_row_done(&w);
	}
	jw_end(&w);
	resp_json_text(r, 200, &out);
}

/* --- inspect, history --- */

static struct image *find(struct request *r, struct engine *e)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct image *i;

	if (image_find(e, req_param(r, 0), &i, &err) == 0)
		return i;
	resp_error(r, &err);
	return NULL;
}

static void copy(struct json *to, const char *name, const struct json *from, const char *key)
{
	struct json *v = json_get(from, key);

	json_set(to, name, v ? json_copy(v) : json_new_str(""));
}

static struct json *graph_driver(struct engine *e, const struct image *i)
{
	_cleanup_strv_ char **dirs = image_layer_dirs(e, i);
	_cleanup_free_ char *lower = strv_len(dirs) > 1 ? strv_join(dirs + 1, ":") : NULL;
	struct json *g = json_object(), *data = json_set(g, "Data", json_object());

	if (lower)
		json_set_str(data, "LowerDir", lower);
	if (dirs)
		json_set_str(data, "UpperDir", dirs[0]);
	json_set_str(g, "Name", "overlay2");
	return g;
}

/* Up to version 1.49 of the API every member is there, those of containers too. */
static struct json *config_document(const struct json *config)
{
	struct json *j = config ? json_copy(config) : json_object();

	container_config_fill(j, true);
	return j;
}

/* Of the container that the image was made of, if known. Newer Docker leaves it out, but docker-compose 1.29
 * looks at its volumes. */
static void container_config(struct json *o, const struct image *i)
{
	const struct json *config = json_get(i->config, "container_config") ?: json_get(i->config, "config");

	json_set_str(o, "Container", "");
	json_set(o, "ContainerConfig", config_document(config));
}

static void inspect_image(struct request *r, struct engine *e)
{
	const struct image *i = find(r, e);
	_cleanup_strv_ char **diff_ids = NULL;
	struct json *o, *config, *fs;

	if (!i)
		return;
	_cleanup_free_ char *created = time_rfc3339(i->created_ns);

	o = json_object();
	json_set_str(o, "Id", i->id);
	json_set_strv(o, "RepoTags", i->tags);
	json_set_strv(o, "RepoDigests", i->digests);
	json_set_str(o, "Parent", "");
	copy(o, "Comment", i->config, "comment");
	json_set_str(o, "Created", created);
	copy(o, "DockerVersion", i->config, "docker_version");
	copy(o, "Author", i->config, "author");
	config = json_get(i->config, "config");
	json_set(o, "Config", config_document(config));
	container_config(o, i);
	copy(o, "Architecture", i->config, "architecture");
	copy(o, "Os", i->config, "os");
	json_set_int(o, "Size", (int64_t)i->size);
	json_set_int(o, "VirtualSize", (int64_t)i->size);
	json_set(o, "GraphDriver", graph_driver(e, i));
	fs = json_set(o, "RootFS", json_object());
	json_set_str(fs, "Type", "layers");
	(void)image_config_diff_ids(i->config, &diff_ids, NULL);
	json_set_strv(fs, "Layers", diff_ids);
	json_set_str(json_set(o, "Metadata", json_object()), "LastTagTime", "0001-01-01T00:00:00Z");
	resp_json(r, 200, o);
}

/* layer: of those that changed files, bottom first. */
static struct json *history_entry(struct engine *e, const struct image *i, const struct json *h, size_t layer,
				  bool newest)
{
	bool empty = json_get_bool(h, "empty_layer", false) || layer >= strv_len(i->chain_ids);
	struct json *o = json_object();
	const char *created = json_get_str(h, "created");
	uint64_t ns = 0;

	if (created)
		(void)time_parse_rfc3339(created, &ns);
	json_set_str(o, "Id", newest ? i->id : "<missing>");
	json_set_int(o, "Created", (int64_t)(ns / 1000000000));
	copy(o, "CreatedBy", h, "created_by");
	if (newest)
		json_set_strv(o, "Tags", i->tags);
	else
		json_set_null(o, "Tags");
	json_set_int(o, "Size", empty ? 0 : (int64_t)image_layer_size(e, i->chain_ids[layer]));
	copy(o, "Comment", h, "comment");
	return o;
}

static void image_history(struct request *r, struct engine *e)
{
	const struct image *i = find(r, e);
	const struct json *h;
	struct json *out;
	size_t layer = 0;

	if (!i)
		return;
	out = json_array();
	h = json_get(i->config, "history");
	for (size_t k = 0; k < json_len(h); k++)
		layer += !json_get_bool(json_at(h, k), "empty_layer", false);
	for (size_t k = json_len(h); k-- > 0;) {
		layer -= !json_get_bool(json_at(h, k), "empty_layer", false);
		json_add(out, history_entry(e, i, json_at(h, k), layer, k + 1 == json_len(h)));
	}
	resp_json(r, 200, out);
}

/* --- tag, remove --- */

static void tag_image(struct request *r, struct engine *e)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct image *i = find(r, e);
	const char *repo = http_query_get(&r->query, "repo");

	if (!i)
		return;
	if (str_empty(repo))
		resp_errorf(r, ERR_INVALID, "repository name must have at least one component");
	else if (image_tag(e, i, repo, http_query_get(&r->query, "tag"), &err) < 0)
		resp_error(r, &err);
	else
		resp_status(r, 201);
}

static void remove_image(struct request *r, struct engine *e)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct json *list;

	if (image_remove(e, req_param(r, 0), http_query_bool(&r->query, "force", false), &list, &err) < 0)
		resp_error(r, &err);
	else
		resp_json(r, 200, list);
}

/* --- load, import --- */

/* A body on its way to the puller. */
struct upload {
	struct request *r;
	struct image_load *load;
	struct sbuf held;		/* what the puller has not taken yet; the client waits meanwhile */
	bool import, ended;
};

static void upload_free(struct upload *u)
{
	sbuf_done(&u->held);
	free(u);
}

static void say(struct request *r, const char *key, const char *text)
{
	_cleanup_json_ struct json *o = json_object();
	_cleanup_free_ char *line = NULL, *full = NULL;

	json_set_str(o, key, text);
	line = json_dump(o);
	full = xasprintf("%s\r\n", line);
	resp_stream_write(r, full, strlen(full));
}

static void upload_done(void *ud, int res, const struct err *e, char *const *ids, char *const *said)
{
	struct upload *u = ud;
	struct request *r = u->r;

	r->gone = NULL;
	if (res < 0) {
		resp_error(r, e);
	} else {
		resp_stream_begin(r, 200, "application/json");
		if (u->import)
			say(r, "status", ids[0]);
		for (char *const *s = u->import ? NULL : said; s && *s; s++) {
			_cleanup_free_ char *line = xasprintf("%s\n", *s);

			say(r, "stream", line);
		}
		resp_stream_end(r);
	}
	upload_free(u);
}

static void upload_room(void *ud)
{
	struct upload *u = ud;

	sbuf_consume(&u->held, image_load_write(u->load, u->held.buf, u->held.len));
	if (u->held.len)
		return;
	if (u->ended)
		image_load_eof(u->load);
	else
		req_body_resume(u->r);
}

static const struct image_load_ops upload_ops = { upload_room, NULL, upload_done };

static bool upload_bytes(struct request *r, const void *p, ssize_t n)
{
	struct upload *u = r->userdata;
	size_t taken;

	if (n <= 0) {
		u->ended = true;
		if (!u->held.len)
			image_load_eof(u->load);
		return true;
	}
	taken = image_load_write(u->load, p, (size_t)n);
	sbuf_add(&u->held, (const char *)p + taken, (size_t)n - taken);
	return !u->held.len;
}

static void upload_gone(struct request *r)
{
	struct upload *u = r->userdata;

	image_load_cancel(u->load);
	upload_free(u);
}

static void upload_begin(struct request *r, struct engine *e, const struct json *config, const char *tag)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct upload *u = new0(struct upload);

	*u = (struct upload){ .r = r, .import = config != NULL };
	if (image_load_begin(e, config, tag, &upload_ops, u, &u->load, &err) < 0) {
		upload_free(u);
		resp_error(r, &err);
		return;
	}
	r->userdata = u;
	r->gone = upload_gone;
	req_body_read(r, upload_bytes);
}

static void load_images(struct request *r, struct engine *e)
{
	upload_begin(r, e, NULL, NULL);
}

static int import_config(struct request *r, struct json **ret, struct err *err)
{
	_cleanup_json_ struct json *doc = json_object();
	_cleanup_free_ char *now = time_rfc3339(now_real_ns());
	const char *message = http_query_get(&r->query, "message");
	struct json *config = json_object(), *h;
	int res = 0;

	json_set_str(doc, "architecture", image_architecture());
	json_set_str(doc, "os", "linux");
	json_set_str(doc, "created", now);
	if (!str_empty(message))
		json_set_str(doc, "comment", message);
	json_set(doc, "config", config);
	for (size_t i = 0; res == 0 && r->query.keys && r->query.keys[i]; i++)
		if (streq(r->query.keys[i], "changes") && *r->query.values[i])
			res = image_change_apply(config, r->query.values[i], err);
	h = json_add(json_set(doc, "history", json_array()), json_object());
	json_set_str(h, "created", now);
	json_set_str(h, "comment", str_empty(message) ? "Imported from -" : message);
	if (res == 0)
		*ret = TAKE_PTR(doc);
	return res;
}

static void create_image(struct request *r, struct engine *e)
{
	const char *src = http_query_get(&r->query, "fromSrc"),
		   *image = http_query_get(&r->query, "fromImage");
	const char *repo = http_query_get(&r->query, "repo"), *tag = http_query_get(&r->query, "tag");
	const char *platform = http_query_get(&r->query, "platform");
	_cleanup_json_ struct json *config = NULL;
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_free_ char *name = NULL, *here = xasprintf("linux/%s", image_architecture());
	_cleanup_ref_ struct ref ref = { 0 };

	if (!str_empty(image)) {
		pull_image(r, e);
		return;
	}
	if (!str_empty(platform) && !streq(platform, "linux") && !streq(platform, here)) {
		resp_errorf(r, ERR_INVALID, "cannot import for platform \"%s\": this engine runs %s only",
			    platform, here);
		return;
	}
	if (!streq(src, "-")) {
		resp_errorf(r, ERR_NOT_IMPLEMENTED,
			    "cannot import from a URL: send the archive itself (fromSrc=-)");
		return;
	}
	name = str_empty(repo) ? xstrdup("") : str_empty(tag) ? xstrdup(repo) : xasprintf("%s:%s", repo, tag);
	if ((*name && ref_parse(name, &ref, &err) < 0) || import_config(r, &config, &err) < 0)
		resp_error(r, &err);
	else
		upload_begin(r, e, config, name);
}

const struct route routes_images[] = {
	{ "GET", "/images/json", list_images, .watch = true },
	{ "POST", "/images/load", load_images, BODY_STREAM },
	{ "POST", "/images/create", create_image, BODY_STREAM },
	{ "GET", "/images/{name...}/json", inspect_image, .watch = true },
	{ "GET", "/images/{name...}/history", image_history, .watch = true },
	{ "POST", "/images/{name...}/tag", tag_image },
	{ "DELETE", "/images/{name...}", remove_image },
	{ NULL },
};
