/* Copying what an image has at a path into a new volume. */
#pragma once

#include "base/err.h"

/* layers: directories, top first. Blocks: for workers. A target that the image lacks, or that is no
 * directory, and a destination that is not empty, copy nothing. Owner, mode, times and extended attributes
 * are kept. */
int copy_up(char *const *layers, const char *target, const char *to, struct err *err);
