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

static bool sure(void)
{
	char answer[16] = "";

	printf("Are you sure you want to continue? [y/N] ");
	fflush(stdout);
	if (!fgets(answer, sizeof answer, stdin))
		return false;
	answer[strcspn(answer, "\r\n")] = 0;
	return streq(answer, "y") || streq(answer, "Y");
}

static void print_reclaimed(double bytes)
{
	_cleanup_free_ char *size = size_human(bytes);

	printf("Total reclaimed space: %s\n", size);
}

static void print_list(const struct kind *k, const struct json *list)
{
	if (!json_len(list))
		return;
	printf("%s:\n", k->heading);
	for (size_t i = 0; i < json_len(list); i++)
		k->print(json_at(list, i));
	putchar('\n');
}

/* filters may be NULL; what it has reclaimed is added to *bytes. */
static int request(struct cli *c, const struct kind *k, const struct json *filters, bool all, double *bytes,
		   struct err *e)
{
	_cleanup_json_ struct json *answer = NULL, *sent = filters ? json_copy(filters) : json_object();
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_free_ char *text = NULL;
	int r;

	if (k->all_filter)
		json_set_bool(json_set(sent, k->all_filter, json_object()),
			      all == streq(k->all_filter, "all") ? "true" : "false", true);
	text = json_len(sent) ? json_dump(sent) : NULL;
	sbuf_puts(&url, k->path);
	url_query(&url, "filters", text);
	r = api_call(c, "POST", sbuf_str(&url), NULL, &answer, e);
	if (r < 0)
		return r;
	print_list(k, json_get(answer, k->list));
	*bytes += (double)json_get_int(answer, "SpaceReclaimed", 0);
	return 0;
}

static int prune(struct cli *c, int argc, char **argv, const struct kind *k)
{
	_cleanup_free_ char **args = NULL;
	_cleanup_json_ struct json *filters = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	bool all = false, force = false;
	double bytes = 0;
	const struct opt opts[] = {
	    {0, "filter", OPT_CALL, &filters, "filter", "Provide filter values (e.g. \"until=<timestamp>\")",
	     opt_filter},
	    {'f', "force", OPT_BOOL, &force, NULL, "Do not prompt for confirmation"},
	    {k->all_help ? 'a' : 0, k->all_help ? "all" : NULL, k->all_help ? OPT_BOOL : 0, &all, NULL,
	     k->all_help},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args))
		return c->exit_code;
	if (!force) {
		printf("WARNING! This will remove %s.\n", all ? k->warning_all : k->warning);
		if (!sure())
			return 0;
	}
	if (request(c, k, filters, all, &bytes, &e) < 0)
		return cli_fail(&e);
	if (!k->no_size)
		print_reclaimed(bytes);
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

/* ---- all of it ---- */

static void print_plan(bool all, bool with_volumes, const struct json *filters)
{
	struct json_iter key = {0};

	printf("WARNING! This will remove:\n  - %s\n  - all networks not used by at least one container\n",
	       containers.warning);
	if (with_volumes)
		printf("  - all anonymous volumes not used by at least one container\n");
	printf("  - %s\n", all ? images.warning_all : images.warning);
	if (json_len(filters))
		printf("\n  Items to be pruned will be filtered with:\n");
	while (json_next(filters, &key)) {
		struct json_iter value = {0};

		while (json_next(key.value, &value))
			printf("  - %s=%s\n", key.key, value.key);
	}
	putchar('\n');
}

int cmd_system_prune(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL;
	_cleanup_json_ struct json *filters = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	bool all = false, force = false, with_volumes = false;
	double bytes = 0;
	const struct opt opts[] = {
	    {'a', "all", OPT_BOOL, &all, NULL, "Remove all unused images not just dangling ones"},
	    {0, "filter", OPT_CALL, &filters, "filter",
	     "Provide filter values (e.g. \"label=<key>=<value>\")", opt_filter},
	    {'f', "force", OPT_BOOL, &force, NULL, "Do not prompt for confirmation"},
	    {0, "volumes", OPT_BOOL, &with_volumes, NULL, "Prune anonymous volumes"},
	    OPT_END};
	static const struct kind *const plan[] = {&containers, &networks, &volumes, &images};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args))
		return c->exit_code;
	if (with_volumes && json_get(filters, "until")) {
		fprintf(stderr, "ERROR: The \"until\" filter is not supported with \"--volumes\"\n");
		return 1;
	}
	if (!force) {
		print_plan(all, with_volumes, filters);
		if (!sure())
			return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(plan); i++)
		if ((plan[i] != &volumes || with_volumes) &&
		    request(c, plan[i], filters, plan[i] == &images && all, &bytes, &e) < 0)
			return cli_fail(&e);
	print_reclaimed(bytes);
	return 0;
}
