/* Base64 (RFC 4648, with padding). */
#pragma once

#include "base/macro.h"

char *base64_encode(const void *p, size_t n);			/* heap */
/* -EINVAL for anything else; heap, NUL-terminated. */
int base64_decode(const char *s, char **ret, size_t *ret_len);
/* The alphabet of URLs (RFC 4648 section 5). Decoding takes the other one too, padded or not. */
char *base64_url_encode(const void *p, size_t n);
int base64_url_decode(const char *s, char **ret, size_t *ret_len);
