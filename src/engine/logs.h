/* Reading a container's log (Docker's json-file format), in pieces: nothing here reads more than a chunk per
 * call. */
#pragma once

#include "base/sbuf.h"
#include <stdint.h>

/* One entry of the log. text points into the reader and is valid until the next call. */
struct log_entry {
	const char *text;
	size_t n;
	bool err;			/* stderr */
	uint64_t time_ns;
	const char *time;		/* as written, NUL-terminated */
	const char *attrs;		/* a JSON object; NULL = none. As text, it points into the reader */
	size_t n_attrs;
};

/* Parses one line (without its newline). The text is unescaped into buf; attrs points into the line.
 * -EBADMSG for what is no such line. */
int log_line_parse(const char *line, size_t n, struct sbuf *buf, char time[40], struct log_entry *ret);

struct log_reader;

/* Opens path and the files that came before it (path.1...); tail < 0 = from the start, else the last `tail`
 * entries. A missing file reads as an empty one. */
int log_reader_open(const char *path, int64_t tail, struct log_reader **ret);
void log_reader_free(struct log_reader *r);
/* 1 = an entry, 0 = the end of the file for now, -EAGAIN = call again (it worked for long enough), other
 * -errno. */
int log_reader_next(struct log_reader *r, struct log_entry *ret);
