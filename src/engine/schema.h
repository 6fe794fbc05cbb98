/* The schema of insula.db, one step per version: step i brings user_version i to i + 1. */
#pragma once

extern const char *const db_migrations[];	/* NULL-terminated */
