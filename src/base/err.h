/* The error carrier: what went wrong, for the one place that tells the user.
 *
 * base/ functions return -errno alone. From the runtime and the engine up, functions that can fail
 * for reasons a user must read take a `struct err *` as last argument: untouched on success, filled
 * on failure. It may be NULL. The message is complete: "<operation> '<object>': <cause>", lower
 * case, no full stop, or Docker's wording where Docker has one. */
#pragma once

#include "base/macro.h"
#include <stdbool.h>

enum err_kind {
	ERR_NONE,
	ERR_SYSTEM,		/* 500 */
	ERR_INVALID,		/* 400 */
	ERR_FORBIDDEN,		/* 403 */
	ERR_NOT_FOUND,		/* 404 */
	ERR_CONFLICT,		/* 409 */
	ERR_NOT_MODIFIED,	/* 304 */
	ERR_NOT_IMPLEMENTED,	/* 501 */
	ERR_UNAVAILABLE,	/* 503 */
	ERR_CMD_NOT_FOUND,	/* the container's command does not exist: 400, exit code 127 */
	ERR_CMD_NOT_EXECUTABLE,	/* it exists but cannot be executed: 400, exit code 126 */
	ERR_UNAUTHORIZED,	/* 401 */
	_ERR_KIND_MAX
};

struct err {
	enum err_kind kind;
	int errnum;		/* positive errno, 0 if none */
	char *msg;
};

#define ERR_INIT {0}
#define _cleanup_err_ _cleanup_(err_clear)

/* Frees the message and resets to "no error". */
void err_clear(struct err *e);

/* Sets kind, errno (r is -errno or 0) and message; appends ": strerror" if r != 0.
 * Returns r, or -EINVAL/-ENOENT/... matching the kind if r is 0, so `return err_set(...)` works. */
int err_set(struct err *e, enum err_kind kind, int r, const char *fmt, ...) _printf_(4, 5);

/* As err_set, but the message is taken as it is: nothing is appended. */
int err_msg(struct err *e, enum err_kind kind, int r, const char *fmt, ...) _printf_(4, 5);

/* Prefixes the message with "<fmt>: "; if no error is set yet, makes it ERR_SYSTEM from r. Returns r. */
int err_wrap(struct err *e, int r, const char *fmt, ...) _printf_(3, 4);

/* Makes control characters in the message '?': for one that quotes foreign text. Returns r. */
int err_one_line(struct err *e, int r);

/* Moves src into dst (dst may be NULL). */
void err_move(struct err *dst, struct err *src);

/* The errno that stands for a kind when no system call gave one (ERR_NOT_FOUND -> -ENOENT, ...). */
int err_kind_errno(enum err_kind kind);

/* The message, or strerror of errnum, never NULL. */
const char *err_text(const struct err *e);
