#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "cli/progress.h"
#include "cli/reference.h"

#include <stdio.h>
#include <unistd.h>

int pull_image(struct cli *c, const char *ref, const char *platform, bool quiet, FILE *f, struct err *e)
{
	_cleanup_free_ char *canonical = reference_canonical(ref), *repo = NULL, *tag = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;

	reference_split(canonical, &repo, &tag);
	sbuf_puts(&url, "/images/create");
	url_query(&url, "fromImage", repo);
	url_query(&url, "tag", tag);
	url_query(&url, "platform", platform);
	return progress_registry(c, sbuf_str(&url), ref, quiet ? NULL : f, e);
}

int cmd_pull(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *platform = NULL, *canonical = NULL, *repo = NULL, *tag = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	bool quiet = false;
	const struct opt opts[] = {
	    {0, "platform", OPT_STR, &platform, "string", "Set platform if server is multi-platform capable"},
	    {'q', "quiet", OPT_BOOL, &quiet, NULL, "Suppress verbose output"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 1, 1, &args))
		return c->exit_code;
	reference_split(args[0], &repo, &tag);
	if (!tag && !quiet)
		printf("Using default tag: latest\n");
	fflush(stdout);
	if (pull_image(c, args[0], platform, quiet, stdout, &e) < 0)
		return cli_fail(&e);
	canonical = reference_canonical(args[0]);
	puts(canonical);
	return 0;
}
