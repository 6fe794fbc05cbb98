#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/tty.h"
#include "cli/env.h"
#include "cli/stream.h"

#include <stdio.h>

struct exec_args {
	bool detach, interactive, privileged, tty;
	char *detach_keys, *user, *workdir;
	char **env, **env_files;
};

static struct json *create_body(const struct exec_args *a, char *const *command, struct err *e)
{
	_cleanup_json_ struct json *body = json_object();
	_cleanup_strv_ char **env = NULL;
	unsigned rows, cols;

	if (env_collect(a->env_files, a->env, &env, e) < 0)
		return NULL;
	json_set_str(body, "User", a->user ?: "");
	json_set_bool(body, "Privileged", a->privileged);
	json_set_bool(body, "Tty", a->tty);
	json_set_bool(body, "AttachStdin", !a->detach && a->interactive);
	json_set_bool(body, "AttachStderr", !a->detach);
	json_set_bool(body, "AttachStdout", !a->detach);
	json_set_bool(body, "Detach", a->detach);
	json_set_str(body, "DetachKeys", a->detach_keys ?: "");
	if (env)
		json_set_strv(body, "Env", env);
	json_set_str(body, "WorkingDir", a->workdir ?: "");
	json_set_strv(body, "Cmd", command);
	if (a->tty && tty_get_size(1, &rows, &cols) >= 0) {
		struct json *size = json_set(body, "ConsoleSize", json_array());

		json_add(size, json_new_int(rows));
		json_add(size, json_new_int(cols));
	}
	return TAKE_PTR(body);
}

static int exit_code(struct cli *c, const char *id, struct err *e)
{
	_cleanup_free_ char *url = url_path("/exec/", id, "/json");
	_cleanup_json_ struct json *j = NULL;
	int r = api_call(c, "GET", url, NULL, &j, e);

	return r < 0 ? r : (int)json_get_int(j, "ExitCode", 0);
}

static int session(struct cli *c, const struct exec_args *a, const char *id, struct err *e)
{
	_cleanup_json_ struct json *body = json_object();
	_cleanup_free_ char *url = url_path("/exec/", id, "/start");
	struct stream s = STREAM_INIT;
	int r;

	json_set_bool(body, "Detach", a->detach);
	json_set_bool(body, "Tty", a->tty);
	if (a->detach)
		return api_call(c, "POST", url, body, NULL, e);
	s.tty = a->tty;
	s.with_stdin = a->interactive;
	s.detach_keys = a->detach_keys;
	s.resize_path = url_path("/exec/", id, "/resize");
	r = stream_open(c, &s, url, body, e);
	if (r >= 0)
		r = stream_prepare(&s, e);
	if (r >= 0)
		r = stream_run(c, &s, e);
	stream_finish(&s);
	if (r > 0)
		return err_msg(e, ERR_INVALID, 0, "read escape sequence");
	return r < 0 ? r : exit_code(c, id, e);
}

static int run(struct cli *c, const struct exec_args *a, char *const *args, struct err *e)
{
	_cleanup_free_ char *url = url_path("/containers/", args[0], "/exec");
	_cleanup_json_ struct json *body = NULL, *answer = NULL;
	const char *id;
	int r;

	body = create_body(a, args + 1, e);
	if (!body)
		return -EINVAL;
	r = stream_check_tty(!a->detach && a->interactive, a->tty, e);
	if (r >= 0)
		r = api_call(c, "POST", url, body, &answer, e);
	if (r < 0)
		return r;
	id = json_get_str(answer, "Id");
	if (str_empty(id))
		return err_msg(e, ERR_SYSTEM, 0, "exec ID empty");
	return session(c, a, id, e);
}

int cmd_exec(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	struct exec_args a = {0};
	int r;
	const struct opt opts[] = {
	    {'d', "detach", OPT_BOOL, &a.detach, NULL, "Detached mode: run command in the background"},
	    {0, "detach-keys", OPT_STR, &a.detach_keys, "string",
	     "Override the key sequence for detaching a container"},
	    {'e', "env", OPT_STRV, &a.env, "list", "Set environment variables"},
	    {0, "env-file", OPT_STRV, &a.env_files, "list", "Read in a file of environment variables"},
	    {'i', "interactive", OPT_BOOL, &a.interactive, NULL, "Keep STDIN open even if not attached"},
	    {0, "privileged", OPT_BOOL, &a.privileged, NULL, "Give extended privileges to the command"},
	    {'t', "tty", OPT_BOOL, &a.tty, NULL, "Allocate a pseudo-TTY"},
	    {'u', "user", OPT_STR, &a.user, "string",
	     "Username or UID (format: \"<name|uid>[:<group|gid>]\")"},
	    {'w', "workdir", OPT_STR, &a.workdir, "string", "Working directory inside the container"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, PARSE_STOP, 2, ARGS_ANY, &args))
		return c->exit_code;
	r = run(c, &a, args, &e);
	free(a.detach_keys);
	free(a.user);
	free(a.workdir);
	strv_free(a.env);
	strv_free(a.env_files);
	return r < 0 ? cli_fail(&e) : r;
}
