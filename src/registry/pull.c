#include "registry/registry.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/strv.h"
#include "oci/chain.h"
#include "oci/image_spec.h"

#include <errno.h>
#include <string.h>

#define NESTING_MAX 4

struct layers {
	struct endpoint *endpoint;
	const struct manifest *manifest;
	struct blob_slot *slots;
};

static bool holds(int fd, const struct sbuf *b)
{
	_cleanup_free_ char *have = xmalloc(b->len + 1);

	/* One byte more: it may be longer. */
	return RETRY(pread(fd, have, b->len + 1, 0)) == (ssize_t)b->len && memcmp(have, b->buf, b->len) == 0;
}

/* A manifest that is in memory already, for insulad to keep. The same one that another endpoint gave is not
 * written again: insula-puller may be reading it. */
static int hand_over(const struct fetched *f, struct err *e)
{
	const struct descriptor d = { f->media_type, f->digest, (int64_t)f->bytes.len };
	struct blob_slot s;
	int r = link_blob("manifest", &d, NULL, &s, e);

	if (r < 0 || s.have)
		return r;
	if (!holds(s.fd, &f->bytes)) {
		r = ftruncate(s.fd, 0) < 0 ? -errno : 0;
		if (r == 0)
			r = fd_write_full(s.fd, f->bytes.buf, f->bytes.len);
	}
	if (r < 0)
		err_set(e, ERR_SYSTEM, r, "write manifest %s", f->digest);
	else
		link_done(f->digest);
	fd_close(&s.fd);
	return r;
}

/* From the reference to the manifest of one image, through indexes. digest: of the first. */
static int find_manifest(struct endpoint *p, struct web *w, const char *ref, const struct platform *platform,
			 struct fetched *ret, char **digest, struct err *e)
{
	_cleanup_free_ char *at = xstrdup(ref);

	for (unsigned depth = 0;; depth++) {
		struct fetched f = { 0 };
		const struct json *one;
		int r = fetch_manifest(p, w, at, &f, e);

		if (r == 0)
			r = hand_over(&f, e);
		if (r == 0 && !*digest)
			*digest = xstrdup(f.digest);
		if (r < 0 || !f.manifest.index) {
			*ret = f;
			return r;
		}
		one = depth < NESTING_MAX ? index_select(f.manifest.doc, platform) : NULL;
		if (one && json_get_str(one, "digest"))
			str_replace(&at, json_get_str(one, "digest"));
		fetched_done(&f);
		if (!one) {
			_cleanup_free_ char *name = platform_format(platform);

			return err_msg(e, ERR_NOT_FOUND, -ENOENT,
				       "no matching manifest for %s in the manifest list entries", name);
		}
	}
}

static int fetch_config(struct endpoint *p, struct web *w, const struct descriptor *d, struct json **ret,
			struct err *e)
{
	_cleanup_free_ char *text = NULL;
	struct blob_slot s;
	int r = link_blob("config", d, NULL, &s, e);
	ssize_t n;

	if (r < 0)
		return r;
	r = fetch_blob(p, w, d, s.fd, false, e);
	if (r == 0) {
		text = xmalloc((size_t)d->size + 1);
		n = RETRY(pread(s.fd, text, (size_t)d->size, 0));
		r = n == d->size ? json_parse_foreign(text, (size_t)n, ret, e)
				 : err_msg(e, ERR_SYSTEM, -EIO, "read the image's config");
	}
	if (r == 0)
		link_done(d->digest);
	fd_close(&s.fd);
	return r;
}

static int fetch_layer(void *ud, size_t i, struct web *w, struct err *e)
{
	struct layers *l = ud;
	const struct descriptor *d = &l->manifest->layers[i];
	int r;

	if (l->slots[i].fd < 0)
		return 0;
	r = fetch_blob(l->endpoint, w, d, l->slots[i].fd, true, e);
	if (r == 0)
		link_done(d->digest);
	return r;
}

/* The same blob may be there twice, an empty layer for instance. */
static bool is_repeat(const struct manifest *m, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (streq(m->layers[k].digest, m->layers[i].digest))
			return true;
	return false;
}

static int ask_for_layers(struct layers *l, char *const *diff_ids, struct err *e)
{
	const struct manifest *m = l->manifest;
	_cleanup_free_ char *chain = NULL;
	size_t waiting = 0;
	char id[13];

	for (size_t i = 0; i < m->n_layers; i++) {
		char *next = chain_id(chain, diff_ids[i]);
		struct json *extra;
		int r;

		free(chain);
		chain = next;
		if (is_repeat(m, i))
			continue;
		extra = json_object();
		json_set_str(extra, "chain", chain);
		r = link_blob("layer", &m->layers[i], extra, &l->slots[i], e);
		if (r < 0)
			return r;
		link_status(short_digest(m->layers[i].digest, id),
			    l->slots[i].have ? "Already exists" : "Pulling fs layer", 0, -1);
		if (!l->slots[i].have && ++waiting > PARALLEL)
			link_status(id, "Waiting", 0, -1);
	}
	return 0;
}

static int fetch_layers(struct endpoint *p, struct web *w, const struct manifest *m, struct err *e)
{
	struct layers l = { p, m, NULL };
	_cleanup_json_ struct json *config = NULL;
	_cleanup_strv_ char **diff_ids = NULL;
	int r = fetch_config(p, w, &m->config, &config, e);

	if (r == 0)
		r = image_config_diff_ids(config, &diff_ids, e);
	if (r == 0 && strv_len(diff_ids) != m->n_layers)
		r = err_msg(e, ERR_INVALID, -EBADMSG, "layers from manifest don't match image configuration");
	if (r < 0)
		return r;
	l.slots = new_array(struct blob_slot, m->n_layers + 1);
	for (size_t i = 0; i < m->n_layers; i++)
		l.slots[i].fd = -EBADF;
	r = ask_for_layers(&l, diff_ids, e);
	if (r == 0) {
		link_layers();
		r = in_parallel(m->n_layers, fetch_layer, &l, e);
	}
	for (size_t i = 0; i < m->n_layers; i++)
		fd_close(&l.slots[i].fd);
	free(l.slots);
	return r;
}

static int pull_from(struct endpoint *p, const struct json *request, const struct platform *platform,
		     struct err *e)
{
	struct web *w = web_new();
	struct fetched f = { 0 };
	_cleanup_free_ char *digest = NULL;
	int r = endpoint_probe(p, w, e);

	if (r == 0)
		r = find_manifest(p, w, json_get_str(request, "ref") ?: "latest", platform, &f, &digest, e);
	if (r == 0)
		r = fetch_layers(p, w, &f.manifest, e);
	if (r == 0) {
		struct json *o = json_object();

		json_set_str(o, "op", "result");
		json_set_str(o, "digest", digest);
		link_send(o);
	}
	fetched_done(&f);
	web_free(w);
	return r;
}

int registry_pull(const struct json *request, struct err *e)
{
	_cleanup_platform_ struct platform platform = { 0 };
	struct endpoint *v;
	size_t n;
	int r = platform_parse(json_get_str(request, "platform"), &platform, e);

	if (r == 0)
		r = endpoints_read(request, &v, &n, e);
	if (r < 0)
		return r;
	r = registry_sandbox(e);
	/* A mirror that has it not, or is not there, is none. */
	for (size_t i = 0; r == 0 && i < n; i++) {
		err_clear(e);
		r = pull_from(&v[i], request, &platform, e);
		if (r == 0 || i + 1 == n)
			break;
		r = 0;
	}
	endpoints_free(v, n);
	return r;
}
