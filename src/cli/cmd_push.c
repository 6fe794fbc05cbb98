#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "cli/progress.h"
#include "cli/reference.h"

#include <stdio.h>
#include <unistd.h>

static int push(struct cli *c, const char *repo, const char *tag, bool quiet, struct err *e)
{
	_cleanup_free_ char *path = url_path("/images/", repo, "/push");
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;

	sbuf_puts(&url, path);
	url_query(&url, "tag", tag);
	return progress_registry(c, sbuf_str(&url), repo, quiet ? NULL : stdout, e);
}

int cmd_push(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *repo = NULL, *tag = NULL, *canonical = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	bool quiet = false, all = false;
	const struct opt opts[] = {
	    {'a', "all-tags", OPT_BOOL, &all, NULL, "Push all tags of an image to the repository"},
	    {'q', "quiet", OPT_BOOL, &quiet, NULL, "Suppress verbose output"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 1, 1, &args))
		return c->exit_code;
	reference_split(args[0], &repo, &tag);
	if (all && tag) {
		fprintf(stderr, "tag can't be used with --all-tags/-a\n");
		return 1;
	}
	if (!all && !tag) {
		tag = xstrdup("latest");
		if (!quiet)
			printf("Using default tag: latest\n");
	}
	fflush(stdout);
	if (push(c, repo, all ? NULL : tag, quiet, &e) < 0)
		return cli_fail(&e);
	if (quiet && !all) {
		canonical = reference_canonical(args[0]);
		puts(canonical);
	}
	return 0;
}
