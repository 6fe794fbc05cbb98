#include "cli/cmds.h"

#include "base/strv.h"

#include <stdio.h>

int cmd_rename(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *path = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	const struct opt opts[] = { OPT_END };

	if (!cli_parse(c, opts, argc, argv, 0, 2, 2, &args))
		return c->exit_code;
	if (str_empty(args[0]) || str_empty(args[1])) {
		fprintf(stderr, "Error: Neither old nor new names may be empty\n");
		return 1;
	}
	path = url_path("/containers/", args[0], "/rename");
	sbuf_puts(&url, path);
	url_query(&url, "name", args[1]);
	if (api_call(c, "POST", sbuf_str(&url), NULL, NULL, &e) < 0) {
		cli_fail(&e);
		fprintf(stderr, "Error: failed to rename container named %s\n", args[0]);
		return 1;
	}
	return 0;
}
