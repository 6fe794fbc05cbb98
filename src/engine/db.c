#include "engine/db.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/strv.h"
#include "engine/schema.h"
#include "lib/sqlite.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LOG_RESERVE (2 << 20)

struct db {
	struct sqlite *sql;
};

/* struct stmt is the wrapper's statement plus the way back to the database, for messages. */
struct stmt {
	struct db *db;
	struct sqlite_stmt *st;
};

static int fail(struct db *d, int r, struct err *e)
{
	return err_msg(e, ERR_SYSTEM, r, "database: %s", sqlite_message(d->sql));
}

int db_exec(struct db *d, const char *sql, struct err *e)
{
	int r = sqlite_exec(d->sql, sql);

	return r < 0 ? fail(d, r, e) : 0;
}

static int prepare(struct db *d, struct stmt **ret, struct err *e, const char *sql, const char *fmt,
		   va_list ap)
{
	struct sqlite_stmt *st;
	int r = sqlite_prepare(d->sql, sql, fmt, ap, &st);

	if (r < 0)
		return fail(d, r, e);
	*ret = new0(struct stmt);
	**ret = (struct stmt){d, st};
	return 0;
}

int db_query(struct db *d, struct stmt **ret, struct err *e, const char *sql, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = prepare(d, ret, e, sql, fmt, ap);
	va_end(ap);
	return r;
}

int db_run(struct db *d, struct err *e, const char *sql, const char *fmt, ...)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = prepare(d, &s, e, sql, fmt, ap);
	va_end(ap);
	while (r >= 0) {
		r = stmt_step(s, e);
		if (r == 0)
			break;
	}
	return r;
}

int stmt_step(struct stmt *s, struct err *e)
{
	int r = sqlite_step(s->st);

	return r < 0 ? fail(s->db, r, e) : r;
}

const char *stmt_str(struct stmt *s, int col)
{
	return sqlite_col_str(s->st, col);
}

int64_t stmt_int(struct stmt *s, int col)
{
	return sqlite_col_int(s->st, col);
}

void stmt_done(struct stmt *s)
{
	sqlite_release(s->st);
	free(s);
}

int db_begin(struct db *d, struct err *e)
{
	return db_exec(d, "BEGIN IMMEDIATE", e);
}

int db_commit(struct db *d, struct err *e)
{
	int r = db_exec(d, "COMMIT", e);

	if (r < 0)
		db_rollback(d);
	return r;
}

void db_rollback(struct db *d)
{
	(void)sqlite_exec(d->sql, "ROLLBACK");
}

static int version_get(struct db *d, int64_t *ret, struct err *e)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	int r = db_query(d, &s, e, "PRAGMA user_version", "");

	if (r == 0)
		r = stmt_step(s, e);
	if (r > 0)
		*ret = stmt_int(s, 0);
	return r < 0 ? r : 0;
}

static int migrate_step(struct db *d, int64_t version, struct err *e)
{
	char pragma[64];
	int r = db_begin(d, e);

	if (r < 0)
		return r;
	snprintf(pragma, sizeof pragma, "PRAGMA user_version = %lld", (long long)version + 1);
	r = db_exec(d, db_migrations[version], e);
	if (r >= 0)
		r = db_exec(d, pragma, e);
	if (r < 0) {
		db_rollback(d);
		return r;
	}
	return db_commit(d, e);
}

static int migrate(struct db *d, const char *path, struct err *e)
{
	int64_t version = 0, newest = 0;
	int r = version_get(d, &version, e);

	while (db_migrations[newest])
		newest++;
	if (r < 0)
		return r;
	if (version < 0 || version > newest)
		return err_msg(e, ERR_SYSTEM, -EPROTONOSUPPORT,
			       "open database '%s': it was written by a newer insula "
			       "(schema %lld, this one knows %lld): upgrade insula",
			       path, (long long)version, (long long)newest);
	for (; version < newest; version++) {
		r = migrate_step(d, version, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The write-ahead log's space, taken while there is some: what makes room on a full disk, the removal of a
 * container, is written there too. It lies behind the end of the file, where SQLite does not see it; a
 * checkpoint each 200 pages keeps the log well below it. Not so the database: to close another descriptor of
 * that would drop SQLite's locks (sqlite.org/howtocorrupt.html, 2.2). */
static void reserve_log(const char *path)
{
	_cleanup_free_ char *log = xasprintf("%s-wal", path);
	_cleanup_close_ int fd = open(log, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, LOG_RESERVE) < 0)
		log_warn("reserve space for '%s': %s", log, strerror(errno));
}

int db_open(const char *path, struct db **ret, struct err *e)
{
	/* Nobody else opens it: the lock is kept, which spares a dozen system calls per statement. Commits
	 * survive a crash of insulad; a power cut may lose the last ones, never the consistency. The
	 * write-ahead log is kept short, and the page cache small: the database is a few hundred kilobytes.
	 */
	static const char setup[] =
	    "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA "
	    "foreign_keys = ON;"
	    "PRAGMA cache_size = -256; PRAGMA wal_autocheckpoint = 200; PRAGMA temp_store = MEMORY;"
	    "PRAGMA trusted_schema = OFF;";
	_cleanup_free_ char *msg = NULL;
	struct db *d = new0(struct db);
	int r = sqlite_open(path, &d->sql, &msg);

	if (r < 0) {
		err_msg(e, ERR_SYSTEM, r, "open database '%s': %s", path, msg);
		free(d);
		return r;
	}
	r = db_exec(d, setup, e);
	if (r >= 0)
		r = migrate(d, path, e);
	if (r < 0) {
		err_wrap(e, r, "open '%s'", path);
		db_close(d);
		return r;
	}
	if (!streq(path, ":memory:"))
		reserve_log(path);
	*ret = d;
	return 0;
}

void db_close(struct db *d)
{
	if (!d)
		return;
	sqlite_close(d->sql);
	free(d);
}
