/* The data of operations on files, between a client and the supervisor of a container. */
#pragma once

#include "api/server.h"
#include "engine/container.h"

/* Answers r with what the operation puts out. event: what to tell once it has succeeded. A failure before the
 * first byte is an error like any other; one after it cuts the connection. */
void transfer_out(struct request *r, struct container *c, const struct files_args *a, const char *type,
		  const char *event);
/* Gives the body of r to the operation; done answers r. */
void transfer_in(struct request *r, struct container *c, const struct files_args *a, engine_done_fn done,
		 void *ud);
/* Collects what the operation puts out. */
typedef void (*collected_fn)(void *userdata, int r, const struct err *e, const struct sbuf *data);
void transfer_collect(struct engine *e, struct container *c, const struct files_args *a, collected_fn done,
		      void *ud);
