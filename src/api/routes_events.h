/* GET /events. */
#pragma once

#include "api/server.h"

void route_events(struct request *r, struct engine *e);
