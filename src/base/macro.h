/* Small helpers used everywhere: cleanup attributes, ownership transfer, array sizes. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _printf_(a, b) __attribute__((format(printf, a, b)))
#define _noreturn_ __attribute__((noreturn))
#define _unused_ __attribute__((unused))
#define _warn_unused_ __attribute__((warn_unused_result))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ({ typeof(a) _a = (a); typeof(b) _b = (b); _a < _b ? _a : _b; })
#define MAX(a, b) ({ typeof(a) _a = (a); typeof(b) _b = (b); _a > _b ? _a : _b; })
#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

/* Hands ownership away: yields the value and resets the variable, so its cleanup does nothing. */
#define TAKE_PTR(p) ({ typeof(p) *_pp = &(p); typeof(p) _v = *_pp; *_pp = NULL; _v; })
#define TAKE_FD(fd) ({ int *_pf = &(fd); int _f = *_pf; *_pf = -EBADF; _f; })

/* Retries a system call interrupted by a signal. */
#define RETRY(expr) ({ long _r; do _r = (long)(expr); while (_r < 0 && errno == EINTR); _r; })

/* Defines the `cleanup` adaptor NAMEp for a free function NAME(type). */
#define DEFINE_CLEANUP(type, name) \
	static inline _unused_ void name##p(type *p) { if (*p) { name(*p); *p = NULL; } }

static inline void freep(void *p) { free(*(void **)p); *(void **)p = NULL; }
#define _cleanup_free_ _cleanup_(freep)
