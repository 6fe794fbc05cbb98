/* Programs that answer one question: credential helpers, sha256sum. */
#pragma once

#include "base/err.h"
#include "base/sbuf.h"

/* Runs it with our environment and `input` as its standard input, to its end. What it writes is appended to
 * out, up to out's bound; its exit code (or 128 and the signal) comes in *ret_code. */
int program_run(const char *path, char *const *argv, const char *input, struct sbuf *out, int *ret_code,
		struct err *e);
