/* Answers that become files: save and export. */
#pragma once

#include "cli/cli.h"

/* GET target into the file `output` (made anew, 0600), or with NULL to standard output, which must be no
 * terminal. A file that is not complete is removed. */
int download(struct cli *c, const char *target, const char *output, struct err *e);
