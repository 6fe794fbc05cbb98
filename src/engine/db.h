/* All SQL lives in db.c and the db_*.c files of each subject. One SQLite file, WAL, STRICT tables,
 * user_version migrations; only insulad opens it. */
#pragma once

#include "base/err.h"
#include <stdint.h>

struct db;
struct stmt;

int db_open(const char *path, struct db **ret, struct err *e);	/* creates and migrates */
void db_close(struct db *d);
int db_exec(struct db *d, const char *sql, struct err *e);
/* Prepared statements are cached by their text pointer. fmt binds in order: 's' char*, 'i' int64_t,
 * 'b' (const void *, size_t), 'n' NULL. */
int db_run(struct db *d, struct err *e, const char *sql, const char *fmt, ...);
int db_query(struct db *d, struct stmt **ret, struct err *e, const char *sql, const char *fmt, ...);
int stmt_step(struct stmt *s, struct err *e);			/* 1 row, 0 done, -errno */
const char *stmt_str(struct stmt *s, int col);			/* "" for NULL; valid until the next step */
int64_t stmt_int(struct stmt *s, int col);
void stmt_done(struct stmt *s);					/* back to the cache */
static inline void stmt_donep(struct stmt **s) { if (*s) stmt_done(*s); }
#define _cleanup_stmt_ __attribute__((cleanup(stmt_donep)))
int db_begin(struct db *d, struct err *e);			/* BEGIN IMMEDIATE */
int db_commit(struct db *d, struct err *e);
void db_rollback(struct db *d);

/* The meta table: small facts of this data root. Heap; NULL if absent. */
char *db_meta_get(struct db *d, const char *key);
int db_meta_set(struct db *d, const char *key, const char *value, struct err *e);

/* Tables (schema.c): images(id, config, created, size, layers json array of chain ids, parent...),
 * image_tags(ref, image_id), containers(id, name, image_id, image_ref, isolation, created, config json
 * (API body Config+HostConfig+NetworkingConfig as stored), state json), volumes, networks, addresses,
 * meta(key,value). */
