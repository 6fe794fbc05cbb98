#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "cli/format.h"

#include <string.h>
#include <time.h>

static const struct field fields[] = {
    {"CreatedAt", "CREATED AT"},
    {"Driver", "DRIVER"},
    {"ID", "NETWORK ID"},
    {"IPv4", "IPV4"},
    {"IPv6", "IPV6"},
    {"Internal", "INTERNAL"},
    {"Labels", "LABELS"},
    {"Name", "NAME"},
    {"Scope", "SCOPE"},
    {NULL, NULL},
};

/* RFC 3339 as Go's Time.String(): "2026-11-23 23:26:20.123456789 +0000 UTC". */
static char *created_text(const char *rfc3339)
{
	uint64_t ns;
	char date[40], buf[16] = "";
	struct tm tm;
	time_t t;

	if (!rfc3339 || time_parse_rfc3339(rfc3339, &ns) < 0)
		return xstrdup("0001-01-01 00:00:00 +0000 UTC");
	t = ns / 1000000000;
	gmtime_r(&t, &tm);
	strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
	if (ns % 1000000000) {
		size_t n = snprintf(buf, sizeof(buf), ".%09u", (unsigned)(ns % 1000000000));

		while (buf[n - 1] == '0')
			buf[--n] = 0;
	}
	return xasprintf("%s%s +0000 UTC", date, buf);
}

static const char *bool_text(const struct json *o, const char *key)
{
	return json_get_bool(o, key, false) ? "true" : "false";
}

int cmd_network_ls(struct cli *c, int argc, char **argv)
{
	static const struct list_spec spec = {
		.fields = fields, .quiet = "{{.ID}}", .table = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
		.go_type = "*network.networkContext",
		.method = list_label_method, .sort = "Name",
	};
	bool no_trunc = false, quiet = false;
	_cleanup_free_ char *format = NULL, **args = NULL, *filters_text = NULL;
	_cleanup_json_ struct json *filters = NULL, *answer = NULL, *rows = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_list_ struct list list = {0};
	const struct opt opts[] = {{'f', "filter", OPT_CALL, &filters, "filter",
				    "Provide filter values (e.g. \"driver=bridge\")", opt_filter},
				   {0, "format", OPT_STR, &format, "string",
				    "Format output: 'table', 'table TEMPLATE', 'json' or a Go template"},
				   {0, "no-trunc", OPT_BOOL, &no_trunc, NULL, "Do not truncate the output"},
				   {'q', "quiet", OPT_BOOL, &quiet, NULL, "Only display network IDs"},
				   OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args) || !list_open(&list, &spec, format, quiet))
		return args ? 1 : c->exit_code;
	filters_text = filters ? json_dump(filters) : NULL;
	sbuf_puts(&url, "/networks");
	url_query(&url, "filters", filters_text);
	if (api_call(c, "GET", sbuf_str(&url), NULL, &answer, &e) < 0)
		return cli_fail(&e);
	rows = json_array();
	for (size_t i = 0; i < json_len(answer); i++) {
		const struct json *n = json_at(answer, i);
		struct json *row = json_add(rows, json_object());
		_cleanup_free_ char *created = created_text(json_get_str(n, "Created"));
		_cleanup_free_ char *labels = text_labels(json_get(n, "Labels"));
		const char *id = json_get_str(n, "Id");
		char buf[13];

		json_set_str(row, "CreatedAt", created);
		json_set_str(row, "Driver", json_get_str(n, "Driver") ?: "");
		json_set_str(row, "ID", no_trunc ? id : short_id(id, buf));
		json_set_str(row, "IPv4", bool_text(n, "EnableIPv4"));
		json_set_str(row, "IPv6", bool_text(n, "EnableIPv6"));
		json_set_str(row, "Internal", bool_text(n, "Internal"));
		json_set_str(row, "Labels", labels);
		json_set_str(row, "Name", json_get_str(n, "Name") ?: "");
		json_set_str(row, "Scope", json_get_str(n, "Scope") ?: "");
		json_set(row, "$labels", json_ref(json_get(n, "Labels")));
	}
	return list_print(&list, rows);
}
