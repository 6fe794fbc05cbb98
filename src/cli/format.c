#include "cli/format.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "cli/table.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LIST_TEXT_MAX (512u << 20)

/* Docker lets people write \t and \n in the shell's single quotes. */
static char *unescape(const char *s)
{
	char *out = xmalloc(strlen(s) + 1), *o = out;

	for (; *s; s++) {
		if (s[0] == '\\' && (s[1] == 't' || s[1] == 'n'))
			*o++ = *++s == 't' ? '\t' : '\n';
		else
			*o++ = *s;
	}
	*o = 0;
	return out;
}

bool list_open(struct list *l, const struct list_spec *spec, const char *format, bool quiet)
{
	_cleanup_free_ char *text = NULL, *error = NULL;

	*l = (struct list){ .spec = spec };
	if (str_empty(format) || streq(format, "table")) {
		l->table = !quiet;
		text = xstrdup(quiet ? spec->quiet : spec->table);
	} else if (streq(format, "json")) {
		text = xstrdup("{{json .}}");
	} else if (str_starts(format, "table")) {
		const char *rest = format + 5;

		l->table = true;
		while (*rest == ' ')
			rest++;
		text = unescape(rest);
	} else {
		text = unescape(format);
	}
	if (tmpl_parse(text, &l->tmpl, &error) < 0) {
		fprintf(stderr, "failed to parse template: %s\n", error);
		return false;
	}
	return true;
}

static struct json *header_method(const struct json *row, const char *name, struct json *const *args,
				  size_t n, bool *handled)
{
	_cleanup_free_ char *s = NULL;
	const char *dot;

	if (!streq(name, "Label") || n != 1 || !json_str(args[0]))
		return NULL;
	*handled = true;
	dot = strrchr(json_str(args[0]), '.');
	s = xstrdup(dot ? dot + 1 : json_str(args[0]));
	for (char *p = s; *p; p++)
		if (*p == '-' || *p == '_')
			*p = ' ';
	return json_new_str(s);
}

struct json *list_label_method(const struct json *row, const char *name, struct json *const *args, size_t n,
			       bool *handled)
{
	const char *v;

	if (!streq(name, "Label") || n != 1 || !json_str(args[0]))
		return NULL;
	*handled = true;
	v = json_get_str(json_get(row, "$labels"), json_str(args[0]));
	return json_new_str(v ?: "");
}

static bool print_row(const struct list *l, const struct tmpl_env *env, struct json *row, struct sbuf *out)
{
	_cleanup_free_ char *error = NULL;

	if (tmpl_exec(l->tmpl, env, row, out, &error) < 0) {
		fprintf(stderr, "failed to execute template: %s\n", error);
		return false;
	}
	sbuf_putc(out, '\n');
	return true;
}

static bool print_header(const struct list *l, struct sbuf *out)
{
	struct tmpl_env env = {.root_type = l->spec->go_type, .header = true, .method = header_method};
	_cleanup_json_ struct json *header = json_object();

	for (const struct field *f = l->spec->fields; f->name; f++)
		json_set_str(header, f->name, f->header);
	return print_row(l, &env, header, out);
}

void list_wanted(const struct list *l, bool *ret)
{
	for (const struct field *f = l->spec->fields; f->name; f++)
		*ret++ = tmpl_reads(l->tmpl, f->name);
}

/* A row's lines in the text, and what it is sorted by. */
struct list_row { char *key; size_t at, len; };

static int by_key(const void *pa, const void *pb)
{
	const struct list_row *a = pa, *b = pb;
	int r = strverscmp(a->key, b->key);

	return r ? r : (a->at > b->at) - (a->at < b->at);
}

void list_add(struct list *l, struct json *row)
{
	struct tmpl_env env = { .root_type = l->spec->go_type, .method = l->spec->method, .row = true };
	size_t at = l->text.len;

	l->failed = l->failed || !print_row(l, &env, row, &l->text);
	if (l->n == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 16;
		l->rows = xrealloc(l->rows, l->cap, sizeof(*l->rows));
	}
	l->rows[l->n++] = (struct list_row){
	    l->spec->sort ? xstrdup(json_get_str(row, l->spec->sort) ?: "") : NULL, at, l->text.len - at};
	json_free(row);
}

static void list_reset(struct list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->rows[i].key);
	l->n = 0;
	l->failed = false;
	sbuf_reset(&l->text);
}

int list_end(struct list *l)
{
	_cleanup_sbuf_ struct sbuf text = SBUF_INIT_MAX(LIST_TEXT_MAX), out = SBUF_INIT_MAX(LIST_TEXT_MAX);
	bool failed = l->failed || (l->table && !print_header(l, &text));

	if (l->spec->sort && l->n)
		qsort(l->rows, l->n, sizeof(*l->rows), by_key);
	for (size_t i = 0; !failed && i < l->n; i++)
		sbuf_add(&text, l->text.buf + l->rows[i].at, l->rows[i].len);
	if (!failed && l->table)
		table_format(sbuf_str(&text), 10, 3, &out);
	if (!failed)
		fputs(sbuf_str(l->table ? &out : &text), stdout);
	list_reset(l);
	return failed;
}

void list_done(struct list *l)
{
	tmpl_free(l->tmpl);
	l->tmpl = NULL;
	list_reset(l);
	free(l->rows);
	sbuf_done(&l->text);
}

int list_print(struct list *l, struct json *rows)
{
	for (size_t i = 0; i < json_len(rows) && !l->failed; i++)
		list_add(l, json_ref(json_at(rows, i)));
	return list_end(l);
}

int object_format_open(const char *format, struct tmpl **ret)
{
	_cleanup_free_ char *error = NULL;

	if (streq(format, "json"))
		format = "{{json .}}";
	if (tmpl_parse(format, ret, &error) < 0) {
		fprintf(stderr, "template parsing error: %s\n", error);
		return 64;
	}
	return 0;
}

int object_format_print(const struct tmpl *t, const char *go_type, struct json *doc)
{
	const struct tmpl_env env = { .root_type = go_type };
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT;
	_cleanup_free_ char *error = NULL;

	if (tmpl_exec(t, &env, doc, &out, &error) < 0) {
		/* What was written until then is shown. */
		printf("%s\n", sbuf_str(&out));
		fflush(stdout);
		fprintf(stderr, "%s\n", error);
		return 1;
	}
	printf("%s\n", sbuf_str(&out));
	return 0;
}

char *text_ago(int64_t t)
{
	time_t now = time(NULL);
	_cleanup_free_ char *d = time_human_duration(now > t ? now - t : 0);

	return xasprintf("%s ago", d);
}

char *text_time(int64_t seconds)
{
	time_t t = seconds;
	char buf[64];
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(buf, sizeof(buf), "%Y-%m-%d %H:%M:%S %z %Z", &tm);
	return xstrdup(buf);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

char *text_labels(const struct json *labels)
{
	_cleanup_strv_ char **v = NULL;
	struct json_iter it = {0};
	char *s;

	while (json_next(labels, &it))
		strv_addf(&v, "%s=%s", it.key, json_str(it.value) ?: "");
	if (v)
		qsort(v, strv_len(v), sizeof(*v), by_text);
	s = v ? strv_join(v, ",") : NULL;
	return s ?: xstrdup("");
}

char *text_ellipsis(const char *s, size_t max)
{
	size_t chars = 0, cut = 0;

	for (size_t i = 0; s[i]; i++) {
		if (((unsigned char)s[i] & 0xc0) == 0x80)
			continue;
		if (chars == max - 1)
			cut = i;
		chars++;
	}
	if (chars <= max)
		return xstrdup(s);
	return xasprintf("%.*s…", (int)cut, s);
}

char *text_size4(double bytes)
{
	static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB", "EB" };
	size_t i = 0;

	for (; bytes >= 1000 && i + 1 < ARRAY_SIZE(units); i++)
		bytes /= 1000;
	return xasprintf("%.4g%s", bytes, units[i]);
}

const char *short_id(const char *id, char buf[13])
{
	const char *colon = id ? strchr(id, ':') : NULL, *digits = colon ? colon + 1 : id ?: "";
	size_t n = strnlen(digits, 12);

	memcpy(buf, digits, n);
	buf[n] = 0;
	return buf;
}
