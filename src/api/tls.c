#include "api/tls.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/strv.h"
#include "engine/paths.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#define START_MS 10000
#define AGAIN_US 2000000	/* one that ended is started again */
#define READY_FD 3

struct tls_gate {
	struct engine *engine;
	char *program;
	char **argv;
	struct proc proc;
	struct loop_source *child, *again;
};

/* What it says before it listens: "+" or why not. */
static int wait_ready(int fd, struct err *err)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char text[512];
	ssize_t n;

	if (RETRY(poll(&p, 1, START_MS)) <= 0)
		return err_set(err, ERR_SYSTEM, -ETIMEDOUT, "start insula-tls");
	n = RETRY(read(fd, text, sizeof text - 1));
	if (n == 1 && text[0] == '+')
		return 0;
	text[MAX(n, (ssize_t)0)] = 0;
	return err_set(err, ERR_INVALID, 0, "%s", n > 0 ? text : "insula-tls ended before it was ready");
}

static void on_end(struct loop_source *s, const siginfo_t *si, void *ud);

static int start(struct tls_gate *g, struct err *err)
{
	int ready[2], r = fd_pipe(ready, 0);
	_cleanup_close_ int from = r < 0 ? -EBADF : ready[0], to = r < 0 ? -EBADF : ready[1];
	struct fd_map fds = {to, READY_FD};
	struct spawn_args a = {.path = g->program, .argv = g->argv, .fds = &fds, .n_fds = 1,
			       .keep_stderr = true, .pdeathsig = SIGTERM};

	if (r >= 0)
		r = proc_spawn(&a, &g->proc);
	if (r < 0)
		return err_set(err, ERR_SYSTEM, r, "start '%s'", g->program);
	fd_close(&to);
	r = loop_add_child(g->engine->loop, g->proc.pidfd, on_end, g, &g->child);
	if (r < 0)
		return err_set(err, ERR_SYSTEM, r, "watch insula-tls");
	return wait_ready(from, err);
}

static void on_again(struct loop_source *s, void *ud)
{
	struct tls_gate *g = ud;
	_cleanup_err_ struct err err = ERR_INIT;

	loop_source_free(TAKE_PTR(g->again));
	if (start(g, &err) < 0)
		log_error("%s", err_text(&err));	/* on_end tries again */
}

static void on_end(struct loop_source *s, const siginfo_t *si, void *ud)
{
	struct tls_gate *g = ud;

	log_warn("insula-tls ended with status %d: it is started again",
		 proc_exit_code(si->si_code, si->si_status));
	loop_source_free(TAKE_PTR(g->child));
	proc_done(&g->proc);
	(void)loop_add_timer(g->engine->loop, AGAIN_US, 0, on_again, g, &g->again);
}

int tls_gate_start(const struct daemon_config *c, struct engine *e, struct tls_gate **ret, struct err *err)
{
	const char *const files[][2] = {
		{"--tlscacert", c->tls_ca}, {"--tlscert", c->tls_cert}, {"--tlskey", c->tls_key}};
	struct tls_gate *g;
	int r;

	*ret = NULL;
	if (!c->tcp)
		return 0;
	g = new0(struct tls_gate);
	*g = (struct tls_gate){.engine = e, .program = engine_program(e, "insula-tls"), .proc = PROC_INIT};
	if (!g->program) {
		tls_gate_free(g);
		return err_set(err, ERR_SYSTEM, -ENOENT, "tcp hosts: insula-tls");
	}
	strv_add(&g->argv, "insula-tls");
	strv_addf(&g->argv, "--socket=%s", e->cfg.socket);
	for (char **h = c->tcp; *h; h++)
		strv_addf(&g->argv, "--listen=%s", *h);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		strv_addf(&g->argv, "%s=%s", files[i][0], files[i][1]);
	r = start(g, err);
	if (r < 0) {
		tls_gate_free(g);
		return r;
	}
	for (char **h = c->tcp; *h; h++)
		log_info("clients with a certificate are served on tcp://%s", *h);
	*ret = g;
	return 0;
}

void tls_gate_free(struct tls_gate *g)
{
	if (!g)
		return;
	loop_source_free(g->again);
	loop_source_free(g->child);
	if (g->proc.pidfd >= 0) {
		(void)proc_kill(&g->proc, SIGTERM);
		proc_done(&g->proc);
	}
	strv_free(g->argv);
	free(g->program);
	free(g);
}
