#include "lib/json_write.h"
#include "base/alloc.h"

#include <stdio.h>
#include <string.h>

/* ---- strings ---- */

/* Nearly all strings are: at one stroke. */
static bool emit_plain(struct sbuf *b, const char *s, size_t n)
{
	char *to;

	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < 0x20 || (unsigned char)s[i] >= 0x80 || s[i] == '"' || s[i] == '\\')
			return false;
	to = sbuf_reserve(b, n + 2);
	if (!to)
		return true;
	to[0] = '"';
	memcpy(to + 1, s, n);
	to[n + 1] = '"';
	sbuf_commit(b, n + 2);
	return true;
}

void json_emit_str(struct sbuf *b, const char *str, size_t n)
{
	static const char shorts[] = "\bb\tt\nn\ff\rr\"\"\\\\";
	const unsigned char *s = (const unsigned char *)str;

	if (emit_plain(b, str, n))
		return;
	sbuf_putc(b, '"');
	for (size_t i = 0; i < n;) {
		size_t len = json_utf8_len(s + i, n - i), plain = i;

		while (plain < n && s[plain] >= 0x20 && s[plain] < 0x80 && s[plain] != '"' &&
		       s[plain] != '\\')
			plain++;
		if (plain > i) {
			sbuf_add(b, s + i, plain - i);
			i = plain;
			continue;
		}
		if (len == 0) {
			sbuf_puts(b, "\\ufffd");
			i++;
			continue;
		}
		if (len > 1) {
			sbuf_add(b, s + i, len);
		} else {
			const char *esc = NULL;

			for (const char *p = shorts; *p; p += 2)
				if ((unsigned char)*p == s[i])
					esc = p + 1;
			if (esc)
				sbuf_printf(b, "\\%c", *esc);
			else
				sbuf_printf(b, "\\u%04x", s[i]);
		}
		i += len;
	}
	sbuf_putc(b, '"');
}

/* ---- trees ---- */

/* Without printf, which takes longer than all the rest of a short row. */
static void put_int(struct sbuf *b, bool negative, uint64_t v)
{
	char buf[24], *p = buf + sizeof buf;

	do
		*--p = (char)('0' + v % 10);
	while (v /= 10);
	if (negative)
		*--p = '-';
	sbuf_add(b, p, (size_t)(buf + sizeof buf - p));
}

static void emit_int(struct sbuf *b, const struct json *j)
{
	int64_t v = json_int(j);

	put_int(b, v < 0, v < 0 ? -(uint64_t)v : json_uint(j));
}

static void emit_scalar(struct sbuf *b, const struct json *j)
{
	const char *s = json_str(j);

	switch (json_type(j)) {
	case JSON_STR:		json_emit_str(b, s, json_str_len(j)); break;
	case JSON_INT:		emit_int(b, j); break;
	case JSON_DOUBLE:	sbuf_puts(b, json_double_text(j)); break;
	case JSON_BOOL:		sbuf_puts(b, json_bool(j) ? "true" : "false"); break;
	default:		sbuf_puts(b, "null");
	}
}

/* indent NULL: compact. */
static void new_line(struct sbuf *b, const char *indent, unsigned depth)
{
	if (!indent)
		return;
	sbuf_putc(b, '\n');
	while (depth--)
		sbuf_puts(b, indent);
}

static void emit(struct sbuf *b, const struct json *j, const char *indent, unsigned depth)
{
	bool object = json_type(j) == JSON_OBJECT;
	struct json_iter it = {0};
	size_t n = json_len(j);

	if (!object && json_type(j) != JSON_ARRAY) {
		emit_scalar(b, j);
		return;
	}
	sbuf_putc(b, object ? '{' : '[');
	for (size_t i = 0; i < n; i++) {
		if (i)
			sbuf_putc(b, ',');
		new_line(b, indent, depth + 1);
		if (object && json_next(j, &it)) {
			json_emit_str(b, it.key, strlen(it.key));
			sbuf_puts(b, indent ? ": " : ":");
		}
		emit(b, object ? it.value : json_at(j, i), indent, depth + 1);
	}
	if (n)
		new_line(b, indent, depth);
	sbuf_putc(b, object ? '}' : ']');
}

void json_emit(struct sbuf *b, const struct json *j)
{
	emit(b, j, NULL, 0);
}

char *json_dump(const struct json *j)
{
	struct sbuf b = SBUF_INIT_MAX(SIZE_MAX / 2);

	json_emit(&b, j);
	return sbuf_steal(&b);
}

char *json_dump_pretty(const struct json *j, const char *indent)
{
	struct sbuf b = SBUF_INIT_MAX(SIZE_MAX / 2);

	emit(&b, j, indent, 0);
	return sbuf_steal(&b);
}

/* ---- the writer ---- */

#define SPILL (48u << 10)	/* few system calls, and not enough to leave the processor's cache */

/* What stands before a value of the text. */
static void begin(struct json_writer *w, const char *key)
{
	if (w->more)
		sbuf_putc(w->text, ',');
	w->more = true;
	if (!key)
		return;
	json_emit_str(w->text, key, strlen(key));
	sbuf_putc(w->text, ':');
}

static struct json *put(struct json_writer *w, const char *key, struct json *v /* taken */)
{
	struct json *in = w->depth ? w->at[w->depth - 1] : NULL;

	if (!in)
		w->root = v;
	else if (w->arrays >> (w->depth - 1) & 1)
		json_add(in, v);
	else
		json_set(in, key, v);
	return v;
}

static void open_one(struct json_writer *w, const char *key, bool array)
{
	if (w->depth == JW_DEPTH)
		abort();
	if (w->text) {
		begin(w, key);
		sbuf_putc(w->text, array ? '[' : '{');
		w->more = false;
	} else {
		w->at[w->depth] = put(w, key, array ? json_array() : json_object());
	}
	w->arrays = (w->arrays & ~(1u << w->depth)) | (uint32_t)array << w->depth;
	w->depth++;
}

void jw_object(struct json_writer *w, const char *key)
{
	open_one(w, key, false);
}

void jw_array(struct json_writer *w, const char *key)
{
	open_one(w, key, true);
}

void jw_end(struct json_writer *w)
{
	w->depth--;
	w->more = true;
	if (w->text)
		sbuf_putc(w->text, w->arrays >> w->depth & 1 ? ']' : '}');
}

void jw_str(struct json_writer *w, const char *key, const char *s)
{
	if (!w->text) {
		put(w, key, json_new_str(s));
		return;
	}
	begin(w, key);
	if (s)
		json_emit_str(w->text, s, strlen(s));
	else
		sbuf_puts(w->text, "null");
}

void jw_int(struct json_writer *w, const char *key, int64_t v)
{
	if (!w->text) {
		put(w, key, json_new_int(v));
		return;
	}
	begin(w, key);
	put_int(w->text, v < 0, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

void jw_bool(struct json_writer *w, const char *key, bool v)
{
	if (!w->text) {
		put(w, key, json_new_bool(v));
		return;
	}
	begin(w, key);
	sbuf_puts(w->text, v ? "true" : "false");
}

void jw_null(struct json_writer *w, const char *key)
{
	jw_str(w, key, NULL);
}

void jw_strv(struct json_writer *w, const char *key, char *const *v)
{
	jw_array(w, key);
	for (; v && *v; v++)
		jw_str(w, NULL, *v);
	jw_end(w);
}

void jw_row_done(struct json_writer *w)
{
	if (w->text && w->spill && w->text->len >= SPILL)
		w->spill(w->userdata, w->text);
}

void jw_value(struct json_writer *w, const char *key, const struct json *v)
{
	if (!w->text) {
		put(w, key, json_ref((struct json *)v));
		return;
	}
	begin(w, key);
	json_emit(w->text, v);
}
