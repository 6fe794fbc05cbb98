/* Health checks: a command run in the container from time to time says whether it is well.
 *
 * The check itself is an exec like any other, so it is the supervisor (in a virtual machine: the agent) that
 * runs it. Times and counts are Docker's: interval and timeout 30 s, start interval 5 s, 3 retries. */
#pragma once

#include "engine/container.h"

struct health;

/* Ends what is under way and starts anew, if the container has a check. adopted: it ran before this daemon.
 */
void health_start(struct container *c, bool adopted);
void health_stop(struct container *c);		/* it has ended, or the daemon does */
void health_free(struct health *h);
/* "starting", "healthy", "unhealthy"; "none" without a check. */
const char *health_status(const struct container *c);
/* State.Health of inspect, which the database keeps too; new, NULL without a check. */
struct json *health_json(const struct container *c);
void health_load(struct container *c, const struct json *j);
/* Checks the numbers of a Healthcheck. */
int health_config_check(const struct json *config, struct err *err);
