#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "cli/format.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What `insula inspect` looks through, in docker's order. */
static const struct kind {
	const char *name, *prefix, *suffix;
} kinds[] = {
	{ "container", "/containers/", "/json" },
	{ "image", "/images/", "/json" },
	{ "network", "/networks/", "" },
	{ "volume", "/volumes/", "" },
};

static int fetch(struct cli *c, const struct kind *k, const char *name, bool size, struct json **ret,
		 struct err *e)
{
	_cleanup_free_ char *path = url_path(k->prefix, name, k->suffix);
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;

	sbuf_puts(&url, path);
	url_query(&url, "size", size && streq(k->name, "container") ? "1" : NULL);
	return api_call(c, "GET", sbuf_str(&url), NULL, ret, e);
}

/* By one kind, or (type NULL) by the first that knows the name. */
static int find(struct cli *c, const char *type, const char *name, bool size, struct json **ret,
		struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		_cleanup_err_ struct err one = ERR_INIT;
		int r;

		if (type && !streq(type, kinds[i].name))
			continue;
		r = fetch(c, &kinds[i], name, size, ret, &one);
		if (r >= 0)
			return 0;
		if (type || one.kind != ERR_NOT_FOUND) {
			err_move(e, &one);
			return r;
		}
	}
	return err_msg(e, ERR_NOT_FOUND, 0, "Error: No such object: %s", name);
}

static bool known_type(const char *type)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (streq(type, kinds[i].name))
			return true;
	fprintf(stderr,
		"unknown type: \"%s\": must be one of \"container\", \"image\", \"network\", \"volume\"\n",
		type);
	return false;
}

/* The template's result for one object. Docker shows its errors as errors of that object. */
static int print_one(const struct tmpl *t, struct json *j, struct sbuf *out, struct err *e)
{
	_cleanup_sbuf_ struct sbuf one = SBUF_INIT;
	_cleanup_free_ char *error = NULL;

	if (tmpl_exec(t, NULL, j, &one, &error) < 0)
		return err_msg(e, ERR_INVALID, 0, "template parsing error: %s", error);
	sbuf_add(out, sbuf_str(&one), one.len);
	sbuf_putc(out, '\n');
	return 0;
}

static int inspect(struct cli *c, const char *type, char *const *names, const char *format, bool size)
{
	_cleanup_json_ struct json *all = json_array();
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT;
	_cleanup_strv_ char **errors = NULL;
	_cleanup_tmpl_ struct tmpl *t = NULL;
	bool as_json = streq(format, "json"), templated = !str_empty(format) && !as_json;
	int r;

	if (templated && (r = object_format_open(format, &t)) != 0)
		return r;
	for (; *names; names++) {
		_cleanup_err_ struct err e = ERR_INIT;
		_cleanup_json_ struct json *j = NULL;

		r = find(c, type, *names, size, &j, &e);
		if (r >= 0 && templated)
			r = print_one(t, j, &out, &e);
		else if (r >= 0)
			json_add(all, TAKE_PTR(j));
		if (r < 0) {
			strv_add(&errors, err_text(&e));
			/* A template that does not fit ends the run, as in docker. */
			if (j)
				break;
		}
	}
	if (templated) {
		printf("%s", out.len || !errors ? sbuf_str(&out) : "\n");
	} else {
		_cleanup_free_ char *text = as_json ? json_dump(all) : json_dump_pretty(all, "    ");

		printf("%s\n", text);
	}
	fflush(stdout);
	for (char **p = errors; p && *p; p++)
		fprintf(stderr, "%s\n", *p);
	return errors ? 1 : 0;
}

/* The verbs differ in the kind they are bound to and in whether they know --size and --type. */
static int run(struct cli *c, int argc, char **argv, const char *type, bool has_size, bool has_type)
{
	_cleanup_free_ char *format = NULL, *wanted = NULL, **args = NULL;
	bool size = false;
	struct opt opts[5] = {
		{ 'f', "format", OPT_STR, &format, "string", "Format output: 'json' or a Go template" },
	};
	size_t n = 1;

	if (has_size)
		opts[n++] = (struct opt){ 's', "size", OPT_BOOL, &size, NULL,
					  has_type ? "Display total file sizes if the type is container"
						   : "Display total file sizes" };
	if (has_type)
		opts[n++] = (struct opt){0,       "type",   OPT_STR,
					 &wanted, "string", "Only inspect objects of the given type"};
	if (streq(type, "network"))
		opts[n++] =
		    (struct opt){'v', "verbose", OPT_BOOL, &size, NULL, "Verbose output for diagnostics"};
	opts[n] = (struct opt)OPT_END;
	if (!cli_parse(c, opts, argc, argv, 0, 1, ARGS_ANY, &args))
		return c->exit_code;
	if (!str_empty(wanted)) {
		type = wanted;
		if (!known_type(type))
			return 1;
	}
	return inspect(c, type, args, format, size);
}

int cmd_inspect(struct cli *c, int argc, char **argv)
{
	return run(c, argc, argv, NULL, true, true);
}

int cmd_inspect_container(struct cli *c, int argc, char **argv)
{
	return run(c, argc, argv, "container", true, false);
}

int cmd_inspect_image(struct cli *c, int argc, char **argv)
{
	return run(c, argc, argv, "image", false, false);
}

int cmd_inspect_network(struct cli *c, int argc, char **argv)
{
	return run(c, argc, argv, "network", false, false);
}

int cmd_inspect_volume(struct cli *c, int argc, char **argv)
{
	return run(c, argc, argv, "volume", false, false);
}
