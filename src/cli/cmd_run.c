/* run: create, attach, wait, start and then the session. The order matters: output is attached and the wait
 * is registered before the start, so that a process of microseconds loses neither bytes nor exit code. Three
 * connections carry it all (create and attach share the first). */
#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/tty.h"
#include "cli/create.h"
#include "cli/progress.h"
#include "cli/stream.h"

#include <stdio.h>

struct run {
	struct cli *c;
	struct run_opts o;
	char *id;
	struct stream stream;
	struct httpc *wait;
	bool in, out, err;
};

static bool attached(const struct run *r, const char *name, bool def)
{
	return r->o.attach ? strv_has(r->o.attach, name) : def && !r->o.detach;
}

static int attach(struct run *r, struct err *e)
{
	_cleanup_free_ char *base = url_path("/containers/", r->id, "/attach?stream=1");
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;

	sbuf_puts(&url, base);
	url_query(&url, "stdin", r->in ? "1" : NULL);
	url_query(&url, "stdout", r->out ? "1" : NULL);
	url_query(&url, "stderr", r->err ? "1" : NULL);
	url_query(&url, "detachKeys", r->o.detach_keys);
	r->stream.tty = r->o.tty;
	r->stream.with_stdin = r->in;
	r->stream.sig_proxy = r->o.sig_proxy;
	r->stream.container = r->id;
	r->stream.detach_keys = r->o.detach_keys;
	r->stream.resize_path = url_path("/containers/", r->id, "/resize");
	return stream_open(r->c, &r->stream, sbuf_str(&url), NULL, e);
}

static int start(struct run *r, struct err *e)
{
	_cleanup_free_ char *url = url_path("/containers/", r->id, "/start");

	return api_call(r->c, "POST", url, NULL, NULL, e);
}

/* Creation failed, or something before the start: docker's form and 125. */
static int fail(struct run *r, const struct err *e)
{
	return cli_fail_run(r->c, err_text(e));
}

static int start_failed(struct run *r, const struct err *e)
{
	struct sbuf rest = SBUF_INIT;

	tty_restore();
	cli_fail_run(r->c, err_text(e));
	/* With --rm the container is gone when this answers. */
	if (r->wait && r->o.rm)
		(void)httpc_read_all(r->wait, &rest);
	sbuf_done(&rest);
	return start_error_code(e);
}

static int run_detached(struct run *r, struct err *e)
{
	puts(r->id);
	fflush(stdout);
	return start(r, e) < 0 ? start_failed(r, e) : 0;
}

static int run_attached(struct run *r, struct err *e)
{
	int code = 0, n = attach(r, e);

	if (n >= 0)
		n = wait_open(r->c, r->id, r->o.rm ? "removed" : "next-exit", &r->wait, e);
	if (n >= 0)
		n = stream_prepare(&r->stream, e);
	if (n < 0)
		return fail(r, e);
	if (start(r, e) < 0)
		return start_failed(r, e);
	n = stream_run(r->c, &r->stream, e);
	tty_restore();
	if (n > 0)
		return 0;
	if (n >= 0)
		n = wait_result(r->c, r->wait, r->id, &code, e);
	if (n < 0)
		return cli_fail(e), 125;
	return code;
}

/* The start would make them too, without a word for as long as it takes. What goes wrong it says as well. */
static void make_disks(struct run *r, const char *image)
{
	_cleanup_free_ char *url = url_path("/images/", image, "/disks");
	_cleanup_err_ struct err e = ERR_INIT;

	(void)progress_post(r->c, url, NULL, r->o.quiet ? NULL : stderr, &e);
}

static int run(struct run *r, char *const *args, struct err *e)
{
	bool disks = false;

	if (r->o.detach && r->o.attach) {
		fprintf(stderr, "conflicting options: cannot specify both --attach and --detach\n");
		return 1;
	}
	r->in = attached(r, "stdin", r->o.interactive);
	r->out = attached(r, "stdout", true);
	r->err = attached(r, "stderr", true);
	if (stream_check_tty(r->in, r->o.tty, e) < 0)
		return cli_fail(e);
	if (create_container(r->c, &r->o, args, &r->id, &disks, e) < 0)
		return fail(r, e);
	if (disks)
		make_disks(r, args[0]);
	return r->o.detach ? run_detached(r, e) : run_attached(r, e);
}

int cmd_run(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	struct opt opts[RUN_OPTS_MAX];
	struct run r = { .c = c, .stream = STREAM_INIT };

	run_opts_table(&r.o, true, opts);
	if (cli_parse(c, opts, argc, argv, PARSE_STOP, 1, ARGS_ANY, &args))
		c->exit_code = run(&r, args, &e);
	stream_finish(&r.stream);
	httpc_free(r.wait);
	free(r.id);
	run_opts_done(&r.o);
	return c->exit_code;
}
