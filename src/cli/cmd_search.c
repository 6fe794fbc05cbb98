/* search-by-tag: which tags a repository has in its registry. */
#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "cli/creds.h"
#include "cli/format.h"
#include "cli/reference.h"

#include <fnmatch.h>

static const struct field fields[] = {
    {"Name", "NAME"}, {"Repository", "REPOSITORY"}, {"Tag", "TAG"}, {NULL, NULL},
};

static int ask(struct cli *c, const char *repo, struct json **ret, struct err *e)
{
	_cleanup_free_ char *url = url_path("/distribution/", repo, "/tags"), *auth = creds_header(repo),
			    *header = xasprintf("X-Registry-Auth: %s", auth);

	return api_call_with(c, "GET", url, header, NULL, ret, e);
}

int cmd_search_by_tag(struct cli *c, int argc, char **argv)
{
	static const struct list_spec spec = {
		.fields = fields, .quiet = "{{.Tag}}", .go_type = "*formatter.tagContext",
		.table = "{{.Repository}}\t{{.Tag}}",
	};
	_cleanup_free_ char **args = NULL, *format = NULL, *repo = NULL, *pattern = NULL;
	_cleanup_json_ struct json *answer = NULL, *rows = json_array();
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_list_ struct list list = {0};
	bool quiet = false;
	const struct json *tags;
	const struct opt opts[] = {
	    {0, "format", OPT_STR, &format, "string",
	     "Format output: 'table', 'table TEMPLATE', 'json' or a Go template"},
	    {'q', "quiet", OPT_BOOL, &quiet, NULL, "Only show tags"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 1, 1, &args))
		return c->exit_code;
	if (!list_open(&list, &spec, format, quiet))
		return 1;
	reference_split(args[0], &repo, &pattern);
	if (ask(c, repo, &answer, &e) < 0)
		return cli_fail(&e);
	tags = json_get(answer, "Tags");
	for (size_t i = 0; i < json_len(tags); i++) {
		const char *tag = json_str(json_at(tags, i));
		_cleanup_free_ char *name = xasprintf("%s:%s", repo, tag);
		struct json *row;

		if (pattern && fnmatch(pattern, tag, 0) != 0)
			continue;
		row = json_add(rows, json_object());
		json_set_str(row, "Name", name);
		json_set_str(row, "Repository", repo);
		json_set_str(row, "Tag", tag);
	}
	return list_print(&list, rows);
}
