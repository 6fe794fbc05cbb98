/* What the fuzz targets share. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* Ends the target where it is, unless what is said holds. */
static inline void must(bool holds)
{
	if (!holds)
		__builtin_trap();
}
