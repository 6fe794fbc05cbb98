/* The daemon's side of a supervisor: started here, connected to, let go, and seen gone.
 *
 * A supervisor outlives the daemon, so it need not be our child: one that was adopted is held by a pidfd that
 * is opened while the connection proves that it lives. It is gone when its connection is closed and, if it is
 * our child, when it has been reaped. Between "its container has ended" and "gone" it is the container's
 * zombie: its socket, directory and interface may still be there, so a new start waits for it. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sock.h"
#include "base/strv.h"
#include "engine/network.h"
#include "engine/paths.h"
#include "engine/worker.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#define ZOMBIE_US (10u * 1000000)	/* then it is killed */

struct sup {
	struct container *c;		/* referenced */
	struct conn *conn;		/* NULL once closed */
	struct proc proc;
	struct loop_source *child;	/* our child, not reaped yet */
	struct loop_source *timer;
	char *dir;
	bool greeted, zombie;
	bool killed;			/* so its control groups are left to us */
	void (*hello)(void *ud, int r);	/* of an adoption */
	void *hello_ud;
	void (*gone)(void *ud);		/* of sup_wait_gone */
	void *gone_ud;
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

static void sup_free(struct sup *s)
{
	if (s->zombie)
		s->c->engine->containers->zombies--;
	conn_free(s->conn);
	loop_source_free(s->child);
	loop_source_free(s->timer);
	proc_done(&s->proc);
	free(s->dir);
	container_unref(s->c);
	free(s);
}

void sup_disconnect(struct sup *s)
{
	if (s->c->sup == s)
		s->c->sup = NULL;
	if (s->c->zombie == s)
		s->c->zombie = NULL;
	sup_free(s);
}

void sup_kill(struct sup *s)
{
	s->killed = true;
	if (s->proc.pidfd >= 0)
		(void)proc_kill(&s->proc, SIGKILL);
}

/* Once both the connection and the process have ended. */
static void maybe_gone(struct sup *s)
{
	struct container *c = s->c;
	void (*gone)(void *) = s->gone;
	void *ud = s->gone_ud;

	if (s->conn || s->child)
		return;
	if (c->sup == s) {
		/* not released: it died with its container */
		container_ref(c);
		c->sup = NULL;
		container_sup_lost(c, s->dir);
		container_unref(c);
	}
	if (c->zombie == s)
		c->zombie = NULL;
	if (s->killed)
		cgroup_reap(c->engine, c->id);
	sandbox_dir_remove(s->dir);
	/* not before: the interface that has it is gone only now */
	endpoints_release(c->engine, c->id, NULL);
	sup_free(s);
	if (gone)
		gone(ud);
}

/* ---- the connection ---- */

static void on_task_state(struct sup *s, const struct frame *f)
{
	struct msg_task_state m;

	if (msg_task_state_decode(f->payload, f->len, &m) < 0)
		return;
	if (!streq(m.ctr, s->c->id))
		log_warn("supervisor of %s speaks of another container", s->c->id);
	else if (*m.exec)
		exec_task_state(s->c, &m);
	else if (s->c->sup == s)
		container_task_state(s->c, &m);
	msg_task_state_done(&m);
}

static void on_detached(struct sup *s, const struct frame *f)
{
	struct msg_detached m;

	if (msg_detached_decode(f->payload, f->len, &m) < 0)
		return;
	if (*m.exec)
		exec_detached(s->c, m.exec);
	else
		container_event(s->c, "detach", NULL);
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
	void (*fn)(void *, int) = s->hello;

	s->hello = NULL;
	if (fn)
		fn(s->hello_ud, r);
}

static void on_close(struct conn *conn, int r, void *ud)
{
	struct sup *s = ud;

	log_debug("supervisor of %s: connection closed (%d)", s->c->id, r);
	conn_free(TAKE_PTR(s->conn));
	hello_over(s, -ECONNRESET);
	/* one that closed the connection but does not end serves nobody */
	if (!s->timer)
		sup_kill(s);
	maybe_gone(s);
}

static const struct conn_ops ops = {on_frame, on_close};

/* It is of another version, whose messages would be misread. One that was started here is of no use; a
 * container that runs is left alone. */
static void on_foreign(struct sup *s, const char *why)
{
	log_error("supervisor of container %s: %s", s->c->id, why);
	s->c->engine->containers->foreign = s->c;
	if (s->child)
		sup_kill(s);
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
		log_warn("supervisor of %s: %s", s->c->id,
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
	struct msg_hello hello = {.version = PROTO_VERSION, .sandbox = s->c->id, .kind = (char *)"insulad",
				  .pid = (uint32_t)getpid()};
	int fd = sock_connect_unix(path), r;

	if (fd < 0)
		return fd;
	r = conn_new(s->c->engine->loop, fd, true, &ops, s, &s->conn);
	if (r >= 0)
		CONN_REQUEST(s->conn, HELLO, hello, &hello, -1, on_hello, s);
	return r;
}

static struct sup *sup_new(struct container *c)
{
	struct sup *s = new0(struct sup);

	s->c = container_ref(c);
	s->proc = (struct proc)PROC_INIT;
	s->dir = sandbox_dir(c->engine, c->id);
	return s;
}

int sup_adopt(struct container *c, void (*hello)(void *ud, int r), void *ud, struct sup **ret)
{
	struct sup *s = sup_new(c);
	int r;

	s->hello = hello;
	s->hello_ud = ud;
	r = sup_connect(s);
	if (r < 0) {
		sup_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* ---- starting one ---- */

static void on_child(struct loop_source *src, const siginfo_t *si, void *ud)
{
	struct sup *s = ud;

	log_debug("supervisor of %s ended: %d", s->c->id, proc_exit_code(si->si_code, si->si_status));
	loop_source_free(TAKE_PTR(s->child));
	maybe_gone(s);
}

static int spawn(struct sup *s, struct err *err)
{
	struct engine *e = s->c->engine;
	const char *name = s->c->isolation == ISOLATION_HYPERV ? "vmwp" : "insula-shim";
	_cleanup_free_ char *path = engine_program(e, name), *sock = path_join(s->dir, "sup.sock"),
		       *log_path = path_join(s->dir, "log");
	_cleanup_close_ int listen_fd = -EBADF, log_fd = -EBADF;
	char *argv[] = {(char *)name,  (char *)"--sandbox", s->c->id, (char *)"--dir",
			s->dir,	      (char *)"--name",	   s->c->name, NULL,		 NULL};
	static char *const envp[] = {
	    (char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	int r;

	if (!path)
		return err_msg(err, ERR_SYSTEM, -ENOENT,
			       "%s isolation needs the program '%s', which is not in '%s'",
			       isolation_name(s->c->isolation), name, e->cfg.libexec);
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
		r = loop_add_child(e->loop, s->proc.pidfd, on_child, s, &s->child);
	if (r >= 0)
		r = sup_connect(s);
	return r < 0 ? err_set(err, ERR_SYSTEM, r, "start '%s'", path) : 0;
}

int sup_spawn(struct container *c, struct sup **ret, struct err *err)
{
	struct sup *s = sup_new(c);
	int r;

	sandbox_dir_remove(s->dir);
	r = fs_mkdir_p(s->dir, 0700);
	if (r < 0)
		err_set(err, ERR_SYSTEM, r, "create '%s'", s->dir);
	else
		r = spawn(s, err);
	if (r < 0) {
		if (s->proc.pidfd >= 0) {
			(void)proc_kill(&s->proc, SIGKILL);
			(void)proc_wait(&s->proc, &(int){0});
		}
		sandbox_dir_remove(s->dir);
		sup_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* ---- letting go ---- */

static void zombie_timeout(struct loop_source *src, void *ud)
{
	struct sup *s = ud;

	log_warn("supervisor of %s does not end: killed", s->c->id);
	sup_kill(s);
	if (s->child)
		return;
	/* an adopted one whose pid we never learned: the connection is all there is */
	if (s->proc.pidfd < 0 && s->conn) {
		conn_free(TAKE_PTR(s->conn));
		maybe_gone(s);
	}
}

static void on_released(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct sup *s = ud;

	if (r < 0 && r != -ECONNRESET)
		log_warn("release %s: %s", s->c->id, err_text(e));
}

static void on_shutdown_reply(void *ud, int r, const struct err *e, const void *p, size_t n)
{
}

static void make_zombie(struct sup *s)
{
	s->c->sup = NULL;
	s->c->zombie = s;
	s->zombie = true;
	s->c->engine->containers->zombies++;
	(void)loop_add_timer(s->c->engine->loop, ZOMBIE_US, 0, zombie_timeout, s, &s->timer);
}

void sup_release(struct container *c)
{
	struct msg_delete m = {.sandbox = c->id, .ctr = c->id, .exec = (char *)""};
	struct sup *s = c->sup;

	mounts_drop(c);
	if (!s)
		return;
	make_zombie(s);
	if (s->conn)
		CONN_REQUEST(s->conn, DELETE, delete, &m, -1, on_released, s);
}

void sup_abort(struct container *c, void (*gone)(void *ud), void *ud)
{
	struct msg_shutdown m = {.sandbox = c->id};
	struct sup *s = c->sup;

	if (!s) {
		sup_wait_gone(c, gone, ud);
		return;
	}
	make_zombie(s);
	s->gone = gone;
	s->gone_ud = ud;
	if (!s->greeted)
		sup_kill(s);
	if (s->conn)
		CONN_REQUEST(s->conn, SHUTDOWN, shutdown, &m, -1, on_shutdown_reply, s);
	else
		maybe_gone(s);
}

void sup_wait_gone(struct container *c, void (*fn)(void *ud), void *ud)
{
	if (!c->zombie) {
		fn(ud);
		return;
	}
	c->zombie->gone = fn;
	c->zombie->gone_ud = ud;
}

/* ---- leftovers of one that was killed ---- */

#define REAP_DEPTH 16

/* Every process of the group and of those below is killed, then the groups go, the innermost first. */
static int reap_tree(const char *dir, unsigned depth)
{
	_cleanup_free_ char *procs = path_join(dir, "cgroup.procs"), *text = NULL;
	_cleanup_strv_ char **pids = NULL;
	DIR *d = opendir(dir);
	struct dirent *de;

	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while (depth < REAP_DEPTH && (de = readdir(d)))
		if (de->d_type == DT_DIR && de->d_name[0] != '.') {
			_cleanup_free_ char *sub = path_join(dir, de->d_name);

			(void)reap_tree(sub, depth + 1);
		}
	closedir(d);
	if (fs_read(AT_FDCWD, procs, 1 << 20, &text, NULL) >= 0)
		pids = strv_split(text, "\n");
	for (char **p = pids; p && *p; p++) {
		_cleanup_proc_ struct proc proc = PROC_INIT;
		uint64_t pid;

		if (str_to_u64(*p, &pid) == 0 && pid > 1 && proc_open((pid_t)pid, &proc) == 0)
			(void)proc_kill(&proc, SIGKILL);
	}
	for (unsigned i = 0; i < 200; i++) {
		if (rmdir(dir) == 0 || errno == ENOENT)
			return 0;
		usleep(10000);
	}
	return -EBUSY;
}

/* The groups of the container ID and of its machine, wherever they are: --cgroup-parent may be anything. */
static void reap_named(const char *dir, const char *id, unsigned depth)
{
	DIR *d = depth < REAP_DEPTH ? opendir(dir) : NULL;
	struct dirent *de;

	while (d && (de = readdir(d))) {
		_cleanup_free_ char *sub = NULL;
		const char *suffix = str_starts(de->d_name, id) ? de->d_name + strlen(id) : NULL;

		if (de->d_type != DT_DIR || de->d_name[0] == '.')
			continue;
		sub = path_join(dir, de->d_name);
		if (suffix && (!*suffix || streq(suffix, "-vm")))
			(void)reap_tree(sub, 0);
		else
			reap_named(sub, id, depth + 1);
	}
	if (d)
		closedir(d);
}

static int reap_worker(void *arg, struct sbuf *out, struct err *err)
{
	reap_named("/sys/fs/cgroup", arg, 0);
	return 0;
}

static void reap_done(void *ud, int r, const struct err *e, const struct sbuf *out)
{
	free(ud);
}

void cgroup_reap(struct engine *e, const char *id)
{
	char *copy = xstrdup(id);

	if (worker_run(e->loop, reap_worker, copy, reap_done, copy) < 0)
		free(copy);
}
