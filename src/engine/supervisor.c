/* The daemon's side of a supervisor: started here, connected to, let go, and seen gone.
 *
 * A supervisor serves one sandbox. Its members are the containers that run in it or are about to; most often
 * that is the one it was made for, whose id it has. Others join it (--network container:ID), and it lives
 * until the last member has left, whichever that is; a container whose sandbox lives on starts in it again.
 *
 * A supervisor outlives the daemon, so it need not be our child: one that was adopted is held by a pidfd that
 * is opened while the connection proves that it lives. It is gone when its connection is closed and its
 * process has ended: in between it clears away what it had, under names that the next one has as well.
 *
 * A container that has ended leaves: it is forgotten by the supervisor, or, as the last one, waits for the
 * end of it. Until then the sandbox is the container's zombie: mounts, socket, directory and interface may
 * still be there, so a new start waits for it. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sock.h"
#include "base/strv.h"
#include "engine/network.h"
#include "engine/paths.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#define ZOMBIE_US (60u * 1000000)	/* for its disks to be written; then it is killed */

struct sup {
	struct engine *engine;
	char *id, *dir;			/* of the sandbox */
	enum isolation isolation;
	struct conn *conn;		/* NULL once closed */
	struct proc proc;
	struct loop_source *end;	/* of our child, or of one that has closed the connection: awaited */
	struct loop_source *timer;
	struct list members;		/* containers: c->sup, by sup_link, referenced */
	struct list leaving;		/* containers: c->zombie, likewise */
	bool greeted, zombie;		/* zombie: nobody can join any more */
	bool killed;			/* so its control groups are left to us */
	void (*hello)(void *ud, int r);	/* of an adoption */
	void *hello_ud;
};

pid_t sup_pid(const struct container *c)
{
	return c->sup ? c->sup->proc.pid : 0;
}

char *sandbox_dir(const struct engine *e, const char *id)
{
	return xasprintf("%s/sandboxes/%s", e->cfg.exec_root, id);
}

void sandbox_dir_remove(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *de;

	while (d && (de = readdir(d)))
		if (!streq(de->d_name, ".") && !streq(de->d_name, ".."))
			(void)fs_rm_rf(dirfd(d), de->d_name);
	if (d)
		closedir(d);
	if (rmdir(dir) < 0 && errno != ENOENT)
		log_warn("remove '%s': %s", dir, strerror(errno));
}

struct conn *ctr_conn(const struct container *c)
{
	return c->sup ? c->sup->conn : NULL;
}

static struct sup *sup_find(const struct engine *e, const char *sandbox)
{
	return hmap_get(&e->containers->sups, sandbox);
}

bool sandbox_lives(const struct engine *e, const char *sandbox)
{
	return sup_find(e, sandbox);
}

bool sandbox_occupied(const struct engine *e, const char *sandbox)
{
	const struct sup *s = sup_find(e, sandbox);

	return s && !s->zombie;
}

struct conn *sandbox_conn(const struct engine *e, const char *sandbox)
{
	const struct sup *s = sup_find(e, sandbox);

	if (s)
		list_for_each(c, &s->members, struct container, sup_link)
			if (c->status == CTR_RUNNING)
				return s->conn;
	return NULL;
}

/* ---- members ---- */

static void enter(struct sup *s, struct container *c)
{
	c->sup = s;
	str_replace(&c->sandbox, s->id);
	list_append(&s->members, &container_ref(c)->sup_link);
}

/* From a member to one who leaves. */
static void depart(struct container *c)
{
	list_remove(&c->sup_link);
	c->zombie = TAKE_PTR(c->sup);
	list_append(&c->zombie->leaving, &c->sup_link);
}

/* Nothing of it is left in the sandbox. */
static void settle(struct container *c)
{
	void (*fn)(void *) = TAKE_PTR(c->settled);

	list_remove(&c->sup_link);
	c->zombie = NULL;
	if (fn)
		fn(c->settled_ud);
	container_unref(c);
}

bool sup_join(struct container *c, const char *sandbox)
{
	struct sup *s = sup_find(c->engine, sandbox);

	if (!s || s->zombie || !s->conn)
		return false;
	enter(s, c);
	return true;
}

/* ---- its end ---- */

static void sup_free(struct sup *s)
{
	struct containers *t = s->engine->containers;

	if (s->zombie)
		t->zombies--;
	if (hmap_get(&t->sups, s->id) == s)
		(void)hmap_remove(&t->sups, s->id);
	conn_free(s->conn);
	loop_source_free(s->end);
	loop_source_free(s->timer);
	proc_done(&s->proc);
	free(s->dir);
	free(s->id);
	free(s);
}

void sups_close(struct engine *e)
{
	struct hmap *sups = &e->containers->sups;
	struct hmap_iter it = {0};

	while (hmap_next(sups, &it)) {
		struct sup *s = it.entry->value;

		list_for_each(c, &s->members, struct container, sup_link) {
			c->sup = NULL;
			container_unref(c);
		}
		list_for_each(c, &s->leaving, struct container, sup_link) {
			c->zombie = NULL;
			container_unref(c);
		}
		sup_free(s);
	}
	hmap_done(sups);
}

static void kill_it(struct sup *s)
{
	s->killed = true;
	if (s->proc.pidfd >= 0)
		(void)proc_kill(&s->proc, SIGKILL);
}

void sup_kill(struct container *c)
{
	if (c->sup)
		kill_it(c->sup);
}

static void over(void *ud)
{
	struct sup *s = ud;

	(void)hmap_remove(&s->engine->containers->sups, s->id);
	sandbox_dir_remove(s->dir);
	/* not before: the interface that has it is gone only now */
	endpoints_release(s->engine, s->id, NULL);
	for (struct container *c; (c = list_first(&s->leaving, struct container, sup_link));)
		settle(c);
	sup_free(s);
}

static void make_zombie(struct sup *s);

/* Whose control groups it has left behind: those of all who were in it, and of its machine. */
static char **left_behind(const struct sup *s)
{
	char **ids = NULL;

	list_for_each(c, &s->leaving, struct container, sup_link)
		strv_add(&ids, c->id);
	if (!strv_has(ids, s->id))
		strv_add(&ids, s->id);
	return ids;
}

/* Once both the connection and the process have ended. Those who did not leave died with it; what they leave
 * behind, a machine perhaps that has not noticed yet, goes before they can start again. */
static void maybe_gone(struct sup *s)
{
	_cleanup_strv_ char **ids = NULL;
	bool lost = s->killed;

	if (s->conn || s->end)
		return;
	for (struct container *c; (c = list_first(&s->members, struct container, sup_link));) {
		depart(c);
		lost |= container_sup_lost(c, s->dir);
	}
	if (!lost) {
		over(s);
		return;
	}
	if (!s->zombie)
		make_zombie(s);
	ids = left_behind(s);
	cgroup_reap(s->engine, ids, over, s);
}

/* ---- the connection ---- */

static void ignored(void *ud, int r, const struct err *e, const void *p, size_t n)
{
}

/* A task that is no member: the daemon died while it was being made, or let go. */
static void end_stray_task(struct sup *s, const struct msg_task_state *m)
{
	struct msg_kill k = {.sandbox = s->id, .ctr = m->ctr, .exec = (char *)"", .signo = SIGKILL,
			     .all = true};
	struct msg_delete d = {.sandbox = s->id, .ctr = m->ctr, .exec = (char *)""};

	if (m->state == TASK_RUNNING)
		CONN_REQUEST(s->conn, KILL, kill, &k, -1, ignored, NULL);
	else
		CONN_REQUEST(s->conn, DELETE, delete, &d, -1, ignored, NULL);
}

static void on_task_state(struct sup *s, const struct frame *f)
{
	struct msg_task_state m;
	struct container *c;

	if (msg_task_state_decode(f->payload, f->len, &m) < 0)
		return;
	c = hmap_get(&s->engine->containers->by_id, m.ctr);
	if (c && *m.exec && (c->sup == s || c->zombie == s))
		exec_task_state(c, &m);
	else if (c && !*m.exec && c->sup == s)
		container_task_state(c, &m);
	else if (!*m.exec && !s->zombie && (!c || c->zombie != s))
		end_stray_task(s, &m);
	msg_task_state_done(&m);
}

static void on_detached(struct sup *s, const struct frame *f)
{
	struct msg_detached m;
	struct container *c;

	if (msg_detached_decode(f->payload, f->len, &m) < 0)
		return;
	c = hmap_get(&s->engine->containers->by_id, m.ctr);
	if (c && *m.exec)
		exec_detached(c, m.exec);
	else if (c)
		container_event(c, "detach", NULL);
	msg_detached_done(&m);
}

static void on_frame(struct conn *conn, const struct frame *f, int *fds, size_t n_fds, void *ud)
{
	struct sup *s = ud;

	if (f->type == MSG_TASK_STATE)
		on_task_state(s, f);
	else if (f->type == MSG_DETACHED)
		on_detached(s, f);
}

static void hello_over(struct sup *s, int r)
{
	void (*fn)(void *, int) = TAKE_PTR(s->hello);

	if (fn)
		fn(s->hello_ud, r);
}

static void on_end(struct loop_source *src, int fd, uint32_t events, void *ud)
{
	struct sup *s = ud;

	log_debug("supervisor of %s, which was adopted, ended", s->id);
	loop_source_free(TAKE_PTR(s->end));
	maybe_gone(s);
}

static void on_close(struct conn *conn, int r, void *ud)
{
	struct sup *s = ud;

	log_debug("supervisor of %s: connection closed (%d)", s->id, r);
	conn_free(TAKE_PTR(s->conn));
	if (!s->end && s->proc.pidfd >= 0)
		(void)loop_add_io(s->engine->loop, s->proc.pidfd, EPOLLIN, on_end, s, &s->end);
	hello_over(s, -ECONNRESET);
	/* one that closed the connection but does not end serves nobody */
	if (!s->timer)
		kill_it(s);
	maybe_gone(s);
}

static const struct conn_ops ops = {on_frame, on_close};

/* It is of another version, whose messages would be misread. One that was started here is of no use; a
 * container that runs is left alone. */
static void on_foreign(struct sup *s, const char *why)
{
	log_error("supervisor of container %s: %s", s->id, why);
	s->engine->containers->foreign = list_first(&s->members, struct container, sup_link);
	if (s->end)
		kill_it(s);
	hello_over(s, -EPROTONOSUPPORT);
}

static void on_hello(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct sup *s = ud;
	struct msg_hello m;

	if (r >= 0)
		r = msg_hello_decode(p, n, &m);
	if (r == -EPROTONOSUPPORT) {
		on_foreign(s, err_text(e));
		return;
	}
	if (r < 0) {
		log_warn("supervisor of %s: %s", s->id,
			 r == -ECONNRESET ? "it ended before it said hello" : strerror(-r));
		return;		/* on_close follows, or the start times out */
	}
	if (s->proc.pidfd < 0 && m.pid > 1)
		(void)proc_open((pid_t)m.pid, &s->proc);
	s->greeted = true;
	msg_hello_done(&m);
	hello_over(s, 0);
}

static int sup_connect(struct sup *s)
{
	_cleanup_free_ char *path = path_join(s->dir, "sup.sock");
	struct msg_hello hello = {.version = PROTO_VERSION, .sandbox = s->id, .kind = (char *)"insulad",
				  .pid = (uint32_t)getpid()};
	int fd = sock_connect_unix(path), r;

	if (fd < 0)
		return fd;
	r = conn_new(s->engine->loop, fd, true, &ops, s, &s->conn);
	if (r >= 0)
		CONN_REQUEST(s->conn, HELLO, hello, &hello, -1, on_hello, s);
	return r;
}

static struct sup *sup_new(struct container *c, const char *sandbox)
{
	struct sup *s = new0(struct sup);

	*s = (struct sup){.engine = c->engine, .id = xstrdup(sandbox), .isolation = c->isolation,
			  .dir = sandbox_dir(c->engine, sandbox), .proc = PROC_INIT};
	list_init(&s->members);
	list_init(&s->leaving);
	return s;
}

/* From now on it is found. */
static void sup_enlist(struct sup *s, struct container *c)
{
	hmap_set(&s->engine->containers->sups, s->id, s);
	enter(s, c);
}

int sup_adopt(struct container *c, void (*hello)(void *ud, int r), void *ud)
{
	struct sup *s;
	int r;

	if (sup_join(c, c->sandbox))
		return 0;
	s = sup_new(c, c->sandbox);
	s->hello = hello;
	s->hello_ud = ud;
	r = sup_connect(s);
	if (r < 0) {
		sup_free(s);
		return r;
	}
	sup_enlist(s, c);
	return 1;
}

/* ---- starting one ---- */

static void on_child(struct loop_source *src, const siginfo_t *si, void *ud)
{
	struct sup *s = ud;

	log_debug("supervisor of %s ended: %d", s->id, proc_exit_code(si->si_code, si->si_status));
	loop_source_free(TAKE_PTR(s->end));
	maybe_gone(s);
}

static int spawn(struct sup *s, const char *ctr_name, struct err *err)
{
	struct engine *e = s->engine;
	const char *name = s->isolation == ISOLATION_HYPERV ? "vmwp" : "insula-shim";
	_cleanup_free_ char *path = engine_program(e, name), *sock = path_join(s->dir, "sup.sock"),
		       *log_path = path_join(s->dir, "log");
	_cleanup_close_ int listen_fd = -EBADF, log_fd = -EBADF;
	char *argv[] = {(char *)name,  (char *)"--sandbox", s->id, (char *)"--dir",
			s->dir,	      (char *)"--name",	   (char *)ctr_name, NULL,		 NULL};
	static char *const envp[] = {
	    (char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	int r;

	if (!path)
		return err_msg(err, ERR_SYSTEM, -ENOENT,
			       "%s isolation needs the program '%s', which is not in '%s'",
			       isolation_name(s->isolation), name, e->cfg.libexec);
	if (log_get_level() >= LOG_LVL_DEBUG)
		argv[7] = (char *)"--debug";
	listen_fd = sock_listen_unix(sock, 0600);
	log_fd = listen_fd < 0 ? -EBADF : open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (listen_fd < 0 || log_fd < 0)
		return err_set(err, ERR_SYSTEM, listen_fd < 0 ? listen_fd : -errno, "create '%s'", sock);
	const struct fd_map fds[] = {{listen_fd, 3}, {log_fd, 2}};
	const struct spawn_args a = {
	    .path = path, .argv = argv, .envp = envp, .fds = fds, .n_fds = 2, .new_session = true,
	    .home = &e->home};

	r = proc_spawn(&a, &s->proc);
	if (r >= 0)
		r = loop_add_child(e->loop, s->proc.pidfd, on_child, s, &s->end);
	if (r >= 0)
		r = sup_connect(s);
	return r < 0 ? err_set(err, ERR_SYSTEM, r, "start '%s'", path) : 0;
}

int sup_spawn(struct container *c, struct err *err)
{
	struct sup *s = sup_new(c, c->id);
	int r;

	sandbox_dir_remove(s->dir);
	r = fs_mkdir_p(s->dir, 0700);
	if (r < 0)
		err_set(err, ERR_SYSTEM, r, "create '%s'", s->dir);
	else
		r = spawn(s, c->name, err);
	if (r < 0) {
		if (s->proc.pidfd >= 0) {
			(void)proc_kill(&s->proc, SIGKILL);
			(void)proc_wait(&s->proc, &(int){0});
		}
		sandbox_dir_remove(s->dir);
		sup_free(s);
		return r;
	}
	sup_enlist(s, c);
	return 0;
}

/* ---- letting go ---- */

static void zombie_timeout(struct loop_source *src, void *ud)
{
	struct sup *s = ud;

	log_warn("supervisor of %s does not end: killed", s->id);
	kill_it(s);
	if (s->end)
		return;
	/* an adopted one whose pid we never learned: the connection is all there is */
	if (s->proc.pidfd < 0 && s->conn) {
		conn_free(TAKE_PTR(s->conn));
		maybe_gone(s);
	}
}

/* The last one has left, or was not let in. The container that it was made for may have left long before:
 * if it is to start again, it has to wait as well. */
static void make_zombie(struct sup *s)
{
	struct container *owner = hmap_get(&s->engine->containers->by_id, s->id);

	s->zombie = true;
	s->engine->containers->zombies++;
	(void)loop_add_timer(s->engine->loop, ZOMBIE_US, 0, zombie_timeout, s, &s->timer);
	if (owner && !owner->sup && !owner->zombie) {
		owner->zombie = s;
		list_append(&s->leaving, &container_ref(owner)->sup_link);
	}
}

static void shut_down(struct sup *s)
{
	struct msg_shutdown m = {.sandbox = s->id};

	if (!s->zombie)
		make_zombie(s);
	if (!s->greeted)
		kill_it(s);
	if (s->conn)
		CONN_REQUEST(s->conn, SHUTDOWN, shutdown, &m, -1, ignored, NULL);
	else
		maybe_gone(s);
}

static void left(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct container *c = ud;
	struct sup *s = c->zombie;

	if (r < 0 && r != -ECONNRESET)
		log_debug("release %s: %s", c->id, err_text(e));
	if (s && r != -ECONNRESET) {
		if (!s->zombie)
			settle(c);
		/* a supervisor that did not know it has not noticed that it was the last one */
		if (list_empty(&s->members) && (list_empty(&s->leaving) || (s->zombie && r < 0)))
			shut_down(s);
	}
	container_unref(c);
}

static void leave(struct container *c)
{
	struct sup *s = c->sup;
	struct msg_delete m = {.sandbox = s->id, .ctr = c->id, .exec = (char *)"",
			       .discard = c->status == CTR_REMOVING};

	depart(c);
	if (list_empty(&s->members))
		make_zombie(s);
	if (s->conn)
		CONN_REQUEST(s->conn, DELETE, delete, &m, -1, left, container_ref(c));
}

void sup_release(struct container *c)
{
	mounts_drop(c);
	if (c->sup)
		leave(c);
}

void sup_abort(struct container *c, void (*gone)(void *ud), void *ud)
{
	struct sup *s = c->sup;

	if (!s) {
		sup_wait_gone(c, gone, ud);
		return;
	}
	c->settled = gone;
	c->settled_ud = ud;
	if (list_single(&s->members) && list_empty(&s->leaving)) {
		depart(c);
		shut_down(s);
	} else {
		leave(c);
	}
}

void sup_wait_gone(struct container *c, void (*fn)(void *ud), void *ud)
{
	if (!c->zombie) {
		fn(ud);
		return;
	}
	c->settled = fn;
	c->settled_ud = ud;
}
