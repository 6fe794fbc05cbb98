/* Inside of the image files of the engine; image.h is what others see. */
#pragma once

#include "base/hash.h"
#include "engine/image.h"

struct images {
	struct engine *engine;
	struct image **v;
	size_t n;
	struct list loads;		/* image_load.c: those whose layers are on their way into the store */
	struct list disk_jobs;		/* requests for disks; the first one is at work */
	bool disk_busy;
};

/* image.c */
struct image *image_by_id(struct engine *e, const char *id);
void image_insert(struct images *im, struct image *i);	/* takes it over */
void image_drop(struct images *im, struct image *i);
/* Gives i the name, taking it from whoever has it: in memory only. */
void image_name(struct engine *e, struct image *i, const char *familiar);
void image_event(struct engine *e, const struct image *i, const char *action, const char *ref);
/* HEX part of "sha256:HEX". */
const char *digest_hex(const char *digest);

/* image_load.c */
/* Whether a load that is not committed yet counts on this layer. */
bool image_load_holds(const struct images *im, const char *hex);
