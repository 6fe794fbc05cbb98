/* The container endpoints, by subject. */
#pragma once

#include "api/server.h"
#include "engine/container.h"

/* The container that the first path parameter names; answers 404 itself and returns NULL if there is none. */
struct container *request_container(struct request *r, struct engine *e);
/* engine_done_fn with a request as userdata: 204, 304 or the error. */
void answer_204(void *ud, int status, const struct err *e, void *result);
/* engine_done_fn likewise: an empty 200. */
void answer_200(void *ud, int status, const struct err *e, void *result);
/* The query's h and w. */
int request_size(struct request *r, unsigned *ret_rows, unsigned *ret_cols, struct err *err);

void route_container_create(struct request *r, struct engine *e);
void route_container_attach(struct request *r, struct engine *e);
void route_container_wait(struct request *r, struct engine *e);
void route_container_stats(struct request *r, struct engine *e);
void route_container_logs(struct request *r, struct engine *e);
void route_exec_create(struct request *r, struct engine *e);
