/* What an image says that a kernel must give it: `os.version` and `os.features` of its platform, and the
 * label insula.kernel.min. Linux images that say nothing run everywhere. */
#pragma once

#include "base/err.h"
#include "lib/json.h"

#define LABEL_KERNEL_MIN "insula.kernel.min"

/* Leading numbers decide: "6.1.0-13-amd64" is 6.1.0, and at least 6.1. < 0, 0, > 0. */
int kernel_compare(const char *a, const char *b);
/* Whether a kernel of that release gives what a platform (object with os.version and os.features) asks for.
 * If not, *ret_why (heap; may be NULL) says what that is: "a kernel of at least 7.0". */
bool platform_needs_met(const struct json *platform, const char *release, char **ret_why);
/* The same for an image's config document, which is such a platform and has labels. */
bool image_needs_met(const struct json *config, const char *release, char **ret_why);
