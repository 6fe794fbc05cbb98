/* The only place that prints diagnostics. Programs log once, at the top; library code only log_debug. */
#pragma once

#include "base/macro.h"
#include <stdbool.h>

enum log_level { LOG_LVL_ERROR, LOG_LVL_WARN, LOG_LVL_INFO, LOG_LVL_DEBUG };

/* name prefixes each line; fd defaults to 2. */
void log_init(const char *name, enum log_level max);
void log_set_fd(int fd);
void log_set_json(bool on); /* {"level":..,"msg":..,"time":..} lines (runtime --log-format json) */
enum log_level log_get_level(void);
void log_write(enum log_level l, const char *fmt, ...) _printf_(2, 3);

#define log_error(...) log_write(LOG_LVL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LVL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                                       \
	do {                                                                                                 \
		if (log_get_level() >= LOG_LVL_DEBUG)                                                        \
			log_write(LOG_LVL_DEBUG, __VA_ARGS__);                                               \
	} while (0)
