/* Workers of the daemon, and the trash folder that one of them empties. */
#pragma once

#include "base/worker.h"
#include "engine/engine.h"

/* Moves path into the trash folder of the data root and deletes it in the background. */
void trash(struct engine *e, const char *path);
/* The same for what a transaction takes out of the database: within it the promise, once it is committed the
 * deed. A daemon that dies between the two leaves the deed to the next one. */
int trash_promise(struct engine *e, const char *path, struct err *err);
void trash_promised(struct engine *e, const char *path);
void trash_keep_promises(struct engine *e);
/* Deletes what is in the trash folder now (left by a crash). */
void trash_start(struct engine *e);
bool trash_empty(const struct engine *e);
