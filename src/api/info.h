/* GET /info: what `docker info` prints. */
#pragma once

#include "api/server.h"

void route_info(struct request *r, struct engine *e);
