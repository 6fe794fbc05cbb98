/* Variables and labels from files and from the command line. */
#pragma once

#include "base/err.h"

/* Lines of the files, then the entries of list; a bare NAME takes the value from our own environment and is
 * left out if it has none there. *ret_env is a heap vector (NULL if empty). */
int env_collect(char *const *files, char *const *list, char ***ret_env, struct err *e);
/* The same for labels: a bare NAME has an empty value. */
int labels_collect(char *const *files, char *const *list, char ***ret_labels, struct err *e);
