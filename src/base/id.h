/* Random identifiers. */
#pragma once

#include "base/macro.h"
#include <stdbool.h>

#define ID_LEN 64
#define ID_SHORT 12
struct id { char s[ID_LEN + 1]; };

/* Fills p with n random bytes from getrandom(2); aborts if the kernel cannot. */
void random_bytes(void *p, size_t n);
/* 64 lower-case hex digits. */
struct id id_new(void);
bool is_hex(const char *s);
/* Docker's container name rule: [a-zA-Z0-9][a-zA-Z0-9_.-]+ (leading '/' already removed). */
bool name_valid(const char *s);
/* OCI runtime container id: [A-Za-z0-9_+-][A-Za-z0-9_+.-]*, no "..". */
bool rt_id_valid(const char *s);
void hex_encode(const void *p, size_t n, char *ret /* 2n+1 */);
