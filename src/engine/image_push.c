/* Pushing: insula-registry asks for the blobs of one image by their digests and gets them read-only. An image
 * that came from a registry goes with the manifest it came with, so that its digest stays. */
#include "engine/image_int.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"
#include "engine/db.h"
#include "engine/registry.h"
#include "oci/image_spec.h"
#include "oci/manifest.h"
#include "oci/ref.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct image_push {
	struct engine *engine;
	const struct image_pull_ops *ops;
	void *ud;
	struct registry_call *call;
	struct ref ref;
	char *id;			/* of the image */
	char **allowed;			/* digests that may be read */
};

static void push_free(struct image_push *p)
{
	ref_done(&p->ref);
	free(p->id);
	strv_free(p->allowed);
	free(p);
}

static void give(struct image_push *p, const struct json *m)
{
	const char *kind = json_get_str(m, "kind"), *digest = json_get_str(m, "digest");
	_cleanup_free_ char *path = NULL, *why = NULL;
	_cleanup_close_ int fd = -EBADF;

	if (streq(kind, "scratch")) {
		path = path_join(p->engine->cfg.data_root, "tmp");
		fd = open(path, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	} else if (digest && strv_has(p->allowed, digest)) {
		path = image_blob_path(p->engine, digest);
		fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	} else {
		errno = EACCES;
	}
	if (fd < 0)
		why = xasprintf("open blob %s: %s", digest ? digest : "", strerror(errno));
	registry_reply(p->call, fd, why);
}

static void on_message(void *ud, const struct json *m)
{
	struct image_push *p = ud;
	_cleanup_json_ struct json *line = NULL;

	if (streq(json_get_str(m, "op"), "blob")) {
		give(p, m);
	} else if (streq(json_get_str(m, "op"), "status")) {
		line = image_progress_line(m);
		p->ops->line(p->ud, line);
	}
}

/* The registry knows the image by this digest from now on. */
static void note_digest(struct image_push *p, struct image *i, const char *digest)
{
	_cleanup_free_ char *name = ref_familiar_name(&p->ref), *ref = xasprintf("%s@%s", name, digest);

	if (db_run(p->engine->db, NULL, "INSERT OR REPLACE INTO image_digests(ref, image_id) VALUES(?, ?)",
		   "ss", ref, i->id) == 0)
		image_add_digest(p->engine, i, ref);
}

static void tell_end(struct image_push *p, const char *digest, int64_t size)
{
	_cleanup_json_ struct json *status = json_object(), *aux = json_object();
	_cleanup_free_ char *text =
	    xasprintf("%s: digest: %s size: %lld", p->ref.tag, digest, (long long)size);
	struct json *a;

	json_set_str(status, "status", text);
	p->ops->line(p->ud, status);
	json_set(aux, "progressDetail", json_object());
	a = json_set(aux, "aux", json_object());
	json_set_str(a, "Tag", p->ref.tag);
	json_set_str(a, "Digest", digest);
	json_set_int(a, "Size", size);
	p->ops->line(p->ud, aux);
}

static void on_done(void *ud, int r, const struct err *e, const struct json *result)
{
	struct image_push *p = ud;
	struct image *i = image_by_id(p->engine, p->id);
	const char *digest = json_get_str(result, "digest");
	_cleanup_err_ struct err own = ERR_INIT;
	_cleanup_free_ char *familiar = ref_familiar(&p->ref);

	if (r == 0 && (!digest || !digest_valid(digest)))
		r = err_msg(&own, ERR_SYSTEM, -EPROTO, "insula-registry named a digest '%s'",
			    digest ? digest : "");
	if (r == 0) {
		tell_end(p, digest, json_get_int(result, "size", 0));
		if (i) {
			note_digest(p, i, digest);
			image_event(p->engine, i, "push", familiar);
		}
	}
	p->ops->done(p->ud, r, own.kind ? &own : e, i);
	push_free(p);
}

static const struct registry_ops registry_ops = { on_message, on_done };

/* A repository of the same registry that has the image's layers: they need not travel. */
static char *other_repository(const struct image *i, const struct ref *to)
{
	for (char **d = i->digests; d && *d; d++) {
		_cleanup_ref_ struct ref ref = { 0 };

		if (ref_parse(*d, &ref, NULL) == 0 && streq(ref.domain, to->domain) &&
		    !streq(ref.path, to->path))
			return TAKE_PTR(ref.path);
	}
	return NULL;
}

static int describe(struct image_push *p, const struct image *i, struct json *request, struct err *err)
{
	_cleanup_free_ char *config = image_blob_path(p->engine, i->id), *from = other_repository(i, &p->ref);
	_cleanup_image_blob_ struct image_blob manifest = { 0 };
	struct json *layers = json_set(request, "layers", json_array());
	_cleanup_strv_ char **ids = NULL;
	struct stat st;
	int r = image_config_diff_ids(i->config, &ids, err);

	if (r == 0 && stat(config, &st) < 0)
		r = err_set(err, ERR_SYSTEM, -errno, "open '%s'", config);
	if (r < 0)
		return r;
	json_set(request, "config", descriptor_json(MEDIA_DOCKER_CONFIG, i->id, st.st_size));
	strv_add(&p->allowed, i->id);
	json_set_strv(request, "diff_ids", ids);
	for (char **c = i->chain_ids; c && *c; c++) {
		_cleanup_image_blob_ struct image_blob b = { 0 };

		r = image_layer_blob(p->engine, *c, &b, err);
		if (r < 0)
			return r;
		json_add(layers, descriptor_json(b.media_type, b.digest, b.size));
		strv_add(&p->allowed, b.digest);
	}
	if (image_manifest_blob(p->engine, i, &manifest) == 0) {
		json_set(request, "manifest",
			 descriptor_json(manifest.media_type, manifest.digest, manifest.size));
		strv_add(&p->allowed, manifest.digest);
	}
	if (from)
		json_set_str(request, "from", from);
	return 0;
}

int image_push(struct engine *e, const char *name, const struct json *auth, const struct image_pull_ops *ops,
	       void *ud, struct image_push **ret, struct err *err)
{
	_cleanup_json_ struct json *request = NULL;
	_cleanup_free_ char *familiar = NULL;
	struct image_push *p = new0(struct image_push);
	struct image *i;
	int r = ref_parse(name, &p->ref, err);

	p->engine = e;
	p->ops = ops;
	p->ud = ud;
	if (r == 0 && p->ref.digest)
		r = err_msg(err, ERR_INVALID, 0, "cannot push a digest reference");
	if (r == 0) {
		familiar = ref_familiar(&p->ref);
		if (image_find(e, familiar, &i, NULL) < 0 || !strv_has(i->tags, familiar)) {
			_cleanup_free_ char *short_name = ref_familiar_name(&p->ref);

			r = err_msg(err, ERR_NOT_FOUND, 0, "An image does not exist locally with the tag: %s",
				    short_name);
		}
	}
	if (r == 0) {
		p->id = xstrdup(i->id);
		request = registry_request(e, "push", &p->ref, "pull,push", auth);
		r = describe(p, i, request, err);
	}
	if (r == 0)
		r = registry_call(e, request, &registry_ops, p, &p->call, err);
	if (r < 0) {
		push_free(p);
		return r;
	}
	*ret = p;
	return 0;
}

void image_push_cancel(struct image_push *p)
{
	registry_cancel(p->call);
	push_free(p);
}
