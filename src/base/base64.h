/* Base64 (RFC 4648, with padding). */
#pragma once

#include "base/macro.h"

char *base64_encode(const void *p, size_t n);			/* heap */
/* -EINVAL for anything else; heap, NUL-terminated. */
int base64_decode(const char *s, char **ret, size_t *ret_len);
