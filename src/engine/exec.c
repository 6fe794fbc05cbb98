/* An exec lives in memory only. What a former daemon has started is known again from the supervisor, which
 * tells of every task that it was not told to forget; its command is not, but its state and exit code are,
 * and that is what clients come back for. */
#include "engine/exec.h"

#include "base/alloc.h"
#include "base/id.h"
#include "base/strv.h"
#include "base/tty.h"
#include "engine/container_int.h"
#include <errno.h>
#include <string.h>

#define EXECS_KEPT 64		/* finished ones per container, for `exec inspect` */

enum exec_state { EXEC_CREATED, EXEC_STARTING, EXEC_RUNNING, EXEC_EXITED };

struct exec {
	char *id;
	struct container *c;	/* referenced */
	struct json *config;	/* ExecConfig */
	enum exec_state state;
	bool tty, detach, raw;
	bool forgotten;		/* the supervisor has been told to */
	uint32_t pid;
	int exit_code;
	uint64_t over_us;
	void (*on_exit)(void *ud, int code);
	void *on_exit_ud;
};

static struct hmap *table(struct engine *e)
{
	return &e->containers->execs;
}

static struct exec *exec_new(struct container *c, const char *id, struct json *config)
{
	struct exec *x = new0(struct exec);

	*x = (struct exec){.id = xstrdup(id), .c = container_ref(c), .config = config,
			   .tty = json_get_bool(config, "Tty", false)};
	hmap_set(table(c->engine), x->id, x);
	return x;
}

static void exec_free(struct exec *x)
{
	hmap_remove(table(x->c->engine), x->id);
	if (x->on_exit)
		x->on_exit(x->on_exit_ud, 137);
	free(x->id);
	json_free(x->config);
	container_unref(x->c);
	free(x);
}

static char *command_text(const struct exec *x)
{
	_cleanup_strv_ char **cmd = json_get_strv(x->config, "Cmd");

	return cmd ? strv_join(cmd, " ") : xstrdup("");
}

static void exec_event(struct exec *x, const char *action, bool with_command)
{
	_cleanup_free_ char *cmd = command_text(x),
			    *text = with_command ? xasprintf("%s: %s", action, cmd) : xstrdup(action);
	struct json *a = json_object();

	json_set_str(a, "execID", x->id);
	if (streq(action, "exec_die")) {
		_cleanup_free_ char *code = xasprintf("%d", x->exit_code);

		json_set_str(a, "exitCode", code);
	}
	container_event(x->c, text, a);
}

static void delete_reply(void *ud, int r, const struct err *e, const void *p, size_t n)
{
}

/* The supervisor forgets it too: from there the next daemon would know it. */
static void forget_task(struct exec *x)
{
	struct msg_delete m = {.sandbox = x->c->sandbox, .ctr = x->c->id, .exec = x->id};

	if (x->state != EXEC_EXITED || x->forgotten || !ctr_conn(x->c))
		return;
	x->forgotten = true;
	CONN_REQUEST(ctr_conn(x->c), DELETE, delete, &m, -1, delete_reply, NULL);
}

/* The one that finished first goes when there are many. */
static void prune(struct container *c)
{
	struct hmap_iter it = {0};
	struct exec *first = NULL;
	size_t n = 0;

	while (hmap_next(table(c->engine), &it)) {
		struct exec *x = it.entry->value;

		if (x->c != c || x->state != EXEC_EXITED)
			continue;
		n++;
		if (!first || x->over_us < first->over_us)
			first = x;
	}
	if (n > EXECS_KEPT) {
		forget_task(first);
		exec_free(first);
	}
}

int exec_create(struct container *c, const struct json *body, const char **ret_id, struct err *err)
{
	_cleanup_strv_ char **cmd = json_get_strv(body, "Cmd"), **env = json_get_strv(body, "Env");
	const char *keys = json_get_str(body, "DetachKeys"), *dir = json_get_str(body, "WorkingDir");
	unsigned char parsed[16];
	size_t n;
	struct exec *x;

	if (c->status != CTR_RUNNING)
		return not_running(c, err);
	if (c->paused)
		return err_msg(err, ERR_CONFLICT, 0,
			       "Container %s is paused, unpause the container before exec", c->id);
	if (!cmd)
		return err_msg(err, ERR_INVALID, 0, "No exec command specified");
	if (!str_empty(dir) && *dir != '/')
		return err_msg(err, ERR_INVALID, 0, "Cwd must be an absolute path: '%s' is not", dir);
	for (char **v = env; v && *v; v++)
		if (!**v || **v == '=')
			return err_msg(err, ERR_INVALID, 0, "invalid environment variable: %s", *v);
	if (!str_empty(keys) && tty_parse_detach_keys(keys, parsed, &n) < 0)
		return err_msg(err, ERR_INVALID, 0, "Invalid escape keys (%s) provided", keys);
	prune(c);
	x = exec_new(c, id_new().s, json_copy(body));
	exec_event(x, "exec_create", true);
	*ret_id = x->id;
	return 0;
}

int exec_find(struct engine *e, const char *id, struct exec **ret, struct err *err)
{
	struct exec *x = hmap_get(table(e), id);

	if (!x)
		return err_msg(err, ERR_NOT_FOUND, 0, "No such exec instance: %s", id);
	*ret = x;
	return 0;
}

const char *exec_id(const struct exec *x)
{
	return x->id;
}

/* ---- start ---- */

/* A call in flight: the exec is looked up again when the answer comes. */
struct call { struct engine *engine; char *id; engine_done_fn done; void *userdata; };

static struct call *call_new(struct exec *x, engine_done_fn done, void *ud)
{
	struct call *k = new0(struct call);

	*k = (struct call){x->c->engine, xstrdup(x->id), done, ud};
	return k;
}

static void call_free(struct call *k)
{
	free(k->id);
	free(k);
}

static uint32_t exec_flags(const struct exec *x)
{
	bool in = !x->detach && json_get_bool(x->config, "AttachStdin", false);

	return (x->tty ? TASK_TTY : 0) | (in ? TASK_STDIN | TASK_STDIN_ONCE : 0);
}

static void prepared(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct call *k = ud;
	struct exec *x = hmap_get(table(k->engine), k->id);

	if (x && r < 0)
		x->state = EXEC_CREATED;
	k->done(k->userdata, r, e, NULL);
	call_free(k);
}

static int check_startable(const struct exec *x, struct err *err)
{
	if (x->state == EXEC_EXITED)
		return err_msg(err, ERR_CONFLICT, 0, "exec command %s has already run", x->id);
	if (x->state != EXEC_CREATED)
		return err_msg(err, ERR_CONFLICT, 0, "exec command %s is already running", x->id);
	if (x->c->status != CTR_RUNNING || !ctr_conn(x->c))
		return not_running(x->c, err);
	if (x->c->paused)
		return err_msg(err, ERR_CONFLICT, 0,
			       "Container %s is paused, unpause the container before exec", x->c->id);
	return 0;
}

void exec_prepare(struct exec *x, const struct exec_start *s, engine_done_fn done, void *ud)
{
	_cleanup_strv_ char **cmd = json_get_strv(x->config, "Cmd"), **env = json_get_strv(x->config, "Env");
	const struct json *size = json_get(x->config, "ConsoleSize");
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_json_ struct json *p = NULL;
	_cleanup_free_ char *text = NULL;
	struct exec_process proc = {
	    .cmd = cmd,
	    .env = env,
	    .user = json_get_str(x->config, "User"),
	    .cwd = json_get_str(x->config, "WorkingDir"),
	    .tty = x->tty,
	    .privileged = json_get_bool(x->config, "Privileged", false),
	    .rows = s->rows ? s->rows : (unsigned)json_uint(json_at(size, 0)),
	    .cols = s->cols ? s->cols : (unsigned)json_uint(json_at(size, 1)),
	};
	int r = check_startable(x, &err);

	if (r >= 0)
		r = spec_exec_process(x->c, &proc, &p, &err);
	if (r < 0) {
		done(ud, r, &err, NULL);
		return;
	}
	text = json_dump(p);
	x->state = EXEC_STARTING;
	x->detach = s->detach;
	x->raw = s->raw;
	struct msg_create m = {
	    .sandbox = x->c->sandbox,
	    .ctr = x->c->id,
	    .exec = x->id,
	    .spec = {(uint8_t *)text, strlen(text)},
	    .bundle = x->c->dir,
	    .log_path = (char *)"",
	    .flags = exec_flags(x),
	    .rows = proc.rows,
	    .cols = proc.cols,
	    .upper = (char *)"",
	    .work = (char *)"",
	};

	CONN_REQUEST(ctr_conn(x->c), CREATE, create, &m, -1, prepared, call_new(x, done, ud));
}

static void exec_over(struct exec *x, int code)
{
	if (x->state == EXEC_EXITED)
		return;
	x->state = EXEC_EXITED;
	x->exit_code = code;
	x->over_us = now_mono_us();
	x->pid = 0;
	exec_event(x, "exec_die", false);
	if (x->on_exit)
		x->on_exit(x->on_exit_ud, code);
	x->on_exit = NULL;
}

void exec_forget(struct engine *e, const char *id)
{
	struct exec *x = hmap_get(table(e), id);

	if (!x)
		return;
	forget_task(x);
	exec_free(x);
}

void exec_on_exit(struct engine *e, const char *id, void (*fn)(void *ud, int code), void *ud)
{
	struct exec *x = hmap_get(table(e), id);

	if (!x)
		return;
	x->on_exit = fn;
	x->on_exit_ud = ud;
}

static void started(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct call *k = ud;
	struct exec *x = hmap_get(table(k->engine), k->id);
	_cleanup_err_ struct err err = ERR_INIT;

	if (r < 0) {
		enum err_kind kind = e ? e->kind : ERR_SYSTEM;

		if (x)
			exec_over(x, kind == ERR_CMD_NOT_FOUND        ? 127
				     : kind == ERR_CMD_NOT_EXECUTABLE ? 126
								      : 128);
		err_msg(
		    &err, kind, r,
		    "OCI runtime exec failed: exec failed: unable to start container process: %s: unknown",
		    e ? err_text(e) : strerror(-r));
		e = &err;
	}
	k->done(k->userdata, r, e, NULL);
	call_free(k);
}

static void attach_client(struct exec *x, int fd, const void *preread, size_t n)
{
	const char *spec = json_get_str(x->config, "DetachKeys");
	struct attach_args a = {
	    .fd = fd, .preread = preread, .n_preread = n, .flags = x->raw ? 0 : ATTACH_MUX};
	static const struct { const char *key; uint32_t flag;
	} streams[] = {
	    {"AttachStdin", ATTACH_STDIN},
	    {"AttachStdout", ATTACH_STDOUT},
	    {"AttachStderr", ATTACH_STDERR},
	};
	unsigned char keys[16];

	for (size_t i = 0; i < ARRAY_SIZE(streams); i++)
		if (json_get_bool(x->config, streams[i].key, false))
			a.flags |= streams[i].flag;
	/* As Docker: without frames nobody could tell the two apart. */
	if (x->raw && !x->tty)
		a.flags &= ~(uint32_t)ATTACH_STDERR;
	a.keys = keys;
	if (tty_parse_detach_keys(str_empty(spec) ? "ctrl-p,ctrl-q" : spec, keys, &a.n_keys) < 0)
		a.n_keys = 0;
	attach_send(x->c, x->id, &a);
	close(fd);
}

void exec_start(struct engine *e, const char *id, int fd, const void *preread, size_t n, engine_done_fn done,
		void *ud)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct exec *x = NULL;
	int r = exec_find(e, id, &x, &err);

	if (r >= 0 && !ctr_conn(x->c))
		r = not_running(x->c, &err);
	if (r < 0) {
		if (fd >= 0)
			close(fd);
		done(ud, r, &err, NULL);
		return;
	}
	struct msg_start m = {.sandbox = x->c->sandbox, .ctr = x->c->id, .exec = x->id};

	if (fd >= 0)
		attach_client(x, fd, preread, n);
	exec_event(x, "exec_start", true);
	CONN_REQUEST(ctr_conn(x->c), START, start, &m, -1, started, call_new(x, done, ud));
}

void exec_resize(struct exec *x, unsigned rows, unsigned cols, engine_done_fn done, void *ud)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (x->state != EXEC_RUNNING) {
		int r = err_msg(&err, ERR_CONFLICT, 0, "exec process is not started");

		done(ud, r, &err, NULL);
		return;
	}
	container_resize(x->c, x->id, rows, cols, done, ud);
}

/* ---- what the supervisor says ---- */

void exec_task_state(struct container *c, const struct msg_task_state *m)
{
	struct exec *x = hmap_get(table(c->engine), m->exec);

	if (!x)
		x = exec_new(c, m->exec, json_object());
	if (x->c != c)
		return;
	if (m->state == TASK_RUNNING && x->state != EXEC_EXITED) {
		x->state = EXEC_RUNNING;
		x->pid = m->pid;
	} else if (m->state == TASK_EXITED) {
		bool inner = x->on_exit != NULL;

		exec_over(x, (int)m->exit_code);
		if (inner)		/* nobody will ask for it */
			forget_task(x);
	}
}

void exec_detached(struct container *c, const char *id)
{
	struct exec *x = hmap_get(table(c->engine), id);

	if (x)
		exec_event(x, "exec_detach", false);
}

void execs_of_exited(struct container *c, bool forget)
{
	struct hmap_iter it = {0};

	while (hmap_next(table(c->engine), &it)) {
		struct exec *x = it.entry->value;

		if (x->c != c)
			continue;
		if (forget)
			exec_free(x);
		else if (x->state != EXEC_CREATED)
			exec_over(x, 137);
	}
}

void execs_close(struct engine *e)
{
	struct hmap_iter it = {0};

	while (hmap_next(table(e), &it))
		exec_free(it.entry->value);
}

/* ---- inspect ---- */

struct json *exec_inspect(const struct exec *x)
{
	struct json *j = json_object(), *p;
	const struct json *cmd = json_get(x->config, "Cmd");
	struct json *args;

	json_set_str(j, "ID", x->id);
	json_set_bool(j, "Running", x->state == EXEC_RUNNING || x->state == EXEC_STARTING);
	if (x->state == EXEC_EXITED)
		json_set_int(j, "ExitCode", x->exit_code);
	else
		json_set_null(j, "ExitCode");
	p = json_set(j, "ProcessConfig", json_object());
	json_set_bool(p, "tty", x->tty);
	json_set_str(p, "entrypoint", json_str(json_at(cmd, 0)) ?: "");
	args = json_set(p, "arguments", json_array());
	for (size_t i = 1; i < json_len(cmd); i++)
		json_add_str(args, json_str(json_at(cmd, i)));
	json_set_bool(p, "privileged", json_get_bool(x->config, "Privileged", false));
	json_set_str(p, "user", json_get_str(x->config, "User") ?: "");
	json_set_bool(j, "OpenStdin", json_get_bool(x->config, "AttachStdin", false));
	json_set_bool(j, "OpenStderr", json_get_bool(x->config, "AttachStderr", false));
	json_set_bool(j, "OpenStdout", json_get_bool(x->config, "AttachStdout", false));
	json_set_bool(j, "CanRemove", x->state == EXEC_EXITED);
	json_set_str(j, "ContainerID", x->c->id);
	json_set_str(j, "DetachKeys", json_get_str(x->config, "DetachKeys") ?: "");
	json_set_int(j, "Pid", x->pid);
	return j;
}

struct json *execs_of(const struct container *c)
{
	struct hmap_iter it = {0};
	struct json *out = NULL;

	while (hmap_next(table(c->engine), &it)) {
		const struct exec *x = it.entry->value;

		if (x->c != c || x->state == EXEC_EXITED)
			continue;
		if (!out)
			out = json_array();
		json_add_str(out, x->id);
	}
	return out;
}
