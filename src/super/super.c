/* Theory of operation.
 *
 * Daemons come and go: each connection is a peer, and several at once are fine. What the backend reports
 * becomes log lines, client output and TASK_STATE events; what daemons ask goes through requests.c.
 *
 * The end comes in three steps, whoever asks for it (a daemon, SIGTERM, or nothing left to do): the
 * backend ends what still lives; every task tells its exit; every client gets what is queued for it.
 * Only a sandbox that was told to end gives clients a deadline. */
#include "super/internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/strv.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define STOP_US 5000000		/* told to end: how long clients have to take what is queued */
#define FLUSH_MS 1000

/* --- daemons --- */

struct peer *peer_find(struct super *s, uint64_t number)
{
	list_for_each(p, &s->peers, struct peer, link)
		if (p->number == number)
			return p;
	return NULL;
}

void super_tell_state(const struct task *t)
{
	struct msg_task_state m = task_state_msg(t);

	list_for_each(p, &t->super->peers, struct peer, link)
		CONN_EVENT(p->conn, TASK_STATE, task_state, &m);
}

void super_tell_detached(const struct task *t)
{
	struct msg_detached m = { t->super->args->sandbox, t->ctr, t->exec };

	list_for_each(p, &t->super->peers, struct peer, link)
		CONN_EVENT(p->conn, DETACHED, detached, &m);
}

static void peer_free(struct peer *p)
{
	list_remove(&p->link);
	conn_free(p->conn);
	super_check(p->super);
	free(p);
}

static void on_frame(struct conn *c, const struct frame *f, int *fds, size_t n_fds, void *ud)
{
	struct peer *p = ud;
	int r = request(p, f, fds, n_fds);

	if (r < 0) {
		log_error("message %u from the daemon: %s: the connection is closed", f->type, strerror(-r));
		peer_free(p);
	}
}

static void on_close(struct conn *c, int r, void *ud)
{
	peer_free(ud);
}

static const struct conn_ops conn_ops = { on_frame, on_close };

static void on_accept(struct loop_source *src, int lfd, uint32_t events, void *ud)
{
	struct super *s = ud;
	int fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct peer *p;

	if (fd < 0)
		return;
	p = new0(struct peer);
	p->super = s;
	p->number = ++s->peers_seen;
	if (conn_new(s->loop, fd, true, &conn_ops, p, &p->conn) < 0)
		free(p);
	else
		list_append(&s->peers, &p->link);
}

/* --- what the backend reports --- */

static void ev_output(void *ud, const char *ctr, const char *exec, enum task_stream st, const void *p,
		      size_t n)
{
	struct task *t = task_find(ud, ctr, exec);

	if (t)
		task_output(t, st, p, n);
}

static void ev_output_eof(void *ud, const char *ctr, const char *exec, enum task_stream st)
{
	struct task *t = task_find(ud, ctr, exec);

	if (t)
		task_output_eof(t, st);
}

static void ev_stdin_ready(void *ud, const char *ctr, const char *exec)
{
	struct task *t = task_find(ud, ctr, exec);

	if (t)
		clients_stdin_ready(t);
}

static void ev_exited(void *ud, const char *ctr, const char *exec, int code, uint64_t when_ns, bool oom,
		      const char *reason)
{
	struct task *t = task_find(ud, ctr, exec);

	if (!t)
		return;
	t->oom = oom;
	task_ended(t, EVENT_ENDED, code, when_ns, reason ? reason : "");
}

static void ev_lost(void *ud, const char *reason)
{
	struct super *s = ud;

	log_error("sandbox '%s' is lost: %s", s->args->sandbox, reason);
	/* No more output can come. */
	list_for_each(t, &s->tasks, struct task, link)
		task_event(t, EVENT_DEADLINE);
	super_check(s);
}

static const struct backend_events backend_events = {
	ev_output, ev_output_eof, ev_stdin_ready, ev_exited, ev_lost,
};

/* --- the end --- */

struct stop { struct super *super; backend_done_fn done; void *userdata; };

static void leave(struct super *s)
{
	list_for_each(p, &s->peers, struct peer, link)
		(void)conn_flush(p->conn, FLUSH_MS);
	loop_exit(s->loop, 0);
}

static void on_deadline(struct loop_source *src, void *ud)
{
	leave(ud);
}

/* The backend has its own patience: here it is about clients only. */
static void hurry(struct super *s)
{
	if (s->urgent && s->stopped && !s->deadline)
		(void)loop_add_timer(s->loop, STOP_US, 0, on_deadline, s, &s->deadline);
}

static void on_stopped(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct stop *st = ud;

	if (r < 0)
		log_error("end sandbox '%s': %s", st->super->args->sandbox,
			  e && e->kind ? err_text(e) : strerror(-r));
	st->super->stopped = true;
	hurry(st->super);
	super_check(st->super);
	if (st->done)
		st->done(st->userdata, r, e, NULL, 0);
	free(st);
}

void super_stop(struct super *s, bool urgent, backend_done_fn done, void *userdata)
{
	struct stop *st;

	s->urgent |= urgent;
	hurry(s);
	if (s->stopping) {
		if (done)
			done(userdata, 0, NULL, NULL, 0);
		return;
	}
	s->stopping = true;
	/* A daemon that comes now finds nobody, and reads the exit records. */
	loop_source_free(s->accept);
	s->accept = NULL;
	close(s->args->listen_fd);
	st = new0(struct stop);
	*st = (struct stop){ s, done, userdata };
	s->backend->ops->shutdown(s->backend, on_stopped, st);
}

/* Whether nothing is left to do here: the last container was deleted (which stops the sandbox by itself),
 * or all have exited and no daemon is there who could want more. One that died before it made a container
 * leaves an empty sandbox. */
static bool idle(const struct super *s, bool live)
{
	if (live || !list_empty(&s->peers))
		return false;
	return s->had_container || (s->peers_seen && list_empty(&s->tasks));
}

static void check(void *ud)
{
	struct super *s = ud;
	bool live = false, clients = !list_empty(&s->lingering);

	s->check_due = false;
	list_for_each(t, &s->tasks, struct task, link) {
		live |= task_live(t);
		clients |= !list_empty(&t->clients);
	}
	if (!s->stopping && !clients && idle(s, live))
		super_stop(s, false, NULL, NULL);
	if (s->stopped && !live && !clients)
		leave(s);
}

void super_check(struct super *s)
{
	if (s->check_due)
		return;
	s->check_due = true;
	loop_defer(s->loop, check, s);
}

static void on_term(struct loop_source *src, const struct signalfd_siginfo *si, void *ud)
{
	struct super *s = ud;

	log_info("sandbox '%s': ended by signal", s->args->sandbox);
	super_stop(s, true, NULL, NULL);
}

/* --- start --- */

int super_parse_args(int argc, char **argv, struct super_args *ret)
{
	_cleanup_free_ char *name = NULL;
	char *sandbox = NULL, *dir = NULL, *error = NULL;
	bool debug = false;
	const struct opt opts[] = {
	    {0, "sandbox", OPT_STR, &sandbox, "id", "The sandbox to serve"},
	    {0, "dir", OPT_STR, &dir, "path", "Directory of exit records"},
	    {0, "name", OPT_STR, &name, "name", "The container's, for those who look at the process list"},
	    {0, "debug", OPT_BOOL, &debug, NULL, "Log more"},
	    OPT_END};
	_cleanup_free_ char **rest = NULL;

	if (opt_parse(opts, argc, argv, false, &rest, &error) < 0 || !sandbox || !dir || rest[0]) {
		fprintf(stderr, "%s: %s: started by insulad only\n", argv[0],
			error ? error : "--sandbox and --dir are needed");
		free(error);
		free(sandbox);
		free(dir);
		return -EINVAL;
	}
	log_init(argv[0], debug ? LOG_LVL_DEBUG : LOG_LVL_INFO);
	*ret = (struct super_args){ .sandbox = sandbox, .dir = dir, .listen_fd = 3 };
	return fd_set_cloexec(3, true);
}

void super_args_done(struct super_args *a)
{
	if (a->backend)
		a->backend->ops->free(a->backend);
	free(a->sandbox);
	free(a->dir);
	*a = (struct super_args){ .listen_fd = -EBADF };
}

static void super_done(struct super *s)
{
	list_for_each(t, &s->tasks, struct task, link)
		task_free(t);
	clients_drop(s);
	ports_free(s->ports);
	list_for_each(p, &s->peers, struct peer, link)
		peer_free(p);
	loop_source_free(s->accept);
	loop_source_free(s->deadline);
}

int super_run(struct loop *l, const struct super_args *a)
{
	struct super s = { .loop = l, .args = a, .backend = a->backend };
	int r;

	list_init(&s.tasks);
	list_init(&s.peers);
	list_init(&s.lingering);
	a->backend->events = &backend_events;
	a->backend->userdata = &s;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	r = fd_set_nonblock(a->listen_fd, true);
	if (r == 0)
		r = loop_add_signal(l, SIGTERM, on_term, &s, NULL);
	if (r == 0)
		r = loop_add_io(l, a->listen_fd, EPOLLIN, on_accept, &s, &s.accept);
	if (r < 0) {
		log_error("serve sandbox '%s': %s", a->sandbox, strerror(-r));
		return 1;
	}
	r = loop_run(l);
	super_done(&s);
	return r;
}
