/* POST /containers/prune and /volumes/prune: a worker measures what the unused ones occupy, then they go. One
 * that has come into use meanwhile stays. */
#include "api/server.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "engine/container.h"
#include "engine/events.h"
#include "engine/filters.h"
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
	const char *folder;		/* of all, below the data root */
	/* Removes one and calls removed(), or returns false if it is gone. */
	bool (*remove)(struct prune *p, const char *id);
};

struct prune {
	struct request *req;
	struct engine *engine;
	const struct prune_kind *kind;
	char *dir;			/* of all */
	char **ids;
	uint64_t *sizes;
	size_t next;
	uint64_t freed;
	struct json *deleted;
};

static void prune_end(struct prune *p)
{
	struct json *j = json_object();

	json_set(j, p->kind->list, p->deleted);
	json_set_int(j, "SpaceReclaimed", (int64_t)p->freed);
	event_prune(p->engine, p->kind->type, p->freed);
	resp_json(p->req, 200, j);
	strv_free(p->ids);
	free(p->sizes);
	free(p->dir);
	free(p);
}

static void remove_next(struct prune *p);

static void removed(void *ud, int r, const struct err *e, void *result)
{
	struct prune *p = ud;

	if (r >= 0) {
		json_add_str(p->deleted, p->ids[p->next]);
		p->freed += p->sizes[p->next];
	}
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
	removed(p, volume_remove(p->engine, name, false, NULL), NULL, NULL);
	return true;
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

/* A number for each. */
static int measure(void *arg, struct sbuf *out, struct err *e)
{
	const struct prune *p = arg;
	int fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open '%s'", p->dir);
	for (char **id = p->ids; id && *id; id++) {
		uint64_t size = 0;

		(void)fs_du(fd, *id, &size);
		sbuf_add(out, &size, sizeof size);
	}
	return 0;
}

static void measured(void *ud, int r, const struct err *e, const struct sbuf *out)
{
	struct prune *p = ud;
	size_t n = strv_len(p->ids) * sizeof(uint64_t);

	p->sizes = xcalloc(strv_len(p->ids) + 1, sizeof(uint64_t));
	if (r >= 0 && n)
		memcpy(p->sizes, out->buf, MIN(n, out->len));
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

	*p = (struct prune){.req = r, .engine = e, .kind = kind, .deleted = json_array(),
			    .dir = path_join(e->cfg.data_root, kind->folder)};
	return p;
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
	static const struct prune_kind kind = {"container", "ContainersDeleted", "containers",
						 remove_container};
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
			strv_add(&p->ids, json_get_str(c, "Id"));
	}
	prune_begin(p);
}

/* Anonymous ones, unless all are asked for. Older clients mean all. */
static void prune_volumes(struct request *r, struct engine *e)
{
	static const char *const allowed[] = {"all", "label", "label!", NULL};
	static const struct prune_kind kind = {"volume", "VolumesDeleted", "volumes", remove_volume};
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
			strv_add(&p->ids, name);
	}
	prune_begin(p);
}

const struct route routes_prune[] = {
	{"POST", "/containers/prune", prune_containers},
	{"POST", "/volumes/prune", prune_volumes},
	{NULL},
};
