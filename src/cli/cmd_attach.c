#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "cli/stream.h"

#include <stdio.h>

static int check_state(const struct json *ctr, struct err *e)
{
	static const struct { const char *key; bool value; const char *msg;
	} bad[] = {
	    {"Running", false, "You cannot attach to a stopped container, start it first"},
	    {"Paused", true, "You cannot attach to a paused container, unpause it first"},
	    {"Restarting", true, "You cannot attach to a restarting container, wait until it is running"},
	};
	const struct json *state = json_get(ctr, "State");

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (json_get_bool(state, bad[i].key, false) == bad[i].value)
			return err_msg(e, ERR_INVALID, 0, "%s", bad[i].msg);
	return 0;
}

static int attach(struct cli *c, struct stream *s, const char *name, bool no_stdin, struct err *e)
{
	_cleanup_free_ char *path = url_path("/containers/", name, "/json"), *base = NULL;
	_cleanup_json_ struct json *ctr = NULL;
	_cleanup_httpc_ struct httpc *w = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	const struct json *config;
	int r = api_call(c, "GET", path, NULL, &ctr, e), code = 0;

	if (r >= 0)
		r = check_state(ctr, e);
	if (r < 0)
		return r;
	config = json_get(ctr, "Config");
	s->container = name;
	s->tty = json_get_bool(config, "Tty", false);
	s->with_stdin = !no_stdin && json_get_bool(config, "OpenStdin", false);
	s->resize_path = url_path("/containers/", name, "/resize");
	base = url_path("/containers/", name, "/attach?stream=1&stdout=1&stderr=1");
	sbuf_puts(&url, base);
	url_query(&url, "stdin", s->with_stdin ? "1" : NULL);
	url_query(&url, "detachKeys", s->detach_keys);
	r = stream_check_tty(s->with_stdin, s->tty, e);
	/* Waiting begins before the stream, so that no exit code is missed. */
	if (r >= 0)
		r = wait_open(c, name, "not-running", &w, e);
	if (r >= 0)
		r = stream_open(c, s, sbuf_str(&url), NULL, e);
	if (r >= 0)
		r = stream_prepare(s, e);
	if (r >= 0)
		r = stream_run(c, s, e);
	if (r > 0)
		return err_msg(e, ERR_INVALID, 0, "read escape sequence");
	if (r == 0)
		r = wait_result(c, w, name, &code, e);
	return r < 0 ? r : code;
}

int cmd_attach(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *keys = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	struct stream s = STREAM_INIT;
	bool no_stdin = false, sig_proxy = true;
	int r;
	const struct opt opts[] = {{0, "detach-keys", OPT_STR, &keys, "string",
				    "Override the key sequence for detaching a container"},
				   {0, "no-stdin", OPT_BOOL, &no_stdin, NULL, "Do not attach STDIN"},
				   {0, "sig-proxy", OPT_BOOL, &sig_proxy, NULL,
				    "Proxy all received signals to the process (default true)"},
				   OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 1, 1, &args))
		return c->exit_code;
	s.detach_keys = keys;
	s.sig_proxy = sig_proxy;
	r = attach(c, &s, args[0], no_stdin, &e);
	stream_finish(&s);
	return r < 0 ? cli_fail(&e) : r;
}
