/* `docker top`: rows of a ps_table as the columns that ps(1) would print for the given arguments. Pure. */
#pragma once

#include "lib/json.h"

struct top_input {
	char *const *cells;		/* MSG_PS_COLUMNS a row */
	uint64_t now_s;			/* real time */
	uint64_t memory_kb;		/* total, for %MEM */
	const char *passwd;		/* content of a passwd file, to name users; may be NULL */
};

/* args as after `docker top CONTAINER`: "-ef", "aux", "-o pid,args", "-eo pid,comm"... Result: {"Titles",
 * "Processes"}. ERR_INVALID in the words of ps and Docker. */
int top_format(const char *args, const struct top_input *in, struct json **ret, struct err *err);
