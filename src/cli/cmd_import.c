#include "cli/cmds.h"

#include "base/fd.h"
#include "base/strv.h"
#include "cli/reference.h"
#include "cli/upload.h"

#include <stdio.h>

int cmd_import(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *message = NULL, *platform = NULL, *repo = NULL, *tag = NULL;
	_cleanup_strv_ char **changes = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_close_ int fd = -EBADF;
	struct progress p = { .out = stdout };
	bool is_stdin, is_url;
	int r;
	const struct opt opts[] = {
	    {'c', "change", OPT_STRV, &changes, "list", "Apply Dockerfile instruction to the created image"},
	    {'m', "message", OPT_STR, &message, "string", "Set commit message for imported image"},
	    {0, "platform", OPT_STR, &platform, "string", "Set platform if server is multi-platform capable"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 1, 2, &args))
		return c->exit_code;
	is_stdin = streq(args[0], "-");
	is_url = str_starts(args[0], "http://") || str_starts(args[0], "https://");
	/* The daemon fetches an address itself: nothing to send then. */
	if (!is_stdin && upload_open(is_url ? "/dev/null" : args[0], &fd, &e) < 0)
		return cli_fail(&e);
	if (args[1])
		reference_split(args[1], &repo, &tag);
	sbuf_puts(&url, "/images/create");
	url_query(&url, "fromSrc", is_url ? args[0] : "-");
	url_query(&url, "repo", repo);
	url_query(&url, "tag", tag);
	url_query(&url, "message", message);
	url_query(&url, "platform", platform);
	for (char **ch = changes; ch && *ch; ch++)
		url_query(&url, "changes", *ch);
	r = upload(c, sbuf_str(&url), is_stdin ? 0 : fd, &p, &e);
	progress_done(&p);
	return r < 0 ? cli_fail(&e) : 0;
}
