#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/timefmt.h"
#include "cli/format.h"

#include <string.h>
#include <time.h>

static const struct field fields[] = {
	{ "Comment", "COMMENT" }, { "CreatedAt", "CREATED AT" }, { "CreatedBy", "CREATED BY" },
	{ "CreatedSince", "CREATED" }, { "ID", "IMAGE" }, { "Size", "SIZE" },
	{ NULL, NULL },
};

/* RFC 3339 in seconds, local time. */
static void created_at(int64_t seconds, char *buf, size_t size)
{
	time_t t = seconds;
	struct tm tm;
	size_t n;

	localtime_r(&t, &tm);
	n = strftime(buf, size - 8, "%Y-%m-%dT%H:%M:%S", &tm);
	if (tm.tm_gmtoff == 0)
		strcpy(buf + n, "Z");
	else
		snprintf(buf + n, 8, "%c%02ld:%02ld", tm.tm_gmtoff < 0 ? '-' : '+',
			 labs(tm.tm_gmtoff) / 3600 % 24, labs(tm.tm_gmtoff) / 60 % 60);
}

static struct json *history_row(const struct json *h, bool human, bool no_trunc)
{
	struct json *row = json_object();
	_cleanup_free_ char *by = xstrdup(json_get_str(h, "CreatedBy") ?: ""), *cut = NULL, *size = NULL,
			    *since = NULL;
	int64_t created = json_get_int(h, "Created", 0), bytes = json_get_int(h, "Size", 0);
	const char *id = json_get_str(h, "Id");
	char buf[13], at[48];

	for (char *p = by; *p; p++)
		if (*p == '\t')
			*p = ' ';
	cut = no_trunc ? xstrdup(by) : text_ellipsis(by, 45);
	created_at(created, at, sizeof(at));
	since = text_ago(created);
	size = human ? size_human(bytes) : xasprintf("%lld", (long long)bytes);
	json_set_str(row, "Comment", json_get_str(h, "Comment") ?: "");
	json_set_str(row, "CreatedAt", at);
	json_set_str(row, "CreatedBy", cut);
	json_set_str(row, "CreatedSince", human ? since : at);
	json_set_str(row, "ID", no_trunc ? id : short_id(id, buf));
	json_set_str(row, "Size", size);
	return row;
}

int cmd_history(struct cli *c, int argc, char **argv)
{
	static struct list_spec spec = {
	    .fields = fields, .quiet = "{{.ID}}", .go_type = "*image.historyContext"};
	bool human = true, no_trunc = false, quiet = false;
	_cleanup_free_ char *format = NULL, *platform = NULL, **args = NULL, *path = NULL;
	_cleanup_json_ struct json *answer = NULL, *rows = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_list_ struct list list = {0};
	const struct opt opts[] = {{0, "format", OPT_STR, &format, "string",
				    "Format output: 'table', 'table TEMPLATE', 'json' or a Go template"},
				   {'H', "human", OPT_BOOL, &human, NULL,
				    "Print sizes and dates in human readable format (default true)"},
				   {0, "no-trunc", OPT_BOOL, &no_trunc, NULL, "Don't truncate output"},
				   {0, "platform", OPT_STR, &platform, "string",
				    "Show history for the given platform (\"os[/arch[/variant]]\")"},
				   {'q', "quiet", OPT_BOOL, &quiet, NULL, "Only show image IDs"},
				   OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 1, 1, &args))
		return c->exit_code;
	spec.table = human ? "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
			   : "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
	if (!list_open(&list, &spec, format, quiet))
		return 1;
	path = url_path("/images/", args[0], "/history");
	sbuf_puts(&url, path);
	url_query(&url, "platform", platform);
	if (api_call(c, "GET", sbuf_str(&url), NULL, &answer, &e) < 0)
		return cli_fail(&e);
	rows = json_array();
	for (size_t i = 0; i < json_len(answer); i++)
		json_add(rows, history_row(json_at(answer, i), human, no_trunc));
	return list_print(&list, rows);
}
