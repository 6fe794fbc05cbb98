/* GET /system/df: what the data root holds, measured. */
#pragma once

#include "api/server.h"

void route_df(struct request *r, struct engine *e);
