#include "engine/db.h"

#include "base/alloc.h"
#include "base/strv.h"

char *db_meta_get(struct db *d, const char *key)
{
	_cleanup_stmt_ struct stmt *s = NULL;

	if (db_query(d, &s, NULL, "SELECT value FROM meta WHERE key = ?", "s", key) < 0 ||
	    stmt_step(s, NULL) <= 0)
		return NULL;
	return xstrdup(stmt_str(s, 0));
}

int db_meta_set(struct db *d, const char *key, const char *value, struct err *e)
{
	return db_run(d, e, "INSERT INTO meta (key, value) VALUES (?, ?) "
		      "ON CONFLICT (key) DO UPDATE SET value = excluded.value", "ss", key, value);
}
