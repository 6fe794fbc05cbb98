#include "registry/registry.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/loop.h"
#include "base/strv.h"
#include "lib/digest.h"
#include "lib/gzip.h"
#include "lib/http1.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define STATUS_US 100000

struct push {
	struct endpoint *endpoint;
	struct descriptor config, *layers;
	char **diff_ids;	/* by which layers are shown */
	size_t n;
	bool exact;		/* the manifest exists: nothing may change its digests */
};

struct sending { char id[13]; int64_t size; uint64_t said_us; };

static void on_sent(void *ud, int64_t n)
{
	struct sending *s = ud;
	uint64_t now = now_mono_us();

	if (now - s->said_us < STATUS_US || !*s->id)
		return;
	s->said_us = now;
	link_status(s->id, "Pushing", n, s->size);
}

/* 1 if the registry has it. */
static int exists(struct endpoint *p, struct web *w, const char *digest, struct err *e)
{
	_cleanup_free_ char *url = xasprintf("/v2/%s/blobs/%s", p->path, digest);
	_cleanup_web_answer_ struct web_answer a = { 0 };
	_cleanup_err_ struct err why = ERR_INIT;
	struct web_request q = { .method = "HEAD", .url = url };
	int r = endpoint_call(p, w, &q, true, &a, &why);

	if (r == 0 || a.status == 404)
		return r == 0;
	err_move(e, &why);
	return r;
}

/* 1 if it was mounted from the other repository, else 0 and where to upload it. */
static int begin(struct endpoint *p, struct web *w, const char *digest, char **ret, struct err *e)
{
	_cleanup_free_ char *from = p->from ? http_url_encode(p->from) : NULL,
			    *url = from ? xasprintf("/v2/%s/blobs/uploads/?mount=%s&from=%s", p->path, digest,
						    from)
					: xasprintf("/v2/%s/blobs/uploads/", p->path);
	_cleanup_web_answer_ struct web_answer a = { 0 };
	struct web_request q = { .method = "POST", .url = url };
	const char *location;
	int r = endpoint_call(p, w, &q, true, &a, e);

	if (r < 0 || a.status == 201)
		return r < 0 ? r : 1;
	location = web_header(&a, "Location");
	if (a.status != 202 || !location || web_resolve(p->base, location, ret) < 0)
		return err_msg(e, ERR_SYSTEM, -EPROTO, "registry %s answers an upload with status %d",
			       p->host, a.status);
	return 0;
}

static int upload(struct endpoint *p, struct web *w, const struct descriptor *d, int fd, struct sending *s,
		  struct err *e)
{
	static const char *const headers[] = { "Content-Type: application/octet-stream", NULL };
	int r = 0;

	/* An upload that broke off is begun again: how much of it the registry kept cannot be known. */
	for (unsigned n = 1;; n++) {
		_cleanup_free_ char *location = NULL, *url = NULL;
		_cleanup_web_answer_ struct web_answer a = { 0 };
		struct web_request q = {.method = "PUT",
					.body_fd = fd,
					.body_size = d->size,
					.sent = on_sent,
					.ud = s,
					.headers = (char *const *)headers};

		r = begin(p, w, d->digest, &location, e);
		if (r != 0)
			return r;
		q.url = url =
		    xasprintf("%s%cdigest=%s", location, strchr(location, '?') ? '&' : '?', d->digest);
		r = endpoint_call(p, w, &q, false, &a, e);
		if (r == 0 || !a.transient || !endpoint_wait(&a, n))
			return r;
		err_clear(e);
	}
}

/* --- layers --- */

static void feed(void *ud, const void *p, size_t n)
{
	sha256_update(ud, p, n);
}

static bool is_plain(const char *type)
{
	return streq(type, MEDIA_DOCKER_LAYER) || streq(type, MEDIA_OCI_LAYER);
}

/* Plain archives travel compressed. d becomes what is sent, fd its file. */
static int compress_layer(struct descriptor *d, int *fd, struct err *e)
{
	struct sha256 *hash = sha256_new();
	const struct descriptor none = { NULL, d->digest, 0 };
	struct blob_slot to = { .fd = -EBADF };
	struct stat st;
	char hex[65];
	int r = link_blob("scratch", &none, NULL, &to, e);

	if (r == 0) {
		r = gzip_file(*fd, to.fd, feed, hash);
		if (r == 0 && fstat(to.fd, &st) < 0)
			r = -errno;
		if (r < 0)
			err_set(e, ERR_SYSTEM, r, "compress layer %s", d->digest);
	}
	sha256_final(hash, hex);
	if (r < 0) {
		fd_close(&to.fd);
		return r;
	}
	fd_close(fd);
	*fd = to.fd;
	free(d->digest);
	d->digest = xasprintf("sha256:%s", hex);
	d->size = st.st_size;
	str_replace(&d->media_type, str_starts(d->media_type, MEDIA_OCI_LAYER) ? MEDIA_OCI_LAYER "+gzip"
									       : MEDIA_DOCKER_LAYER_GZIP);
	return 0;
}

static int push_layer(void *ud, size_t i, struct web *w, struct err *e)
{
	struct push *l = ud;
	struct descriptor *d = &l->layers[i];
	struct sending s = { .said_us = 0 };
	struct blob_slot slot = { .fd = -EBADF };
	_cleanup_free_ char *mounted =
	    l->endpoint->from ? xasprintf("Mounted from %s", l->endpoint->from) : NULL;
	int r = link_blob("read", d, NULL, &slot, e);

	short_digest(l->diff_ids[i], s.id);
	if (r == 0 && !l->exact && is_plain(d->media_type))
		r = compress_layer(d, &slot.fd, e);
	s.size = d->size;
	if (r == 0)
		r = exists(l->endpoint, w, d->digest, e);
	if (r > 0) {
		link_status(s.id, "Layer already exists", 0, -1);
	} else if (r == 0) {
		r = upload(l->endpoint, w, d, slot.fd, &s, e);
		if (r >= 0)
			link_status(s.id, r > 0 ? mounted : "Pushed", 0, -1);
	}
	fd_close(&slot.fd);
	return r < 0 ? r : 0;
}

/* --- config and manifest --- */

static int push_config(struct push *l, struct web *w, struct err *e)
{
	struct blob_slot slot = { .fd = -EBADF };
	struct sending s = { .said_us = 0 };
	int r = exists(l->endpoint, w, l->config.digest, e);

	if (r != 0)
		return r < 0 ? r : 0;
	r = link_blob("read", &l->config, NULL, &slot, e);
	if (r == 0)
		r = upload(l->endpoint, w, &l->config, slot.fd, &s, e);
	fd_close(&slot.fd);
	return r < 0 ? r : 0;
}

/* The one that the image came with, byte for byte. */
static int old_manifest(const struct json *j, char **ret, struct err *e)
{
	struct blob_slot slot = { .fd = -EBADF };
	struct descriptor d = { 0 };
	int r = descriptor_parse(j, "manifest", &d, e);

	if (r == 0 && d.size > (int64_t)MANIFEST_MAX)
		r = err_msg(e, ERR_INVALID, -EFBIG, "manifest %s is too large", d.digest);
	if (r == 0)
		r = link_blob("read", &d, NULL, &slot, e);
	if (r == 0) {
		char *text = xcalloc((size_t)d.size + 1, 1);

		if (RETRY(pread(slot.fd, text, (size_t)d.size, 0)) == d.size)
			*ret = TAKE_PTR(text);
		else
			r = err_msg(e, ERR_SYSTEM, -EIO, "read manifest %s", d.digest);
		free(text);
	}
	fd_close(&slot.fd);
	descriptor_done(&d);
	return r;
}

static int put_manifest(struct push *l, struct web *w, const struct json *request, struct err *e)
{
	const char *ref = json_get_str(request, "ref") ?: "latest";
	_cleanup_free_ char *url = xasprintf("/v2/%s/manifests/%s", l->endpoint->path, ref), *text = NULL;
	_cleanup_web_answer_ struct web_answer a = { 0 };
	_cleanup_strv_ char **headers = NULL;
	_cleanup_manifest_ struct manifest m = { 0 };
	struct web_request q = { .method = "PUT", .url = url };
	struct json *o;
	char hex[65];
	int r = 0;

	if (l->exact)
		r = old_manifest(json_get(request, "manifest"), &text, e);
	else
		text = manifest_new(&l->config, l->layers, l->n);
	if (r == 0)
		r = manifest_parse(text, strlen(text), NULL, &m, e);
	if (r < 0)
		return r;
	strv_addf(&headers, "Content-Type: %s", json_get_str(m.doc, "mediaType") ?: MEDIA_OCI_MANIFEST);
	q.headers = headers;
	q.body = text;
	q.body_len = strlen(text);
	r = endpoint_call(l->endpoint, w, &q, true, &a, e);
	if (r < 0)
		return r;
	sha256_hex(text, strlen(text), hex);
	o = json_object();
	json_set_str(o, "op", "result");
	_cleanup_free_ char *digest = xasprintf("sha256:%s", hex);

	json_set_str(o, "digest", digest);
	json_set_int(o, "size", (int64_t)strlen(text));
	link_send(o);
	return 0;
}

static int push_to(struct push *l, const struct json *request, struct err *e)
{
	struct web *w = web_new();
	int r = endpoint_probe(l->endpoint, w, e);
	char id[13];

	for (size_t i = 0; r == 0 && i < l->n; i++)
		link_status(short_digest(l->diff_ids[i], id), "Preparing", 0, -1);
	if (r == 0)
		r = in_parallel(l->n, push_layer, l, e);
	if (r == 0)
		r = push_config(l, w, e);
	if (r == 0)
		r = put_manifest(l, w, request, e);
	web_free(w);
	return r;
}

static int read_push(const struct json *request, struct push *l, struct err *e)
{
	const struct json *layers = json_get(request, "layers");
	int r = descriptor_parse(json_get(request, "config"), "config", &l->config, e);

	l->exact = json_get(request, "manifest") != NULL;
	l->diff_ids = json_get_strv(request, "diff_ids");
	l->layers = new_array(struct descriptor, json_len(layers) + 1);
	for (; r == 0 && l->n < json_len(layers); l->n++) {
		r = descriptor_parse(json_at(layers, l->n), "layers", &l->layers[l->n], e);
		if (r < 0)
			break;
	}
	if (r == 0 && strv_len(l->diff_ids) != l->n)
		r = err_msg(e, ERR_INVALID, -EINVAL, "the request's layers have no diff ids");
	return r;
}

int registry_push(const struct json *request, struct err *e)
{
	struct push l = { 0 };
	struct endpoint *v = NULL;
	size_t n = 0;
	int r = read_push(request, &l, e);

	if (r == 0)
		r = endpoints_read(request, &v, &n, e);
	if (r == 0)
		r = registry_sandbox(e);
	/* Mirrors are for reading. */
	if (r == 0) {
		l.endpoint = &v[n - 1];
		r = push_to(&l, request, e);
	}
	endpoints_free(v, n);
	descriptor_done(&l.config);
	for (size_t i = 0; i < l.n; i++)
		descriptor_done(&l.layers[i]);
	free(l.layers);
	strv_free(l.diff_ids);
	return r;
}
