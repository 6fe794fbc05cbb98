/* Verbs that do one thing to each of their arguments. */
#pragma once

#include "cli/cli.h"

enum { TARGETS_IGNORE_MISSING = 1 << 0 /* a 404 is printed, but is no failure */ };

/* Calls method on url(name, userdata) (heap) for every name, many at a time: stopping ten containers takes as
 * long as the slowest. Prints the names that worked in order, then the errors. Exit code. */
int targets_call(struct cli *c, char *const *names, const char *method, char *(*url)(const char *, void *),
		 void *userdata, unsigned flags);
