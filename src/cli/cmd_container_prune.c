#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/timefmt.h"

#include <stdio.h>
#include <string.h>

static bool sure(void)
{
	char answer[16] = "";

	printf("WARNING! This will remove all stopped containers.\n"
	       "Are you sure you want to continue? [y/N] ");
	fflush(stdout);
	if (!fgets(answer, sizeof answer, stdin))
		return false;
	answer[strcspn(answer, "\r\n")] = 0;
	return streq(answer, "y") || streq(answer, "Y");
}

int cmd_container_prune(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *text = NULL, *size = NULL;
	_cleanup_json_ struct json *filters = NULL, *answer = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	bool force = false;
	const struct json *list;
	const struct opt opts[] = {
	    {0, "filter", OPT_CALL, &filters, "filter", "Provide filter values (e.g. \"until=<timestamp>\")",
	     opt_filter},
	    {'f', "force", OPT_BOOL, &force, NULL, "Do not prompt for confirmation"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args))
		return c->exit_code;
	if (!force && !sure())
		return 0;
	text = filters ? json_dump(filters) : NULL;
	sbuf_puts(&url, "/containers/prune");
	url_query(&url, "filters", text);
	if (api_call(c, "POST", sbuf_str(&url), NULL, &answer, &e) < 0)
		return cli_fail(&e);
	list = json_get(answer, "ContainersDeleted");
	if (json_len(list))
		printf("Deleted Containers:\n");
	for (size_t i = 0; i < json_len(list); i++)
		printf("%s\n", json_str(json_at(list, i)));
	size = size_human((double)json_get_int(answer, "SpaceReclaimed", 0));
	printf("%sTotal reclaimed space: %s\n", json_len(list) ? "\n" : "", size);
	return 0;
}
