/* NULL-terminated vectors of heap strings. A NULL vector is an empty one. */
#pragma once

#include "base/macro.h"
#include <stdbool.h>

#define _cleanup_strv_ _cleanup_(strv_freep)

void strv_free(char **v);
static inline void strv_freep(char ***v) { strv_free(*v); *v = NULL; }
size_t strv_len(char *const *v);
void strv_add(char ***v, const char *s);		/* appends a copy */
void strv_take(char ***v, char *s);			/* appends, takes ownership */
void strv_addf(char ***v, const char *fmt, ...) _printf_(2, 3);
void strv_adds(char ***v, ...) __attribute__((sentinel));	/* appends copies, up to NULL */
char **strv_copy(char *const *v);
void strv_extend(char ***v, char *const *more);
void strv_remove(char **v, const char *s);			/* every s */
bool strv_has(char *const *v, const char *s);
char *strv_join(char *const *v, const char *sep);
char **strv_split(const char *s, const char *seps);	/* empty parts are dropped */
/* In a vector of K=V, the value of key, or NULL. */
const char *strv_env_get(char *const *v, const char *key);
/* Sets K=V in a vector, replacing an entry of the same key. */
void strv_env_set(char ***v, const char *key_eq_value);

/* String predicates and parsing that want a name. */
static inline bool streq(const char *a, const char *b)
{
	return a == b || (a && b && !__builtin_strcmp(a, b));
}
static inline bool str_empty(const char *s) { return !s || !*s; }
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
/* Whole-string decimal parsing: 0, -EINVAL (junk, sign, empty) or -ERANGE. */
int str_to_u64(const char *s, uint64_t *ret);
int str_to_i64(const char *s, int64_t *ret);
