#include "engine/registry.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/sock.h"
#include "base/strv.h"
#include "engine/paths.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>

#define MESSAGE_MAX (64u << 10)

struct registry_call {
	struct engine *engine;
	const struct registry_ops *ops;
	void *ud;
	struct proc proc;
	struct loop_source *child, *io;
	int link;
	bool exited, over;
	struct json *last;		/* result or error */
};

struct json *registry_request(struct engine *e, const char *op, const struct ref *ref, const char *actions,
			      const struct json *auth)
{
	struct json *o = json_object(), *certs;

	json_set_str(o, "op", op);
	json_set_str(o, "domain", ref->domain);
	json_set_str(o, "path", ref->path);
	json_set_str(o, "ref", ref->digest ? ref->digest : ref->tag);
	json_set_str(o, "actions", actions);
	json_set_strv(o, "mirrors", e->cfg.registry_mirrors);
	json_set_strv(o, "insecure", e->cfg.insecure_registries);
	certs = json_set(o, "certs", json_array());
	if (e->cfg.registry_certs) {
		json_add_str(certs, e->cfg.registry_certs);
	} else {
		json_add_str(certs, "/etc/insula/certs.d");
		json_add_str(certs, "/etc/docker/certs.d");
	}
	if (auth)
		json_set(o, "auth", json_copy(auth));
	return o;
}

static void call_free(struct registry_call *c)
{
	loop_source_free(c->child);
	loop_source_free(c->io);
	if (c->proc.pidfd >= 0 && !c->exited) {
		(void)proc_kill(&c->proc, SIGKILL);
		(void)proc_wait(&c->proc, NULL);
	}
	proc_done(&c->proc);
	fd_close(&c->link);
	json_free(c->last);
	free(c);
}

static void ended(struct registry_call *c)
{
	_cleanup_err_ struct err e = ERR_INIT;
	int r = 0;

	if (!c->exited || !c->over)
		return;
	if (!c->last) {
		r = err_msg(&e, ERR_SYSTEM, -EIO, "insula-registry died (see the daemon's log)");
	} else if (json_get_str(c->last, "error")) {
		int64_t kind = json_get_int(c->last, "kind", ERR_SYSTEM);

		r = err_msg(&e, kind > 0 && kind < _ERR_KIND_MAX ? (enum err_kind)kind : ERR_SYSTEM, -EIO,
			    "%s", json_get_str(c->last, "error"));
	}
	c->ops->done(c->ud, r, &e, c->last);
	call_free(c);
}

static void on_child(struct loop_source *s, const siginfo_t *si, void *ud)
{
	struct registry_call *c = ud;

	loop_source_free(TAKE_PTR(c->child));
	c->exited = true;
	ended(c);
}

static void take_message(struct registry_call *c, struct json *m)
{
	const char *op = json_get_str(m, "op");

	if (streq(op, "result") || streq(op, "error")) {
		json_free(c->last);
		c->last = json_ref(m);
	} else {
		c->ops->message(c->ud, m);
	}
}

static void on_link(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	static char buf[MESSAGE_MAX];
	struct registry_call *c = ud;
	_cleanup_json_ struct json *m = NULL;
	size_t n_fds = 0;
	ssize_t n = sock_recv_fds(fd, buf, sizeof buf, NULL, &n_fds);

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n > 0) {
		if (json_parse(buf, (size_t)n, &m, NULL) == 0)
			take_message(c, m);
		return;
	}
	loop_source_free(TAKE_PTR(c->io));
	c->over = true;
	ended(c);
}

void registry_reply(struct registry_call *c, int fd, const char *error)
{
	_cleanup_json_ struct json *o = json_object();
	_cleanup_free_ char *text = NULL;
	ssize_t n;

	if (error)
		json_set_str(o, "error", error);
	else if (fd < 0)
		json_set_bool(o, "have", true);
	text = json_dump(o);
	/* One small message is outstanding at most: it fits. */
	n = sock_send_fds(c->link, text, strlen(text), &fd, fd >= 0);
	if (n < 0 && n != -EPIPE)
		log_warn("answer to insula-registry: %s", strerror((int)-n));
}

void registry_cancel(struct registry_call *c)
{
	call_free(c);
}

int registry_call(struct engine *e, const struct json *request, const struct registry_ops *ops, void *ud,
		  struct registry_call **ret, struct err *err)
{
	_cleanup_free_ char *program = engine_program(e, "insula-registry"), *text = json_dump(request);
	_cleanup_close_ int in = fd_from_bytes("registry-request", text, strlen(text)), theirs = -EBADF;
	struct registry_call *c = new0(struct registry_call);
	char *argv[] = { (char *)"insula-registry", NULL };
	struct fd_map map[2];
	int p[2], r = 0;

	*c = (struct registry_call){ .engine = e, .ops = ops, .ud = ud, .proc = PROC_INIT, .link = -EBADF };
	if (!program)
		r = err_msg(err, ERR_SYSTEM, -ENOENT, "insula-registry is not installed");
	else if (in < 0)
		r = err_set(err, ERR_SYSTEM, in, "start insula-registry");
	if (r == 0 && (r = sock_pair_packets(p)) == 0) {
		c->link = p[0];
		theirs = p[1];
		map[0] = (struct fd_map){ in, 0 };
		map[1] = (struct fd_map){ theirs, 3 };
		struct spawn_args a = {.path = program,
				       .argv = argv,
				       .fds = map,
				       .n_fds = 2,
				       .keep_stderr = true,
				       .pdeathsig = SIGKILL};

		r = fd_set_nonblock(c->link, true);
		if (r == 0)
			r = proc_spawn(&a, &c->proc);
		if (r == 0)
			r = loop_add_child(e->loop, c->proc.pidfd, on_child, c, &c->child);
		if (r == 0)
			r = loop_add_io(e->loop, c->link, EPOLLIN, on_link, c, &c->io);
		if (r < 0)
			err_set(err, ERR_SYSTEM, r, "start insula-registry");
	}
	if (r < 0) {
		call_free(c);
		return r;
	}
	*ret = c;
	return 0;
}
