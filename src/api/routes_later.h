/* Endpoints of the Docker Engine API that this version does not serve: they answer 501 with a sentence, not
 * 404, so that a client can tell "not yet" from "no such thing". */
#pragma once

#include "api/server.h"

extern const struct route routes_later[];
