/* POST /containers/prune: a worker measures what the stopped containers occupy, then they go. One that has
 * been started meanwhile stays. */
#include "api/server.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "engine/container.h"
#include "engine/filters.h"
#include "engine/worker.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct prune {
	struct request *req;
	struct engine *engine;
	char *dir;			/* of all containers */
	char **ids;
	uint64_t *sizes;
	size_t next;
	uint64_t freed;
	struct json *deleted;
};

static void prune_end(struct prune *p)
{
	struct json *j = json_object();

	json_set(j, "ContainersDeleted", p->deleted);
	json_set_int(j, "SpaceReclaimed", (int64_t)p->freed);
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

static void remove_next(struct prune *p)
{
	struct container *c;

	while (p->ids && p->ids[p->next]) {
		if (container_find(p->engine, p->ids[p->next], &c, NULL) >= 0) {
			container_remove(c, false, false, removed, p);
			return;
		}
		p->next++;
	}
	prune_end(p);
}

/* A number for each container. */
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

static void prune_containers(struct request *r, struct engine *e)
{
	static const char *const allowed[] = {"label", "label!", "until", NULL};
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
	p = new0(struct prune);
	*p = (struct prune){.req = r, .engine = e, .dir = path_join(e->cfg.data_root, "containers"),
			    .deleted = json_array()};
	all = containers_summaries(e);
	for (size_t i = 0; i < json_len(all); i++) {
		const struct json *c = json_at(all, i), *labels = json_get(c, "Labels");

		if (stopped(c) && (uint64_t)json_get_int(c, "Created", 0) * 1000000000 < before &&
		    filters_match_labels(&f, "label", labels) &&
		    !(filters_has(&f, "label!") && filters_match_labels(&f, "label!", labels)))
			strv_add(&p->ids, json_get_str(c, "Id"));
	}
	if (worker_run(e->loop, measure, p, measured, p) < 0)
		measured(p, -EAGAIN, NULL, NULL);
}

const struct route routes_prune[] = {
	{"POST", "/containers/prune", prune_containers},
	{NULL},
};
