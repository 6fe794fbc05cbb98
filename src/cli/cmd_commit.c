#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "cli/reference.h"

#include <stdio.h>

int cmd_commit(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *author = NULL, *message = NULL, *repo = NULL, *tag = NULL;
	_cleanup_strv_ char **changes = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_json_ struct json *body = json_object(), *answer = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	bool pause = true;
	const struct opt opts[] = {
	    {'a', "author", OPT_STR, &author, "string",
	     "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")"},
	    {'c', "change", OPT_STRV, &changes, "list", "Apply Dockerfile instruction to the created image"},
	    {'m', "message", OPT_STR, &message, "string", "Commit message"},
	    {'p', "pause", OPT_BOOL, &pause, NULL, "Pause container during commit (default true)"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 1, 2, &args))
		return c->exit_code;
	if (args[1])
		reference_split(args[1], &repo, &tag);
	sbuf_puts(&url, "/commit");
	url_query(&url, "container", args[0]);
	url_query(&url, "repo", repo);
	url_query(&url, "tag", tag);
	url_query(&url, "author", author);
	url_query(&url, "comment", message);
	for (char **ch = changes; ch && *ch; ch++)
		url_query(&url, "changes", *ch);
	url_query(&url, "pause", pause ? NULL : "0");
	if (api_call(c, "POST", sbuf_str(&url), body, &answer, &e) < 0)
		return cli_fail(&e);
	printf("%s\n", json_get_str(answer, "Id") ?: "");
	return 0;
}
