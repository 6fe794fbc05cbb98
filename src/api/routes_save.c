/* GET /images/get: images as one archive. */
#include "api/server.h"
#include "base/alloc.h"
#include "base/strv.h"
#include "engine/image.h"

#include <string.h>

#define PENDING_HIGH (256u << 10)	/* then wait until the client has read */

static bool save_data(void *ud, const void *p, size_t n)
{
	struct request *r = ud;

	resp_stream_write(r, p, n);
	return resp_stream_pending(r) <= PENDING_HIGH;
}

static void save_done(void *ud, bool complete)
{
	struct request *r = ud;

	r->gone = NULL;
	/* What is missing must not look like an archive that is complete. */
	if (complete)
		resp_stream_end(r);
	else
		resp_stream_abort(r);
}

static void save_drained(struct request *r)
{
	image_save_resume(r->userdata);
}

static void save_gone(struct request *r)
{
	image_save_cancel(r->userdata);
}

static const struct image_save_ops ops = { save_data, save_done };

static void save(struct request *r, struct engine *e, char *const *names)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct image_save *s;

	if (image_save(e, names, &ops, r, &s, &err) < 0) {
		resp_error(r, &err);
		return;
	}
	r->userdata = s;
	r->gone = save_gone;
	resp_stream_on_drain(r, save_drained);
	resp_stream_begin(r, 200, "application/x-tar");
}

static void save_one(struct request *r, struct engine *e)
{
	char *const names[] = { (char *)req_param(r, 0), NULL };

	save(r, e, names);
}

/* names=a&names=b; also names=a,b as docker-py 5 sends it. */
static void save_several(struct request *r, struct engine *e)
{
	_cleanup_strv_ char **names = NULL;

	for (size_t i = 0; r->query.keys && r->query.keys[i]; i++)
		if (streq(r->query.keys[i], "names")) {
			_cleanup_strv_ char **parts = strv_split(r->query.values[i], ",");

			strv_extend(&names, parts);
		}
	if (names)
		save(r, e, names);
	else
		resp_errorf(r, ERR_INVALID, "no images named to save");
}

const struct route routes_save[] = {
	{ "GET", "/images/get", save_several },
	{ "GET", "/images/{name...}/get", save_one },
	{ NULL },
};
