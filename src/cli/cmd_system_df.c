#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "cli/format.h"
#include "cli/table.h"

#include <stdio.h>
#include <string.h>

static const struct field fields[] = {
    {"Active", "ACTIVE"}, {"Reclaimable", "RECLAIMABLE"},
    {"Size", "SIZE"},     {"TotalCount", "TOTAL"},
    {"Type", "TYPE"},     {NULL, NULL},
};

/* percent: also show the reclaimable part of the size. */
static void add_row(struct json *rows, const char *type, size_t total, size_t active, int64_t size,
		    int64_t reclaimable, bool percent)
{
	struct json *row = json_add(rows, json_object());
	_cleanup_free_ char *n = xasprintf("%zu", total), *a = xasprintf("%zu", active),
			    *s = text_size4(size), *rec = text_size4(reclaimable), *with = NULL;

	if (percent && size > 0)
		with = xasprintf("%s (%lld%%)", rec, (long long)(reclaimable * 100 / size));
	json_set_str(row, "Active", a);
	json_set_str(row, "Reclaimable", with ?: rec);
	json_set_str(row, "Size", s);
	json_set_str(row, "TotalCount", n);
	json_set_str(row, "Type", type);
}

static void images_row(struct json *rows, const struct json *df)
{
	const struct json *list = json_get(df, "Images");
	int64_t total = json_get_int(df, "LayersSize", 0), used = 0;
	size_t active = 0;

	for (size_t i = 0; i < json_len(list); i++) {
		const struct json *img = json_at(list, i);
		int64_t shared = json_get_int(img, "SharedSize", -1), size = json_get_int(img, "Size", 0);

		if (json_get_int(img, "Containers", 0) <= 0)
			continue;
		active++;
		if (shared != -1)
			used += size - shared;
	}
	add_row(rows, "Images", json_len(list), active, total, total - used, true);
}

static void containers_row(struct json *rows, const struct json *df)
{
	const struct json *list = json_get(df, "Containers");
	int64_t total = 0, idle = 0;
	size_t active = 0;

	for (size_t i = 0; i < json_len(list); i++) {
		const char *state = json_get_str(json_at(list, i), "State") ?: "";
		int64_t size = json_get_int(json_at(list, i), "SizeRw", 0);
		bool is_active =
		    streq(state, "running") || streq(state, "paused") || streq(state, "restarting");

		total += size;
		active += is_active;
		idle += is_active ? 0 : size;
	}
	add_row(rows, "Containers", json_len(list), active, total, idle, true);
}

static void volumes_row(struct json *rows, const struct json *df)
{
	const struct json *list = json_get(df, "Volumes");
	int64_t total = 0, idle = 0;
	size_t active = 0;

	for (size_t i = 0; i < json_len(list); i++) {
		const struct json *usage = json_get(json_at(list, i), "UsageData");
		int64_t size = json_get_int(usage, "Size", -1), refs = json_get_int(usage, "RefCount", 0);

		total += MAX(size, 0);
		active += refs > 0;
		idle += refs > 0 ? 0 : MAX(size, 0);
	}
	add_row(rows, "Local Volumes", json_len(list), active, total, idle, true);
}

static void build_cache_row(struct json *rows, const struct json *df)
{
	const struct json *list = json_get(df, "BuildCache");
	int64_t total = 0, idle = 0;
	size_t active = 0;

	for (size_t i = 0; i < json_len(list); i++) {
		const struct json *b = json_at(list, i);
		int64_t size = json_get_int(b, "Size", 0);

		total += size;
		active += json_get_bool(b, "InUse", false);
		idle += json_get_bool(b, "InUse", false) || json_get_bool(b, "Shared", false) ? 0 : size;
	}
	add_row(rows, "Build Cache", json_len(list), active, total, idle, false);
}

static void print_table(const struct sbuf *text)
{
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT;

	table_format(sbuf_str(text), 10, 3, &out);
	fputs(sbuf_str(&out), stdout);
}

static void verbose_images(const struct json *list)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	printf("Images space usage:\n\n");
	sbuf_puts(&b, "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE\tCONTAINERS\n");
	for (size_t i = 0; i < json_len(list); i++) {
		const struct json *img = json_at(list, i);
		const char *ref = json_str(json_at(json_get(img, "RepoTags"), 0)) ?: "<none>:<none>";
		const char *tag = strrchr(ref, ':');
		int64_t size = json_get_int(img, "Size", 0),
			shared = MAX(json_get_int(img, "SharedSize", 0), 0);
		_cleanup_free_ char *ago = text_ago(json_get_int(img, "Created", 0)), *all = size_human(size),
				    *common = text_size4(shared), *own = text_size4(size - shared);
		char id[13];

		sbuf_printf(&b, "%.*s\t%s\t%s\t%s\t%s\t%s\t%s\t%lld\n", (int)(tag ? tag - ref : 0), ref,
			    tag ? tag + 1 : "<none>", short_id(json_get_str(img, "Id"), id), ago, all, common,
			    own, (long long)json_get_int(img, "Containers", 0));
	}
	print_table(&b);
}

static void verbose_containers(const struct json *list)
{
	static const char *const columns[] = {
		"ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names",
	};
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	printf("\nContainers space usage:\n\n");
	sbuf_puts(&b, "CONTAINER ID\tIMAGE\tCOMMAND\tLOCAL VOLUMES\tSIZE\tCREATED\tSTATUS\tNAMES\n");
	for (size_t i = 0; i < json_len(list); i++) {
		_cleanup_json_ struct json *row = container_row(json_at(list, i));
		_cleanup_free_ char *size = size_human(json_get_int(json_at(list, i), "SizeRw", 0));

		json_set_str(row, "Size", size);
		for (size_t k = 0; k < ARRAY_SIZE(columns); k++)
			sbuf_printf(&b, "%s%s", k ? "\t" : "", json_get_str(row, columns[k]) ?: "");
		sbuf_putc(&b, '\n');
	}
	print_table(&b);
}

static void verbose_volumes(const struct json *list)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	printf("\nLocal Volumes space usage:\n\n");
	sbuf_puts(&b, "VOLUME NAME\tLINKS\tSIZE\n");
	for (size_t i = 0; i < json_len(list); i++) {
		const struct json *usage = json_get(json_at(list, i), "UsageData");
		_cleanup_free_ char *size = text_size4(MAX(json_get_int(usage, "Size", 0), 0));

		sbuf_printf(&b, "%s\t%lld\t%s\n", json_get_str(json_at(list, i), "Name") ?: "",
			    (long long)json_get_int(usage, "RefCount", 0), size);
	}
	print_table(&b);
}

static void verbose_build_cache(const struct json *list)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	_cleanup_free_ char *all = NULL;
	int64_t total = 0;

	sbuf_puts(&b, "CACHE ID\tCACHE TYPE\tSIZE\tCREATED\tLAST USED\tUSAGE\tSHARED\n");
	for (size_t i = 0; i < json_len(list); i++) {
		const struct json *r = json_at(list, i);
		int64_t size = json_get_int(r, "Size", 0);
		_cleanup_free_ char *text = text_size4(size);

		total += size;
		sbuf_printf(&b, "%.12s\t%s\t%s\t\t\t%lld\t%s\n", json_get_str(r, "ID") ?: "",
			    json_get_str(r, "Type") ?: "", text, (long long)json_get_int(r, "UsageCount", 0),
			    json_get_bool(r, "Shared", false) ? "true" : "false");
	}
	all = text_size4(total);
	printf("\nBuild cache usage: %s\n\n", all);
	print_table(&b);
}

int cmd_system_df(struct cli *c, int argc, char **argv)
{
	static const struct list_spec spec = {
		.fields = fields, .go_type = "*formatter.diskUsageContext",
		.table = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
	};
	_cleanup_free_ char *format = NULL, **args = NULL;
	_cleanup_json_ struct json *df = NULL, *rows = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_list_ struct list list = {0};
	bool verbose = false;
	const struct opt opts[] = {
	    {0, "format", OPT_STR, &format, "string",
	     "Format output: 'table', 'table TEMPLATE', 'json' or a Go template"},
	    {'v', "verbose", OPT_BOOL, &verbose, NULL, "Show detailed information on space usage"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args))
		return c->exit_code;
	if (!list_open(&list, &spec, format, false))
		return 1;
	if (api_call(c, "GET", "/system/df", NULL, &df, &e) < 0)
		return cli_fail(&e);
	if (verbose && str_empty(format)) {
		verbose_images(json_get(df, "Images"));
		verbose_containers(json_get(df, "Containers"));
		verbose_volumes(json_get(df, "Volumes"));
		verbose_build_cache(json_get(df, "BuildCache"));
		return 0;
	}
	rows = json_array();
	images_row(rows, df);
	containers_row(rows, df);
	volumes_row(rows, df);
	build_cache_row(rows, df);
	return list_print(&list, rows);
}
