/* POST /containers/prune, /images/prune and /volumes/prune: a worker measures what the unused ones occupy,
 * then they go. One that has come into use meanwhile stays. What was measured and is gone in the end is what
 * was freed: what others share is still there. */
#include "api/routes_images.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "engine/container.h"
#include "engine/events.h"
#include "engine/volume.h"
#include "engine/worker.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct prune;

struct prune_kind {
	const char *type;		/* of the event */
	const char *list;		/* of the answer */
	/* Removes one, which may take a while, and calls removed(); or returns false if it is gone. */
	bool (*remove)(struct prune *p, const char *id);
	/* What goes besides. May be NULL. */
	void (*remove_rest)(struct prune *p);
};

struct prune {
	struct request *req;
	struct engine *engine;
	const struct prune_kind *kind;
	char **ids;
	struct hmap seen;		/* of paths */
	char **paths;			/* what they occupy, below the data root */
	uint64_t *sizes;
	size_t next;
	struct json *deleted;
};

static uint64_t freed(const struct prune *p)
{
	uint64_t sum = 0;

	for (size_t i = 0; p->paths && p->paths[i]; i++) {
		_cleanup_free_ char *path = path_join(p->engine->cfg.data_root, p->paths[i]);

		if (!fs_exists(path))
			sum += p->sizes[i];
	}
	return sum;
}

static void prune_end(struct prune *p)
{
	struct json *j = json_object();
	uint64_t bytes = freed(p);

	json_set(j, p->kind->list, p->deleted);
	json_set_int(j, "SpaceReclaimed", (int64_t)bytes);
	event_prune(p->engine, p->kind->type, bytes);
	resp_json(p->req, 200, j);
	strv_free(p->ids);
	strv_free(p->paths);
	hmap_done(&p->seen);
	free(p->sizes);
	free(p);
}

static void remove_next(struct prune *p);

static void removed(void *ud, int r, const struct err *e, void *result)
{
	struct prune *p = ud;

	if (r >= 0)
		json_add_str(p->deleted, p->ids[p->next]);
	p->next++;
	remove_next(p);
}

static bool remove_container(struct prune *p, const char *id)
{
	struct container *c;

	if (container_find(p->engine, id, &c, NULL) < 0)
		return false;
	container_remove(c, false, false, removed, p);
	return true;
}

static bool remove_volume(struct prune *p, const char *name)
{
	if (volume_remove(p->engine, name, false, NULL) >= 0)
		json_add_str(p->deleted, name);
	return false;
}

static bool remove_image(struct prune *p, const char *id)
{
	_cleanup_json_ struct json *list = NULL;

	if (containers_use_image(p->engine, id) || image_remove(p->engine, id, true, &list, NULL) < 0)
		return false;
	for (size_t k = 0; k < json_len(list); k++)
		json_add(p->deleted, json_ref(json_at(list, k)));
	return false;
}

static void remove_downloads(struct prune *p)
{
	image_pull_collect(p->engine, 0);
}

static void remove_next(struct prune *p)
{
	while (p->ids && p->ids[p->next]) {
		if (p->kind->remove(p, p->ids[p->next]))
			return;
		p->next++;
	}
	prune_end(p);
}

/* A number for each path. */
static int measure(void *arg, struct sbuf *out, struct err *e)
{
	const struct prune *p = arg;
	const char *root = p->engine->cfg.data_root;
	_cleanup_close_ int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open '%s'", root);
	for (char **path = p->paths; path && *path; path++) {
		uint64_t size = 0;

		(void)fs_du(fd, *path, &size);
		sbuf_add(out, &size, sizeof size);
	}
	return 0;
}

static void measured(void *ud, int r, const struct err *e, const struct sbuf *out)
{
	struct prune *p = ud;
	size_t n = strv_len(p->paths) * sizeof(uint64_t);

	p->sizes = xcalloc(strv_len(p->paths) + 1, sizeof(uint64_t));
	if (r >= 0 && n)
		memcpy(p->sizes, out->buf, MIN(n, out->len));
	if (p->kind->remove_rest)
		p->kind->remove_rest(p);
	remove_next(p);
}

static bool stopped(const struct json *c)
{
	static const char *const states[] = {"created", "exited", "dead"};

	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		if (streq(json_get_str(c, "State"), states[i]))
			return true;
	return false;
}

static struct prune *prune_new(struct request *r, struct engine *e, const struct prune_kind *kind)
{
	struct prune *p = new0(struct prune);

	*p = (struct prune){.req = r, .engine = e, .kind = kind, .deleted = json_array()};
	return p;
}

/* Images may name the same path. */
static void add_path(struct prune *p, const char *path)
{
	if (hmap_get(&p->seen, path))
		return;
	hmap_set(&p->seen, path, p);
	strv_add(&p->paths, path);
}

static void add(struct prune *p, const char *folder, const char *id)
{
	_cleanup_free_ char *path = path_join(folder, id);

	strv_add(&p->ids, id);
	add_path(p, path);
}

static void prune_begin(struct prune *p)
{
	if (worker_run(p->engine->loop, measure, p, measured, p) < 0)
		measured(p, -EAGAIN, NULL, NULL);
}

static bool labels_match(const struct filters *f, const struct json *labels)
{
	return filters_match_labels(f, "label", labels) &&
	       !(filters_has(f, "label!") && filters_match_labels(f, "label!", labels));
}

static void prune_containers(struct request *r, struct engine *e)
{
	static const char *const allowed[] = {"label", "label!", "until", NULL};
	static const struct prune_kind kind = {"container", "ContainersDeleted", remove_container};
	_cleanup_filters_ struct filters f = {0};
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_strv_ char **until = NULL;
	_cleanup_json_ struct json *all = NULL;
	uint64_t before = UINT64_MAX;
	struct prune *p;

	if (filters_parse(http_query_get(&r->query, "filters"), allowed, &f, &err) < 0) {
		resp_error(r, &err);
		return;
	}
	until = filters_values(&f, "until");
	if (until && (until[1] || time_parse_since(until[0], now_real_ns(), &before) < 0)) {
		resp_errorf(r, ERR_INVALID, "invalid filter 'until=%s'", until[0]);
		return;
	}
	p = prune_new(r, e, &kind);
	all = containers_summaries(e);
	for (size_t i = 0; i < json_len(all); i++) {
		const struct json *c = json_at(all, i);

		if (stopped(c) && (uint64_t)json_get_int(c, "Created", 0) * 1000000000 < before &&
		    labels_match(&f, json_get(c, "Labels")))
			add(p, "containers", json_get_str(c, "Id"));
	}
	prune_begin(p);
}

/* Anonymous ones, unless all are asked for. Older clients mean all. */
static void prune_volumes(struct request *r, struct engine *e)
{
	static const char *const allowed[] = {"all", "label", "label!", NULL};
	static const struct prune_kind kind = {"volume", "VolumesDeleted", remove_volume};
	_cleanup_filters_ struct filters f = {0};
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_json_ struct json *all = NULL;
	bool every = r->api_minor < 42;
	struct prune *p;

	if (filters_parse(http_query_get(&r->query, "filters"), allowed, &f, &err) < 0 ||
	    filters_bool(&f, "all", every, &every, &err) < 0) {
		resp_error(r, &err);
		return;
	}
	p = prune_new(r, e, &kind);
	all = volumes_summaries(e);
	for (size_t i = 0; i < json_len(all); i++) {
		const struct json *v = json_at(all, i);
		const char *name = json_get_str(v, "Name");
		_cleanup_strv_ char **users = containers_using_volume(e, name);

		if (!users && (every || volume_is_anonymous(e, name)) &&
		    labels_match(&f, json_get(v, "Labels")))
			add(p, "volumes", name);
	}
	prune_begin(p);
}

/* Those without a name, unless all are asked for; and downloads that broke off. */
static void prune_images(struct request *r, struct engine *e)
{
	static const char *const allowed[] = {"dangling", "label", "label!", "until", NULL};
	static const struct prune_kind kind = {"image", "ImagesDeleted", remove_image, remove_downloads};
	_cleanup_filters_ struct filters f = {0};
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_strv_ char **ids = NULL, **paths = image_pull_leftovers(e, 0);
	bool only_dangling = true, match;
	struct prune *p;
	size_t n;

	if (filters_parse(http_query_get(&r->query, "filters"), allowed, &f, &err) < 0 ||
	    filters_bool(&f, "dangling", true, &only_dangling, &err) < 0) {
		resp_error(r, &err);
		return;
	}
	struct image *const *all = images_all(e, &n);

	for (size_t k = 0; k < n; k++) {
		if (image_common_filters(&f, all[k], &match, &err) < 0) {
			resp_error(r, &err);
			return;
		}
		if (!match || (only_dangling && !image_dangling(all[k])) ||
		    containers_use_image(e, all[k]->id))
			continue;
		_cleanup_strv_ char **files = image_files(e, all[k]);

		strv_add(&ids, all[k]->id);
		strv_extend(&paths, files);
	}
	p = prune_new(r, e, &kind);
	for (char **path = paths; path && *path; path++)
		add_path(p, *path);
	p->ids = TAKE_PTR(ids);
	prune_begin(p);
}

const struct route routes_prune[] = {
	{"POST", "/containers/prune", prune_containers},
	{"POST", "/images/prune", prune_images},
	{"POST", "/volumes/prune", prune_volumes},
	{NULL},
};
