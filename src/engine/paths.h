/* Where the helper programs are. */
#pragma once

#include "engine/engine.h"

/* The directory of insula-shim and its like for a daemon whose executable is `exe`: its own directory, the
 * directory itself for an installed layout (PREFIX/sbin -> PREFIX/lib/insula), or the top of a meson build
 * tree. Heap; never NULL. */
char *engine_libexec_for(const char *exe);
/* Path of a helper ("insula-shim", "vmwp", "insula-puller"...): cfg.libexec/NAME, or NAME's place in a build
 * tree whose src/ is cfg.libexec. Heap; NULL if there is no such program. */
char *engine_program(const struct engine *e, const char *name);
