/* Inside of the image files of the engine; image.h is what others see. */
#pragma once

#include "base/hash.h"
#include "base/worker.h"
#include "engine/image.h"

struct images {
	struct engine *engine;
	struct image **v;
	size_t n;
	struct hmap by_id, by_name;	/* the same; each of its tags and digests is a name */
	struct list loads;		/* image_load.c: those whose layers are on their way into the store */
	struct list pulls;		/* image_pull.c: at work */
	struct list disk_jobs;		/* requests for disks; the first one is at work */
	bool disk_busy;
	bool syncing_disks, sync_again;
	int64_t syncing;		/* image_sync.c: the last row that a sync is at work for; or 0 */
};

/* image.c */
struct image *image_by_id(struct engine *e, const char *id);
void image_insert(struct images *im, struct image *i);	/* takes it over */
void image_drop(struct images *im, struct image *i);
/* Gives i the name, taking it from whoever has it: in memory only. */
void image_name(struct engine *e, struct image *i, const char *familiar);
void image_event(struct engine *e, const struct image *i, const char *action, const char *ref);
/* Removes all that the store has and no image names. at_start: nobody is writing there. */
void image_collect(struct engine *e, bool at_start);
/* HEX part of "sha256:HEX". */
const char *digest_hex(const char *digest);

/* Gives i the name NAME@DIGEST, taking it from whoever has it: in memory only. */
void image_add_digest(struct engine *e, struct image *i, const char *familiar);

/* image_blobs.c: what is kept for save and push */
int image_blobs_store(struct engine *e, const struct json *layers, struct err *err);
int image_blobs_store_manifest(struct engine *e, const char *id, const struct json *manifest,
			       struct err *err);
/* The manifest that the image came with, whatever has become of its layers' archives; -ENOENT. */
int image_manifest_kept(struct engine *e, const struct image *i, struct image_blob *ret);
/* Whether an image, a layer or a load that is not committed yet names the blob. */
bool image_blob_named(struct engine *e, const char *hex);
/* Removes blobs that nothing names; at_start also what was being written to become one. */
void image_blobs_collect(struct engine *e, bool at_start);

/* image_pull.c */
/* Whether a pull that is at work counts on this layer. */
bool image_pull_holds(const struct images *im, const char *hex);

/* image_load.c */
/* Unpacks what comes in staging/archive as an OCI layout. staging is taken over. What is written to it by
 * image_load_write, and what: see insula-puller's load_layout; digest_ref: "NAME@DIGEST" that the image
 * gets, or NULL. */
int image_load_layout(struct engine *e, const char *staging, const struct json *what, const char *digest_ref,
		      const struct image_load_ops *ops, void *ud, struct image_load **ret, struct err *err);
bool image_load_holds_blob(const struct images *im, const char *digest);
/* Whether a load that is not committed yet counts on this layer. */
bool image_load_holds(const struct images *im, const char *hex);

/* image_sync.c */
/* Within the transaction that stores doc, before anything else of it is in the database: what of it is new is
 * not on the disk yet. */
int image_sync_note(struct engine *e, const struct json *doc, struct err *err);
/* Before they are made: that those of the disks which are not there will not be on the disk yet. */
int image_sync_note_disks(struct engine *e, char *const *paths, struct err *err);
/* Puts what was noted on the disk: in the background, or before it returns. */
void image_sync_start(struct engine *e);
void image_sync_finish(struct engine *e);
/* Takes out of the database what was not on the disk when the machine stopped. */
int image_sync_recover(struct engine *e, struct err *err);

/* image_commit.c */
/* Moves what doc, the result of insula-puller, names from staging into the directories of the store. When
 * done is called, nothing of it is in the database yet. */
int image_commit(struct engine *e, const char *staging, const struct json *doc, worker_done_fn done,
		 void *ud);
