/* Allocation that cannot fail: out of memory aborts (processes are small and restartable).
 * Anything sized by outside input is bounded by its caller first. */
#pragma once

#include "base/macro.h"
#include <stdarg.h>

void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n, size_t size);
char *xstrdup(const char *s);		/* NULL in, NULL out */
char *xstrndup(const char *s, size_t n);
void *xmemdup(const void *p, size_t n);
char *xasprintf(const char *fmt, ...) _printf_(1, 2);
char *xvasprintf(const char *fmt, va_list ap) _printf_(1, 0);

#define new0(type) ((type *)xcalloc(1, sizeof(type)))
#define new_array(type, n) ((type *)xcalloc((n), sizeof(type)))

/* Replaces the heap string *p by a copy of s. */
void str_replace(char **p, const char *s);
