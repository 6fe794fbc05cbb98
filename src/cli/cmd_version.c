#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "cli/format.h"
#include "cli/table.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#define API_VERSION "1.47"

/* The architecture in Go's words. */
static const char *architecture(void)
{
	static const char *const names[][2] = { { "x86_64", "amd64" }, { "aarch64", "arm64" } };
	static struct utsname u;

	uname(&u);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (streq(u.machine, names[i][0]))
			return names[i][1];
	return u.machine;
}

static struct json *client_object(const struct cli *c)
{
	struct json *o = json_object();

	json_set_str(o, "Version", INSULA_VERSION);
	json_set_str(o, "ApiVersion", API_VERSION);
	json_set_str(o, "DefaultAPIVersion", API_VERSION);
	json_set_str(o, "Os", "linux");
	json_set_str(o, "Arch", architecture());
	json_set_str(o, "Context", c->context);
	return o;
}

/* Build times are shown as Go's ANSIC. */
static void fix_time(struct json *o)
{
	const char *s = json_get_str(o, "BuildTime");
	char buf[64];
	uint64_t ns;
	struct tm tm;
	time_t t;

	if (!s || time_parse_rfc3339(s, &ns) < 0)
		return;
	t = ns / 1000000000;
	gmtime_r(&t, &tm);
	strftime(buf, sizeof(buf), "%a %b %e %H:%M:%S %Y", &tm);
	json_set_str(o, "BuildTime", buf);
}

static void line(struct sbuf *b, const char *indent, const char *key, const char *value)
{
	if (!str_empty(value))
		sbuf_printf(b, "%s%s:\t%s\n", indent, key, value);
}

static void print_engine(struct sbuf *b, const struct json *details, const char *version)
{
	const char *os = json_get_str(details, "Os") ?: "", *arch = json_get_str(details, "Arch") ?: "";
	_cleanup_free_ char *os_arch = xasprintf("%s/%s", os, arch);
	_cleanup_free_ char *api =
	    xasprintf("%s (minimum version %s)", json_get_str(details, "ApiVersion") ?: "",
		      json_get_str(details, "MinAPIVersion") ?: "");

	line(b, "  ", "Version", version);
	line(b, "  ", "API version", api);
	line(b, "  ", "Go version", json_get_str(details, "GoVersion"));
	line(b, "  ", "Git commit", json_get_str(details, "GitCommit"));
	line(b, "  ", "Built", json_get_str(details, "BuildTime"));
	line(b, "  ", "OS/Arch", os_arch);
	line(b, "  ", "Experimental", json_get_str(details, "Experimental"));
}

static void print_server(struct sbuf *b, const struct json *server)
{
	const char *platform = json_get_str(json_get(server, "Platform"), "Name");
	const struct json *components = json_get(server, "Components");

	sbuf_printf(b, "\nServer:%s%s\n", str_empty(platform) ? "" : " ", platform ?: "");
	for (size_t i = 0; i < json_len(components); i++) {
		const struct json *comp = json_at(components, i), *details = json_get(comp, "Details");
		const char *name = json_get_str(comp, "Name") ?: "",
			   *version = json_get_str(comp, "Version") ?: "";
		struct json_iter it = {0};

		sbuf_printf(b, " %s:\n", name);
		if (streq(name, "Engine")) {
			print_engine(b, details, version);
			continue;
		}
		line(b, "  ", "Version", version);
		while (json_next(details, &it))
			line(b, "  ", it.key, json_str(it.value));
	}
}

static void print_text(const struct json *client, const struct json *server)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT, out = SBUF_INIT;
	_cleanup_free_ char *os_arch = xasprintf("linux/%s", json_get_str(client, "Arch"));

	sbuf_puts(&b, "Client:\n");
	line(&b, " ", "Version", json_get_str(client, "Version"));
	line(&b, " ", "API version", json_get_str(client, "ApiVersion"));
	line(&b, " ", "OS/Arch", os_arch);
	line(&b, " ", "Context", json_get_str(client, "Context"));
	if (server)
		print_server(&b, server);
	table_format(sbuf_str(&b), 20, 1, &out);
	fputs(sbuf_str(&out), stdout);
}

int cmd_version(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char *format = NULL, **args = NULL;
	_cleanup_json_ struct json *doc = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_tmpl_ struct tmpl *t = NULL;
	struct json *server = NULL, *components;
	int r = 0;
	const struct opt opts[] = {
		{ 'f', "format", OPT_STR, &format, "string", "Format output: 'json' or a Go template" },
		OPT_END
	};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args))
		return c->exit_code;
	if (!str_empty(format) && (r = object_format_open(format, &t)) != 0)
		return r;
	if (api_call(c, "GET", "/version", NULL, &server, &e) < 0)
		r = 1;
	components = json_get(server, "Components");
	for (size_t i = 0; i < json_len(components); i++)
		fix_time(json_get(json_at(components, i), "Details"));
	doc = json_object();
	json_set(doc, "Client", client_object(c));
	json_set(doc, "Server", server);
	if (t)
		r |= object_format_print(t, "system.versionInfo", doc);
	else
		print_text(json_get(doc, "Client"), server);
	if (e.kind) {
		fflush(stdout);
		cli_fail(&e);
	}
	return r;
}
