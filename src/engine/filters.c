#include "engine/filters.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "lib/json.h"
#include <errno.h>
#include <string.h>
#include <strings.h>

void filters_done(struct filters *f)
{
	json_free(f->keys);
	f->keys = NULL;
}

/* One key's values in either shape -> array of strings. */
static int values_of(const struct json *v, struct json **ret)
{
	_cleanup_json_ struct json *out = json_array();

	if (json_type(v) == JSON_ARRAY) {
		for (size_t i = 0; i < json_len(v); i++) {
			const char *s = json_str(json_at(v, i));

			if (!s)
				return -EINVAL;
			json_add_str(out, s);
		}
	} else if (json_type(v) == JSON_OBJECT) {
		struct json_iter it = {0};

		while (json_next(v, &it))
			if (json_bool(it.value))
				json_add_str(out, it.key);
	} else {
		return -EINVAL;
	}
	*ret = TAKE_PTR(out);
	return 0;
}

int filters_parse(const char *s, const char *const *allowed, struct filters *ret, struct err *e)
{
	_cleanup_json_ struct json *doc = NULL, *keys = NULL;
	struct json_iter it = {0};

	if (str_empty(s)) {
		*ret = (struct filters){0};
		return 0;
	}
	if (json_parse(s, strlen(s), &doc, NULL) < 0 || json_type(doc) != JSON_OBJECT)
		return err_set(e, ERR_INVALID, 0, "invalid filters '%s'", s);
	keys = json_object();
	while (json_next(doc, &it)) {
		struct json *values;
		bool known = false;

		for (size_t i = 0; allowed && allowed[i] && !known; i++)
			known = streq(allowed[i], it.key);
		if (!known)
			return err_set(e, ERR_INVALID, 0, "invalid filter '%s'", it.key);
		if (values_of(it.value, &values) < 0)
			return err_set(e, ERR_INVALID, 0, "invalid filters '%s'", s);
		if (json_len(values) > 0)
			json_set(keys, it.key, values);
		else
			json_free(values);
	}
	ret->keys = TAKE_PTR(keys);
	return 0;
}

static const struct json *values(const struct filters *f, const char *key)
{
	return f->keys ? json_get(f->keys, key) : NULL;
}

bool filters_has(const struct filters *f, const char *key)
{
	return values(f, key) != NULL;
}

char **filters_values(const struct filters *f, const char *key)
{
	return f->keys ? json_get_strv(f->keys, key) : NULL;
}

static bool part_of(const char *v, const char *want)
{
	return strstr(v, want) != NULL;
}

static bool match_any(const struct filters *f, const char *key, const char *v,
		      bool (*match)(const char *v, const char *want))
{
	const struct json *a = values(f, key);

	if (!a)
		return true;
	for (size_t i = 0; v && i < json_len(a); i++)
		if (match(v, json_str(json_at(a, i))))
			return true;
	return false;
}

bool filters_match(const struct filters *f, const char *key, const char *v)
{
	return match_any(f, key, v, streq);
}

bool filters_match_prefix(const struct filters *f, const char *key, const char *v)
{
	return match_any(f, key, v, str_starts);
}

bool filters_match_part(const struct filters *f, const char *key, const char *v)
{
	return match_any(f, key, v, part_of);
}

bool filters_match_labels(const struct filters *f, const char *key, const struct json *labels)
{
	const struct json *a = values(f, key);

	for (size_t i = 0; i < json_len(a); i++) {
		const char *want = json_str(json_at(a, i)), *eq = strchr(want, '=');
		_cleanup_free_ char *name = eq ? xstrndup(want, (size_t)(eq - want)) : xstrdup(want);
		const char *have = json_get_str(labels, name);

		if (!have || (eq && !streq(have, eq + 1)))
			return false;
	}
	return true;
}

int filters_bool(const struct filters *f, const char *key, bool def, bool *ret, struct err *e)
{
	const struct json *a = values(f, key);
	const char *v = json_str(json_at(a, 0));

	if (!a) {
		*ret = def;
		return 0;
	}
	if (json_len(a) == 1 && (streq(v, "1") || !strcasecmp(v, "true")))
		*ret = true;
	else if (json_len(a) == 1 && (streq(v, "0") || !strcasecmp(v, "false")))
		*ret = false;
	else
		return err_set(e, ERR_INVALID, 0, "invalid filter '%s=[%s]'", key, v ? v : "");
	return 0;
}
