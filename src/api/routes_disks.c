/* POST /images/NAME/disks: makes the disks that hyperv containers of an image start from, and tells how far
 * it is as a pull does. Containers make them too, when they are started: a request without progress. */
#include "api/registry_auth.h"
#include "base/alloc.h"
#include "engine/image.h"

struct making { struct request *r; struct image_disks *disks; bool begun; };

static void on_progress(void *ud, const struct json *status)
{
	struct making *m = ud;
	_cleanup_json_ struct json *line = image_progress_line(status);

	stream_line(m->r, &m->begun, line);
}

static void on_done(void *ud, int res, const struct err *e, void *result)
{
	struct making *m = ud;

	m->r->gone = NULL;
	if (res < 0) {
		stream_fail(m->r, m->begun, e);
	} else {
		stream_status(m->r, &m->begun, "Disks complete");
		resp_stream_end(m->r);
	}
	free(m);
}

static void on_gone(struct request *r)
{
	struct making *m = r->userdata;

	image_disks_leave(m->disks);
	free(m);
}

static void make_disks(struct request *r, struct engine *e)
{
	static const struct image_disks_ops ops = { on_progress, on_done };
	_cleanup_err_ struct err err = ERR_INIT;
	struct making *m;
	struct image *i;

	if (image_find(e, req_param(r, 0), &i, &err) < 0) {
		resp_error(r, &err);
		return;
	}
	m = new0(struct making);
	m->r = r;
	r->userdata = m;
	r->gone = on_gone;
	image_disks_prepare(e, i, &ops, m, &m->disks);
}

const struct route routes_disks[] = {
	{ "POST", "/images/{name...}/disks", make_disks },
	{ NULL },
};
