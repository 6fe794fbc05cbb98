/* `prune` of each kind of object: the same questions, another path and other words. */
#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/timefmt.h"

#include <stdio.h>
#include <string.h>

struct kind {
	const char *path;
	const char *warning, *warning_all;
	const char *list, *heading;	/* the answer's list, and what stands above it */
	const char *all_help;		/* NULL: there is no --all */
	const char *all_filter;		/* which --all sets; "dangling" is its opposite */
	void (*print)(const struct json *item);
	bool no_size;			/* they occupy no space to speak of */
};

static void print_name(const struct json *item)
{
	printf("%s\n", json_str(item));
}

static void print_image(const struct json *item)
{
	const char *deleted = json_get_str(item, "Deleted"), *untagged = json_get_str(item, "Untagged");

	printf("%s: %s\n", deleted ? "deleted" : "untagged", deleted ?: untagged ?: "");
}

static const struct kind containers = {
	.path = "/containers/prune",
	.warning = "all stopped containers",
	.list = "ContainersDeleted",
	.heading = "Deleted Containers",
	.print = print_name,
};

static const struct kind images = {
	.path = "/images/prune",
	.warning = "all dangling images",
	.warning_all = "all images without at least one container associated to them",
	.list = "ImagesDeleted",
	.heading = "Deleted Images",
	.all_help = "Remove all unused images, not just dangling ones",
	.all_filter = "dangling",
	.print = print_image,
};

static const struct kind volumes = {
	.path = "/volumes/prune",
	.warning = "anonymous local volumes not used by at least one container",
	.warning_all = "all local volumes not used by at least one container",
	.list = "VolumesDeleted",
	.heading = "Deleted Volumes",
	.all_help = "Remove all unused volumes, not just anonymous ones",
	.all_filter = "all",
	.print = print_name,
};

static const struct kind networks = {
	.path = "/networks/prune",
	.warning = "all custom networks not used by at least one container",
	.list = "NetworksDeleted",
	.heading = "Deleted Networks",
	.print = print_name,
	.no_size = true,
};

static bool sure(const char *what)
{
	char answer[16] = "";

	printf("WARNING! This will remove %s.\nAre you sure you want to continue? [y/N] ", what);
	fflush(stdout);
	if (!fgets(answer, sizeof answer, stdin))
		return false;
	answer[strcspn(answer, "\r\n")] = 0;
	return streq(answer, "y") || streq(answer, "Y");
}

static void print_answer(const struct kind *k, const struct json *answer)
{
	_cleanup_free_ char *size = size_human((double)json_get_int(answer, "SpaceReclaimed", 0));
	const struct json *list = json_get(answer, k->list);

	if (json_len(list))
		printf("%s:\n", k->heading);
	for (size_t i = 0; i < json_len(list); i++)
		k->print(json_at(list, i));
	if (k->no_size) {
		if (json_len(list))
			putchar('\n');
		return;
	}
	printf("%sTotal reclaimed space: %s\n", json_len(list) ? "\n" : "", size);
}

static int prune(struct cli *c, int argc, char **argv, const struct kind *k)
{
	_cleanup_free_ char **args = NULL, *text = NULL;
	_cleanup_json_ struct json *filters = NULL, *answer = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	bool all = false, force = false;
	const struct opt opts[] = {
	    {0, "filter", OPT_CALL, &filters, "filter", "Provide filter values (e.g. \"until=<timestamp>\")",
	     opt_filter},
	    {'f', "force", OPT_BOOL, &force, NULL, "Do not prompt for confirmation"},
	    {k->all_help ? 'a' : 0, k->all_help ? "all" : NULL, k->all_help ? OPT_BOOL : 0, &all, NULL,
	     k->all_help},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args))
		return c->exit_code;
	if (!force && !sure(all ? k->warning_all : k->warning))
		return 0;
	if (k->all_help) {
		filters = filters ?: json_object();
		json_set_bool(json_set(filters, k->all_filter, json_object()),
			      all == streq(k->all_filter, "all") ? "true" : "false", true);
	}
	text = filters ? json_dump(filters) : NULL;
	sbuf_puts(&url, k->path);
	url_query(&url, "filters", text);
	if (api_call(c, "POST", sbuf_str(&url), NULL, &answer, &e) < 0)
		return cli_fail(&e);
	print_answer(k, answer);
	return 0;
}

int cmd_container_prune(struct cli *c, int argc, char **argv)
{
	return prune(c, argc, argv, &containers);
}

int cmd_image_prune(struct cli *c, int argc, char **argv)
{
	return prune(c, argc, argv, &images);
}

int cmd_volume_prune(struct cli *c, int argc, char **argv)
{
	return prune(c, argc, argv, &volumes);
}

int cmd_network_prune(struct cli *c, int argc, char **argv)
{
	return prune(c, argc, argv, &networks);
}
