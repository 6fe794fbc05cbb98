#include "api/conn.h"
#include "base/alloc.h"
#include "base/strv.h"
#include <string.h>

static bool match(const char *pattern, const char *path, char ***params);

/* {name...}: as many whole segments as leave a match for the rest. Image names contain slashes, and what
 * follows them is a fixed suffix, so the longest is the right one: /images/a/json/json names "a/json". */
static bool match_segments(const char *rest, const char *path, char ***params)
{
	for (const char *end = path + strlen(path); end > path; end--) {
		_cleanup_strv_ char **tail = NULL;

		if (*end != '/' && *end != '\0')
			continue;
		if (!match(rest, end, &tail))
			continue;
		strv_take(params, xstrndup(path, (size_t)(end - path)));
		strv_extend(params, tail);
		return true;
	}
	return false;
}

static bool match(const char *pattern, const char *path, char ***params)
{
	while (*pattern) {
		const char *close;
		size_t len;

		if (*pattern != '{') {
			if (*pattern++ != *path++)
				return false;
			continue;
		}
		close = strchr(pattern, '}');
		if (strncmp(close - 3, "...", 3) == 0)
			return match_segments(close + 1, path, params);
		len = strcspn(path, "/");
		if (len == 0)
			return false;
		strv_take(params, xstrndup(path, len));
		path += len;
		pattern = close + 1;
	}
	return *path == '\0';
}

bool route_match(const char *pattern, const char *path, char ***ret_params)
{
	_cleanup_strv_ char **params = NULL;

	if (!match(pattern, path, &params))
		return false;
	*ret_params = TAKE_PTR(params);
	return true;
}

static const struct route *find(const char *method, const char *path, char ***ret_params)
{
	for (size_t t = 0; route_tables[t]; t++)
		for (const struct route *r = route_tables[t]; r->method; r++)
			if (streq(r->method, method) && route_match(r->pattern, path, ret_params))
				return r;
	return NULL;
}

const struct route *route_find(const char *method, const char *path, char ***ret_params)
{
	const struct route *r = find(method, path, ret_params);

	if (!r && streq(method, "HEAD"))
		r = find("GET", path, ret_params);
	return r;
}
