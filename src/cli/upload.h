/* Sending a file or standard input as the body of a request. */
#pragma once

#include "cli/progress.h"

/* POSTs what fd holds to target and shows the answer's progress on p. Closes nothing. 0 or -errno and e. */
int upload(struct cli *c, const char *target, int fd, struct progress *p, struct err *e);
/* Opens path for reading, in docker's words: "open PATH: no such file or directory". */
int upload_open(const char *path, int *ret_fd, struct err *e);
