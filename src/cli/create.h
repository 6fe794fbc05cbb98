/* Creating a container from the command line: shared by run and create. */
#pragma once

#include "cli/run_opts.h"

/* Checks --pull and --cidfile, creates the container (pulling the image if it is missing), prints warnings
 * and writes the cidfile. *ret_id is heap. */
int create_container(struct cli *c, const struct run_opts *o, char *const *args, char **ret_id,
		     struct err *e);
