#include "puller/puller.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "lib/digest.h"
#include "lib/ustar.h"
#include "oci/manifest.h"
#include "oci/ref.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct saving {
	int blobs;
	struct ustar_writer w;
	char **written;			/* digests: layers are shared by images */
	struct json *docker, *index;	/* manifest.json, index.json */
};

static int put_text(struct saving *s, const char *name, const char *text, struct err *e)
{
	const struct ustar_entry t = { .path = (char *)name, .mode = S_IFREG | 0644, .size = strlen(text) };
	int r = ustar_put(&s->w, &t);

	if (r == 0)
		r = ustar_put_data(&s->w, text, strlen(text));
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "write %s", name) : 0;
}

static char *blob_name(const char *digest)
{
	return xasprintf("blobs/sha256/%s", digest + strlen("sha256:"));
}

static int copy_blob(struct saving *s, int fd, uint64_t size)
{
	_cleanup_free_ char *buf = xmalloc(256 << 10);

	while (size) {
		ssize_t n = RETRY(read(fd, buf, MIN(size, (uint64_t)256 << 10)));
		int r = n > 0 ? ustar_put_data(&s->w, buf, (size_t)n) : 0;

		if (n <= 0 || r < 0)
			return n < 0 ? -errno : n == 0 ? -EIO : r;
		size -= (uint64_t)n;
	}
	return 0;
}

static int put_blob(struct saving *s, const char *digest, struct err *e)
{
	_cleanup_free_ char *name = NULL;
	_cleanup_close_ int fd = -EBADF;
	struct ustar_entry t = { .mode = S_IFREG | 0644 };
	struct stat st;
	int r;

	if (!digest || !digest_valid(digest))
		return err_msg(e, ERR_INVALID, -EINVAL, "invalid digest in the request");
	if (strv_has(s->written, digest))
		return 0;
	strv_add(&s->written, digest);
	fd = openat(s->blobs, digest + strlen("sha256:"), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open blob %s", digest);
	t.path = name = blob_name(digest);
	t.size = (uint64_t)st.st_size;
	r = ustar_put(&s->w, &t);
	if (r == 0)
		r = copy_blob(s, fd, t.size);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "write blob %s", digest) : 0;
}

/* --- manifests --- */

static void add_docker(struct saving *s, const struct json *image)
{
	struct json *o = json_add(s->docker, json_object()), *names;
	const struct json *layers = json_get(image, "layers");
	_cleanup_free_ char *config = blob_name(json_get_str(image, "id"));
	_cleanup_strv_ char **tags = json_get_strv(image, "tags");

	json_set_str(o, "Config", config);
	if (tags)
		json_set_strv(o, "RepoTags", tags);
	else
		json_set_null(o, "RepoTags");
	names = json_set(o, "Layers", json_array());
	for (size_t i = 0; i < json_len(layers); i++) {
		_cleanup_free_ char *name = blob_name(json_get_str(json_at(layers, i), "digest"));

		json_add_str(names, name);
	}
}

/* One entry a name; one without for an image that has none. */
static void add_index(struct saving *s, const struct json *image, const char *type, const char *digest,
		      int64_t size)
{
	_cleanup_strv_ char **tags = json_get_strv(image, "tags");
	struct json *d = NULL;

	for (char **t = tags; t && *t; t++) {
		_cleanup_ref_ struct ref ref = { 0 };
		_cleanup_free_ char *name = NULL;
		struct json *a;

		if (ref_parse(*t, &ref, NULL) < 0)
			continue;
		name = xasprintf("%s/%s:%s", ref.domain, ref.path, ref.tag);
		d = json_add(s->index, descriptor_json(type, digest, size));
		a = json_set(d, "annotations", json_object());
		json_set_str(a, "io.containerd.image.name", name);
		json_set_str(a, "org.opencontainers.image.ref.name", ref.tag);
	}
	if (!d)
		json_add(s->index, descriptor_json(type, digest, size));
}

/* An image that came without a manifest gets one. */
static int put_manifest(struct saving *s, const struct json *image, struct err *e)
{
	const struct json *layers = json_get(image, "layers"), *known = json_get(image, "manifest");
	const struct descriptor config = {NULL, (char *)json_get_str(image, "id"),
					  json_get_int(image, "size", 0)};
	_cleanup_free_ struct descriptor *list = new_array(struct descriptor, json_len(layers) + 1);
	_cleanup_free_ char *text = NULL, *digest = NULL, *name = NULL;
	char hex[65];

	if (known) {
		add_index(s, image, json_get_str(known, "mediaType"), json_get_str(known, "digest"),
			  json_get_int(known, "size", 0));
		return put_blob(s, json_get_str(known, "digest"), e);
	}
	for (size_t i = 0; i < json_len(layers); i++)
		list[i] = (struct descriptor){ (char *)json_get_str(json_at(layers, i), "mediaType"),
					       (char *)json_get_str(json_at(layers, i), "digest"),
					       json_get_int(json_at(layers, i), "size", 0) };
	text = manifest_new(&config, list, json_len(layers));
	sha256_hex(text, strlen(text), hex);
	digest = xasprintf("sha256:%s", hex);
	add_index(s, image, strstr(text, MEDIA_OCI_MANIFEST) ? MEDIA_OCI_MANIFEST : MEDIA_DOCKER_MANIFEST,
		  digest, (int64_t)strlen(text));
	if (strv_has(s->written, digest))
		return 0;
	strv_add(&s->written, digest);
	name = blob_name(digest);
	return put_text(s, name, text, e);
}

static int put_image(struct saving *s, const struct json *image, struct err *e)
{
	const struct json *layers = json_get(image, "layers");
	int r = put_blob(s, json_get_str(image, "id"), e);

	for (size_t i = 0; r == 0 && i < json_len(layers); i++)
		r = put_blob(s, json_get_str(json_at(layers, i), "digest"), e);
	if (r == 0)
		r = put_manifest(s, image, e);
	if (r == 0)
		add_docker(s, image);
	return r;
}

static int put_json(struct saving *s, const char *name, const struct json *j, struct err *e)
{
	_cleanup_free_ char *text = json_dump(j);

	return put_text(s, name, text, e);
}

int save_archive(int blobs, int fd, const struct json *what, struct err *e)
{
	_cleanup_json_ struct json *docker = json_array(), *index = json_object();
	struct saving s = { .blobs = blobs, .w = { .fd = fd }, .docker = docker };
	const struct json *images = json_get(what, "images");
	int r = 0;

	json_set_int(index, "schemaVersion", 2);
	json_set_str(index, "mediaType", MEDIA_OCI_INDEX);
	s.index = json_set(index, "manifests", json_array());
	for (size_t i = 0; r == 0 && i < json_len(images); i++)
		r = put_image(&s, json_at(images, i), e);
	if (r == 0)
		r = put_json(&s, "index.json", index, e);
	if (r == 0)
		r = put_json(&s, "manifest.json", docker, e);
	if (r == 0)
		r = put_text(&s, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}", e);
	if (r == 0) {
		r = ustar_put_end(&s.w);
		if (r < 0)
			err_set(e, ERR_SYSTEM, r, "write the archive");
	}
	ustar_writer_done(&s.w);
	strv_free(s.written);
	return r;
}
