#include "engine/accel.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/strv.h"
#include "engine/paths.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>

#define PROBE_TIMEOUT_US (60u * 1000000)	/* a KVM that hangs is found out by vmwp long before */
#define PROBE_OUT_MAX 4096

struct waiter { struct list link; engine_done_fn done; void *userdata; };

struct accel_state {
	struct engine *engine;
	struct accel verdict;		/* name NULL = not known */
	struct list waiters;
	/* the probe at work */
	struct proc proc;
	int fd;
	struct loop_source *io, *child, *timer;
	struct sbuf out;
	bool eof, exited;
	int exit_code;
};

static struct accel_state *state_of(struct engine *e)
{
	if (!e->accel) {
		e->accel = new0(struct accel_state);
		*e->accel = (struct accel_state){.engine = e, .proc = PROC_INIT, .fd = -EBADF};
		list_init(&e->accel->waiters);
	}
	return e->accel;
}

static void probe_done(struct accel_state *a)
{
	loop_source_free(TAKE_PTR(a->io));
	loop_source_free(TAKE_PTR(a->child));
	loop_source_free(TAKE_PTR(a->timer));
	fd_close(&a->fd);
	proc_done(&a->proc);
	a->proc = (struct proc)PROC_INIT;
	sbuf_done(&a->out);
	a->eof = a->exited = false;
}

void accel_close(struct engine *e)
{
	struct accel_state *a = e->accel;

	if (!a)
		return;
	if (a->proc.pidfd >= 0 && !a->exited)
		(void)proc_kill(&a->proc, SIGKILL);
	probe_done(a);
	list_for_each(w, &a->waiters, struct waiter, link) {
		list_remove(&w->link);
		free(w);
	}
	free(a->verdict.name);
	free(a->verdict.reason);
	free(a);
	e->accel = NULL;
}

/* ---- the verdict ---- */

/* "kvm", "tcg <reason>" or "none <reason>". */
static int parse_verdict(const char *s, struct accel *ret)
{
	static const char *const names[] = {"kvm", "tcg", "none"};
	size_t len = strcspn(s, " \t\n");
	const char *reason = s + len + strspn(s + len, " \t");

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strlen(names[i]) == len && strncmp(s, names[i], len) == 0) {
			ret->name = xstrdup(names[i]);
			ret->reason = xstrndup(reason, strcspn(reason, "\n"));
			return 0;
		}
	return -EINVAL;
}

static char *cache_path(const struct engine *e)
{
	return path_join(e->cfg.exec_root, "vm/accel");
}

static void cache_write(const struct engine *e, const struct accel *v)
{
	_cleanup_free_ char *path = cache_path(e), *boot = fs_boot_id();
	_cleanup_free_ char *line = xasprintf("%s %s %s\n", boot, v->name, v->reason);
	int r = fs_write_atomic(AT_FDCWD, path, line, strlen(line), 0644, false);

	if (r < 0)
		log_warn("accelerator verdict '%s': %s", path, strerror(-r));
}

static int cache_read(const struct engine *e, struct accel *ret)
{
	_cleanup_free_ char *path = cache_path(e), *boot = fs_boot_id(), *line = NULL;
	int r = fs_read_line(AT_FDCWD, path, &line);

	if (r < 0)
		return r;
	if (!*boot || !str_starts(line, boot) || line[strlen(boot)] != ' ')
		return -ESTALE;
	return parse_verdict(line + strlen(boot) + 1, ret);
}

/* What is configured today may not be tomorrow. */
static bool forced(const struct engine *e)
{
	return !str_empty(e->cfg.accel) && !streq(e->cfg.accel, "auto");
}

static void set_verdict(struct engine *e, const char *name, char *reason, bool remember)
{
	struct accel_state *a = state_of(e);

	free(a->verdict.name);
	free(a->verdict.reason);
	a->verdict = (struct accel){xstrdup(name), reason};
	if (remember && !forced(e))
		cache_write(e, &a->verdict);
}

void accel_refute(struct engine *e, const char *reason, bool final)
{
	log_warn("KVM does not start a machine: %s", reason);
	set_verdict(e, "none",
		    final ? xstrdup(reason) : xasprintf("%s; it is being tried once more", reason), final);
}

void accel_confirm(struct engine *e)
{
	log_info("KVM has started a machine");
	set_verdict(e, "kvm", xstrdup(forced(e) ? "configured" : ""), true);
}

static int check_allowed(const struct engine *e, const struct accel *v, struct err *err)
{
	if (streq(v->name, "none"))
		return err_msg(
		    err, ERR_FORBIDDEN, -EIO,
		    "hyperv isolation is refused: KVM does not start a machine (%s): "
		    "\"hyperv-accel\": \"tcg\" in daemon.json chooses software emulation, which is "
		    "slower and not a hardware boundary",
		    v->reason);
	if (!e->cfg.require_hardware || streq(v->name, "kvm"))
		return 0;
	return err_set(err, ERR_FORBIDDEN, 0,
		       "hyperv isolation is refused: require-hardware is set and KVM cannot be used: %s",
		       v->reason);
}

int accel_check(struct engine *e, struct err *err)
{
	struct accel_state *a = state_of(e);

	return a->verdict.name ? check_allowed(e, &a->verdict, err) : 0;
}

/* ---- asking vmwp ---- */

static void tell_waiters(struct accel_state *a, int r, const struct err *e)
{
	struct list waiters;

	if (list_empty(&a->waiters))
		return;
	waiters = a->waiters;
	waiters.next->prev = waiters.prev->next = &waiters;
	list_init(&a->waiters);
	for (struct waiter *w; (w = list_first(&waiters, struct waiter, link));) {
		list_remove(&w->link);
		w->done(w->userdata, r, e, r < 0 ? NULL : &a->verdict);
		free(w);
	}
}

static void probe_finish(struct accel_state *a)
{
	_cleanup_err_ struct err e = ERR_INIT;
	int r = 0;

	if (!a->eof || !a->exited)
		return;
	if (a->exit_code != 0 || parse_verdict(sbuf_str(&a->out), &a->verdict) < 0)
		r = err_set(&e, ERR_SYSTEM, 0, "vmwp --probe-accel failed (exit status %d)", a->exit_code);
	probe_done(a);
	if (r >= 0) {
		log_info("hyperv accelerator: %s%s%s", a->verdict.name, *a->verdict.reason ? ": " : "",
			 a->verdict.reason);
		cache_write(a->engine, &a->verdict);
		r = check_allowed(a->engine, &a->verdict, &e);
	}
	tell_waiters(a, r, &e);
}

/* Takes what is in the pipe: false at its end. */
static bool take_output(struct accel_state *a)
{
	char buf[512];
	ssize_t n;

	while ((n = RETRY(read(a->fd, buf, sizeof buf))) > 0)
		sbuf_add(&a->out, buf, (size_t)n);
	return n < 0 && errno == EAGAIN;
}

static void on_output(struct loop_source *s, int fd, uint32_t events, void *userdata)
{
	struct accel_state *a = userdata;

	if (take_output(a))
		return;
	loop_source_free(TAKE_PTR(a->io));
	a->eof = true;
	probe_finish(a);
}

static void on_probe_exit(struct loop_source *s, const siginfo_t *si, void *userdata)
{
	struct accel_state *a = userdata;

	a->exited = true;
	a->exit_code = proc_exit_code(si->si_code, si->si_status);
	/* what it printed is in the pipe by now; a child of its own may hold the other end open */
	(void)take_output(a);
	loop_source_free(TAKE_PTR(a->io));
	a->eof = true;
	probe_finish(a);
}

static void on_timeout(struct loop_source *s, void *userdata)
{
	struct accel_state *a = userdata;

	log_warn("vmwp --probe-accel does not answer: killed");
	(void)proc_kill(&a->proc, SIGKILL);
}

static int probe_start(struct accel_state *a, struct err *e)
{
	_cleanup_free_ char *program = engine_program(a->engine, "vmwp");
	char *argv[] = {(char *)"vmwp", (char *)"--probe-accel", NULL};
	char *envp[] = {(char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	int p[2], r;

	if (!program)
		return err_set(e, ERR_SYSTEM, 0, "vmwp was not found in %s",
			       a->engine->cfg.libexec);
	r = fd_pipe(p, 0);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "pipe");
	struct fd_map fds[] = {{p[1], 1}};
	struct spawn_args args = {
		.path = program, .argv = argv, .envp = envp, .fds = fds, .n_fds = 1, .keep_stderr = true,
		.pdeathsig = SIGKILL,
	};
	r = proc_spawn(&args, &a->proc);
	close(p[1]);
	a->fd = p[0];
	a->out = (struct sbuf)SBUF_INIT_MAX(PROBE_OUT_MAX);
	if (r >= 0)
		r = fd_set_nonblock(a->fd, true);
	if (r >= 0)
		r = loop_add_io(a->engine->loop, a->fd, EPOLLIN, on_output, a, &a->io);
	if (r >= 0)
		r = loop_add_child(a->engine->loop, a->proc.pidfd, on_probe_exit, a, &a->child);
	if (r >= 0)
		r = loop_add_timer(a->engine->loop, PROBE_TIMEOUT_US, 0, on_timeout, a, &a->timer);
	if (r < 0) {
		probe_done(a);
		return err_set(e, ERR_SYSTEM, r, "start '%s'", program);
	}
	return 0;
}

/* Configured or remembered: true if the verdict is known now. */
static bool known(struct accel_state *a)
{
	if (a->verdict.name)
		return true;
	if (forced(a->engine)) {
		a->verdict = (struct accel){xstrdup(a->engine->cfg.accel), xstrdup("configured")};
		return true;
	}
	return cache_read(a->engine, &a->verdict) >= 0;
}

void accel_get(struct engine *e, engine_done_fn done, void *userdata)
{
	struct accel_state *a = state_of(e);
	_cleanup_err_ struct err err = ERR_INIT;
	struct waiter *w;
	int r = 0;

	if (known(a)) {
		r = check_allowed(e, &a->verdict, &err);
		done(userdata, r, &err, r < 0 ? NULL : &a->verdict);
		return;
	}
	if (a->proc.pidfd < 0)
		r = probe_start(a, &err);
	if (r < 0) {
		done(userdata, r, &err, NULL);
		return;
	}
	w = new0(struct waiter);
	*w = (struct waiter){.done = done, .userdata = userdata};
	list_append(&a->waiters, &w->link);
}
