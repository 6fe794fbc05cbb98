#include "base/opt.h"
#include "base/alloc.h"
#include "base/strv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct opt *find_long(const struct opt *opts, const char *name, size_t n)
{
	for (; opts->long_name; opts++)
		if (strlen(opts->long_name) == n && !strncmp(opts->long_name, name, n))
			return opts;
	return NULL;
}

static const struct opt *find_short(const struct opt *opts, char c)
{
	for (; opts->long_name; opts++)
		if (opts->short_name == c)
			return opts;
	return NULL;
}

static char *opt_title(const struct opt *o)
{
	return o->short_name ? xasprintf("-%c, --%s", o->short_name, o->long_name)
			     : xasprintf("--%s", o->long_name);
}

static int bad_value(const struct opt *o, const char *value, const char *why, char **ret_error)
{
	_cleanup_free_ char *title = opt_title(o);

	*ret_error = xasprintf("invalid argument \"%s\" for \"%s\" flag: %s", value, title, why);
	return -EINVAL;
}

/* Go's strconv.ParseBool. */
static int parse_bool(const char *s, bool *ret)
{
	static const char *const yes[] = { "1", "t", "T", "TRUE", "true", "True" };
	static const char *const no[] = { "0", "f", "F", "FALSE", "false", "False" };

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		if (streq(s, yes[i]) || streq(s, no[i])) {
			*ret = streq(s, yes[i]);
			return 0;
		}
	}
	return -EINVAL;
}

static int apply(const struct opt *o, const char *value, char **ret_error)
{
	_cleanup_free_ char *why = NULL;
	int64_t num;
	int r;

	if (o->seen)
		*o->seen = true;
	switch (o->type) {
	case OPT_BOOL:
		if (parse_bool(value, o->target) < 0) {
			why = xasprintf("strconv.ParseBool: parsing \"%s\": invalid syntax", value);
			return bad_value(o, value, why, ret_error);
		}
		return 0;
	case OPT_STR:
		str_replace(o->target, value);
		return 0;
	case OPT_STRV:
		strv_add(o->target, value);
		return 0;
	case OPT_INT:
		r = str_to_i64(value, &num);
		if (r < 0) {
			why = xasprintf("strconv.ParseInt: parsing \"%s\": %s", value,
					r == -ERANGE ? "value out of range" : "invalid syntax");
			return bad_value(o, value, why, ret_error);
		}
		*(int64_t *)o->target = num;
		return 0;
	case OPT_CALL:
		r = o->call(o, value, &why);
		return r < 0 ? bad_value(o, value, why ? why : strerror(-r), ret_error) : 0;
	}
	return -EINVAL;
}

struct parser {
	const struct opt *opts;
	int argc, i;
	char *const *argv;
	char **ret_error;
};

static int parse_long(struct parser *p)
{
	const char *arg = p->argv[p->i] + 2;
	size_t n = strcspn(arg, "=");
	const struct opt *o = find_long(p->opts, arg, n);

	if (!o) {
		*p->ret_error = xasprintf("unknown flag: --%.*s", (int)n, arg);
		return -EINVAL;
	}
	if (arg[n] == '=')
		return apply(o, arg + n + 1, p->ret_error);
	if (o->type == OPT_BOOL)
		return apply(o, "true", p->ret_error);
	if (p->i + 1 >= p->argc) {
		*p->ret_error = xasprintf("flag needs an argument: --%s", o->long_name);
		return -EINVAL;
	}
	return apply(o, p->argv[++p->i], p->ret_error);
}

static int parse_shorts(struct parser *p)
{
	const char *arg = p->argv[p->i];

	for (const char *c = arg + 1; *c; c++) {
		const struct opt *o = find_short(p->opts, *c);

		if (!o) {
			*p->ret_error = xasprintf("unknown shorthand flag: '%c' in %s", *c, arg);
			return -EINVAL;
		}
		if (c[1] == '=')
			return apply(o, c + 2, p->ret_error);
		if (o->type == OPT_BOOL) {
			int r = apply(o, "true", p->ret_error);

			if (r < 0)
				return r;
			continue;
		}
		if (c[1])
			return apply(o, c + 1, p->ret_error);
		if (p->i + 1 >= p->argc) {
			*p->ret_error = xasprintf("flag needs an argument: '%c' in %s", *c, arg);
			return -EINVAL;
		}
		return apply(o, p->argv[++p->i], p->ret_error);
	}
	return 0;
}

int opt_parse(const struct opt *opts, int argc, char *const *argv, bool stop_at_positional, char ***ret_args,
	      char **ret_error)
{
	_cleanup_free_ char **args = new_array(char *, (size_t)argc + 1);
	struct parser p = { opts, argc, 1, argv, ret_error };
	size_t n = 0;

	for (; p.i < argc; p.i++) {
		char *arg = argv[p.i];
		int r;

		if (arg[0] != '-' || !arg[1]) {
			args[n++] = arg;
			if (!stop_at_positional)
				continue;
			p.i++;
			break;
		}
		if (streq(arg, "--")) {
			p.i++;
			break;
		}
		r = arg[1] == '-' ? parse_long(&p) : parse_shorts(&p);
		if (r < 0)
			return r;
	}
	for (; p.i < argc; p.i++)
		args[n++] = argv[p.i];
	*ret_args = TAKE_PTR(args);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct opt *const *)a)->long_name, (*(const struct opt *const *)b)->long_name);
}

void opt_print_help(const struct opt *opts)
{
	_cleanup_free_ const struct opt **sorted = NULL;
	size_t n = 0, shown = 0, width = 0;

	for (const struct opt *o = opts; o->long_name; o++)
		n++;
	sorted = new_array(const struct opt *, n);
	for (size_t i = 0; i < n; i++)
		if (opts[i].help)
			sorted[shown++] = &opts[i];
	qsort(sorted, shown, sizeof sorted[0], by_name);
	for (size_t i = 0; i < shown; i++)
		width = MAX(width, strlen(sorted[i]->long_name) +
					   (sorted[i]->arg_name ? strlen(sorted[i]->arg_name) + 1 : 0));
	printf("Options:\n");
	for (size_t i = 0; i < shown; i++) {
		const struct opt *o = sorted[i];
		_cleanup_free_ char *left = xasprintf("%s%s%s", o->long_name, o->arg_name ? " " : "",
						      o->arg_name ? o->arg_name : "");
		char key[4] = "   ";

		if (o->short_name)
			snprintf(key, sizeof key, "-%c,", o->short_name);
		printf("  %s --%-*s   %s\n", key, (int)width, left, o->help);
	}
}
