#include "cli/cmds.h"

#include <stdio.h>

int cmd_wait(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL;
	int code = 0;
	const struct opt opts[] = { OPT_END };

	if (!cli_parse(c, opts, argc, argv, 0, 1, ARGS_ANY, &args))
		return c->exit_code;
	for (char **name = args; *name; name++) {
		_cleanup_free_ char *path = url_path("/containers/", *name, "/wait");
		_cleanup_json_ struct json *answer = NULL;
		_cleanup_err_ struct err e = ERR_INIT;

		if (api_call(c, "POST", path, NULL, &answer, &e) < 0) {
			fflush(stdout);
			code = cli_fail(&e);
			continue;
		}
		printf("%lld\n", (long long)json_get_int(answer, "StatusCode", 0));
		fflush(stdout);
	}
	return code;
}
