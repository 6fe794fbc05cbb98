/* JSON text cut into pieces before it is parsed, so that of long lists only that becomes a tree which
 * somebody reads. What is left out is not checked; json_parse does that with the rest. */
#pragma once

#include "base/sbuf.h"
#include <stddef.h>

/* Length of the value that p begins with, with the blanks before it; 0 if it is not there to its end. */
size_t json_scan_value(const char *p, size_t n);
/* The same for an object, which goes to out with those members only whose name is among keys (NULL at the
 * end; names that are written with escapes are not found). */
size_t json_scan_members(const char *p, size_t n, const char *const *keys, struct sbuf *out);
