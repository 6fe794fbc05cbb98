#include "cli/cmds.h"

#include "cli/create.h"

#include <stdio.h>

int cmd_create(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *id = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	struct opt opts[RUN_OPTS_MAX];
	struct run_opts o;
	int r = -1;

	run_opts_table(&o, false, opts);
	if (cli_parse(c, opts, argc, argv, PARSE_STOP, 1, ARGS_ANY, &args)) {
		r = create_container(c, &o, args, &id, NULL, &e);
		c->exit_code = r < 0 ? cli_fail(&e) : 0;
	}
	if (r >= 0)
		puts(id);
	run_opts_done(&o);
	return c->exit_code;
}
