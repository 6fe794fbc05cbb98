/* Images: references, the store, load and import, layer directories and disks. */
#pragma once

#include "engine/engine.h"

struct image {
	char *id;		/* "sha256:<hex>": digest of the config blob */
	struct json *config;	/* the OCI/Docker image config document */
	char **chain_ids;	/* bottom layer first, "sha256:<hex>" */
	char **tags;		/* "busybox:latest" (familiar form, docker.io/library/ cut) */
	uint64_t created_ns;
	uint64_t size;		/* sum of unpacked layer sizes */
};

int images_open(struct engine *e, struct err *err);	/* sets e->images, collects orphans */
void images_close(struct engine *e);
/* By reference (tag defaults to latest), full id, or unique id prefix. Borrowed; 404 "No such image: busybox:latest". */
int image_find(struct engine *e, const char *ref, struct image **ret, struct err *err);
/* Directories of the layers, top first (overlay's lowerdir order). Heap vector. */
char **image_layer_dirs(struct engine *e, const struct image *i);
/* hyperv: makes sure every layer has its erofs disk (mkfs.erofs in workers, once per layer; more than 16
 * layers: the lower ones merged into one), then calls done; result = char ** of paths, top first (borrowed). */
void image_disks_prepare(struct engine *e, const struct image *i, engine_done_fn done, void *ud);
/* hyperv: a fresh sparse scratch disk (ext4, from a formatted template, data extents only) at path; asynchronous. */
void scratch_disk_create(struct engine *e, const char *path, engine_done_fn done, void *ud);
/* While a container uses an image it is not removed: the engine asks containers_use_image() (container.h). */
