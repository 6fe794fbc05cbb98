/* A container's log in Docker's json-file format: one JSON object a line, written by the supervisor.
 *
 * Lines longer than JSONLOG_LINE_MAX are cut into parts, between characters; only the last part ends in a
 * newline, as Docker does. A full disk loses log lines, never the container: the first loss is noted
 * once, and no half line stays behind. */
#pragma once

#include "base/sbuf.h"

#define JSONLOG_LINE_MAX (16u << 10)

struct jsonlog {
	int fd;
	bool lost;
	struct sbuf partial[2];		/* stdout, stderr: bytes of an unfinished line */
};

/* Opens (creates, 0640) the log for appending; "" opens nothing and every write is dropped. 0 or -errno,
 * and then too every write is dropped. */
int jsonlog_open(struct jsonlog *l, const char *path);
/* stream: 1 stdout, 2 stderr. All lines of one call get the same time. */
void jsonlog_write(struct jsonlog *l, int stream, const void *p, size_t n);
/* Writes unfinished lines (without newline) and closes. */
void jsonlog_close(struct jsonlog *l);
