/* What a program outside our trust prints: QEMU, a file server, the guest's console. It goes to our log line
 * by line, cleaned of control characters and only so much a second; the last lines are kept for messages. */
#pragma once

#include "base/log.h"
#include "base/loop.h"
#include "base/sbuf.h"

struct output {
	const char *name;
	enum log_level level;
	int fd;
	struct loop_source *io;
	struct sbuf line, tail;
	enum { ESCAPE_NONE, ESCAPE_BEGUN, ESCAPE_LONG } escape;	/* within what steers a terminal */
	const char *telling; /* the first line with this in it says more than the last ones; may be NULL */
	char *told;
	uint64_t second;		/* of the budget below */
	size_t logged, dropped;
};
#define OUTPUT_INIT {.fd = -EBADF}

/* *ret_fd: the end to print to (a socket). name is borrowed. */
int output_open(struct output *o, struct loop *l, const char *name, enum log_level level, int *ret_fd);
/* Takes what is left, once nobody prints any more. */
void output_drain(struct output *o);
/* The last lines, joined by " | ", a few hundred characters; or the telling one. Borrowed until the next
 * round of the loop. */
const char *output_tail(struct output *o);
void output_close(struct output *o);

/* A copy of at most max bytes, control characters replaced: a guest's words that go to a terminal. */
char *text_clean(const char *s, size_t max);
