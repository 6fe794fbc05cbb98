/* Manifests and indexes of registries and OCI layouts (image spec 1.1, Docker schema 2): read strictly,
 * written as Docker writes them. */
#pragma once

#include "base/err.h"
#include "lib/json.h"

#define MANIFEST_MAX (4u << 20)
#define CONFIG_BLOB_MAX (8u << 20)

#define MEDIA_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define MEDIA_DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define MEDIA_DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
#define MEDIA_DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar"
#define MEDIA_DOCKER_LAYER_GZIP MEDIA_DOCKER_LAYER ".gzip"
#define MEDIA_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define MEDIA_OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define MEDIA_OCI_LAYER "application/vnd.oci.image.layer.v1.tar"

struct descriptor { char *media_type, *digest; int64_t size; };

struct manifest {
	bool index;			/* then doc holds the choice: image_index_select */
	struct json *doc;
	struct descriptor config;
	struct descriptor *layers;	/* bottom first */
	size_t n_layers;
};

/* content_type: what the server called it, used if the document does not say (may be NULL). */
int manifest_parse(const char *p, size_t n, const char *content_type, struct manifest *ret, struct err *e);
void manifest_done(struct manifest *m);
#define _cleanup_manifest_ __attribute__((cleanup(manifest_done)))
void descriptor_done(struct descriptor *d);
/* Reads one descriptor; path names it in errors. */
int descriptor_parse(const struct json *j, const char *path, struct descriptor *ret, struct err *e);
struct json *descriptor_json(const char *media_type, const char *digest, int64_t size);

/* The manifest of an image: Docker's schema 2, or OCI's if a layer's type is one of OCI. Heap. */
char *manifest_new(const struct descriptor *config, const struct descriptor *layers, size_t n);

/* A platform as users write it: OS[/ARCH[/VARIANT]] or ARCH. "" = this host's. */
struct platform { char *os, *arch, *variant, *kernel; };	/* kernel: this host's release */
int platform_parse(const char *s, struct platform *ret, struct err *e);
void platform_done(struct platform *p);
#define _cleanup_platform_ __attribute__((cleanup(platform_done)))
char *platform_format(const struct platform *p);

/* The best entry of an index for the platform: attestations ("unknown") are never taken, an entry of the
 * variant asked for comes before one of another that runs there too, and of those alike one whose os.version
 * and os.features the kernel meets, the newest first. NULL if none fits. */
const struct json *index_select(const struct json *index, const struct platform *p);
