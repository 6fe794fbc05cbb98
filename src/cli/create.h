/* Creating a container from the command line: shared by run and create. */
#pragma once

#include "cli/run_opts.h"

/* Checks --pull and --cidfile, creates the container (pulling the image if it is missing), prints warnings
 * and writes the cidfile. *ret_id is heap. *ret_disks (may be NULL): disks of the image are to be made before
 * it can start, which takes a while. */
int create_container(struct cli *c, const struct run_opts *o, char *const *args, char **ret_id,
		     bool *ret_disks, struct err *e);
