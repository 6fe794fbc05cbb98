#include "base/strv.h"
#include "base/alloc.h"
#include "base/sbuf.h"

#include <errno.h>
#include <string.h>

void strv_free(char **v)
{
	if (!v)
		return;
	for (char **p = v; *p; p++)
		free(*p);
	free(v);
}

size_t strv_len(char *const *v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

void strv_take(char ***v, char *s)
{
	size_t n = strv_len(*v);

	/* Capacity is the next power of two above the length with its NULL. */
	if (!*v || ((n + 1) & n) == 0)
		*v = xrealloc(*v, (n + 1) * 2, sizeof(char *));
	(*v)[n] = s;
	(*v)[n + 1] = NULL;
}

void strv_add(char ***v, const char *s)
{
	strv_take(v, xstrdup(s));
}

void strv_addf(char ***v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	strv_take(v, xvasprintf(fmt, ap));
	va_end(ap);
}

void strv_adds(char ***v, ...)
{
	va_list ap;

	va_start(ap, v);
	for (const char *s; (s = va_arg(ap, const char *));)
		strv_add(v, s);
	va_end(ap);
}

void strv_extend(char ***v, char *const *more)
{
	for (; more && *more; more++)
		strv_add(v, *more);
}

char **strv_copy(char *const *v)
{
	char **copy = NULL;

	strv_extend(&copy, v);
	return copy;
}

void strv_remove(char **v, const char *s)
{
	char **to = v;

	for (; v && *v; v++)
		if (streq(*v, s))
			free(*v);
		else
			*to++ = *v;
	if (to)
		*to = NULL;
}

bool strv_has(char *const *v, const char *s)
{
	for (; v && *v; v++)
		if (streq(*v, s))
			return true;
	return false;
}

char *strv_join(char *const *v, const char *sep)
{
	struct sbuf b = SBUF_INIT;

	for (size_t i = 0; v && v[i]; i++) {
		if (i)
			sbuf_puts(&b, sep);
		sbuf_puts(&b, v[i]);
	}
	return sbuf_steal(&b);
}

char **strv_split(const char *s, const char *seps)
{
	char **v = NULL;

	while (*(s += strspn(s, seps))) {
		size_t n = strcspn(s, seps);

		strv_take(&v, xstrndup(s, n));
		s += n;
	}
	return v;
}

const char *strv_env_get(char *const *v, const char *key)
{
	size_t n = strlen(key);

	for (; v && *v; v++)
		if (!strncmp(*v, key, n) && (*v)[n] == '=')
			return *v + n + 1;
	return NULL;
}

void strv_env_set(char ***v, const char *kv)
{
	size_t n = strcspn(kv, "=");

	for (char **p = *v; p && *p; p++)
		if (!strncmp(*p, kv, n) && ((*p)[n] == '=' || !(*p)[n])) {
			str_replace(p, kv);
			return;
		}
	strv_add(v, kv);
}

bool str_starts(const char *s, const char *prefix)
{
	return s && !strncmp(s, prefix, strlen(prefix));
}

bool str_ends(const char *s, const char *suffix)
{
	size_t n = s ? strlen(s) : 0, m = strlen(suffix);

	return n >= m && s && !strcmp(s + n - m, suffix);
}

int str_to_u64(const char *s, uint64_t *ret)
{
	uint64_t v = 0;

	if (str_empty(s))
		return -EINVAL;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			return -ERANGE;
	}
	*ret = v;
	return 0;
}

int str_to_i64(const char *s, int64_t *ret)
{
	bool neg = s && *s == '-';
	uint64_t v;
	int r;

	r = str_to_u64(neg ? s + 1 : s, &v);
	if (r < 0)
		return r;
	if (v > (uint64_t)INT64_MAX + neg)
		return -ERANGE;
	*ret = neg ? (int64_t)(0 - v) : (int64_t)v;
	return 0;
}
