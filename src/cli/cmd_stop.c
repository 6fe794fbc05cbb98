/* stop and restart: the same options, the same call. */
#include "cli/cmds.h"

#include "base/alloc.h"
#include "cli/targets.h"

struct stop_args {
	const char *action;
	char *signal;
	int64_t timeout;
	bool timeout_given;
};

static char *stop_url(const char *name, void *userdata)
{
	const struct stop_args *a = userdata;
	_cleanup_free_ char *path = url_path("/containers/", name, a->action);
	_cleanup_free_ char *t = a->timeout_given ? xasprintf("%lld", (long long)a->timeout) : NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;

	sbuf_puts(&url, path);
	url_query(&url, "signal", a->signal);
	url_query(&url, "t", t);
	return xstrdup(sbuf_str(&url));
}

static int run(struct cli *c, int argc, char **argv, const char *action)
{
	struct stop_args a = { .action = action };
	_cleanup_free_ char **args = NULL;
	int code = 0;
	const struct opt opts[] = {
		{ 's', "signal", OPT_STR, &a.signal, "string", "Signal to send to the container" },
		{ 't', "timeout", OPT_INT, &a.timeout, "int", "Seconds to wait before killing the container",
		  .seen = &a.timeout_given },
		{ 0, "time", OPT_INT, &a.timeout, "int", NULL, .seen = &a.timeout_given },
		OPT_END
	};

	if (!cli_parse(c, opts, argc, argv, 0, 1, ARGS_ANY, &args))
		code = c->exit_code;
	else
		code = targets_call(c, args, "POST", stop_url, &a, 0);
	free(a.signal);
	return code;
}

int cmd_stop(struct cli *c, int argc, char **argv)
{
	return run(c, argc, argv, "/stop");
}

int cmd_restart(struct cli *c, int argc, char **argv)
{
	return run(c, argc, argv, "/restart");
}
