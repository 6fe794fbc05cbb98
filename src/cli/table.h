/* Text columns as Go's text/tabwriter sets them (left-aligned, padded with spaces): cells end with a tab, the
 * last cell of a line belongs to no column, and a column's width is that of a block of consecutive lines
 * that have it. */
#pragma once

#include "base/sbuf.h"

/* Formats text (lines of tab-terminated cells) onto out. Docker's lists use minwidth 10, padding 3; top
 * uses 20. */
void table_format(const char *text, size_t minwidth, size_t padding, struct sbuf *out);
