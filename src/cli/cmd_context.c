/* `insula context`: docker's contexts, as docker's CLI keeps them. None of these verbs speaks to a daemon. */
#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "cli/contexts.h"
#include "cli/format.h"

#include <errno.h>
#include <string.h>

#define DEFAULT "default"

/* ---- what they are told ---- */

static bool host_fits(const char *host)
{
	static const char *const schemes[] = {"unix://", "tcp://", "ssh://", "http://", "https://", NULL};

	for (size_t i = 0; schemes[i]; i++)
		if (str_starts(host, schemes[i]) && host[strlen(schemes[i])])
			return true;
	return false;
}

/* --docker "host=unix:///x,from=NAME" into the endpoint. */
static int set_endpoint(struct json *context, const char *text, struct err *e)
{
	_cleanup_strv_ char **words = strv_split(text, ",");
	struct json *docker = json_get(json_get(context, "Endpoints"), "docker");

	for (char **w = words; w && *w; w++) {
		_cleanup_free_ char *key = xstrndup(*w, strcspn(*w, "="));
		const char *value = (*w)[strlen(key)] ? *w + strlen(key) + 1 : "";
		_cleanup_json_ struct json *from = NULL;

		if (streq(key, "from")) {
			if (context_find(value, &from, e) < 0)
				return -ENOENT;
			json_set_str(docker, "Host", context_host(from));
		} else if (streq(key, "host") && host_fits(value)) {
			json_set_str(docker, "Host", value);
		} else if (streq(key, "host")) {
			return err_msg(e, ERR_INVALID, 0,
				       "unable to create docker endpoint config: unable to apply docker "
				       "endpoint options: unable to parse docker host `%s`", value);
		} else if (streq(key, "skip-tls-verify")) {
			json_set_bool(docker, "SkipTLSVerify", streq(value, "true"));
		} else if (streq(key, "ca") || streq(key, "cert") || streq(key, "key")) {
			return err_msg(e, ERR_INVALID, 0,
				       "--docker %s=: insula keeps no certificates in contexts: make this "
				       "one with 'docker context create'", key);
		} else {
			return err_msg(e, ERR_INVALID, 0,
				       "unable to create docker endpoint config: unrecognized config key: %s",
				       key);
		}
	}
	return 0;
}

struct change { char *description, *docker, *from; };

static void change_done(struct change *c)
{
	free(c->description);
	free(c->docker);
	free(c->from);
}

static int apply(struct json *context, const struct change *c, struct err *e)
{
	if (c->description)
		json_set_str(json_get(context, "Metadata"), "Description", c->description);
	return c->docker ? set_endpoint(context, c->docker, e) : 0;
}

/* ---- create, update ---- */

static int create(const char *name, const struct change *c, struct err *e)
{
	_cleanup_json_ struct json *from = NULL, *context = NULL;
	int r = context_check_new(name, e);

	if (r < 0)
		return r;
	r = context_find(c->from ?: DEFAULT, &from, e);
	if (r < 0)
		return r;
	context = json_copy(from);
	json_set_str(context, "Name", name);
	r = apply(context, c, e);
	return r < 0 ? r : context_save(context, e);
}

int cmd_context_create(struct cli *c, int argc, char **argv)
{
	__attribute__((cleanup(change_done))) struct change change = {0};
	_cleanup_free_ char **args = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	const struct opt opts[] = {
	    {0, "description", OPT_STR, &change.description, "string", "Description of the context"},
	    {0, "docker", OPT_STR, &change.docker, "stringToString", "Set the docker endpoint"},
	    {0, "from", OPT_STR, &change.from, "string", "Create context from a named context"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 1, 1, &args))
		return c->exit_code;
	if (create(args[0], &change, &e) < 0)
		return cli_fail(&e);
	printf("%s\n", args[0]);
	fflush(stdout);
	fprintf(stderr, "Successfully created context \"%s\"\n", args[0]);
	return 0;
}

int cmd_context_update(struct cli *c, int argc, char **argv)
{
	__attribute__((cleanup(change_done))) struct change change = {0};
	_cleanup_free_ char **args = NULL;
	_cleanup_json_ struct json *context = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	const struct opt opts[] = {
	    {0, "description", OPT_STR, &change.description, "string", "Description of the context"},
	    {0, "docker", OPT_STR, &change.docker, "stringToString", "Set the docker endpoint"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 1, 1, &args))
		return c->exit_code;
	if (context_check_name(args[0], &e) < 0 || context_find(args[0], &context, &e) < 0 ||
	    apply(context, &change, &e) < 0 || context_save(context, &e) < 0)
		return cli_fail(&e);
	printf("%s\n", args[0]);
	fflush(stdout);
	fprintf(stderr, "Successfully updated context \"%s\"\n", args[0]);
	return 0;
}

/* ---- ls, show, inspect ---- */

static const struct field fields[] = {
    {"Current", ""}, {"Description", "DESCRIPTION"}, {"DockerEndpoint", "DOCKER ENDPOINT"},
    {"Error", "ERROR"}, {"Name", "NAME"}, {NULL, NULL},
};

static void add_context(struct list *l, const struct json *context, bool current)
{
	struct json *row = json_object();
	const char *name = json_get_str(context, "Name"),
		   *text = json_get_str(json_get(context, "Metadata"), "Description");

	if (streq(name, DEFAULT))
		text = "Current DOCKER_HOST based configuration";
	json_set_bool(row, "Current", current);
	json_set_str(row, "Description", text ?: "");
	json_set_str(row, "DockerEndpoint", context_host(context) ?: "");
	json_set_str(row, "Error", "");
	json_set_str(row, "Name", name);
	list_add(l, row);
}

int cmd_context_ls(struct cli *c, int argc, char **argv)
{
	static const struct list_spec spec = {
		.fields = fields, .quiet = "{{.Name}}", .go_type = "*formatter.clientContextContext",
		.table = "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}"
			 "\t{{.Error}}",
		.sort = "Name",
	};
	bool quiet = false;
	_cleanup_free_ char *format = NULL, **args = NULL, *current = context_current();
	_cleanup_strv_ char **names = context_names();
	_cleanup_list_ struct list list = {0};
	const struct opt opts[] = {
	    {0, "format", OPT_STR, &format, "string",
	     "Format output: 'table', 'table TEMPLATE', 'json' or a Go template"},
	    {'q', "quiet", OPT_BOOL, &quiet, NULL, "Only show context names"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args))
		return c->exit_code;
	if (!list_open(&list, &spec, format, quiet))
		return 1;
	strv_add(&names, DEFAULT);
	for (char **n = names; *n; n++) {
		_cleanup_json_ struct json *context = NULL;

		if (context_find(*n, &context, NULL) == 0)
			add_context(&list, context, streq(*n, current));
	}
	return list_end(&list);
}

int cmd_context_show(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *current = context_current();
	const struct opt opts[] = {OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args))
		return c->exit_code;
	printf("%s\n", current);
	return 0;
}

/* With what docker's shows beside the document. */
static int inspect(const char *name, struct json *list, struct err *e)
{
	_cleanup_free_ char *meta = NULL, *tls = NULL;
	struct json *context, *storage;
	bool file = !streq(name, DEFAULT);
	int r = context_find(name, &context, e);

	if (r < 0)
		return r;
	json_add(list, context);
	if (file)
		r = context_dir("meta", name, &meta, e);
	if (file && r == 0)
		r = context_dir("tls", name, &tls, e);
	json_set(context, "TLSMaterial", json_object());
	storage = json_set(context, "Storage", json_object());
	json_set_str(storage, "MetadataPath", meta ?: "<IN MEMORY>");
	json_set_str(storage, "TLSPath", tls ?: "<IN MEMORY>");
	return r;
}

int cmd_context_inspect(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char *format = NULL, **args = NULL, *current = context_current(), *text = NULL;
	char *only[] = {current, NULL};
	_cleanup_json_ struct json *list = json_array();
	_cleanup_err_ struct err e = ERR_INIT;
	struct tmpl *t = NULL;
	const struct opt opts[] = {
	    {'f', "format", OPT_STR, &format, "string", "Format output: 'json' or a Go template"}, OPT_END};
	int code = 0;

	if (!cli_parse(c, opts, argc, argv, 0, 0, ARGS_ANY, &args))
		return c->exit_code;
	if (!str_empty(format) && (code = object_format_open(format, &t)))
		return code;
	for (char **n = args[0] ? args : only; *n && code == 0; n++)
		code = inspect(*n, list, &e) < 0;
	for (size_t i = 0; t && i < json_len(list); i++)
		code |= object_format_print(t, "inspect", json_at(list, i));
	tmpl_free(t);
	text = str_empty(format) ? json_dump_pretty(list, "    ") : NULL;
	if (text)
		printf("%s\n", text);
	return e.kind ? cli_fail(&e) : code;
}

/* ---- use, rm ---- */

static int use(const char *name, struct err *e)
{
	_cleanup_json_ struct json *config = config_read(), *context = NULL;
	int r = context_find(name, &context, e);

	if (r < 0)
		return r;
	if (streq(name, DEFAULT) && !json_get(config, "currentContext"))
		return 0;
	if (streq(name, DEFAULT))
		json_del(config, "currentContext");
	else
		json_set_str(config, "currentContext", name);
	return config_write(config, e);
}

int cmd_context_use(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	const struct opt opts[] = {OPT_END};
	const char *env = getenv("DOCKER_HOST");

	if (!cli_parse(c, opts, argc, argv, 0, 1, 1, &args))
		return c->exit_code;
	if (use(args[0], &e) < 0)
		return cli_fail(&e);
	printf("%s\n", args[0]);
	fflush(stdout);
	fprintf(stderr, "Current context is now \"%s\"\n", args[0]);
	if (!str_empty(env) && !streq(args[0], DEFAULT))
		fprintf(stderr,
			"Warning: DOCKER_HOST environment variable overrides the active context. To use "
			"\"%s\", either set the global --context flag, or unset DOCKER_HOST environment "
			"variable.\n",
			args[0]);
	return 0;
}

static int remove_context(const char *name, bool force, struct err *e)
{
	_cleanup_json_ struct json *context = NULL;
	_cleanup_free_ char *current = context_current();
	int r = 0;

	if (streq(name, DEFAULT))
		return err_msg(e, ERR_INVALID, 0, "context \"" DEFAULT "\" cannot be removed");
	context = context_load(name);
	if (!context)
		return force ? 0 : err_msg(e, ERR_NOT_FOUND, 0, "context \"%s\" does not exist", name);
	if (streq(name, current) && !force)
		return err_msg(e, ERR_CONFLICT, 0, "context \"%s\" is in use, set -f flag to force remove",
			       name);
	if (streq(name, current))
		r = use(DEFAULT, e);
	return r < 0 ? r : context_remove(name, e);
}

int cmd_context_rm(struct cli *c, int argc, char **argv)
{
	bool force = false;
	_cleanup_free_ char **args = NULL;
	const struct opt opts[] = {
	    {'f', "force", OPT_BOOL, &force, NULL, "Force the removal of a context in use"}, OPT_END};
	int code = 0;

	if (!cli_parse(c, opts, argc, argv, 0, 1, ARGS_ANY, &args))
		return c->exit_code;
	for (char **n = args; *n; n++) {
		_cleanup_err_ struct err e = ERR_INIT;

		if (remove_context(*n, force, &e) < 0)
			code = cli_fail(&e);
		else
			printf("%s\n", *n);
	}
	return code;
}
