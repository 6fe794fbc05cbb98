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
struct json *volume_inspect(struct engine *e, const char *name);        /* new; NULL if there is none */
struct json *volumes_summaries(struct engine *e);			/* all; new array */
int volumes_list(struct engine *e, const struct filters *f, struct json **ret, struct err *err);
extern const char *const volume_filters[];

/* First use: copies what the image has at target into an empty volume, in a worker. layer_dirs: top first.
 * Volumes that were filled before are left alone (done runs at once). */
void volume_fill(struct engine *e, const char *name, char *const *layer_dirs, const char *target,
		 engine_done_fn done, void *ud);
