/* Tasks of this kernel: the runtime library makes the processes, this file holds their ends.
 *
 * A container's init is made at CREATE and waits; START lets it go. An exec is only noted at CREATE and
 * made at START, since joining a container takes a process of its own. Each is a child of this
 * process, held by pidfd. */
#include "task/local_task.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"
#include "base/tty.h"
#include "oci/runtime_spec.h"
#include "task/user.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#define TRIM_US 10000000	/* how long after an exec its memory stays */

static struct local *local_of(struct backend *b)
{
	return container_of(b, struct local, b);
}

struct ltask *ltask_find(struct local *l, const char *ctr, const char *exec)
{
	list_for_each(t, &l->tasks, struct ltask, link)
		if (streq(t->ctr, ctr) && streq(t->exec, exec))
			return t;
	return NULL;
}

static struct ltask *ltask_new(struct local *l, const struct msg_create *m)
{
	struct ltask *t = new0(struct ltask);

	*t = (struct ltask){
		.local = l,
		.ctr = xstrdup(m->ctr),
		.exec = xstrdup(m->exec),
		.flags = m->flags,
		.rows = m->rows,
		.cols = m->cols,
		.proc = PROC_INIT,
		.fd = {-EBADF, -EBADF, -EBADF},
		.child_fd = {-EBADF, -EBADF, -EBADF},
	};
	list_append(&l->tasks, &t->link);
	return t;
}

static void ltask_free(struct ltask *t)
{
	list_remove(&t->link);
	loop_source_free(t->child);
	if (t->proc.pidfd >= 0 && !t->exited) {
		/* An init that never started, an exec whose container is gone: no zombie stays. */
		(void)proc_kill(&t->proc, SIGKILL);
		(void)proc_wait(&t->proc, NULL);
	}
	stdio_close(t);
	proc_done(&t->proc);
	oci_process_free(t->process);
	rt_free(t->rt);
	free(t->ctr);
	free(t->exec);
	free(t->bundle);
	free(t);
}

/* --- users --- */

static void set_home(struct oci_process *p, const char *home)
{
	if (!strv_env_get(p->env, "HOME")) {
		_cleanup_free_ char *kv = xasprintf("HOME=%s", home);

		strv_env_set(&p->env, kv);
	}
}

/* Names become numbers inside the root, and HOME follows, as Docker does it. */
static int resolve_user(int rootfd, struct oci_process *p, struct err *e)
{
	struct oci_gids *g = &p->user.additional_gids;
	struct user u;
	int r;

	if (!p->user.username)
		return 0;
	r = user_resolve(rootfd, p->user.username, &u, e);
	if (r < 0)
		return r;
	p->user.uid = u.uid;
	p->user.gid = u.gid;
	g->v = xrealloc(g->v, g->n + u.n_gids + strv_len(p->user.groups) + 2, sizeof *g->v);
	/* his own too, or a set-group-ID program loses what is denied to that group (CVE-2022-36109) */
	g->v[g->n++] = u.gid;
	for (size_t i = 0; i < u.n_gids; i++)
		g->v[g->n++] = u.gids[i];
	for (char **name = p->user.groups; r == 0 && name && *name; name++) {
		r = group_resolve(rootfd, *name, &g->v[g->n], e);
		g->n += r == 0;
	}
	set_home(p, u.home);
	user_done(&u);
	return r;
}

static int open_root(const char *bundle, struct err *e)
{
	_cleanup_free_ char *root = path_join(bundle, "rootfs");
	int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? err_set(e, ERR_SYSTEM, -errno, "open root file system '%s'", root) : fd;
}

/* --- exit --- */

static void on_exit_child(struct loop_source *s, const siginfo_t *si, void *ud)
{
	struct ltask *t = ud;
	struct backend *b = &t->local->b;
	bool init = !*t->exec, oom;

	loop_source_free(t->child);
	t->child = NULL;
	t->exited = true;
	oom = init && t->rt && rt_oom_killed(t->rt);
	/* Whoever still holds the pipes in the container's namespace has died with its init; what an
	 * unshared one left behind is killed with the cgroup. */
	if (init && t->rt) {
		_cleanup_err_ struct err e = ERR_INIT;

		if (rt_destroy(t->rt, &e) < 0)
			log_warn("clean up container '%s': %s", t->ctr, err_text(&e));
	}
	b->events->exited(b->userdata, t->ctr, t->exec, proc_exit_code(si->si_code, si->si_status),
			  now_real_ns(), oom, "");
}

/* --- create --- */

static int write_files(const char *bundle, char *const *files, struct err *e)
{
	_cleanup_close_ int dir = open(bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open '%s'", bundle);
	for (size_t i = 0; files && files[i] && files[i + 1]; i += 2) {
		int r = strchr(files[i], '/') ? -EINVAL
			: fs_write_atomic(dir, files[i], files[i + 1], strlen(files[i + 1]), 0644, false);

		if (r < 0)
			return err_set(e, ERR_SYSTEM, r, "write '%s/%s'", bundle, files[i]);
	}
	return 0;
}

static int make_container(struct ltask *t, const struct msg_create *m, const char *bundle, struct err *e)
{
	struct local *l = t->local;
	_cleanup_oci_spec_ struct oci_spec *spec = NULL;
	_cleanup_close_ int root = -EBADF;
	int console = -EBADF, r;

	r = oci_spec_parse((char *)m->spec.p, m->spec.n, &spec, e);
	if (r < 0)
		return r;
	root = open_root(bundle, e);
	if (root < 0)
		return root;
	if (spec->process) {
		r = resolve_user(root, spec->process, e);
		if (r < 0)
			return r;
	}
	if (!(t->flags & TASK_TTY)) {
		r = stdio_open_pipes(t);
		if (r < 0)
			return err_set(e, ERR_SYSTEM, r, "open pipes");
	}
	struct rt_create_args a = {
		.id = m->ctr, .bundle = bundle, .spec = spec,
		.stdio = { t->child_fd[0], t->child_fd[1], t->child_fd[2] },
		.filter = m->filter.p, .filter_len = m->filter.n,
		.net_ns_fd = l->hooks->net_ns_fd,
		/* The sandbox's, unless the configuration names another, or wants the host's. As Docker: a
		 * container that joins another's network has named kernel objects of its own. */
		.ipc_ns_fd = streq(m->ctr, m->sandbox) && spec->ns[OCI_NS_IPC].given &&
				     !spec->ns[OCI_NS_IPC].path
				 ? l->hooks->ipc_ns_fd
				 : -EBADF,
	};

	r = rt_create(&a, &t->rt, &t->proc, &console, e);
	stdio_close_child_ends(t);
	if (r < 0)
		return r;
	if (console >= 0)
		r = stdio_set_console(t, console);
	if (r == 0)
		r = stdio_watch(t);
	if (r == 0)
		r = loop_add_child(l->loop, t->proc.pidfd, on_exit_child, t, &t->child);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "watch container '%s'", t->ctr) : 0;
}

static int create_container(struct local *l, const struct msg_create *m, struct err *e)
{
	_cleanup_free_ char *bundle = l->hooks->bundle(l->userdata, m);
	struct ltask *t;
	int r = fs_mkdir_p(bundle, 0711);

	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "create '%s'", bundle);
	r = write_files(bundle, m->files, e);
	if (r == 0)
		r = l->hooks->rootfs_mount(l->userdata, m, e);
	if (r < 0)
		return r;
	t = ltask_new(l, m);
	t->bundle = TAKE_PTR(bundle);
	r = m->flags & TASK_FILES ? 0 : make_container(t, m, t->bundle, e);
	if (r < 0) {
		if (t->rt) {
			(void)rt_kill(t->rt, SIGKILL, true, NULL);
			(void)rt_destroy(t->rt, NULL);
		}
		ltask_free(t);
		(void)l->hooks->rootfs_umount(l->userdata, m->ctr, NULL);
	}
	return r;
}

static int create_exec(struct local *l, const struct msg_create *m, struct err *e)
{
	struct ltask *init = ltask_find(l, m->ctr, ""), *t;
	struct oci_process *p = NULL;
	int r;

	if (!init || init->exited || !init->rt)
		return err_msg(e, ERR_CONFLICT, -ESRCH, "container %s is not running", m->ctr);
	r = oci_process_parse((char *)m->spec.p, m->spec.n, &p, e);
	if (r < 0)
		return r;
	t = ltask_new(l, m);
	t->process = p;
	return 0;
}

static void op_create(struct backend *b, const struct msg_create *m, backend_done_fn done, void *ud)
{
	struct local *l = local_of(b);
	_cleanup_err_ struct err e = ERR_INIT;
	int r;

	if (ltask_find(l, m->ctr, m->exec))
		r = err_msg(&e, ERR_CONFLICT, -EEXIST, "create '%s': it exists", *m->exec ? m->exec : m->ctr);
	else
		r = *m->exec ? create_exec(l, m, &e) : create_container(l, m, &e);
	done(ud, r, &e, NULL, 0);
}

/* --- start --- */

static int start_exec(struct local *l, struct ltask *t, struct err *e)
{
	struct ltask *init = ltask_find(l, t->ctr, "");
	_cleanup_close_ int root = -EBADF;
	struct rt_exec_args a = { .process = t->process };
	int console = -EBADF, r;

	if (!init || init->exited)
		return err_msg(e, ERR_CONFLICT, -ESRCH, "container %s is not running", t->ctr);
	if (t->process->user.username) {
		/* The container's own view of its root: what it has mounted over /etc counts too. */
		_cleanup_free_ char *path = xasprintf("/proc/%d/root", init->proc.pid);

		root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (root < 0)
			return err_set(e, ERR_SYSTEM, -errno, "open the root of container '%s'", t->ctr);
		r = resolve_user(root, t->process, e);
		if (r < 0)
			return r;
	}
	if (!t->process->terminal) {
		r = stdio_open_pipes(t);
		if (r < 0)
			return err_set(e, ERR_SYSTEM, r, "open pipes");
	}
	memcpy(a.stdio, t->child_fd, sizeof a.stdio);
	r = rt_exec(init->rt, &a, &t->proc, &console, e);
	stdio_close_child_ends(t);
	if (r < 0) {
		stdio_close(t);
		return r;
	}
	if (console >= 0)
		r = stdio_set_console(t, console);
	if (r == 0)
		r = stdio_watch(t);
	if (r == 0)
		r = loop_add_child(l->loop, t->proc.pidfd, on_exit_child, t, &t->child);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "watch exec '%s'", t->exec);
	/* What was said of stdin before there was one. */
	if (t->in_closing)
		stdio_in_close(t);
	if (t->in_short) {
		t->in_short = false;
		l->b.events->stdin_ready(l->b.userdata, t->ctr, t->exec);
	}
	return 0;
}

static int no_task(const char *ctr, const char *exec, struct err *e)
{
	return err_msg(e, ERR_NOT_FOUND, 0, *exec ? "No such exec instance: %s" : "No such container: %s",
		       *exec ? exec : ctr);
}

extern char __executable_start[], etext[];	/* of the linker */

/* Making a container takes much more memory than holding it. The heap of the parsed configuration goes back,
 * and so do the mappings of our own code (never written to): what is used again comes back from the page
 * cache. */
static void give_back_memory(void)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)__executable_start & ~(page - 1);

	(void)malloc_trim(0);
	(void)madvise((void *)from, ((uintptr_t)etext - from) & ~(page - 1), MADV_DONTNEED);
}

static void on_trim(struct loop_source *s, void *ud)
{
	struct local *l = ud;

	loop_source_free(TAKE_PTR(l->trim));
	give_back_memory();
}

/* The next exec, be it a health check, needs the same again: what comes back too early costs more than it
 * saves. */
static void give_back_later(struct local *l)
{
	if (!l->trim)
		(void)loop_add_timer(l->loop, TRIM_US, 0, on_trim, l, &l->trim);
}

static void op_start(struct backend *b, const char *ctr, const char *exec, backend_done_fn done, void *ud)
{
	struct local *l = local_of(b);
	struct ltask *t = ltask_find(l, ctr, exec);
	_cleanup_err_ struct err e = ERR_INIT;
	uint32_t pid = 0;
	int r;

	if (!t)
		r = no_task(ctr, exec, &e);
	else if (t->flags & TASK_FILES)
		r = err_msg(&e, ERR_CONFLICT, -EBUSY, "start '%s': only its files are here", ctr);
	else
		r = *exec ? start_exec(l, t, &e) : rt_start(t->rt, &e);
	if (r == 0) {
		t->started = true;
		pid = htole32((uint32_t)t->proc.pid);
	}
	done(ud, r, &e, &pid, r == 0 ? sizeof pid : 0);
	if (*exec)
		give_back_later(l);
	else
		give_back_memory();
}

/* --- the rest --- */

static void op_network(struct backend *b, const struct msg_network *m, int tap, backend_done_fn done,
		       void *ud)
{
	struct local *l = container_of(b, struct local, b);
	_cleanup_err_ struct err e = ERR_INIT;
	int r = l->hooks->network ? l->hooks->network(l->userdata, m, &e)
				  : err_msg(&e, ERR_NOT_IMPLEMENTED, 0, "interfaces do not change here");

	done(ud, r, &e, NULL, 0);
}

static void op_sandbox(struct backend *b, const struct msg_sandbox *m, int template, backend_done_fn done,
		       void *ud)
{
	struct local *l = local_of(b);
	_cleanup_err_ struct err e = ERR_INIT;
	int r = l->hooks->sandbox ? l->hooks->sandbox(l->userdata, m, &e) : 0;

	done(ud, r, &e, NULL, 0);
}

static void op_kill(struct backend *b, const char *ctr, const char *exec, int signo, bool all,
		    backend_done_fn done, void *ud)
{
	struct ltask *t = ltask_find(local_of(b), ctr, exec);
	_cleanup_err_ struct err e = ERR_INIT;
	int r;

	if (!t)
		r = no_task(ctr, exec, &e);
	else if (t->exited || (!*exec && !t->rt))
		r = err_msg(&e, ERR_CONFLICT, -ESRCH, "container %s is not running", ctr);
	else
		r = *exec ? proc_kill(&t->proc, signo) : rt_kill(t->rt, signo, all, &e);
	done(ud, r, e.kind ? &e : NULL, NULL, 0);
}

static void op_resize(struct backend *b, const char *ctr, const char *exec, unsigned rows, unsigned cols,
		      backend_done_fn done, void *ud)
{
	struct ltask *t = ltask_find(local_of(b), ctr, exec);
	_cleanup_err_ struct err e = ERR_INIT;
	int r;

	if (!t)
		r = no_task(ctr, exec, &e);
	else if (!(t->flags & TASK_TTY) || t->fd[1] < 0)
		r = err_msg(&e, ERR_CONFLICT, -ENOTTY, "resize: the task has no terminal yet");
	else
		r = tty_set_size(t->fd[1], rows, cols);
	done(ud, r, e.kind ? &e : NULL, NULL, 0);
}

static void op_ps(struct backend *b, const char *ctr, backend_done_fn done, void *ud)
{
	struct ltask *t = ltask_find(local_of(b), ctr, "");
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_free_ pid_t *pids = NULL;
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT;
	struct msg_ps_table table = { NULL };
	size_t n = 0;
	int r;

	if (!t || t->exited || !t->rt)
		r = err_msg(&e, ERR_CONFLICT, -ESRCH, "container %s is not running", ctr);
	else
		r = rt_pids(t->rt, &pids, &n, &e);
	if (r == 0) {
		table.cells = ps_rows(pids, n);
		msg_ps_table_encode(&table, &out);
		strv_free(table.cells);
	}
	done(ud, r, &e, out.buf, r == 0 ? out.len : 0);
}

/* Deletes a container with its execs. */
static int del_container(struct local *l, struct ltask *init, struct err *e)
{
	_cleanup_free_ char *ctr = xstrdup(init->ctr);

	if (!init->exited && init->rt) {
		/* It was never started: its init still waits. */
		(void)rt_kill(init->rt, SIGKILL, true, NULL);
		(void)proc_wait(&init->proc, NULL);
		init->exited = true;
		(void)rt_destroy(init->rt, NULL);
	}
	list_for_each(t, &l->tasks, struct ltask, link)
		if (streq(t->ctr, ctr))
			ltask_free(t);
	return l->hooks->rootfs_umount(l->userdata, ctr, e);
}

static void op_del(struct backend *b, const char *ctr, const char *exec, bool discard, backend_done_fn done,
		   void *ud)
{
	struct local *l = local_of(b);
	struct ltask *t = ltask_find(l, ctr, exec);
	_cleanup_err_ struct err e = ERR_INIT;
	int r = 0;

	/* A container whose creation failed has left nothing. */
	if (t && t->started && !t->exited)
		r = err_msg(&e, ERR_CONFLICT, -EBUSY, "delete '%s': it is running", *exec ? exec : ctr);
	else if (t && !*exec)
		r = del_container(l, t, &e);
	else if (t)
		ltask_free(t);
	done(ud, r, &e, NULL, 0);
}

static void op_shutdown(struct backend *b, backend_done_fn done, void *ud)
{
	struct local *l = local_of(b);

	/* Execs end with their container's cgroup; the loop reaps them. */
	list_for_each(t, &l->tasks, struct ltask, link)
		if (!*t->exec && t->rt && !t->exited) {
			siginfo_t si = { 0 };

			(void)rt_kill(t->rt, SIGKILL, true, NULL);
			if (RETRY(waitid(P_PIDFD, (id_t)t->proc.pidfd, &si, WEXITED)) == 0)
				on_exit_child(NULL, &si, t);
		}
	if (l->hooks->shutdown)
		l->hooks->shutdown(l->userdata);
	done(ud, 0, NULL, NULL, 0);
}

static size_t op_stdin_write(struct backend *b, const char *ctr, const char *exec, const void *p, size_t n)
{
	struct ltask *t = ltask_find(local_of(b), ctr, exec);

	return t ? stdio_in_write(t, p, n) : n;
}

static void op_stdin_close(struct backend *b, const char *ctr, const char *exec)
{
	struct ltask *t = ltask_find(local_of(b), ctr, exec);

	if (t)
		stdio_in_close(t);
}

static void op_output_pause(struct backend *b, const char *ctr, const char *exec, bool paused)
{
	struct ltask *t = ltask_find(local_of(b), ctr, exec);

	if (t)
		stdio_pause(t, paused);
}

static void op_free(struct backend *b)
{
	struct local *l = local_of(b);

	list_for_each(t, &l->tasks, struct ltask, link)
		ltask_free(t);
	loop_source_free(l->trim);
	free(l);
}

static const struct backend_ops local_ops = {
	.kind = "process",
	.sandbox = op_sandbox,
	.network = op_network,
	.create = op_create,
	.start = op_start,
	.kill = op_kill,
	.resize = op_resize,
	.ps = op_ps,
	.control = op_control,
	.files = op_files,
	.del = op_del,
	.shutdown = op_shutdown,
	.stdin_write = op_stdin_write,
	.stdin_close = op_stdin_close,
	.output_pause = op_output_pause,
	.free = op_free,
};

int local_new(struct loop *l, struct local_hooks *hooks, void *userdata, struct backend **ret)
{
	struct local *x = new0(struct local);

	*x = (struct local){ .b = { .ops = &local_ops }, .loop = l, .hooks = hooks, .userdata = userdata };
	list_init(&x->tasks);
	*ret = &x->b;
	return 0;
}
