#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/timefmt.h"

#include <stdio.h>
#include <string.h>

static bool sure(bool all)
{
	char answer[16] = "";

	printf("WARNING! This will remove all %s.\nAre you sure you want to continue? [y/N] ",
	       all ? "images without at least one container associated to them" : "dangling images");
	fflush(stdout);
	if (!fgets(answer, sizeof answer, stdin))
		return false;
	answer[strcspn(answer, "\r\n")] = 0;
	return streq(answer, "y") || streq(answer, "Y");
}

int cmd_image_prune(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *text = NULL, *size = NULL;
	_cleanup_json_ struct json *filters = NULL, *answer = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	bool all = false, force = false;
	const struct json *list;
	const struct opt opts[] = {
	    {'a', "all", OPT_BOOL, &all, NULL, "Remove all unused images, not just dangling ones"},
	    {0, "filter", OPT_CALL, &filters, "filter", "Provide filter values (e.g. \"until=<timestamp>\")",
	     opt_filter},
	    {'f', "force", OPT_BOOL, &force, NULL, "Do not prompt for confirmation"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args))
		return c->exit_code;
	if (!force && !sure(all))
		return 0;
	if (!filters)
		filters = json_object();
	json_set_bool(json_set(filters, "dangling", json_object()), all ? "false" : "true", true);
	text = json_dump(filters);
	sbuf_puts(&url, "/images/prune");
	url_query(&url, "filters", text);
	if (api_call(c, "POST", sbuf_str(&url), NULL, &answer, &e) < 0)
		return cli_fail(&e);
	list = json_get(answer, "ImagesDeleted");
	if (json_len(list))
		printf("Deleted Images:\n");
	for (size_t i = 0; i < json_len(list); i++) {
		const char *deleted = json_get_str(json_at(list, i), "Deleted"),
			   *untagged = json_get_str(json_at(list, i), "Untagged");

		printf("%s: %s\n", deleted ? "deleted" : "untagged", deleted ?: untagged ?: "");
	}
	size = size_human((double)json_get_int(answer, "SpaceReclaimed", 0));
	printf("%sTotal reclaimed space: %s\n", json_len(list) ? "\n" : "", size);
	return 0;
}
