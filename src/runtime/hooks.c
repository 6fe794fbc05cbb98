#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/strv.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct json *hook_state_json(const struct hook_state *st)
{
	struct json *o = json_object();

	json_set_str(o, "ociVersion", "1.2.0");
	json_set_str(o, "id", st->id);
	json_set_str(o, "status", st->status);
	json_set_int(o, "pid", st->pid);
	json_set_str(o, "bundle", st->bundle);
	if (st->annotations)
		json_set(o, "annotations", json_copy(st->annotations));
	return o;
}

static char *state_text(const struct hook_state *st)
{
	_cleanup_json_ struct json *o = hook_state_json(st);

	return json_dump(o);
}

static int run_one(const struct oci_hook *h, const char *kind, const char *state, struct err *e)
{
	_cleanup_close_ int in = fd_from_bytes("hook-state", state, strlen(state));
	_cleanup_proc_ struct proc p = PROC_INIT;
	struct fd_map map[] = { { in, 0 } };
	char *argv[] = { h->path, NULL };
	struct spawn_args a = {.path = h->path,
			       .argv = h->args ? h->args : argv,
			       .envp = h->env,
			       .fds = map,
			       .n_fds = 1,
			       .keep_stderr = true};
	struct pollfd pfd;
	int r, code = 0;

	if (in < 0)
		return err_set(e, ERR_SYSTEM, in, "%s hook '%s'", kind, h->path);
	r = proc_spawn(&a, &p);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "%s hook '%s'", kind, h->path);
	pfd = (struct pollfd){ .fd = p.pidfd, .events = POLLIN };
	if (h->timeout && RETRY(poll(&pfd, 1, (int)MIN(*h->timeout * 1000, (int64_t)86400000))) == 0) {
		(void)proc_kill(&p, SIGKILL);
		(void)proc_wait(&p, NULL);
		return err_msg(e, ERR_SYSTEM, -ETIMEDOUT, "%s hook '%s' timed out after %lld s", kind,
			       h->path, (long long)*h->timeout);
	}
	r = proc_wait(&p, &code);
	if (r == 0 && code)
		return err_msg(e, ERR_SYSTEM, -EIO, "%s hook '%s' failed with exit code %d", kind, h->path,
			       code);
	return r;
}

int hooks_run(const struct oci_hooks *h, const char *kind, const struct hook_state *st, struct err *e)
{
	_cleanup_free_ char *state = h->n ? state_text(st) : NULL;
	int r = 0;

	for (size_t i = 0; r == 0 && i < h->n; i++)
		r = run_one(&h->v[i], kind, state, e);
	return r;
}

void hooks_try(const struct oci_hooks *h, const char *kind, const struct hook_state *st)
{
	for (size_t i = 0; i < h->n; i++) {
		const struct oci_hooks one = { &h->v[i], 1 };
		_cleanup_err_ struct err why = ERR_INIT;

		if (hooks_run(&one, kind, st, &why) < 0)
			log_warn("%s", err_text(&why));
	}
}

/* Up to version 1.2 the specification wants a failed one logged and everything to go on, from 1.3 on an error
 * and the container stopped: whoever wrote the configuration says which of them he means. */
void hooks_set_poststart(struct rt_container *c, const struct oci_spec *s)
{
	hooks_copy(&c->poststart, &s->hooks[OCI_HOOK_POSTSTART]);
	c->poststart_counts = s->version && strtoul(s->version + strlen("1."), NULL, 10) >= 3;
}

int hooks_poststart(struct rt_container *c, struct err *e)
{
	struct hook_state st = { c->id, "running", c->bundle, c->init.pid, c->annotations };
	int r = 0;

	if (c->poststart_counts)
		r = hooks_run(&c->poststart, "poststart", &st, e);
	else
		hooks_try(&c->poststart, "poststart", &st);
	if (r < 0)
		(void)rt_kill(c, SIGKILL, true, NULL);
	return r;
}

void hooks_copy(struct oci_hooks *to, const struct oci_hooks *from)
{
	*to = (struct oci_hooks){ new_array(struct oci_hook, from->n), from->n };
	for (size_t i = 0; i < from->n; i++) {
		to->v[i].path = xstrdup(from->v[i].path);
		to->v[i].args = strv_copy(from->v[i].args);
		to->v[i].env = strv_copy(from->v[i].env);
		to->v[i].timeout = from->v[i].timeout ? xmemdup(from->v[i].timeout, sizeof(int64_t)) : NULL;
	}
}

void hooks_free(struct oci_hooks *h)
{
	for (size_t i = 0; i < h->n; i++) {
		free(h->v[i].path);
		strv_free(h->v[i].args);
		strv_free(h->v[i].env);
		free(h->v[i].timeout);
	}
	free(h->v);
	*h = (struct oci_hooks){ 0 };
}
