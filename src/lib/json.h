/* JSON behind one wrapper (json-c). Strict UTF-8, depth limit 64, no NaN, no trailing bytes. */
#pragma once

#include "base/err.h"
#include "base/sbuf.h"
#include <stdbool.h>
#include <stdint.h>

struct json;	/* a value; reference counted by its parent, roots are owned by whoever made them */

enum json_type { JSON_NULL, JSON_BOOL, JSON_INT, JSON_DOUBLE, JSON_STR, JSON_ARRAY, JSON_OBJECT };

int json_parse(const char *p, size_t n, struct json **ret, struct err *e);
/* The same for documents of strangers: a value takes a hundred times the memory of its two bytes, so their
 * number is bounded. */
#define JSON_FOREIGN_MAX 200000u
int json_parse_foreign(const char *p, size_t n, struct json **ret, struct err *e);
void json_free(struct json *j);		/* NULL is fine */
static inline void json_freep(struct json **j) { json_free(*j); *j = NULL; }
#define _cleanup_json_ _cleanup_(json_freep)
struct json *json_copy(const struct json *j);	/* deep */
struct json *json_ref(struct json *j);
char *json_dump(const struct json *j);		/* compact, heap */
char *json_dump_pretty(const struct json *j,
		       const char *indent); /* as `docker inspect`: ": ", [] and {} empty compact */

/* Reading. Borrowed results. A key that is absent, null or of another type gives the default. */
enum json_type json_type(const struct json *j);		/* NULL -> JSON_NULL */
struct json *json_get(const struct json *o, const char *key);
struct json *json_at(const struct json *a, size_t i);
size_t json_len(const struct json *j);			/* array or object; else 0 */
const char *json_str(const struct json *j);		/* value of a string, NULL otherwise */
size_t json_str_len(const struct json *j);		/* its bytes: there may be a NUL among them */
int64_t json_int(const struct json *j);			/* 0 otherwise; doubles are truncated */
uint64_t json_uint(const struct json *j);
double json_double(const struct json *j);
const char *json_double_text(const struct json *j);	/* as it was read */
bool json_bool(const struct json *j);
const char *json_get_str(const struct json *o, const char *key);	/* NULL if absent */
int64_t json_get_int(const struct json *o, const char *key, int64_t def);
bool json_get_bool(const struct json *o, const char *key, bool def);
char **json_get_strv(const struct json *o, const char *key);		/* heap; NULL if absent or empty */
/* Iteration over an object in insertion order: `struct json_iter it = {0}; while (json_next(o, &it)) it.key,
 * it.value` */
struct json_iter { const char *key; struct json *value; void *_entry; bool _started; };
bool json_next(const struct json *o, struct json_iter *it);

/* Building. Values given to set/add are taken over; a NULL value is JSON null. */
struct json *json_object(void);
struct json *json_array(void);
struct json *json_new_str(const char *s);	/* NULL -> JSON null */
struct json *json_new_strn(const char *s, size_t n);
struct json *json_new_int(int64_t v);
struct json *json_new_uint(uint64_t v);
struct json *json_new_double(double v);
struct json *json_new_bool(bool v);
struct json *json_set(struct json *o, const char *key, struct json *v);	/* returns v */
void json_set_str(struct json *o, const char *key, const char *s);
void json_set_int(struct json *o, const char *key, int64_t v);
void json_set_bool(struct json *o, const char *key, bool v);
void json_set_null(struct json *o, const char *key);
void json_set_strv(struct json *o, const char *key, char *const *v);	/* NULL vector -> [] */
void json_del(struct json *o, const char *key);
struct json *json_add(struct json *a, struct json *v);	/* returns v */
void json_add_str(struct json *a, const char *s);

/* Table-driven reading of an object into a struct: each row names a key, its type and where it goes.
 * Unknown keys are ignored; a wrong type or range fails with the path of the value in the document:
 * "linux.resources.memory.limit: expected integer". */
enum json_kind {
	JK_STR,		/* char * (heap) */
	JK_STRV,	/* char ** (heap) */
	JK_BOOL,	/* bool */
	JK_I64, JK_U64, JK_U32, JK_INT,	/* range-checked */
	JK_OPT_I64, JK_OPT_U64, JK_OPT_BOOL,	/* heap pointer to the value, NULL if absent */
	JK_OBJ,		/* sub: table applied at the same base + offset */
	JK_CALL,	/* call(value, target, path, e) */
};
struct json_field {
	const char *key;
	enum json_kind kind;
	size_t offset;
	const struct json_field *sub;
	int (*call)(const struct json *v, void *target, const char *path, struct err *e);
	bool required;
};
#define JSON_FIELD_END {.key = NULL}
/* path: prefix for messages, "" at the root. */
int json_dispatch(const struct json *o, const struct json_field *table, void *base, const char *path,
		  struct err *e);
/* Labels and options: an object whose values are strings. Absent and null are fine. */
int json_check_strings(const struct json *o, const char *path, struct err *e);
/* Of what kind known members are, where they are there and not null: a document that is kept as it came.
 * sub: of a member that is an object, or of each element of one that is an array. */
struct json_shape { const char *key; enum json_type type; const struct json_shape *sub; };
/* "IPAM.Config[0].Subnet: expected string". The table ends with a row without a key. */
int json_check_shape(const struct json *o, const struct json_shape *table, const char *path, struct err *e);
/* For JK_CALL functions: path of element i / key k, in buf. */
const char *json_path_at(const char *path, size_t i, char *buf, size_t n);
const char *json_path_key(const char *path, const char *key, char *buf, size_t n);
int json_expected(struct err *e, const char *path, const char *what); /* "<path>: expected <what>", -EINVAL */
