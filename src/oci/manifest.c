#include "oci/manifest.h"
#include "base/alloc.h"
#include "base/strv.h"
#include "oci/image_needs.h"
#include "oci/image_spec.h"
#include "oci/ref.h"

#include <errno.h>
#include <string.h>
#include <sys/utsname.h>

#define LAYERS_MAX 512
#define SCHEMA1                                                                                              \
	"Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. "    \
	"Suggest the author of the image to upgrade it to the OCI Format or Docker Image manifest version "  \
	"2, "                                                                                                \
	"schema 2"

void descriptor_done(struct descriptor *d)
{
	free(d->media_type);
	free(d->digest);
	*d = (struct descriptor){ 0 };
}

void manifest_done(struct manifest *m)
{
	json_free(m->doc);
	descriptor_done(&m->config);
	for (size_t i = 0; i < m->n_layers; i++)
		descriptor_done(&m->layers[i]);
	free(m->layers);
	*m = (struct manifest){ 0 };
}

int descriptor_parse(const struct json *j, const char *path, struct descriptor *ret, struct err *e)
{
	static const struct json_field fields[] = {
	    {"mediaType", JK_STR, offsetof(struct descriptor, media_type)},
	    {"digest", JK_STR, offsetof(struct descriptor, digest), .required = true},
	    {"size", JK_I64, offsetof(struct descriptor, size), .required = true},
	    JSON_FIELD_END,
	};
	struct descriptor d = { 0 };
	int r = json_dispatch(j, fields, &d, path, e);

	if (r == 0 && (!digest_valid(d.digest) || d.size < 0))
		r = err_msg(e, ERR_INVALID, -EBADMSG, "invalid manifest: %s has no valid %s", path,
			    d.size < 0 ? "size" : "digest");
	if (r < 0)
		descriptor_done(&d);
	else
		*ret = d;
	return r;
}

struct json *descriptor_json(const char *media_type, const char *digest, int64_t size)
{
	struct json *o = json_object();

	json_set_str(o, "mediaType", media_type);
	json_set_int(o, "size", size);
	json_set_str(o, "digest", digest);
	return o;
}

static bool is_layer(const char *type)
{
	return str_empty(type) || str_starts(type, MEDIA_DOCKER_LAYER) || str_starts(type, MEDIA_OCI_LAYER);
}

static int parse_layers(const struct json *list, struct manifest *m, struct err *e)
{
	int r = 0;

	if (json_type(list) != JSON_ARRAY)
		return json_expected(e, "layers", "array");
	if (json_len(list) > LAYERS_MAX)
		return err_msg(e, ERR_INVALID, -E2BIG, "max depth exceeded: %zu layers", json_len(list));
	m->layers = new_array(struct descriptor, json_len(list) + 1);
	for (size_t i = 0; r == 0 && i < json_len(list); i++) {
		const struct json *l = json_at(list, i);
		struct descriptor *d = &m->layers[i];
		char path[32];

		r = descriptor_parse(l, json_path_at("layers", i, path, sizeof path), d, e);
		if (r < 0)
			return r;
		m->n_layers = i + 1;
		if (!is_layer(d->media_type))
			r = err_msg(e, ERR_INVALID, -EBADMSG,
				    "invalid manifest: layer %zu is of type \"%s\": no image's layer", i,
				    d->media_type);
	}
	return r;
}

static int parse_image(struct manifest *m, struct err *e)
{
	const char *type;
	int r = descriptor_parse(json_get(m->doc, "config"), "config", &m->config, e);

	if (r < 0)
		return r;
	type = m->config.media_type;
	if (!str_empty(type) && !streq(type, MEDIA_DOCKER_CONFIG) && !streq(type, MEDIA_OCI_CONFIG))
		return err_msg(e, ERR_INVALID, -EBADMSG,
			       "invalid manifest: Encountered remote \"%s\"(unknown) when fetching", type);
	if (m->config.size > CONFIG_BLOB_MAX)
		return err_msg(e, ERR_INVALID, -EFBIG, "invalid manifest: the image's config has %lld bytes",
			       (long long)m->config.size);
	return parse_layers(json_get(m->doc, "layers"), m, e);
}

int manifest_parse(const char *p, size_t n, const char *content_type, struct manifest *ret, struct err *e)
{
	_cleanup_manifest_ struct manifest m = { 0 };
	const char *type;
	int r = json_parse_foreign(p, n, &m.doc, e);

	if (r < 0)
		return err_wrap(e, r, "invalid manifest");
	if (json_type(m.doc) != JSON_OBJECT)
		return json_expected(e, "manifest", "object");
	type = json_get_str(m.doc, "mediaType") ?: content_type ?: "";
	if (json_get_int(m.doc, "schemaVersion", 2) == 1 ||
	    str_starts(type, "application/vnd.docker.distribution.manifest.v1"))
		return err_msg(e, ERR_INVALID, -EBADMSG, SCHEMA1);
	m.index = json_get(m.doc, "manifests") != NULL;
	if (m.index ? json_get(m.doc, "layers") != NULL
		    : streq(type, MEDIA_OCI_INDEX) || streq(type, MEDIA_DOCKER_LIST))
		return err_msg(e, ERR_INVALID, -EBADMSG, "invalid manifest: it is none of its type (%s)",
			       type);
	if (m.index && json_type(json_get(m.doc, "manifests")) != JSON_ARRAY)
		return json_expected(e, "manifests", "array");
	r = m.index ? 0 : parse_image(&m, e);
	if (r < 0)
		return r;
	*ret = m;
	m = (struct manifest){ 0 };
	return 0;
}

/* --- writing --- */

static bool any_oci(const struct descriptor *layers, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (str_starts(layers[i].media_type, MEDIA_OCI_LAYER))
			return true;
	return false;
}

/* Layers of one manifest speak one language. */
static const char *layer_type(const char *type, bool oci)
{
	if (str_ends(type, "zstd"))
		return MEDIA_OCI_LAYER "+zstd";
	if (str_ends(type, "gzip"))
		return oci ? MEDIA_OCI_LAYER "+gzip" : MEDIA_DOCKER_LAYER_GZIP;
	return oci ? MEDIA_OCI_LAYER : MEDIA_DOCKER_LAYER;
}

char *manifest_new(const struct descriptor *config, const struct descriptor *layers, size_t n)
{
	_cleanup_json_ struct json *doc = json_object();
	bool oci = any_oci(layers, n);
	struct json *list;

	json_set_int(doc, "schemaVersion", 2);
	json_set_str(doc, "mediaType", oci ? MEDIA_OCI_MANIFEST : MEDIA_DOCKER_MANIFEST);
	json_set(doc, "config",
		 descriptor_json(oci ? MEDIA_OCI_CONFIG : MEDIA_DOCKER_CONFIG, config->digest, config->size));
	list = json_set(doc, "layers", json_array());
	for (size_t i = 0; i < n; i++)
		json_add(list, descriptor_json(layer_type(layers[i].media_type, oci), layers[i].digest,
					       layers[i].size));
	return json_dump(doc);
}

/* --- platforms --- */

void platform_done(struct platform *p)
{
	free(p->os);
	free(p->arch);
	free(p->variant);
	free(p->kernel);
	*p = (struct platform){ 0 };
}

static const char *arch_name(const char *s)
{
	static const char *const same[][2] = {
	    {"x86_64", "amd64"}, {"x86-64", "amd64"}, {"aarch64", "arm64"}, {"i386", "386"}, {"armhf", "arm"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(same); i++)
		if (streq(s, same[i][0]))
			return same[i][1];
	return s;
}

int platform_parse(const char *s, struct platform *ret, struct err *e)
{
	_cleanup_strv_ char **parts = strv_split(s ? s : "", "/");
	size_t n = strv_len(parts);
	struct utsname host = { 0 };
	bool arch_alone = n == 1 && !streq(parts[0], "linux") && !streq(parts[0], "windows");

	if (n > 3 || (s && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-/") !=
			       strlen(s)))
		return err_msg(e, ERR_INVALID, 0,
			       "\"%s\" is an invalid OS component or architecture: platform specifier "
			       "component must match \"^[A-Za-z0-9_.-]+$\"",
			       s);
	(void)uname(&host);
	*ret = (struct platform){
	    .kernel = xstrdup(host.release),
	    .os = xstrdup(n && !arch_alone ? parts[0] : "linux"),
	    .arch = xstrdup(arch_alone ? arch_name(parts[0])
			    : n > 1    ? arch_name(parts[1])
				       : image_architecture()),
	    .variant = xstrdup(n > 2 ? parts[2] : ""),
	};
	return 0;
}

char *platform_format(const struct platform *p)
{
	return xasprintf("%s/%s%s%s", p->os, p->arch, *p->variant ? "/" : "", p->variant);
}

/* Version of a variant: "v8" -> 8; what an absent one means depends on the processor. */
static int variant_level(const char *arch, const char *v)
{
	if (str_empty(v))
		return streq(arch, "arm64") ? 8 : streq(arch, "arm") ? 7 : 1;
	return v[0] == 'v' && v[1] >= '0' && v[1] <= '9' && !v[2] ? v[1] - '0' : -1;
}

/* 0 = does not fit, else the higher the better. A processor runs programs of its own level and below. What
 * the host's kernel does not give comes last: the kernel of a machine may. */
static int fitness(const struct json *p, const struct platform *want)
{
	const char *variant = json_get_str(p, "variant");
	int have = variant_level(want->arch, variant), level = variant_level(want->arch, want->variant);
	int met = platform_needs_met(p, want->kernel ?: "", NULL);

	if (!streq(json_get_str(p, "os"), want->os) || !streq(json_get_str(p, "architecture"), want->arch))
		return 0;
	if (have < 0 || level < 0)
		return streq(variant ?: "", want->variant) ? 100 + met : 0;
	return have > level ? 0 : 2 * (1 + have) + met;
}

/* Of two that the kernel meets, the one that asks for more is made for newer ones. */
static bool is_newer(const struct json *a, const struct json *b, const struct platform *want)
{
	const char *x = json_get_str(a, "os.version"), *y = json_get_str(b, "os.version");

	return x && (!y || kernel_compare(x, y) > 0) && platform_needs_met(a, want->kernel ?: "", NULL);
}

const struct json *index_select(const struct json *index, const struct platform *want)
{
	const struct json *list = json_get(index, "manifests"), *best = NULL;
	int best_fit = 0;

	for (size_t i = 0; i < json_len(list); i++) {
		const struct json *m = json_at(list, i), *p = json_get(m, "platform");
		/* A nested index, or the only entry of one that names no platforms. */
		int fit = p ? 1 + fitness(p, want) : 1;

		if (p && fit == 1)
			continue;
		if (fit > best_fit ||
		    (best && fit == best_fit && is_newer(p, json_get(best, "platform"), want))) {
			best = m;
			best_fit = fit;
		}
	}
	return best;
}
