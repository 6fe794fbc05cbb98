#include "cli/cmds.h"

#include "base/alloc.h"
#include "cli/targets.h"

static char *verb_url(const char *name, void *userdata)
{
	return url_path("/containers/", name, userdata);
}

static int each(struct cli *c, int argc, char **argv, const char *suffix)
{
	_cleanup_free_ char **args = NULL, *end = xstrdup(suffix);
	const struct opt opts[] = { OPT_END };

	if (!cli_parse(c, opts, argc, argv, 0, 1, ARGS_ANY, &args))
		return c->exit_code;
	return targets_call(c, args, "POST", verb_url, end, 0);
}

int cmd_pause(struct cli *c, int argc, char **argv)
{
	return each(c, argc, argv, "/pause");
}

int cmd_unpause(struct cli *c, int argc, char **argv)
{
	return each(c, argc, argv, "/unpause");
}
