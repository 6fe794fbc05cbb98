/* SQLite behind one wrapper: one connection, prepared statements cached by the address of their text. */
#pragma once

#include "base/macro.h"
#include <stdarg.h>
#include <stdbool.h>

struct sqlite;
struct sqlite_stmt;

/* Opens or creates the file at path. 0 or -errno; *ret_msg (heap) says what SQLite said. */
int sqlite_open(const char *path, struct sqlite **ret, char **ret_msg);
void sqlite_close(struct sqlite *s);
/* Runs one or more statements without parameters or results. */
int sqlite_exec(struct sqlite *s, const char *sql);
/* A statement ready to be stepped, its parameters bound in order as fmt says: 's' char * (NULL -> SQL NULL),
 * 'i' int64_t, 'b' (const void *, size_t), 'n' NULL. Text and bytes are copied. The statement is cached by
 * the pointer sql, so sql must be a string literal. */
int sqlite_prepare(struct sqlite *s, const char *sql, const char *fmt, va_list ap, struct sqlite_stmt **ret);
/* 1 = a row, 0 = done, -errno. */
int sqlite_step(struct sqlite_stmt *st);
const char *sqlite_col_str(struct sqlite_stmt *st, int col);	/* "" for NULL; valid until the next step */
int64_t sqlite_col_int(struct sqlite_stmt *st, int col);
void sqlite_release(struct sqlite_stmt *st);			/* back to the cache; NULL is fine */
/* What SQLite says about the last failure. Borrowed. */
const char *sqlite_message(struct sqlite *s);
