/* Images: references, the store, load and import, layer directories and disks. */
#pragma once

#include "engine/engine.h"
#include "lib/json_write.h"

struct image {
	char *id;		/* "sha256:<hex>": digest of the config blob */
	struct json *config;	/* the OCI/Docker image config document */
	char **chain_ids;	/* bottom layer first, "sha256:<hex>" */
	char **tags;		/* "busybox:latest" (familiar form, docker.io/library/ cut) */
	char **digests;		/* "busybox@sha256:<hex>": by which registries know it */
	uint64_t created_ns;
	uint64_t size;		/* sum of unpacked layer sizes */
};

int images_open(struct engine *e, struct err *err);	/* sets e->images, collects orphans */
void images_close(struct engine *e);
/* All images, oldest first: borrowed array. */
struct image *const *images_all(struct engine *e, size_t *ret_n);
/* As GET /images/json shows it, with these of its tags. */
void image_summary(struct json_writer *w, const struct image *i, char *const *tags);
size_t images_count(struct engine *e);
/* By reference (tag defaults to latest), full id, or unique id prefix. Borrowed; 404 "No such image:
 * busybox:latest". */
int image_find(struct engine *e, const char *ref, struct image **ret, struct err *err);
/* Directories of the layers, top first (overlay's lowerdir order). Heap vector. */
char **image_layer_dirs(struct engine *e, const struct image *i);
/* All that the store keeps for the image: paths below the data root, some of which other images share, and
 * some of which are not there (disks are made when they are needed). Heap vector. */
char **image_files(struct engine *e, const struct image *i);
/* Bytes of the files of one layer ("sha256:HEX"), 0 if unknown. */
uint64_t image_layer_size(struct engine *e, const char *chain_id);
/* Moves or adds a tag. */
int image_tag(struct engine *e, struct image *i, const char *repo, const char *tag, struct err *err);
/* `rmi`: removes the tag that ref names, and the image with its last one (or by id). ret: Docker's array of
 * {"Untagged": x} and {"Deleted": x}. ERR_CONFLICT while a container uses it; with force the image of a
 * container loses its names, but stays as long as the container needs its layers. */
int image_remove(struct engine *e, const char *ref, bool force, struct json **ret, struct err *err);

/* load and import: bytes go to insula-puller as they come. */
struct image_load;
struct image_load_ops {
	void (*room)(void *ud);			/* the puller takes bytes again */
	/* Of a pull: what is done with which layer ({"id", "status"}). */
	void (*progress)(void *ud, const struct json *status);
	/* Ends it, once. images: ids of what was loaded; said: what to tell ("Loaded image: x:y"). */
	void (*done)(void *ud, int r, const struct err *e, char *const *ids, char *const *said);
	bool silent;				/* no event: it is part of something else */
};
/* config: NULL = load; else the document of an image to be imported under `tag` ("" = none). What comes is
 * one layer, upon those that the document names in rootfs.diff_ids (they are in the store). */
int image_load_begin(struct engine *e, const struct json *config, const char *tag,
		     const struct image_load_ops *ops, void *ud, struct image_load **ret, struct err *err);
size_t image_load_write(struct image_load *l, const void *p, size_t n);	/* bytes taken */
void image_load_eof(struct image_load *l);
void image_load_cancel(struct image_load *l);		/* done does not run; the store is as before */

/* What is done with which layer ({"id", "status", "current", "total"}) as a line of Docker's progress stream.
 * New. */
struct json *image_progress_line(const struct json *status);

/* pull: from a registry, through insula-registry and insula-puller. Several clients that ask for the same
 * share one pull. */
struct image_pull_watch;
struct image_pull_ops {
	/* One line of Docker's progress stream; a client that comes late gets first what it has missed. */
	void (*line)(void *ud, const struct json *line);
	/* Ends it, once. image: borrowed. */
	void (*done)(void *ud, int r, const struct err *e, const struct image *image);
};
/* ref: name with tag or digest. auth: the client's credentials (X-Registry-Auth decoded), may be NULL. */
int image_pull(struct engine *e, const char *ref, const char *platform, const struct json *auth,
	       const struct image_pull_ops *ops, void *ud, struct image_pull_watch **ret, struct err *err);
/* The client has left: done does not run. The last one's leaving ends the pull; the next one goes on there.
 */
void image_pull_cancel(struct image_pull_watch *w);

/* Downloads that broke off and are older than that, or are in the store by now, as paths below the data root.
 * Heap vector. */
char **image_pull_leftovers(struct engine *e, uint64_t older_than_s);
/* Removes them. */
void image_pull_collect(struct engine *e, uint64_t older_than_s);

/* push: NAME:TAG as it is called here. The same ops: the lines of Docker's stream, then the end. */
struct image_push;
int image_push(struct engine *e, const char *name, const struct json *auth, const struct image_pull_ops *ops,
	       void *ud, struct image_push **ret, struct err *err);
void image_push_cancel(struct image_push *p);

/* save: an archive of the images named, docker's and an OCI layout at once. */
struct image_save;
struct image_save_ops {
	bool (*data)(void *ud, const void *p, size_t n); /* false: image_save_resume will ask for more */
	void (*done)(void *ud, bool complete);			/* ends it, once */
};
int image_save(struct engine *e, char *const *names, const struct image_save_ops *ops, void *ud,
	       struct image_save **ret, struct err *err);
void image_save_resume(struct image_save *s);
void image_save_cancel(struct image_save *s);

/* What is known of an image's layer or manifest as registries have it. */
struct image_blob { char *digest, *media_type; int64_t size; };
void image_blob_done(struct image_blob *b);
#define _cleanup_image_blob_ __attribute__((cleanup(image_blob_done)))
/* The archive that a layer came as; ERR_NOT_FOUND if it was not kept. */
int image_layer_blob(struct engine *e, const char *chain_id, struct image_blob *ret, struct err *err);
/* The manifest that the image came with, while all it names is there; -ENOENT. */
int image_manifest_blob(struct engine *e, const struct image *i, struct image_blob *ret);
char *image_blob_path(struct engine *e, const char *digest);

/* hyperv: makes sure every layer has its erofs disk (mkfs.erofs in workers, once per layer; more than 16
 * layers: the lower ones merged into one), then calls done; result = char ** of paths, top first (borrowed).
 */
struct image_disks;
struct image_disks_ops {
	/* {"id", "status", "current", "total"}. May be NULL. */
	void (*progress)(void *ud, const struct json *status);
	engine_done_fn done;
};
/* ret (may be NULL) is valid until done, which may be called from within. */
void image_disks_prepare(struct engine *e, const struct image *i, const struct image_disks_ops *ops, void *ud,
			 struct image_disks **ret);
/* The disks are made all the same, but nothing is called any more. */
void image_disks_leave(struct image_disks *j);
/* Bytes of the layers that have no disk yet; 0 also if they are so few that it takes no time to speak of. */
uint64_t image_disks_missing(struct engine *e, const struct image *i);
/* hyperv: a fresh sparse scratch disk (ext4, from a formatted template, data extents only) at path. Both call
 * done from within when there is little to do. */
void scratch_disk_create(struct engine *e, const char *path, engine_done_fn done, void *ud);
