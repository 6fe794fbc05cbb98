/* A growing byte string with a mandatory maximum. Invariant: buf is NUL-terminated at len once
 * anything was added; sbuf_str() is never NULL. Going over the maximum drops the addition and sets
 * `full`: check it (or sbuf_ok()) where foreign data is collected. */
#pragma once

#include "base/macro.h"
#include <stdarg.h>
#include <stdbool.h>

struct sbuf {
	char *buf;
	size_t len, cap, max;
	bool full;
};

#define SBUF_MAX_DEFAULT (64u << 20)
#define SBUF_INIT {0}			/* maximum SBUF_MAX_DEFAULT */
#define SBUF_INIT_MAX(m) {.max = (m)}
#define _cleanup_sbuf_ _cleanup_(sbuf_done)

void sbuf_done(struct sbuf *s);
void sbuf_reset(struct sbuf *s);			/* length 0, keeps the memory */
void sbuf_add(struct sbuf *s, const void *p, size_t n);
void sbuf_puts(struct sbuf *s, const char *str);
void sbuf_putc(struct sbuf *s, char c);
void sbuf_printf(struct sbuf *s, const char *fmt, ...) _printf_(2, 3);
void sbuf_vprintf(struct sbuf *s, const char *fmt, va_list ap) _printf_(2, 0);
void sbuf_consume(struct sbuf *s, size_t n);		/* drops n bytes from the front */
char *sbuf_reserve(struct sbuf *s, size_t n);		/* room for n bytes at the end, NULL if over max */
void sbuf_commit(struct sbuf *s, size_t n);		/* n of the reserved bytes were written */
const char *sbuf_str(const struct sbuf *s);
char *sbuf_steal(struct sbuf *s);			/* caller owns the string; s is empty after */
static inline bool sbuf_ok(const struct sbuf *s) { return !s->full; }
