#include "cli/cmds.h"

#include "base/strv.h"

#include <stdio.h>

int cmd_rmi(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL;
	_cleanup_strv_ char **errors = NULL;
	bool force = false, no_prune = false, fatal = false;
	const struct opt opts[] = {
		{ 'f', "force", OPT_BOOL, &force, NULL, "Force removal of the image" },
		{ 0, "no-prune", OPT_BOOL, &no_prune, NULL, "Do not delete untagged parents" },
		OPT_END
	};

	if (!cli_parse(c, opts, argc, argv, 0, 1, ARGS_ANY, &args))
		return c->exit_code;
	for (char **name = args; *name; name++) {
		_cleanup_free_ char *path = url_path("/images/", *name, "");
		_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
		_cleanup_json_ struct json *answer = NULL;
		_cleanup_err_ struct err e = ERR_INIT;

		sbuf_puts(&url, path);
		url_query(&url, "force", force ? "1" : NULL);
		url_query(&url, "noprune", no_prune ? "1" : NULL);
		if (api_call(c, "DELETE", sbuf_str(&url), NULL, &answer, &e) < 0) {
			fatal |= e.kind != ERR_NOT_FOUND;
			strv_add(&errors, err_text(&e));
			continue;
		}
		for (size_t i = 0; i < json_len(answer); i++) {
			const char *deleted = json_get_str(json_at(answer, i), "Deleted");

			if (!str_empty(deleted))
				printf("Deleted: %s\n", deleted);
			else
				printf("Untagged: %s\n", json_get_str(json_at(answer, i), "Untagged") ?: "");
		}
	}
	fflush(stdout);
	for (char **p = errors; p && *p; p++)
		fprintf(stderr, "%s\n", *p);
	/* With --force an image that is not there is no failure. */
	return errors && (!force || fatal) ? 1 : 0;
}
