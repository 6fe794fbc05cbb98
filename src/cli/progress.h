/* The progress stream of pull, load and import: plain lines, or lines redrawn in place on a terminal. */
#pragma once

#include "cli/cli.h"

struct progress {
	FILE *out;		/* NULL: show nothing */
	bool tty;
	char **ids;		/* one screen line each */
};

/* api_object_fn with a struct progress * as userdata. An {"error": ...} in the stream becomes e. */
int progress_object(struct json *j, void *userdata, struct err *e);
void progress_done(struct progress *p);
/* POSTs target (header: "Name: value" or NULL) and shows the answer on out (NULL: nowhere). */
int progress_post(struct cli *c, const char *target, const char *header, FILE *out, struct err *e);
/* The same with the credentials for the registry of ref. */
int progress_registry(struct cli *c, const char *target, const char *ref, FILE *out, struct err *e);
