/* POST /images/create?fromImage=: the progress of a pull as a stream of JSON lines. */
#include "api/registry_auth.h"
#include "base/alloc.h"
#include "base/strv.h"
#include "engine/image.h"
#include "oci/manifest.h"
#include "oci/ref.h"

#include <errno.h>
#include <string.h>

#define PENDING_MAX (1u << 20)	/* of a client that does not read; what it misses are bars */

struct pulling {
	struct request *r;
	struct image_pull_watch *watch;
	char *name, *before;		/* the reference; the id it had */
	struct ref ref;
	bool begun;
};

static void pulling_free(struct pulling *p)
{
	free(p->name);
	free(p->before);
	ref_done(&p->ref);
	free(p);
}

/* Docker answers an error with a status only before the first layer is spoken of: the line "Pulling from"
 * waits. */
static void on_line(void *ud, const struct json *line)
{
	struct pulling *p = ud;

	if (p->begun && json_get(line, "progress") && resp_stream_pending(p->r) > PENDING_MAX)
		return;
	if (!p->begun && !json_get(line, "progressDetail"))
		return;
	if (!p->begun) {
		_cleanup_json_ struct json *first = json_object();
		_cleanup_free_ char *text = xasprintf("Pulling from %s", p->ref.path);

		json_set_str(first, "status", text);
		json_set_str(first, "id", p->ref.digest ? p->ref.digest : p->ref.tag);
		stream_line(p->r, &p->begun, first);
	}
	stream_line(p->r, &p->begun, line);
}

static void say_end(struct pulling *p, const struct image *i)
{
	_cleanup_free_ char *short_name = ref_familiar_name(&p->ref), *with_digest = NULL, *digest = NULL,
			    *status = NULL, *familiar = ref_familiar(&p->ref);
	bool same = p->before && i && streq(p->before, i->id);
	size_t n = strlen(short_name);

	for (char **d = i ? i->digests : NULL; d && *d; d++)
		if (str_starts(*d, short_name) && (*d)[n] == '@') {
			free(digest);
			digest = xasprintf("Digest: %s", *d + n + 1);
		}
	with_digest = p->ref.digest ? xasprintf("%s@%s", short_name, p->ref.digest) : xstrdup(familiar);
	status = xasprintf("Status: %s for %s", same ? "Image is up to date" : "Downloaded newer image",
			   with_digest);
	if (digest)
		stream_status(p->r, &p->begun, digest);
	stream_status(p->r, &p->begun, status);
}

static void on_done(void *ud, int res, const struct err *e, const struct image *i)
{
	struct pulling *p = ud;

	p->r->gone = NULL;
	if (res < 0) {
		stream_fail(p->r, p->begun, e);
	} else {
		say_end(p, i);
		resp_stream_end(p->r);
	}
	pulling_free(p);
}

static const struct image_pull_ops ops = { on_line, on_done };

static void on_gone(struct request *r)
{
	struct pulling *p = r->userdata;

	image_pull_cancel(p->watch);
	pulling_free(p);
}

/* The name with tag or digest: either in `tag`, as the CLI sends it, or at the end of the name. */
static char *full_name(const char *image, const char *tag)
{
	if (str_empty(tag))
		return xstrdup(image);
	return xasprintf("%s%c%s", image, digest_valid(tag) ? '@' : ':', tag);
}

void pull_image(struct request *r, struct engine *e)
{
	const char *platform = http_query_get(&r->query, "platform");
	_cleanup_json_ struct json *auth = registry_auth(r);
	_cleanup_platform_ struct platform parsed = { 0 };
	_cleanup_err_ struct err err = ERR_INIT;
	struct pulling *p = new0(struct pulling);
	struct image *old;

	p->r = r;
	p->name = full_name(http_query_get(&r->query, "fromImage"), http_query_get(&r->query, "tag"));
	if (ref_parse(p->name, &p->ref, &err) < 0 || platform_parse(platform, &parsed, &err) < 0) {
		pulling_free(p);
		resp_error(r, &err);
		return;
	}
	if (image_find(e, p->name, &old, NULL) == 0)
		p->before = xstrdup(old->id);
	r->userdata = p;
	if (image_pull(e, p->name, platform ? platform : "", auth, &ops, p, &p->watch, &err) < 0) {
		pulling_free(p);
		resp_error(r, &err);
		return;
	}
	r->gone = on_gone;
}
