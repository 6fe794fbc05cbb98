#include "oci/runtime_fields.h"
#include "base/alloc.h"
#include "base/strv.h"

#include <errno.h>

int field_refuse(const struct json *v, _unused_ void *target, const char *path, struct err *e)
{
	bool empty = false;

	switch (json_type(v)) {
	case JSON_NULL: empty = true; break;
	case JSON_BOOL: empty = !json_bool(v); break;
	case JSON_INT: case JSON_DOUBLE: empty = json_double(v) == 0; break;
	case JSON_STR: empty = str_empty(json_str(v)); break;
	case JSON_ARRAY: case JSON_OBJECT: empty = json_len(v) == 0; break;
	}
	return empty ? 0 : err_msg(e, ERR_INVALID, -EOPNOTSUPP, "%s: not supported by insula-runtime", path);
}

struct vec { void *v; size_t n; };	/* the shape of every `struct oci_...s` */

int field_vec(const struct json *v, void *target, size_t size, const struct json_field *table,
	      const char *path, struct err *e)
{
	struct vec *to = target;
	char buf[PATH_BUF];

	if (json_type(v) != JSON_ARRAY || json_len(v) > ITEMS_MAX)
		return json_expected(e, path, "array of objects");
	to->v = xcalloc(MAX(json_len(v), (size_t)1), size);
	to->n = json_len(v);	/* elements not yet read are zero: safe to free */
	for (size_t i = 0; i < json_len(v); i++) {
		int r = json_dispatch(json_at(v, i), table, (char *)to->v + i * size,
				      json_path_at(path, i, buf, sizeof buf), e);

		if (r < 0)
			return r;
	}
	return 0;
}

int field_json(const struct json *v, void *target, const char *path, struct err *e)
{
	if (json_type(v) != JSON_OBJECT)
		return json_expected(e, path, "object");
	*(struct json **)target = json_ref((struct json *)v);
	return 0;
}

int field_str_map(const struct json *v, void *target, const char *path, struct err *e)
{
	struct json_iter it = { 0 };
	char buf[PATH_BUF];

	while (json_next(v, &it)) {
		if (!*it.key)
			return err_msg(e, ERR_INVALID, 0, "%s: a key is empty", path);
		if (!json_str(it.value))
			return json_expected(e, json_path_key(path, it.key, buf, sizeof buf), "string");
	}
	return field_json(v, target, path, e);
}

int field_kvs(const struct json *v, void *target, const char *path, struct err *e)
{
	struct json_iter it = { 0 };
	struct oci_kvs *to = target;
	char buf[PATH_BUF];

	if (json_type(v) != JSON_OBJECT || json_len(v) > ITEMS_MAX)
		return json_expected(e, path, "object of strings");
	to->v = new_array(struct oci_kv, MAX(json_len(v), (size_t)1));
	while (json_next(v, &it)) {
		if (!json_str(it.value))
			return json_expected(e, json_path_key(path, it.key, buf, sizeof buf), "string");
		to->v[to->n].key = xstrdup(it.key);
		to->v[to->n++].value = xstrdup(json_str(it.value));
	}
	return 0;
}

void oci_kvs_done(struct oci_kvs *k)
{
	for (size_t i = 0; i < k->n; i++) {
		free(k->v[i].key);
		free(k->v[i].value);
	}
	free(k->v);
}
