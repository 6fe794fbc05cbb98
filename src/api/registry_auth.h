/* X-Registry-Auth and the progress streams of pull and push. */
#pragma once

#include "api/server.h"

/* The credentials of the header: heap, NULL if there are none or (as in Docker) they cannot be read. */
struct json *registry_auth(const struct request *r);
/* One line of a progress stream; begins the answer with the first. */
void stream_line(struct request *r, bool *begun, const struct json *line);
void stream_status(struct request *r, bool *begun, const char *status);
/* An error: an answer of its own as long as the stream has not begun, else its last line. */
void stream_fail(struct request *r, bool begun, const struct err *e);
/* routes_pull.c: POST /images/create?fromImage= */
void pull_image(struct request *r, struct engine *e);
