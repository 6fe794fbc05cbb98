#include "lib/sqlite.h"

#include "base/alloc.h"
#include <errno.h>
#include <sqlite3.h>
#include <string.h>

#define BUSY_MS 2000

struct sqlite_stmt {
	struct sqlite_stmt *next;
	const char *sql;	/* the key: compared by address */
	sqlite3_stmt *st;
	bool busy;
};

struct sqlite {
	sqlite3 *db;
	struct sqlite_stmt *cache;
};

static int to_errno(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:	return 0;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:	return -EBUSY;
	case SQLITE_NOMEM:	return -ENOMEM;
	case SQLITE_READONLY:	return -EROFS;
	case SQLITE_FULL:	return -ENOSPC;
	case SQLITE_CANTOPEN:	return -ENOENT;
	case SQLITE_PERM:
	case SQLITE_AUTH:	return -EACCES;
	case SQLITE_CONSTRAINT:	return -EEXIST;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:	return -EBADMSG;
	case SQLITE_MISMATCH:
	case SQLITE_RANGE:
	case SQLITE_MISUSE:	return -EINVAL;
	default:		return -EIO;
	}
}

int sqlite_open(const char *path, struct sqlite **ret, char **ret_msg)
{
	struct sqlite *s = new0(struct sqlite);
	int rc;

	/* the pools SQLite sets aside by default would be a good part of an idle daemon's memory */
	(void)sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
	(void)sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0);
	rc = sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
			     SQLITE_OPEN_EXRESCODE, NULL);
	if (rc != SQLITE_OK) {
		*ret_msg = xstrdup(s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(rc));
		sqlite_close(s);
		return to_errno(rc);
	}
	(void)sqlite3_busy_timeout(s->db, BUSY_MS);
	*ret = s;
	return 0;
}

void sqlite_close(struct sqlite *s)
{
	if (!s)
		return;
	while (s->cache) {
		struct sqlite_stmt *st = s->cache;

		s->cache = st->next;
		sqlite3_finalize(st->st);
		free(st);
	}
	sqlite3_close(s->db);
	free(s);
}

int sqlite_exec(struct sqlite *s, const char *sql)
{
	return to_errno(sqlite3_exec(s->db, sql, NULL, NULL, NULL));
}

static int bind(sqlite3_stmt *st, const char *fmt, va_list ap)
{
	int rc = SQLITE_OK;

	for (int i = 1; *fmt && rc == SQLITE_OK; fmt++, i++) {
		const void *p;
		size_t n;

		switch (*fmt) {
		case 's':
			rc = sqlite3_bind_text(st, i, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
			break;
		case 'i':
			rc = sqlite3_bind_int64(st, i, va_arg(ap, int64_t));
			break;
		case 'b':
			p = va_arg(ap, const void *);
			n = va_arg(ap, size_t);
			rc = sqlite3_bind_blob64(st, i, n ? p : "", n, SQLITE_TRANSIENT);
			break;
		case 'n':
			rc = sqlite3_bind_null(st, i);
			break;
		default:
			rc = SQLITE_MISUSE;
		}
	}
	return rc;
}

/* A statement that is being stepped is not handed out twice: nested use of one text gets a second copy. */
static int get_stmt(struct sqlite *s, const char *sql, struct sqlite_stmt **ret)
{
	struct sqlite_stmt *st;
	int rc;

	for (st = s->cache; st; st = st->next)
		if (st->sql == sql && !st->busy) {
			*ret = st;
			return SQLITE_OK;
		}
	st = new0(struct sqlite_stmt);
	rc = sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &st->st, NULL);
	if (rc != SQLITE_OK || !st->st) {
		free(st);
		return rc == SQLITE_OK ? SQLITE_MISUSE : rc;
	}
	st->sql = sql;
	st->next = s->cache;
	s->cache = st;
	*ret = st;
	return SQLITE_OK;
}

int sqlite_prepare(struct sqlite *s, const char *sql, const char *fmt, va_list ap, struct sqlite_stmt **ret)
{
	struct sqlite_stmt *st;
	int rc = get_stmt(s, sql, &st);

	if (rc != SQLITE_OK)
		return to_errno(rc);
	rc = bind(st->st, fmt, ap);
	if (rc != SQLITE_OK) {
		sqlite_release(st);
		return to_errno(rc);
	}
	st->busy = true;
	*ret = st;
	return 0;
}

int sqlite_step(struct sqlite_stmt *st)
{
	int rc = sqlite3_step(st->st);

	return rc == SQLITE_ROW ? 1 : to_errno(rc);
}

const char *sqlite_col_str(struct sqlite_stmt *st, int col)
{
	const unsigned char *s = sqlite3_column_text(st->st, col);

	return s ? (const char *)s : "";
}

int64_t sqlite_col_int(struct sqlite_stmt *st, int col)
{
	return sqlite3_column_int64(st->st, col);
}

void sqlite_release(struct sqlite_stmt *st)
{
	if (!st)
		return;
	(void)sqlite3_reset(st->st);
	(void)sqlite3_clear_bindings(st->st);
	st->busy = false;
}

const char *sqlite_message(struct sqlite *s)
{
	return sqlite3_errmsg(s->db);
}
