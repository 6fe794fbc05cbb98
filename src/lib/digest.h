/* SHA-256 (libcrypto behind one wrapper). */
#pragma once

#include "base/macro.h"

struct sha256;
struct sha256 *sha256_new(void);
void sha256_update(struct sha256 *s, const void *p, size_t n);
/* Ends and frees; ret gets 64 hex digits. */
void sha256_final(struct sha256 *s, char ret[65]);
void sha256_free(struct sha256 *s);
void sha256_hex(const void *p, size_t n, char ret[65]);
/* Of a whole open file, from its start. 0 or -errno. */
int sha256_fd(int fd, char ret[65]);
