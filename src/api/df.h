/* GET /system/df, and size=1 of lists: what the data root holds, measured. */
#pragma once

#include "api/server.h"

void route_df(struct request *r, struct engine *e);
/* Answers with a container (or an array of them) as the engine shows it, and with what it has written. */
void answer_with_sizes(struct request *r, struct json *j /* taken */);
