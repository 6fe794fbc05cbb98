#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "cli/table.h"

#include <stdio.h>

static void add_line(struct sbuf *b, const struct json *cells)
{
	for (size_t i = 0; i < json_len(cells); i++)
		sbuf_printf(b, "%s%s", i ? "\t" : "", json_str(json_at(cells, i)) ?: "");
	sbuf_putc(b, '\n');
}

int cmd_top(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *path = NULL, *ps_args = NULL;
	_cleanup_json_ struct json *answer = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT, text = SBUF_INIT, out = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	const struct json *processes;
	const struct opt opts[] = { OPT_END };

	if (!cli_parse(c, opts, argc, argv, PARSE_STOP, 1, ARGS_ANY, &args))
		return c->exit_code;
	path = url_path("/containers/", args[0], "/top");
	ps_args = args[1] ? strv_join(args + 1, " ") : NULL;
	sbuf_puts(&url, path);
	url_query(&url, "ps_args", ps_args);
	if (api_call(c, "GET", sbuf_str(&url), NULL, &answer, &e) < 0)
		return cli_fail(&e);
	add_line(&text, json_get(answer, "Titles"));
	processes = json_get(answer, "Processes");
	for (size_t i = 0; i < json_len(processes); i++)
		add_line(&text, json_at(processes, i));
	table_format(sbuf_str(&text), 20, 3, &out);
	fputs(sbuf_str(&out), stdout);
	return 0;
}
