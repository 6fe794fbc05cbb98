#include "cli/cmds.h"

#include "base/fd.h"
#include "cli/upload.h"

#include <stdio.h>

int cmd_load(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *input = NULL, *platform = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_close_ int fd = -EBADF;
	struct progress p = { .out = stdout, .tty = isatty(1) };
	bool quiet = false;
	int r;
	const struct opt opts[] = {
	    {'i', "input", OPT_STR, &input, "string", "Read from tar archive file, instead of STDIN"},
	    {0, "platform", OPT_STR, &platform, "string",
	     "Load only the given platform variant (\"os[/arch[/variant]]\")"},
	    {'q', "quiet", OPT_BOOL, &quiet, NULL, "Suppress the load output"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args))
		return c->exit_code;
	if (input && upload_open(input, &fd, &e) < 0)
		return cli_fail(&e);
	if (!input && isatty(0)) {
		fprintf(stderr, "requested load from stdin, but stdin is empty\n");
		return 1;
	}
	sbuf_printf(&url, "/images/load?quiet=%d", quiet || !p.tty);
	url_query(&url, "platform", platform);
	r = upload(c, sbuf_str(&url), input ? fd : 0, &p, &e);
	progress_done(&p);
	return r < 0 ? cli_fail(&e) : 0;
}
