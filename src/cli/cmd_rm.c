#include "cli/cmds.h"

#include "base/alloc.h"
#include "cli/targets.h"

struct rm_args { bool force, link, volumes; };

static char *rm_url(const char *name, void *userdata)
{
	const struct rm_args *a = userdata;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_free_ char *path = NULL;

	while (*name == '/')
		name++;
	path = url_path("/containers/", name, "");
	sbuf_puts(&url, path);
	url_query(&url, "force", a->force ? "1" : NULL);
	url_query(&url, "link", a->link ? "1" : NULL);
	url_query(&url, "v", a->volumes ? "1" : NULL);
	return xstrdup(sbuf_str(&url));
}

int cmd_rm(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL;
	struct rm_args a = {0};
	const struct opt opts[] = {{'f', "force", OPT_BOOL, &a.force, NULL,
				    "Force the removal of a running container (uses SIGKILL)"},
				   {'l', "link", OPT_BOOL, &a.link, NULL, "Remove the specified link"},
				   {'v', "volumes", OPT_BOOL, &a.volumes, NULL,
				    "Remove anonymous volumes associated with the container"},
				   OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 1, ARGS_ANY, &args))
		return c->exit_code;
	return targets_call(c, args, "DELETE", rm_url, &a, a.force ? TARGETS_IGNORE_MISSING : 0);
}
