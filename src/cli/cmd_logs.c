#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/loop.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "cli/demux.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int timestamp(const char *name, const char *s, char **ret, struct err *e)
{
	uint64_t ns;

	if (str_empty(s))
		return 0;
	if (time_parse_since(s, now_real_ns(), &ns) < 0)
		return err_msg(e, ERR_INVALID, 0,
			       "invalid value for \"%s\": failed to parse value as time or duration: "
			       "\"%s\"",
			       name, s);
	*ret = xasprintf("%llu.%09llu", (unsigned long long)(ns / 1000000000),
			 (unsigned long long)(ns % 1000000000));
	return 0;
}

static int copy_out(struct httpc *h, bool raw, struct err *e)
{
	struct demux d = {0};

	for (;;) {
		char buf[32768];
		ssize_t n = httpc_read(h, buf, sizeof(buf));
		int r;

		if (n <= 0)
			return n < 0 ? err_set(e, ERR_SYSTEM, n, "reading the log") : 0;
		r = demux_write(&d, raw, buf, n);
		if (r < 0)
			return err_set(e, ERR_SYSTEM, r, "writing the log");
	}
}

int cmd_logs(struct cli *c, int argc, char **argv)
{
	bool details = false, follow = false, timestamps = false;
	_cleanup_free_ char *since = NULL, *until = NULL, *tail = xstrdup("all"), *from = NULL, *to = NULL,
			    *path = NULL;
	_cleanup_free_ char **args = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_httpc_ struct httpc *h = NULL;
	struct httpc_request req = { .method = "GET" };
	const struct http_head *head;
	const char *type;
	const struct opt opts[] = {
	    {0, "details", OPT_BOOL, &details, NULL, "Show extra details provided to logs"},
	    {'f', "follow", OPT_BOOL, &follow, NULL, "Follow log output"},
	    {0, "since", OPT_STR, &since, "string",
	     "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 "
	     "minutes)"},
	    {'n', "tail", OPT_STR, &tail, "string",
	     "Number of lines to show from the end of the logs (default \"all\")"},
	    {'t', "timestamps", OPT_BOOL, &timestamps, NULL, "Show timestamps"},
	    {0, "until", OPT_STR, &until, "string",
	     "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 "
	     "minutes)"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 1, 1, &args))
		return c->exit_code;
	if (timestamp("since", since, &from, &e) < 0 || timestamp("until", until, &to, &e) < 0)
		return cli_fail(&e);
	path = url_path("/containers/", args[0], "/logs?stdout=1&stderr=1");
	sbuf_puts(&url, path);
	url_query(&url, "follow", follow ? "1" : NULL);
	url_query(&url, "timestamps", timestamps ? "1" : NULL);
	url_query(&url, "details", details ? "1" : NULL);
	url_query(&url, "tail", tail);
	url_query(&url, "since", from);
	url_query(&url, "until", to);
	req.target = sbuf_str(&url);
	if (api_open(c, &req, &h, &head, &e) < 0)
		return cli_fail(&e);
	/* The type says whether the container has a tty: no need to inspect it first. */
	type = http_header_get(head, "Content-Type");
	if (copy_out(h, type && strstr(type, "raw-stream"), &e) < 0)
		return e.errnum == EPIPE ? 1 : cli_fail(&e);
	return 0;
}
