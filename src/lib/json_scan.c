#include "lib/json_scan.h"

#include <errno.h>
#include <string.h>

#define BLANKS " \t\r\n"

/* Behind the string whose opening quote p is; NULL if it does not end. */
static const char *skip_string(const char *p, const char *end)
{
	for (const char *at = p + 1; at < end && (at = memchr(at, '"', (size_t)(end - at))); at++) {
		size_t escapes = 0;

		while (at[-1 - (ptrdiff_t)escapes] == '\\')
			escapes++;
		if (escapes % 2 == 0)
			return at + 1;
	}
	return NULL;
}

/* Behind a number, true, false or null: whatever ends it must be there. */
static const char *skip_word(const char *p, const char *end)
{
	while (p < end && !strchr(",:[]{}\"" BLANKS, *p))
		p++;
	return p < end ? p : NULL;
}

static const char *skip_value(const char *p, const char *end)
{
	size_t depth = 0;

	if (p < end && *p != '"' && *p != '{' && *p != '[')
		return skip_word(p, end);
	while (p < end) {
		switch (*p) {
		case '"':
			p = skip_string(p, end);
			if (!p)
				return NULL;
			break;
		case '{':
		case '[':
			depth++;
			p++;
			break;
		case '}':
		case ']':
			depth--;
			p++;
			break;
		default:
			p++;
			continue;
		}
		if (depth == 0)
			return p;
	}
	return NULL;
}

static const char *skip_blanks(const char *p, const char *end)
{
	while (p < end && *p && strchr(BLANKS, *p))
		p++;
	return p;
}

size_t json_scan_value(const char *p, size_t n)
{
	const char *end = skip_value(skip_blanks(p, p + n), p + n);

	return end ? (size_t)(end - p) : 0;
}

/* name: from its quote to behind its quote. */
static bool wanted(const char *name, const char *end, const char *const *keys)
{
	size_t n = (size_t)(end - name) - 2;

	for (; *keys; keys++)
		if (strlen(*keys) == n && !memcmp(*keys, name + 1, n))
			return true;
	return false;
}

/* The member at p goes to out if it is wanted; behind it, or NULL. */
static const char *member(const char *p, const char *end, const char *const *keys, bool *more,
			  struct sbuf *out)
{
	const char *name = p, *name_end = *p == '"' ? skip_string(p, end) : NULL, *value;

	p = name_end ? skip_blanks(name_end, end) : end;
	if (p == end || *p != ':')
		return NULL;
	value = skip_blanks(p + 1, end);
	p = skip_value(value, end);
	if (!p || p == value)
		return NULL;
	if (wanted(name, name_end, keys)) {
		if (*more)
			sbuf_putc(out, ',');
		sbuf_add(out, name, (size_t)(p - name));
		*more = true;
	}
	return skip_blanks(p, end);
}

size_t json_scan_members(const char *p, size_t n, const char *const *keys, struct sbuf *out)
{
	const char *begin = p, *end = p + n;
	bool more = false;

	if (p == end || *p != '{')
		return 0;
	sbuf_putc(out, '{');
	p = skip_blanks(p + 1, end);
	while (p < end && *p != '}') {
		p = member(p, end, keys, &more, out);
		if (!p || p == end || (*p != ',' && *p != '}'))
			return 0;
		if (*p == ',')
			p = skip_blanks(p + 1, end);
	}
	sbuf_putc(out, '}');
	return p < end ? (size_t)(p + 1 - begin) : 0;
}
