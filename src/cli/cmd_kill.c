#include "cli/cmds.h"

#include "base/alloc.h"
#include "cli/targets.h"

static char *kill_url(const char *name, void *userdata)
{
	_cleanup_free_ char *path = url_path("/containers/", name, "/kill");
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;

	sbuf_puts(&url, path);
	url_query(&url, "signal", userdata);
	return xstrdup(sbuf_str(&url));
}

int cmd_kill(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *signal = NULL;
	const struct opt opts[] = {
		{ 's', "signal", OPT_STR, &signal, "string", "Signal to send to the container" },
		OPT_END
	};

	if (!cli_parse(c, opts, argc, argv, 0, 1, ARGS_ANY, &args))
		return c->exit_code;
	return targets_call(c, args, "POST", kill_url, signal, 0);
}
