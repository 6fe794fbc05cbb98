/* json-c's names that ours would clash with are renamed while its headers are read. */
#define json_object jsonc_object
#define json_type jsonc_type
#define json_bool jsonc_bool
#include <json-c/json.h>
#undef json_object
#undef json_type
#undef json_bool

#include "lib/json_write.h"
#include "base/alloc.h"
#include "base/strv.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* struct json is json-c's object under another name. */
static struct jsonc_object *raw(const struct json *j) { return (struct jsonc_object *)j; }
static struct json *cooked(struct jsonc_object *o) { return (struct json *)o; }

static bool has_nan(struct jsonc_object *o)
{
	switch (json_object_get_type(o)) {
	case json_type_double:
		return !isfinite(json_object_get_double(o));
	case json_type_array:
		for (size_t i = 0; i < json_object_array_length(o); i++)
			if (has_nan(json_object_array_get_idx(o, i)))
				return true;
		return false;
	case json_type_object:
		for (struct lh_entry *m = lh_table_head(json_object_get_object(o)); m; m = lh_entry_next(m))
			if (has_nan(lh_entry_v(m)))
				return true;
		return false;
	default:
		return false;
	}
}

/* json-c takes 'strings' even in strict mode: no quote of that kind may stand outside a string. */
static bool has_single_quote(const char *p, size_t n)
{
	bool in_string = false;

	if (!memchr(p, '\'', n))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (in_string && p[i] == '\\')
			i++;
		else if (p[i] == '"')
			in_string = !in_string;
		else if (!in_string && p[i] == '\'')
			return true;
	}
	return false;
}

size_t json_utf8_len(const unsigned char *s, size_t n)
{
	size_t len = s[0] < 0x80   ? 1
		     : s[0] < 0xc2 ? 0
		     : s[0] < 0xe0 ? 2
		     : s[0] < 0xf0 ? 3
		     : s[0] < 0xf5 ? 4
				   : 0;

	if (!len || len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
	    (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return len;
}

/* json-c lets sequences pass that are longer than they need be, and surrogates. */
static bool is_utf8(const char *p, size_t n)
{
	const unsigned char *s = (const unsigned char *)p;

	for (size_t i = 0, len; i < n; i += len) {
		for (; i < n && s[i] < 0x80; i++)
			;
		len = i < n ? json_utf8_len(s + i, n - i) : 1;
		if (!len)
			return false;
	}
	return true;
}

/* At least as many as there are values and names: each but the first follows one of these marks. */
static size_t count_marks(const char *p, size_t n)
{
	bool in_string = false;
	size_t marks = 0;

	for (size_t i = 0; i < n; i++) {
		if (in_string && p[i] == '\\')
			i++;
		else if (p[i] == '"')
			in_string = !in_string;
		else if (!in_string)
			marks += p[i] == ',' || p[i] == ':' || p[i] == '[' || p[i] == '{';
	}
	return marks;
}

int json_parse_foreign(const char *p, size_t n, struct json **ret, struct err *e)
{
	if (count_marks(p, n) > JSON_FOREIGN_MAX)
		return err_msg(e, ERR_INVALID, -E2BIG, "invalid JSON: more than %u values", JSON_FOREIGN_MAX);
	return json_parse(p, n, ret, e);
}

int json_parse(const char *p, size_t n, struct json **ret, struct err *e)
{
	struct json_tokener *t;
	struct jsonc_object *o;
	size_t used;

	if (n > INT_MAX)
		return err_msg(e, ERR_INVALID, 0, "invalid JSON: too large");
	if (!is_utf8(p, n))
		return err_msg(e, ERR_INVALID, 0, "invalid JSON: invalid utf-8 string");
	if (has_single_quote(p, n))
		return err_msg(e, ERR_INVALID, 0, "invalid JSON: unexpected character");
	t = json_tokener_new_ex(64);
	if (!t)
		abort();
	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS);
	o = json_tokener_parse_ex(t, p, (int)n);
	used = json_tokener_get_parse_end(t);
	enum json_tokener_error je = json_tokener_get_error(t);

	/* A bare number at the end of input waits for more: a NUL tells that there is none. */
	if (je == json_tokener_continue) {
		o = json_tokener_parse_ex(t, "", 1);
		je = json_tokener_get_error(t);
		used = n;
	}
	json_tokener_free(t);
	if (je == json_tokener_success)
		while (used < n && strchr(" \t\r\n", p[used]) && p[used])
			used++;
	if (je != json_tokener_success || used < n || has_nan(o)) {
		json_object_put(o);
		return err_msg(e, ERR_INVALID, 0, "invalid JSON: %s at offset %zu",
			       je != json_tokener_success ? json_tokener_error_desc(je) : "unexpected data",
			       used);
	}
	*ret = cooked(o);
	return 0;
}

void json_free(struct json *j)
{
	if (j)
		json_object_put(raw(j));
}

struct json *json_ref(struct json *j)
{
	return j ? cooked(json_object_get(raw(j))) : NULL;
}

struct json *json_copy(const struct json *j)
{
	struct jsonc_object *o = NULL;

	if (!j)
		return NULL;
	if (json_object_deep_copy(raw(j), &o, NULL) < 0)
		abort();
	return cooked(o);
}

enum json_type json_type(const struct json *j)
{
	switch (json_object_get_type(raw(j))) {
	case json_type_boolean: return JSON_BOOL;
	case json_type_int: return JSON_INT;
	case json_type_double: return JSON_DOUBLE;
	case json_type_string: return JSON_STR;
	case json_type_array: return JSON_ARRAY;
	case json_type_object: return JSON_OBJECT;
	case json_type_null: break;
	}
	return JSON_NULL;
}

struct json *json_get(const struct json *o, const char *key)
{
	struct jsonc_object *v = NULL;

	if (json_type(o) == JSON_OBJECT)
		json_object_object_get_ex(raw(o), key, &v);
	return cooked(v);
}

struct json *json_at(const struct json *a, size_t i)
{
	return json_type(a) == JSON_ARRAY ? cooked(json_object_array_get_idx(raw(a), i)) : NULL;
}

size_t json_len(const struct json *j)
{
	switch (json_type(j)) {
	case JSON_ARRAY: return json_object_array_length(raw(j));
	case JSON_OBJECT: return (size_t)json_object_object_length(raw(j));
	default: return 0;
	}
}

const char *json_str(const struct json *j)
{
	return json_type(j) == JSON_STR ? json_object_get_string(raw(j)) : NULL;
}

size_t json_str_len(const struct json *j)
{
	return json_type(j) == JSON_STR ? (size_t)json_object_get_string_len(raw(j)) : 0;
}

int64_t json_int(const struct json *j)
{
	enum json_type t = json_type(j);

	return t == JSON_INT || t == JSON_DOUBLE ? json_object_get_int64(raw(j)) : 0;
}

uint64_t json_uint(const struct json *j)
{
	enum json_type t = json_type(j);

	return t == JSON_INT || t == JSON_DOUBLE ? json_object_get_uint64(raw(j)) : 0;
}

double json_double(const struct json *j)
{
	enum json_type t = json_type(j);

	return t == JSON_INT || t == JSON_DOUBLE ? json_object_get_double(raw(j)) : 0;
}

const char *json_double_text(const struct json *j)
{
	return json_object_to_json_string_ext(raw(j), JSON_C_TO_STRING_PLAIN);
}

bool json_bool(const struct json *j)
{
	return json_type(j) == JSON_BOOL && json_object_get_boolean(raw(j));
}

const char *json_get_str(const struct json *o, const char *key)
{
	return json_str(json_get(o, key));
}

int64_t json_get_int(const struct json *o, const char *key, int64_t def)
{
	struct json *v = json_get(o, key);
	enum json_type t = json_type(v);

	return t == JSON_INT || t == JSON_DOUBLE ? json_int(v) : def;
}

bool json_get_bool(const struct json *o, const char *key, bool def)
{
	struct json *v = json_get(o, key);

	return json_type(v) == JSON_BOOL ? json_bool(v) : def;
}

char **json_get_strv(const struct json *o, const char *key)
{
	struct json *a = json_get(o, key);
	char **v = NULL;

	for (size_t i = 0; i < (json_type(a) == JSON_ARRAY ? json_len(a) : 0); i++)
		if (json_str(json_at(a, i)))
			strv_add(&v, json_str(json_at(a, i)));
	return v;
}

bool json_next(const struct json *o, struct json_iter *it)
{
	struct lh_entry *e;

	if (json_type(o) != JSON_OBJECT)
		return false;
	e = it->_started ? lh_entry_next((struct lh_entry *)it->_entry)
			 : lh_table_head(json_object_get_object(raw(o)));
	it->_started = true;
	it->_entry = e;
	if (!e)
		return false;
	it->key = lh_entry_k(e);
	it->value = cooked(lh_entry_v(e));
	return true;
}

static struct json *made(struct jsonc_object *o)
{
	if (!o)
		abort();
	return cooked(o);
}

struct json *json_object(void) { return made(json_object_new_object()); }
struct json *json_array(void) { return made(json_object_new_array()); }
struct json *json_new_str(const char *s) { return s ? made(json_object_new_string(s)) : NULL; }
struct json *json_new_strn(const char *s, size_t n) { return made(json_object_new_string_len(s, (int)n)); }
struct json *json_new_int(int64_t v) { return made(json_object_new_int64(v)); }
struct json *json_new_uint(uint64_t v) { return made(json_object_new_uint64(v)); }
struct json *json_new_double(double v) { return made(json_object_new_double(v)); }
struct json *json_new_bool(bool v) { return made(json_object_new_boolean(v)); }

struct json *json_set(struct json *o, const char *key, struct json *v)
{
	if (json_object_object_add(raw(o), key, raw(v)) < 0)
		abort();
	return v;
}

void json_set_str(struct json *o, const char *key, const char *s) { json_set(o, key, json_new_str(s)); }
void json_set_int(struct json *o, const char *key, int64_t v) { json_set(o, key, json_new_int(v)); }
void json_set_bool(struct json *o, const char *key, bool v) { json_set(o, key, json_new_bool(v)); }
void json_set_null(struct json *o, const char *key) { json_set(o, key, NULL); }

void json_set_strv(struct json *o, const char *key, char *const *v)
{
	struct json *a = json_set(o, key, json_array());

	for (; v && *v; v++)
		json_add_str(a, *v);
}

void json_del(struct json *o, const char *key)
{
	json_object_object_del(raw(o), key);
}

struct json *json_add(struct json *a, struct json *v)
{
	if (json_object_array_add(raw(a), raw(v)) < 0)
		abort();
	return v;
}

void json_add_str(struct json *a, const char *s)
{
	json_add(a, json_new_str(s));
}

/* --- table-driven reading --- */

const char *json_path_key(const char *path, const char *key, char *buf, size_t n)
{
	if (snprintf(buf, n, "%s%s%s", path, *path ? "." : "", key) < 0)
		*buf = 0;
	return buf;
}

const char *json_path_at(const char *path, size_t i, char *buf, size_t n)
{
	/* A path too long for the buffer is cut: it is for people. */
	if (snprintf(buf, n, "%s[%zu]", path, i) < 0)
		*buf = 0;
	return buf;
}

int json_expected(struct err *e, const char *path, const char *what)
{
	return err_msg(e, ERR_INVALID, 0, "%s: expected %s", *path ? path : "document", what);
}

int json_check_strings(const struct json *o, const char *path, struct err *e)
{
	struct json_iter it = {0};
	char buf[256];

	if (json_type(o) != JSON_OBJECT)
		return json_type(o) == JSON_NULL ? 0 : json_expected(e, path, "object");
	while (json_next(o, &it))
		if (json_type(it.value) != JSON_STR)
			return json_expected(e, json_path_key(path, it.key, buf, sizeof buf), "string");
	return 0;
}

static int check_member(const struct json *v, const struct json_shape *s, const char *path, struct err *e)
{
	static const char *const names[] = {
		[JSON_BOOL] = "boolean", [JSON_INT] = "integer", [JSON_STR] = "string",
		[JSON_ARRAY] = "array", [JSON_OBJECT] = "object",
	};
	char buf[256];
	int r = 0;

	if (json_type(v) == JSON_NULL)
		return 0;
	if (json_type(v) != s->type)
		return json_expected(e, path, names[s->type]);
	if (!s->sub)
		return 0;
	if (s->type == JSON_OBJECT)
		return json_check_shape(v, s->sub, path, e);
	for (size_t i = 0; r == 0 && i < json_len(v); i++)
		r = json_check_shape(json_at(v, i), s->sub, json_path_at(path, i, buf, sizeof buf), e);
	return r;
}

int json_check_shape(const struct json *o, const struct json_shape *table, const char *path, struct err *e)
{
	char buf[256];
	int r = 0;

	if (json_type(o) != JSON_OBJECT)
		return json_expected(e, path, "object");
	for (const struct json_shape *s = table; r == 0 && s->key; s++)
		r = check_member(json_get(o, s->key), s, json_path_key(path, s->key, buf, sizeof buf), e);
	return r;
}

static int get_integer(const struct json *v, bool is_signed, uint64_t max, int64_t min, uint64_t *ret,
		       const char *path, struct err *e)
{
	double d;

	if (json_type(v) == JSON_DOUBLE) {
		/* 1e3 is an integer too; 18446744073709551616 is not one of ours. */
		d = json_double(v);
		if (d != trunc(d) || fabs(d) > 9007199254740992.0)
			return json_expected(e, path, "integer");
		*ret = (uint64_t)(int64_t)d;
		is_signed = is_signed || d < 0;
		if (d < 0 && (min >= 0 || (int64_t)d < min))
			return err_msg(e, ERR_INVALID, 0, "%s: value out of range", path);
		if (d >= 0 && *ret > max)
			return err_msg(e, ERR_INVALID, 0, "%s: value out of range", path);
		return 0;
	}
	if (json_type(v) != JSON_INT)
		return json_expected(e, path, "integer");
	if (json_object_get_int64(raw(v)) < 0) {
		if (json_int(v) < min)
			return err_msg(e, ERR_INVALID, 0, "%s: value out of range", path);
		*ret = (uint64_t)json_int(v);
		return 0;
	}
	if (json_uint(v) > max)
		return err_msg(e, ERR_INVALID, 0, "%s: value out of range", path);
	*ret = json_uint(v);
	return 0;
}

static int read_strv(const struct json *v, char ***target, const char *path, struct err *e)
{
	_cleanup_strv_ char **list = NULL;
	char buf[256];

	if (json_type(v) != JSON_ARRAY)
		return json_expected(e, path, "array of strings");
	for (size_t i = 0; i < json_len(v); i++) {
		const char *s = json_str(json_at(v, i));

		if (!s)
			return json_expected(e, json_path_at(path, i, buf, sizeof buf), "string");
		strv_add(&list, s);
	}
	strv_free(*target);
	*target = TAKE_PTR(list);
	return 0;
}

static int read_field(const struct json *v, const struct json_field *f, void *to, const char *path,
		      struct err *e)
{
	uint64_t n;
	int r;

	switch (f->kind) {
	case JK_STR:
		if (json_type(v) != JSON_STR)
			return json_expected(e, path, "string");
		str_replace(to, json_str(v));
		return 0;
	case JK_STRV:
		return read_strv(v, to, path, e);
	case JK_BOOL:
	case JK_OPT_BOOL:
		if (json_type(v) != JSON_BOOL)
			return json_expected(e, path, "boolean");
		if (f->kind == JK_BOOL) {
			*(bool *)to = json_bool(v);
		} else {
			if (!*(bool **)to)
				*(bool **)to = new0(bool);
			**(bool **)to = json_bool(v);
		}
		return 0;
	case JK_I64:
	case JK_OPT_I64:
		r = get_integer(v, true, INT64_MAX, INT64_MIN, &n, path, e);
		if (r < 0)
			return r;
		if (f->kind == JK_I64) {
			*(int64_t *)to = (int64_t)n;
		} else {
			if (!*(int64_t **)to)
				*(int64_t **)to = new0(int64_t);
			**(int64_t **)to = (int64_t)n;
		}
		return 0;
	case JK_U64:
	case JK_OPT_U64:
		r = get_integer(v, false, UINT64_MAX, 0, &n, path, e);
		if (r < 0)
			return r;
		if (f->kind == JK_U64) {
			*(uint64_t *)to = n;
		} else {
			if (!*(uint64_t **)to)
				*(uint64_t **)to = new0(uint64_t);
			**(uint64_t **)to = n;
		}
		return 0;
	case JK_U32:
		r = get_integer(v, false, UINT32_MAX, 0, &n, path, e);
		if (r == 0)
			*(uint32_t *)to = (uint32_t)n;
		return r;
	case JK_INT:
		r = get_integer(v, true, INT_MAX, INT_MIN, &n, path, e);
		if (r == 0)
			*(int *)to = (int)(int64_t)n;
		return r;
	case JK_OBJ:
		return json_dispatch(v, f->sub, to, path, e);
	case JK_CALL:
		return f->call(v, to, path, e);
	}
	return -EINVAL;
}

int json_dispatch(const struct json *o, const struct json_field *table, void *base, const char *path,
		  struct err *e)
{
	char buf[256];

	if (json_type(o) != JSON_OBJECT)
		return json_expected(e, path, "object");
	for (const struct json_field *f = table; f->key; f++) {
		struct json *v = json_get(o, f->key);
		int r;

		json_path_key(path, f->key, buf, sizeof buf);
		if (!v) {
			if (f->required)
				return err_msg(e, ERR_INVALID, 0, "%s: missing", buf);
			continue;
		}
		r = read_field(v, f, (char *)base + f->offset, buf, e);
		if (r < 0)
			return r;
	}
	return 0;
}
