/* Compressing files for registries (zlib behind one wrapper): the same bytes for the same input. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Compresses from (from its start) to the end of `to`; tee gets what is written. 0 or -errno. */
int gzip_file(int from, int to, void (*tee)(void *ud, const void *p, size_t n), void *ud);
