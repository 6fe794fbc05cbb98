#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "cli/format.h"
#include "cli/targets.h"

#include <stdio.h>
#include <string.h>

static const struct field fields[] = {
    {"Availability", "AVAILABILITY"},
    {"Driver", "DRIVER"},
    {"Group", "GROUP"},
    {"Labels", "LABELS"},
    {"Links", "LINKS"},
    {"Mountpoint", "MOUNTPOINT"},
    {"Name", "VOLUME NAME"},
    {"Scope", "SCOPE"},
    {"Size", "SIZE"},
    {"Status", "STATUS"},
    {NULL, NULL},
};

int cmd_volume_ls(struct cli *c, int argc, char **argv)
{
	static const struct list_spec spec = {
		.fields = fields, .quiet = "{{.Name}}", .table = "{{.Driver}}\t{{.Name}}",
		.go_type = "*formatter.volumeContext",
		.method = list_label_method, .sort = "Name",
	};
	bool quiet = false;
	_cleanup_free_ char *format = NULL, **args = NULL, *filters_text = NULL;
	_cleanup_json_ struct json *filters = NULL, *answer = NULL, *rows = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_list_ struct list list = {0};
	struct json *volumes;
	const struct opt opts[] = {{'f', "filter", OPT_CALL, &filters, "filter",
				    "Provide filter values (e.g. \"dangling=true\")", opt_filter},
				   {0, "format", OPT_STR, &format, "string",
				    "Format output: 'table', 'table TEMPLATE', 'json' or a Go template"},
				   {'q', "quiet", OPT_BOOL, &quiet, NULL, "Only display volume names"},
				   OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args) || !list_open(&list, &spec, format, quiet))
		return args ? 1 : c->exit_code;
	filters_text = filters ? json_dump(filters) : NULL;
	sbuf_puts(&url, "/volumes");
	url_query(&url, "filters", filters_text);
	if (api_call(c, "GET", sbuf_str(&url), NULL, &answer, &e) < 0)
		return cli_fail(&e);
	volumes = json_get(answer, "Volumes");
	rows = json_array();
	for (size_t i = 0; i < json_len(volumes); i++) {
		const struct json *v = json_at(volumes, i);
		struct json *row = json_add(rows, json_object());
		_cleanup_free_ char *labels = text_labels(json_get(v, "Labels"));

		for (const struct field *f = fields; f->name; f++)
			json_set_str(row, f->name, json_get_str(v, f->name) ?: "N/A");
		json_set_str(row, "Labels", labels);
		json_set(row, "$labels", json_ref(json_get(v, "Labels")));
	}
	return list_print(&list, rows);
}

/* "k=v" list as an object. */
static struct json *pairs(char *const *list)
{
	struct json *o = json_object();

	for (; list && *list; list++) {
		const char *eq = strchr(*list, '=');
		_cleanup_free_ char *key = eq ? xstrndup(*list, eq - *list) : xstrdup(*list);

		json_set_str(o, key, eq ? eq + 1 : "");
	}
	return o;
}

int cmd_volume_create(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *driver = xstrdup("local"), *name = NULL;
	_cleanup_strv_ char **labels = NULL, **driver_opts = NULL;
	_cleanup_json_ struct json *body = NULL, *answer = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	const struct opt opts[] = {
	    {'d', "driver", OPT_STR, &driver, "string", "Specify volume driver name (default \"local\")"},
	    {0, "label", OPT_STRV, &labels, "list", "Set metadata for a volume"},
	    {0, "name", OPT_STR, &name, "string", NULL},
	    {'o', "opt", OPT_STRV, &driver_opts, "map", "Set driver specific options (default map[])"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 1, &args))
		goto out;
	if (args[0] && name) {
		fprintf(stderr,
			"conflicting options: cannot specify a volume name through both --name and as a "
			"positional arg\n");
		c->exit_code = 1;
		goto out;
	}
	body = json_object();
	json_set_str(body, "Name", args[0] ?: name ?: "");
	json_set_str(body, "Driver", driver);
	json_set(body, "DriverOpts", pairs(driver_opts));
	json_set(body, "Labels", pairs(labels));
	if (api_call(c, "POST", "/volumes/create", body, &answer, &e) < 0)
		return cli_fail(&e);
	puts(json_get_str(answer, "Name") ?: "");
	c->exit_code = 0;
out:
	return c->exit_code;
}

static char *rm_url(const char *name, void *userdata)
{
	const bool *force = userdata;

	return url_path("/volumes/", name, *force ? "?force=1" : "");
}

int cmd_volume_rm(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL;
	bool force = false;
	const struct opt opts[] = {
		{ 'f', "force", OPT_BOOL, &force, NULL, "Force the removal of one or more volumes" },
		OPT_END
	};

	if (!cli_parse(c, opts, argc, argv, 0, 1, ARGS_ANY, &args))
		return c->exit_code;
	return targets_call(c, args, "DELETE", rm_url, &force, 0);
}
