#include "cli/template_ast.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "lib/json_write.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

bool tmpl_truth(const struct json *v)
{
	switch (json_type(v)) {
	case JSON_NULL: return false;
	case JSON_BOOL: return json_bool(v);
	case JSON_INT: return json_int(v) != 0;
	case JSON_DOUBLE: return json_double(v) != 0;
	case JSON_STR: return *json_str(v);
	case JSON_ARRAY:
	case JSON_OBJECT: return json_len(v) > 0;
	}
	return false;
}

static char *text_of(const struct json *v)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	tmpl_print(&b, v, NULL);
	return xstrdup(sbuf_str(&b));
}

static int f_json(const struct func_call *f, struct json **ret, char **why)
{
	_cleanup_free_ char *s = NULL;

	if (f->env->header) {
		*ret = json_ref(f->args[0]);
		return 0;
	}
	s = tmpl_json(f->args[0], f->env->row);
	*ret = json_new_str(s);
	return 0;
}

static int f_join(const struct func_call *f, struct json **ret, char **why)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	if (f->env->header) {
		*ret = json_ref(f->args[0]);
		return 0;
	}
	for (size_t i = 0; i < json_len(f->args[0]); i++) {
		if (i > 0)
			sbuf_puts(&b, json_str(f->args[1]) ?: "");
		tmpl_print(&b, json_at(f->args[0], i), NULL);
	}
	*ret = json_new_strn(sbuf_str(&b), b.len);
	return 0;
}

static int f_split(const struct func_call *f, struct json **ret, char **why)
{
	const char *s = json_str(f->args[0]), *sep = json_str(f->args[1]);
	struct json *a;

	if (f->env->header) {
		*ret = json_ref(f->args[0]);
		return 0;
	}
	if (!s || !sep || !*sep) {
		*why = xstrdup("error calling split: wrong type for value; expected string");
		return -EINVAL;
	}
	a = json_array();
	for (const char *at; (at = strstr(s, sep)); s = at + strlen(sep))
		json_add(a, json_new_strn(s, at - s));
	json_add_str(a, s);
	*ret = a;
	return 0;
}

static int map_case(const struct func_call *f, struct json **ret, int (*first)(int), int (*rest)(int))
{
	_cleanup_free_ char *s = text_of(f->args[0]);
	bool start = true;

	for (char *c = s; *c; c++) {
		*c = start ? first((unsigned char)*c) : rest((unsigned char)*c);
		start = first != rest && isspace((unsigned char)*c);
	}
	*ret = json_new_str(s);
	return 0;
}

static int same(int c)
{
	return c;
}

static int f_lower(const struct func_call *f, struct json **ret, char **why)
{
	return map_case(f, ret, tolower, tolower);
}

static int f_upper(const struct func_call *f, struct json **ret, char **why)
{
	return map_case(f, ret, toupper, toupper);
}

static int f_title(const struct func_call *f, struct json **ret, char **why)
{
	return map_case(f, ret, toupper, same);
}

static int f_pad(const struct func_call *f, struct json **ret, char **why)
{
	_cleanup_free_ char *s = text_of(f->args[0]);
	int64_t before = json_int(f->args[1]), after = json_int(f->args[2]);
	_cleanup_free_ char *padded = NULL;

	if (!*s || before < 0 || after < 0 || before > 4096 || after > 4096)
		*ret = json_new_str(s);
	else {
		padded = xasprintf("%*s%s%*s", (int)before, "", s, (int)after, "");
		*ret = json_new_str(padded);
	}
	return 0;
}

static int f_truncate(const struct func_call *f, struct json **ret, char **why)
{
	_cleanup_free_ char *s = text_of(f->args[0]);
	int64_t n = json_int(f->args[1]);

	if (f->env->header || n < 0 || strlen(s) <= (uint64_t)n)
		*ret = json_new_str(s);
	else
		*ret = json_new_strn(s, n);
	return 0;
}

static int f_print(const struct func_call *f, struct json **ret, char **why)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	bool line = streq(f->name, "println");

	for (size_t i = 0; i < f->n; i++) {
		/* Print puts a space between operands when neither is a string, Println always. */
		if (i > 0 &&
		    (line || (json_type(f->args[i]) != JSON_STR && json_type(f->args[i - 1]) != JSON_STR)))
			sbuf_putc(&b, ' ');
		tmpl_print(&b, f->args[i], NULL);
	}
	if (line)
		sbuf_putc(&b, '\n');
	*ret = json_new_strn(sbuf_str(&b), b.len);
	return 0;
}

/* One verb of Printf; spec is "%[flags][width][.prec]" without the letter. */
static void print_verb(struct sbuf *b, const char *spec, char verb, const struct json *v)
{
	char fmt[40];

	if (strchr("dxXoc", verb) && json_type(v) == JSON_INT) {
		snprintf(fmt, sizeof(fmt), "%s%s%c", spec, verb == 'c' ? "" : "ll", verb);
		if (verb == 'c')
			sbuf_printf(b, "%c", (int)json_int(v));
		else {
			_Pragma("GCC diagnostic push")
			    _Pragma("GCC diagnostic ignored \"-Wformat-nonliteral\"")
				sbuf_printf(b, fmt, (long long)json_int(v));
			_Pragma("GCC diagnostic pop")
		}
	} else if (strchr("feg", verb) && (json_type(v) == JSON_DOUBLE || json_type(v) == JSON_INT)) {
		snprintf(fmt, sizeof(fmt), "%s%c", spec, verb);
		_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wformat-nonliteral\"")
		sbuf_printf(b, fmt, json_double(v));
		_Pragma("GCC diagnostic pop")
	} else if (verb == 'q') {
		json_emit_str(b, json_str(v) ?: "", strlen(json_str(v) ?: ""));
	} else if (strchr("svt", verb)) {
		_cleanup_free_ char *s = text_of(v);

		snprintf(fmt, sizeof(fmt), "%ss", spec);
		_Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wformat-nonliteral\"")
		sbuf_printf(b, fmt, s);
		_Pragma("GCC diagnostic pop")
	} else {
		_cleanup_free_ char *s = text_of(v);

		sbuf_printf(b, "%%!%c(%s)", verb, s);
	}
}

static int f_printf(const struct func_call *f, struct json **ret, char **why)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	const char *p = json_str(f->args[0]);
	size_t next = 1;

	if (!p) {
		*why = xstrdup("error calling printf: wrong type for value; expected string");
		return -EINVAL;
	}
	while (*p) {
		size_t n = strcspn(p, "%"), digits;
		char spec[32];

		sbuf_add(&b, p, n);
		p += n;
		if (!*p)
			break;
		if (p[1] == '%') {
			sbuf_putc(&b, '%');
			p += 2;
			continue;
		}
		digits = 1 + strspn(p + 1, "+- #0123456789.");
		if (digits >= 12 || !p[digits]) {
			sbuf_puts(&b, "%!(NOVERB)");
			break;
		}
		memcpy(spec, p, digits);
		spec[digits] = 0;
		if (next < f->n)
			print_verb(&b, spec, p[digits], f->args[next++]);
		else
			sbuf_printf(&b, "%%!%c(MISSING)", p[digits]);
		p += digits + 1;
	}
	*ret = json_new_strn(sbuf_str(&b), b.len);
	return 0;
}

static int f_len(const struct func_call *f, struct json **ret, char **why)
{
	const struct json *v = f->args[0];

	switch (json_type(v)) {
	case JSON_STR: *ret = json_new_int(strlen(json_str(v))); return 0;
	case JSON_NULL:
	case JSON_ARRAY:
	case JSON_OBJECT: *ret = json_new_int(json_len(v)); return 0;
	default:
		*why = xstrdup("error calling len: len of type that has none");
		return -EINVAL;
	}
}

/* A map of strings, as far as one can see: what it lacks is then "", not nil. */
static bool all_strings(const struct json *o)
{
	struct json_iter it = {0};

	while (json_next(o, &it))
		if (json_type(it.value) != JSON_STR)
			return false;
	return json_len(o) > 0;
}

static int f_index(const struct func_call *f, struct json **ret, char **why)
{
	struct json *v = f->args[0];

	for (size_t i = 1; i < f->n; i++) {
		const struct json *k = f->args[i];

		if (json_type(v) == JSON_NULL) {
			*why = xstrdup("error calling index: index of untyped nil");
			return -EINVAL;
		}
		if (json_type(v) == JSON_OBJECT && json_type(k) == JSON_STR) {
			struct json *found = json_get(v, json_str(k));

			if (!found && i + 1 == f->n && all_strings(v)) {
				*ret = json_new_str("");
				return 0;
			}
			v = found;
		} else if (json_type(v) == JSON_ARRAY && json_type(k) == JSON_INT) {
			if (json_int(k) < 0 || (uint64_t)json_int(k) >= json_len(v)) {
				*why = xasprintf("error calling index: index out of range: %lld",
						 (long long)json_int(k));
				return -EINVAL;
			}
			v = json_at(v, json_int(k));
		} else {
			*why = xstrdup("error calling index: cannot index this with that");
			return -EINVAL;
		}
	}
	*ret = json_ref(v);
	return 0;
}

static int f_slice(const struct func_call *f, struct json **ret, char **why)
{
	const struct json *v = f->args[0];
	bool str = json_type(v) == JSON_STR;
	int64_t len = str ? (int64_t)strlen(json_str(v)) : (int64_t)json_len(v);
	int64_t from = f->n > 1 ? json_int(f->args[1]) : 0, to = f->n > 2 ? json_int(f->args[2]) : len;
	struct json *a;

	if (from < 0 || to > len || from > to) {
		*why = xasprintf("error calling slice: index out of range: %lld",
				 (long long)(to > len ? to : from));
		return -EINVAL;
	}
	if (str) {
		*ret = json_new_strn(json_str(v) + from, to - from);
		return 0;
	}
	a = json_array();
	for (int64_t i = from; i < to; i++)
		json_add(a, json_ref(json_at(v, i)));
	*ret = a;
	return 0;
}

/* -1, 0, 1; 2 if they cannot be compared. */
static int compare(const struct json *a, const struct json *b)
{
	enum json_type ta = json_type(a), tb = json_type(b);
	bool num_a = ta == JSON_INT || ta == JSON_DOUBLE, num_b = tb == JSON_INT || tb == JSON_DOUBLE;

	if (ta == JSON_INT && tb == JSON_INT)
		return json_int(a) < json_int(b) ? -1 : json_int(a) > json_int(b);
	if (num_a && num_b)
		return json_double(a) < json_double(b) ? -1 : json_double(a) > json_double(b);
	if (ta != tb)
		return 2;
	if (ta == JSON_STR) {
		int r = strcmp(json_str(a), json_str(b));

		return r < 0 ? -1 : r > 0;
	}
	if (ta == JSON_BOOL)
		return json_bool(a) - json_bool(b);
	return ta == JSON_NULL ? 0 : 2;
}

static int f_compare(const struct func_call *f, struct json **ret, char **why)
{
	bool equal = streq(f->name, "eq"), result = false;

	for (size_t i = 1; i < f->n; i++) {
		int r = compare(f->args[0], f->args[i]);
		/* nil may be tested against anything, as a missing value of a map is. */
		bool nil = !f->args[0] || !f->args[i];

		if (r == 2 && !(nil && (equal || streq(f->name, "ne")))) {
			*why = xasprintf("error calling %s: incompatible types for comparison", f->name);
			return -EINVAL;
		}
		if (equal)
			result |= r == 0;
		else if (streq(f->name, "ne"))
			result = r != 0;
		else if (f->name[0] == 'l')
			result = r == -1 || (f->name[1] == 'e' && r == 0);
		else
			result = r == 1 || (f->name[1] == 'e' && r == 0);
	}
	*ret = json_new_bool(result);
	return 0;
}

static int f_logic(const struct func_call *f, struct json **ret, char **why)
{
	bool and = streq(f->name, "and");
	size_t i = 0;

	while (i + 1 < f->n && tmpl_truth(f->args[i]) == and)
		i++;
	*ret = json_ref(f->args[i]);
	return 0;
}

static int f_not(const struct func_call *f, struct json **ret, char **why)
{
	*ret = json_new_bool(!tmpl_truth(f->args[0]));
	return 0;
}

static const struct func {
	const char *name;
	unsigned min, max;
	int (*call)(const struct func_call *f, struct json **ret, char **why);
} funcs[] = {
	{ "and", 1, 16, f_logic },
	{ "or", 1, 16, f_logic },
	{ "not", 1, 1, f_not },
	{ "eq", 2, 16, f_compare },
	{ "ne", 2, 2, f_compare },
	{ "lt", 2, 2, f_compare },
	{ "le", 2, 2, f_compare },
	{ "gt", 2, 2, f_compare },
	{ "ge", 2, 2, f_compare },
	{ "index", 1, 16, f_index },
	{ "slice", 1, 3, f_slice },
	{ "len", 1, 1, f_len },
	{ "print", 0, 16, f_print },
	{ "println", 0, 16, f_print },
	{ "printf", 1, 16, f_printf },
	{ "json", 1, 1, f_json },
	{ "join", 2, 2, f_join },
	{ "split", 2, 2, f_split },
	{ "lower", 1, 1, f_lower },
	{ "upper", 1, 1, f_upper },
	{ "title", 1, 1, f_title },
	{ "pad", 3, 3, f_pad },
	{ "truncate", 2, 2, f_truncate },
};

static const struct func *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(funcs); i++)
		if (streq(funcs[i].name, name))
			return &funcs[i];
	return NULL;
}

bool tmpl_func_exists(const char *name)
{
	return find(name);
}

int tmpl_func_call(const struct func_call *f, struct json **ret, char **ret_error)
{
	const struct func *fn = find(f->name);

	if (f->n < fn->min || f->n > fn->max) {
		*ret_error = xasprintf("wrong number of args for %s: want %s%u got %zu", f->name,
				       fn->min == fn->max ? "" : "at least ", fn->min, f->n);
		return -EINVAL;
	}
	return fn->call(f, ret, ret_error);
}
