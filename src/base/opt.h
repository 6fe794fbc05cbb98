/* Table-driven command line options, with Docker's (pflag's) rules: -abc bundles, -e=v, -ev, -e v,
 * --flag v, --flag=v, booleans only as --flag or --flag=false, repeated flags append, "--" ends.
 * Parsing stops at the first positional if `stop_at_positional` (run, exec), else options and
 * arguments may mix. */
#pragma once

#include "base/macro.h"
#include <stdbool.h>

enum opt_type { OPT_BOOL, OPT_STR, OPT_STRV, OPT_INT, OPT_CALL };

struct opt {
	char short_name;	/* 0 = none */
	const char *long_name;
	enum opt_type type;
	void *target;		/* bool*, char** (heap, replaced), char*** , int64_t*, or NULL */
	const char *arg_name;	/* shown in help: "string", "list", "bytes"...; NULL for booleans */
	const char *help;	/* NULL hides the option from help (still accepted) */
	int (*call)(const struct opt *o, const char *value,
		    char **ret_error); /* OPT_CALL; target is its argument */
	bool *seen;		/* optional: set when the option was given */
};
#define OPT_END {.long_name = NULL}

/* Parses argv[1..]; *ret_args gets the positional arguments (a vector of pointers into argv; free the
 * vector only). On a usage error returns -EINVAL with Docker's text in *ret_error (heap), e.g.
 * "unknown flag: --x", "unknown shorthand flag: 'x' in -x", "flag needs an argument: --name",
 * "invalid argument \"x\" for \"-t, --tty\" flag: ...". */
int opt_parse(const struct opt *opts, int argc, char *const *argv, bool stop_at_positional,
	      char ***ret_args, char **ret_error);
/* Prints the "Options:" block of docker's --help, sorted by long name. */
void opt_print_help(const struct opt *opts);
