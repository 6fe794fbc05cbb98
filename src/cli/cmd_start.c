#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/tty.h"
#include "cli/stream.h"

#include <stdio.h>

static int start_one(struct cli *c, const char *name, struct err *e)
{
	_cleanup_free_ char *url = url_path("/containers/", name, "/start");

	return api_call(c, "POST", url, NULL, NULL, e);
}

static int start_all(struct cli *c, char *const *names)
{
	_cleanup_strv_ char **failed = NULL;
	_cleanup_free_ char *list = NULL;

	for (; *names; names++) {
		_cleanup_err_ struct err e = ERR_INIT;

		if (start_one(c, *names, &e) >= 0) {
			puts(*names);
			fflush(stdout);
			continue;
		}
		cli_fail(&e);
		strv_add(&failed, *names);
	}
	if (!failed)
		return 0;
	list = strv_join(failed, ", ");
	fprintf(stderr, "Error: failed to start containers: %s\n", list);
	return 1;
}

static int open_stream(struct cli *c, struct stream *s, const char *id, const struct json *config,
		       bool interactive, struct err *e)
{
	_cleanup_free_ char *base = url_path("/containers/", id, "/attach?stream=1&stdout=1&stderr=1");
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;

	s->tty = json_get_bool(config, "Tty", false);
	s->with_stdin = interactive && json_get_bool(config, "OpenStdin", false);
	s->container = id;
	s->resize_path = url_path("/containers/", id, "/resize");
	sbuf_puts(&url, base);
	url_query(&url, "stdin", s->with_stdin ? "1" : NULL);
	url_query(&url, "detachKeys", s->detach_keys);
	return stream_open(c, s, sbuf_str(&url), NULL, e);
}

/* One container, attached: as run, but the container is there already. */
static int start_attached(struct cli *c, struct stream *s, const char *name, bool interactive, struct err *e)
{
	_cleanup_free_ char *path = url_path("/containers/", name, "/json");
	_cleanup_json_ struct json *ctr = NULL;
	_cleanup_httpc_ struct httpc *w = NULL;
	bool auto_remove;
	const char *id;
	int r = api_call(c, "GET", path, NULL, &ctr, e), code = 0;

	if (r < 0)
		return r;
	id = json_get_str(ctr, "Id") ?: name;
	auto_remove = json_get_bool(json_get(ctr, "HostConfig"), "AutoRemove", false);
	r = open_stream(c, s, id, json_get(ctr, "Config"), interactive, e);
	if (r >= 0)
		r = wait_open(c, id, auto_remove ? "removed" : "next-exit", &w, e);
	if (r >= 0)
		r = stream_prepare(s, e);
	if (r >= 0)
		r = start_one(c, id, e);
	if (r >= 0)
		r = stream_run(c, s, e);
	tty_restore();
	if (r == 0)
		r = wait_result(c, w, id, &code, e);
	else if (r > 0)
		r = 0;
	return r < 0 ? r : code;
}

int cmd_start(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *keys = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	struct stream s = STREAM_INIT;
	bool attach = false, interactive = false;
	int r;
	const struct opt opts[] = {
	    {'a', "attach", OPT_BOOL, &attach, NULL, "Attach STDOUT/STDERR and forward signals"},
	    {0, "detach-keys", OPT_STR, &keys, "string",
	     "Override the key sequence for detaching a container"},
	    {'i', "interactive", OPT_BOOL, &interactive, NULL, "Attach container's STDIN"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 1, ARGS_ANY, &args))
		return c->exit_code;
	if (!attach && !interactive)
		return start_all(c, args);
	if (args[1]) {
		fprintf(stderr, "you cannot start and attach multiple containers at once\n");
		return 1;
	}
	s.detach_keys = keys;
	s.sig_proxy = true;
	r = start_attached(c, &s, args[0], interactive, &e);
	stream_finish(&s);
	if (r < 0) {
		cli_fail(&e);
		fprintf(stderr, "Error: failed to start containers: %s\n", args[0]);
		return 1;
	}
	return r;
}
