/* How the output of containers is kept: log drivers and their options. */
#pragma once

#include "engine/engine.h"
#include "base/strv.h"

struct container;

extern const char *const log_drivers[];	/* names, NULL-terminated */

/* Whether driver ("" = the default) may have these options (an object of strings); Docker's words. */
int log_config_check(const struct engine_config *cfg, const char *driver, const struct json *opts,
		     struct err *err);
/* Fills a LogConfig object: the engine's default driver and options, and the driver's own limits. */
void log_config_fill(const struct engine_config *cfg, struct json *config);
/* One "key=value" of the daemon's log-opts. */
int log_opt_parse(const char *opt, struct err *err);
/* What the supervisor is told (jsonlog_open): name, value pairs. */
char **container_log_options(const struct container *c);
/* LogPath of inspect: "" for logs that are nobody else's to read. */
char *container_log_public_path(const struct container *c);
