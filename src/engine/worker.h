/* Workers of the daemon, and the trash folder that one of them empties. */
#pragma once

#include "base/worker.h"
#include "engine/engine.h"

/* Moves path into the trash folder of the data root and deletes it in the background. */
void trash(struct engine *e, const char *path);
/* Deletes what is in the trash folder now (left by a crash). */
void trash_start(struct engine *e);
bool trash_empty(const struct engine *e);
