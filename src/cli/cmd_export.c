#include "cli/cmds.h"

#include "base/strv.h"
#include "cli/download.h"

int cmd_export(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *path = NULL, *output = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	const struct opt opts[] = {
	    {'o', "output", OPT_STR, &output, "string", "Write to a file, instead of STDOUT"}, OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 1, 1, &args))
		return c->exit_code;
	path = url_path("/containers/", args[0], "/export");
	return download(c, path, output, &e) < 0 ? cli_fail(&e) : 0;
}
