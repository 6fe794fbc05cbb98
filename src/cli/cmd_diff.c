#include "cli/cmds.h"

#include "base/strv.h"

#include <stdio.h>

int cmd_diff(struct cli *c, int argc, char **argv)
{
	static const char kinds[] = "CAD";
	_cleanup_free_ char **args = NULL, *path = NULL;
	_cleanup_json_ struct json *answer = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	const struct opt opts[] = { OPT_END };

	if (!cli_parse(c, opts, argc, argv, 0, 1, 1, &args))
		return c->exit_code;
	path = url_path("/containers/", args[0], "/changes");
	if (api_call(c, "GET", path, NULL, &answer, &e) < 0)
		return cli_fail(&e);
	for (size_t i = 0; i < json_len(answer); i++) {
		const struct json *change = json_at(answer, i);
		int64_t kind = json_get_int(change, "Kind", 0);

		printf("%c %s\n", kind >= 0 && kind < 3 ? kinds[kind] : '?',
		       json_get_str(change, "Path") ?: "");
	}
	return 0;
}
