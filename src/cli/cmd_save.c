#include "cli/cmds.h"

#include "base/fd.h"
#include "base/strv.h"
#include "cli/download.h"

#include <stdio.h>

int cmd_save(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *output = NULL, *platform = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	const struct opt opts[] = {
	    {'o', "output", OPT_STR, &output, "string", "Write to a file, instead of STDOUT"},
	    {0, "platform", OPT_STR, &platform, "string",
	     "Save only the given platform variant (\"os[/arch[/variant]]\")"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 1, ARGS_ANY, &args))
		return c->exit_code;
	sbuf_puts(&url, "/images/get");
	for (char **name = args; *name; name++)
		url_query(&url, "names", *name);
	url_query(&url, "platform", platform);
	return download(c, sbuf_str(&url), output, &e) < 0 ? cli_fail(&e) : 0;
}
