/* What the list of images and their pruning have in common. */
#pragma once

#include "api/server.h"
#include "engine/filters.h"
#include "engine/image.h"

/* Neither a tag nor a digest names it. */
bool image_dangling(const struct image *i);
/* Whether the filters label, label! and until take it. */
int image_common_filters(const struct filters *f, const struct image *i, bool *ret, struct err *err);
