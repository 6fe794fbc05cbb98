#include "cli/cmds.h"

#include "cli/reference.h"

int cmd_tag(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *path = NULL, *repo = NULL, *tag = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	const struct opt opts[] = { OPT_END };

	if (!cli_parse(c, opts, argc, argv, 0, 2, 2, &args))
		return c->exit_code;
	reference_split(args[1], &repo, &tag);
	path = url_path("/images/", args[0], "/tag");
	sbuf_puts(&url, path);
	url_query(&url, "repo", repo);
	url_query(&url, "tag", tag);
	return api_call(c, "POST", sbuf_str(&url), NULL, NULL, &e) < 0 ? cli_fail(&e) : 0;
}
