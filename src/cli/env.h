/* Variables and labels from files and from the command line. */
#pragma once

#include "base/err.h"

/* Lines of the files, then the entries of list. A bare NAME takes the value from our own environment; if it
 * has none there, a line is left out, and an entry of list stays bare (it takes the image's variable away).
 * *ret_env is a heap vector (NULL if empty). */
int env_collect(char *const *files, char *const *list, char ***ret_env, struct err *e);
/* The same for labels: a bare NAME has an empty value. */
int labels_collect(char *const *files, char *const *list, char ***ret_labels, struct err *e);
