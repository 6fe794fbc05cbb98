/* A container's log in Docker's json-file format: one JSON object a line, written by the supervisor.
 *
 * Lines longer than JSONLOG_LINE_MAX are cut into parts, between characters; only the last part ends in a
 * newline, as Docker does. A full disk loses log lines, never the container: the first loss is noted
 * once, and no half line stays behind.
 *
 * A file that is full becomes NAME.1, the one before it NAME.2, and so on. NAME exists at every moment, and a
 * file keeps its inode as it moves on, so that readers can follow (engine/logs.c). */
#pragma once

#include "base/sbuf.h"

#define JSONLOG_LINE_MAX (16u << 10)

struct journal;

struct jsonlog {
	int fd, dir;
	char *name;			/* in dir */
	uint64_t size, max_size;	/* max_size 0 = no end */
	unsigned max_file;		/* how many files are kept */
	char *attrs;			/* of every line, a JSON object; NULL = none */
	struct journal *journal;	/* gets each line too; NULL = none */
	bool lost;
	struct sbuf partial[2];		/* stdout, stderr: bytes of an unfinished line */
};

/* Opens (creates, 0640) the log for appending; "" opens nothing and every write is dropped. 0 or -errno,
 * and then too every write is dropped. opts: name, value pairs, may be NULL:
 *   max-size BYTES, max-file N	when a new file begins, and how many there are
 *   attrs OBJECT		stands in every line
 *   journal FIELDS		lines go to the journal too, with these fields (super/journal.h) */
int jsonlog_open(struct jsonlog *l, const char *path, char *const *opts);
/* stream: 1 stdout, 2 stderr. All lines of one call get the same time. */
void jsonlog_write(struct jsonlog *l, int stream, const void *p, size_t n);
/* Writes unfinished lines (without newline) and closes. */
void jsonlog_close(struct jsonlog *l);
