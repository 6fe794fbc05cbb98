#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "base/loop.h"
#include "cli/format.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void print_time(uint64_t ns)
{
	time_t t = ns / 1000000000;
	char date[40];
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	printf("%s.%09u", date, (unsigned)(ns % 1000000000));
	if (tm.tm_gmtoff == 0)
		printf("Z");
	else
		printf("%c%02ld:%02ld", tm.tm_gmtoff < 0 ? '-' : '+', labs(tm.tm_gmtoff) / 3600,
		       labs(tm.tm_gmtoff) / 60 % 60);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void print_line(const struct json *ev)
{
	const struct json *actor = json_get(ev, "Actor");
	_cleanup_strv_ char **attrs = NULL;
	_cleanup_free_ char *joined = NULL;
	struct json_iter it = {0};
	int64_t ns = json_get_int(ev, "timeNano", 0);

	print_time(ns ? ns : json_get_int(ev, "time", 0) * 1000000000);
	printf(" %s %s %s", json_get_str(ev, "Type") ?: "", json_get_str(ev, "Action") ?: "",
	       json_get_str(actor, "ID") ?: "");
	while (json_next(json_get(actor, "Attributes"), &it))
		strv_addf(&attrs, "%s=%s", it.key, json_str(it.value) ?: "");
	if (attrs) {
		qsort(attrs, strv_len(attrs), sizeof(*attrs), by_text);
		joined = strv_join(attrs, ", ");
		printf(" (%s)", joined);
	}
	printf("\n");
}

static int on_event(struct json *ev, void *userdata, struct err *e)
{
	const struct tmpl *t = userdata;
	const struct tmpl_env env = { .root_type = "events.Message" };
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT;
	_cleanup_free_ char *error = NULL;

	if (!t)
		print_line(ev);
	else if (tmpl_exec(t, &env, ev, &out, &error) < 0)
		return err_msg(e, ERR_INVALID, 0, "%s", error);
	else
		printf("%s\n", sbuf_str(&out));
	/* A reader that has gone away ends the program. */
	return fflush(stdout) == 0 ? 0 : -errno;
}

/* --since and --until: what the daemon takes are seconds. Heap; NULL for NULL. */
static int timestamp(const char *s, char **ret, struct err *e)
{
	uint64_t ns, now = now_real_ns();

	if (str_empty(s))
		return 0;
	if (time_parse_since(s, now, &ns) < 0)
		return err_msg(e, ERR_INVALID, 0, "failed to parse value as time or duration: \"%s\"", s);
	*ret = xasprintf("%llu.%09llu", (unsigned long long)(ns / 1000000000),
			 (unsigned long long)(ns % 1000000000));
	return 0;
}

int cmd_events(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char *format = NULL, *since = NULL, *until = NULL, *from = NULL, *to = NULL,
			    *filters_text = NULL;
	_cleanup_free_ char **args = NULL;
	_cleanup_json_ struct json *filters = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_tmpl_ struct tmpl *t = NULL;
	_cleanup_httpc_ struct httpc *h = NULL;
	struct httpc_request req = { .method = "GET" };
	int r;
	const struct opt opts[] = {
	    {'f', "filter", OPT_CALL, &filters, "filter", "Filter output based on conditions provided",
	     opt_filter},
	    {0, "format", OPT_STR, &format, "string", "Format output: 'json' or a Go template"},
	    {0, "since", OPT_STR, &since, "string", "Show all events created since timestamp"},
	    {0, "until", OPT_STR, &until, "string", "Stream events until this timestamp"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args))
		return c->exit_code;
	if (!str_empty(format) && (r = object_format_open(format, &t)) != 0)
		return r;
	if (timestamp(since, &from, &e) < 0 || timestamp(until, &to, &e) < 0)
		return cli_fail(&e);
	filters_text = filters ? json_dump(filters) : NULL;
	sbuf_puts(&url, "/events");
	url_query(&url, "since", from);
	url_query(&url, "until", to);
	url_query(&url, "filters", filters_text);
	req.target = sbuf_str(&url);
	r = api_open(c, &req, &h, NULL, &e);
	if (r >= 0)
		r = api_objects(h, on_event, t, &e);
	return r < 0 && e.kind ? cli_fail(&e) : 0;
}
