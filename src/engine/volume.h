/* Volumes: folders of the data root that outlive containers. */
#pragma once

#include "engine/engine.h"
#include "engine/filters.h"

int volumes_open(struct engine *e, struct err *err);
void volumes_close(struct engine *e);
/* "a-b_c.d": ERR_INVALID with Docker's text otherwise. */
int volume_name_check(const char *name, struct err *err);
bool volume_exists(struct engine *e, const char *name);
bool volume_is_anonymous(struct engine *e, const char *name);
/* Makes it unless it exists; name NULL = a random one, *ret_name is heap (may be NULL). labels may be NULL.
 */
int volume_create(struct engine *e, const char *name, bool anonymous, const struct json *labels,
		  const struct json *options, char **ret_name, struct err *err);
char *volume_path(struct engine *e, const char *name);			/* its _data; heap */
/* 404 `get x: no such volume`, 409 while containers use it. force: a missing one is fine. */
int volume_remove(struct engine *e, const char *name, bool force, struct err *err);
/* The two halves of a removal: the row, within the caller's transaction, and the rest once that is committed.
 */
int volume_delete(struct engine *e, const char *name, struct err *err);
void volume_deleted(struct engine *e, const char *name);
struct json *volume_inspect(struct engine *e, const char *name);        /* new; NULL if there is none */
struct json *volumes_summaries(struct engine *e);			/* all; new array */
int volumes_list(struct engine *e, const struct filters *f, struct json **ret, struct err *err);
extern const char *const volume_filters[];

/* Options it was made with; new object, NULL if there is no such volume. */
struct json *volume_options(struct engine *e, const char *name);

/* One that is about to run needs the volume: done runs when its file system is there, and then the caller
 * holds it until volume_drop(). volume_use.c */
void volume_hold(struct engine *e, const char *name, engine_done_fn done, void *ud);
void volume_drop(struct engine *e, const char *name);
/* A container that was running before the daemon holds it. */
void volume_adopt(struct engine *e, const char *name);
/* It is about to be removed, and nobody uses it: unmounted at once. */
void volume_forget(struct engine *e, const char *name);
/* After adoption: what nobody holds is unmounted. */
void volumes_settle(struct engine *e);

/* First use: copies what the image has at target into an empty volume, in a worker. layer_dirs: top first.
 * Volumes that were filled before are left alone (done runs at once). */
void volume_fill(struct engine *e, const char *name, char *const *layer_dirs, const char *target,
		 engine_done_fn done, void *ud);
