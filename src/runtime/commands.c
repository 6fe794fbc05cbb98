/* The commands of insula-runtime: what containerd, Podman and Docker call. */
#include "runtime/tool.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/sock.h"
#include "base/strv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/stat.h>

struct make {
	char *bundle, *config, *pid_file, *console;
	int64_t preserve;
	bool no_pivot, detach, keep, attached;
	bool stays;		/* until it is started: no socket is needed for that */
};

static int read_spec(const struct make *m, const char *id, const char *bundle, char **ret_text,
		     struct oci_spec **ret, struct err *e)
{
	_cleanup_free_ char *path = m->config ? xstrdup(m->config) : path_join(bundle, "config.json"),
			    *text = NULL;
	struct oci_spec *spec;
	size_t n;
	int r = fs_read(AT_FDCWD, path, 16 << 20, &text, &n);

	if (r < 0)
		return err_set(e, ERR_INVALID, r, "read '%s'", path);
	r = oci_spec_parse(text, n, &spec, e);
	if (r < 0)
		return r;
	if (runtime_cgroups == TOOL_CGROUPFS)
		cgroup_path_default(spec, id);
	if (runtime_cgroups == TOOL_NO_CGROUPS) {
		free(spec->cgroups_path);
		spec->cgroups_path = NULL;
	}
	*ret_text = TAKE_PTR(text);
	*ret = spec;
	if (spec->process && spec->process->terminal && !m->console && !m->attached)
		return err_msg(e, ERR_INVALID, 0,
			       "cannot allocate a terminal for a detached container without "
			       "--console-socket");
	return 0;
}

static int make_dir(const char *id, struct err *e)
{
	_cleanup_free_ char *dir = state_path(id, "");

	if (mkdir(dir, 0700) == 0 || (errno == ENOENT && fs_mkdir_p(runtime_root, 0711) == 0 &&
				      mkdir(dir, 0700) == 0))
		return 0;
	return errno == EEXIST
		   ? err_msg(e, ERR_CONFLICT, -EEXIST, "container with id '%s' already exists", id)
		   : err_set(e, ERR_SYSTEM, -errno, "create '%s'", dir);
}

/* What `start` will call. */
static int listen_for_start(const char *id, int *ret, struct err *e)
{
	_cleanup_free_ char *sock = state_path(id, "start.sock");
	int fd = sock_listen_unix(sock, 0600), r = fd < 0 ? fd : fd_set_nonblock(fd, false);

	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "listen on '%s'", sock);
	*ret = fd;
	return 0;
}

/* While the init is busy. */
struct memory { const char *bundle, *text; const struct oci_spec *spec; };

static int remember(const struct rt_container *c, pid_t pid, void *arg, struct err *e)
{
	const struct memory *m = arg;

	return state_write(m->bundle, m->text, m->spec, c, pid, e);
}

/* Makes the container and what is remembered of it. ret_console: the terminal's master if the process has one
 * and there is no --console-socket for it. */
static int make_container(const char *id, const struct make *m, struct rt_container **ret, struct proc *init,
			  int *ret_console, struct err *e)
{
	_cleanup_free_ char *bundle = realpath(m->bundle ? m->bundle : ".", NULL), *text = NULL;
	_cleanup_oci_spec_ struct oci_spec *spec = NULL;
	_cleanup_close_ int listener = -EBADF, console = -EBADF;
	struct rt_container *c = NULL;
	int r;

	if (!rt_id_valid(id))
		return err_msg(e, ERR_INVALID, 0, "invalid container id: '%s'", id);
	if (!bundle)
		return err_set(e, ERR_INVALID, -errno, "open bundle '%s'", m->bundle);
	if (m->preserve < 0 || m->preserve > 1 << 16)
		return tool_usage(e, "invalid number of descriptors to preserve");
	r = read_spec(m, id, bundle, &text, &spec, e);
	if (r == 0)
		r = make_dir(id, e);
	if (r < 0)
		return r;
	struct memory memory = { bundle, text, spec };
	struct rt_create_args a = {
	    .id = id,
	    .bundle = bundle,
	    .spec = spec,
	    .stdio = {0, 1, 2},
	    .net_ns_fd = -EBADF,
	    .ipc_ns_fd = -EBADF,
	    .preserve_fds = (int)m->preserve,
	    .no_pivot = m->no_pivot,
	    .systemd_cgroup = runtime_cgroups == TOOL_SYSTEMD,
	    .console_socket = m->console,
	    .outlive = true,
	    .meanwhile = remember,
	    .meanwhile_arg = &memory,
	};

	if (!m->stays)
		r = listen_for_start(id, &listener, e);
	a.start_listen_fd = listener;
	if (r == 0)
		r = rt_create(&a, &c, init, &console, e);
	if (r == 0)
		r = state_publish(id, e);
	if (r == 0)
		r = tool_write_pid(m->pid_file, init->pid, e);
	if (r < 0 && c) {
		(void)proc_kill(init, SIGKILL);
		(void)proc_wait(init, NULL);
		(void)rt_destroy(c, NULL);
	}
	if (r < 0) {
		rt_free(c);
		state_remove(id);
		return r;
	}
	*ret = c;
	*ret_console = TAKE_FD(console);
	return 0;
}

#define MAKE_OPTS(m)                                                                                         \
	{'b', "bundle", OPT_STR, &(m).bundle, "dir", "The bundle (default: the working directory)"},         \
	    {0, "config", OPT_STR, &(m).config, "file", "config.json elsewhere than in the bundle"},         \
	    {0, "pid-file", OPT_STR, &(m).pid_file, "file", "Where to write the init's pid"},                \
	    {0, "console-socket", OPT_STR, &(m).console, "path", "Socket that gets the terminal's master"},  \
	    {0, "preserve-fds", OPT_INT, &(m).preserve, "n", "Pass n more descriptors, from 3 on"},          \
	    {0, "no-pivot", OPT_BOOL, &(m).no_pivot, NULL, "Move the root instead of pivot_root"},           \
	    {0, "no-new-keyring", OPT_BOOL, &ignored, NULL, NULL},                                           \
	{                                                                                                    \
		0, "no-subreaper", OPT_BOOL, &ignored, NULL, NULL                                            \
	}

static bool ignored;	/* no session keyring is made, and init is our child anyway */

static int cmd_create(int argc, char **argv, struct err *e)
{
	struct make m = { 0 };
	const struct opt opts[] = { MAKE_OPTS(m), OPT_END };
	_cleanup_close_ int console = -EBADF;
	struct rt_container *c;
	struct proc init;
	char **args;
	int r = tool_parse(opts, argc, argv, 1, &args, e);

	if (r == 0)
		r = make_container(args[0], &m, &c, &init, &console, e);
	if (r == 0)
		rt_free(c);
	return r;
}

static int start_container(const struct state *s, struct rt_container *c, struct err *e)
{
	_cleanup_free_ char *sock = state_path(s->id, "start.sock");
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (c->no_process)
		return err_msg(e, ERR_INVALID, 0, "process: missing, there is nothing to start");
	fd = sock_connect_unix(sock);
	if (fd < 0)
		return err_set(e, ERR_SYSTEM, fd, "cannot start container '%s'", s->id);
	(void)unlink(sock);
	r = gate_release(fd, c, s->pid, e);
	return r == 0 ? hooks_poststart(c, e) : r;
}

static int cmd_start(int argc, char **argv, struct err *e)
{
	const struct opt opts[] = { OPT_END };
	_cleanup_state_ struct state s = { 0 };
	struct rt_container *c;
	char **args;
	int r = tool_parse(opts, argc, argv, 1, &args, e);

	if (r == 0)
		r = state_read(args[0], &s, e);
	if (r < 0)
		return r;
	if (!streq(state_status(&s), "created"))
		return err_msg(e, ERR_CONFLICT, 0, "cannot start a container that is %s", state_status(&s));
	r = state_container(&s, &c, NULL, e);
	if (r < 0)
		return r;
	r = start_container(&s, c, e);
	rt_free(c);
	return r;
}

static int delete(const char *id, bool force, struct err *e)
{
	_cleanup_state_ struct state s = { 0 };
	struct rt_container *c;
	const char *status;
	int r = state_read(id, &s, e);

	if (r < 0)
		return force && e->kind == ERR_NOT_FOUND ? (err_clear(e), 0) : r;
	/* One that was only created is ended without asking: its program has never run. */
	status = state_status(&s);
	if (!force && !streq(status, "created") && !streq(status, "stopped"))
		return err_msg(e, ERR_CONFLICT, 0,
			       "cannot delete container '%s' that is %s: stop it, or use --force", id,
			       status);
	r = state_container(&s, &c, NULL, e);
	if (r < 0)
		return r;
	(void)rt_kill(c, SIGKILL, true, NULL);
	if (c->init.pidfd >= 0)
		(void)proc_kill(&c->init, SIGKILL);
	r = rt_destroy(c, e);
	rt_free(c);
	if (r == 0)
		state_remove(id);
	return r;
}

struct each { bool force, all; int signo; };
typedef int (*each_fn)(const char *id, const struct each *how, struct err *e);

/* For every container whose id the pattern matches. All are tried; the first error is told. */
static int each_match(const char *pattern, each_fn fn, const struct each *how, struct err *e)
{
	_cleanup_strv_ char **ids = tool_ids();
	regex_t re;
	int r = 0;

	if (regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB) != 0)
		return err_msg(e, ERR_INVALID, 0, "invalid regular expression '%s'", pattern);
	for (char **id = ids; id && *id; id++) {
		int one = regexec(&re, *id, 0, NULL, 0) == 0 ? fn(*id, how, r < 0 ? NULL : e) : 0;

		r = r < 0 ? r : one;
	}
	regfree(&re);
	return r;
}

static int delete_one(const char *id, const struct each *how, struct err *e)
{
	return delete(id, how->force, e);
}

static int cmd_delete(int argc, char **argv, struct err *e)
{
	struct each how = { 0 };
	bool regex = false;
	const struct opt opts[] = {
		{ 'f', "force", OPT_BOOL, &how.force, NULL, "Kill it first" },
		{ 0, "regex", OPT_BOOL, &regex, NULL, "ID is a regular expression" }, OPT_END
	};
	char **args;
	int r = tool_parse(opts, argc, argv, 1, &args, e);

	if (r < 0)
		return r;
	return regex ? each_match(args[0], delete_one, &how, e) : delete(args[0], how.force, e);
}

/* One that was deleted meanwhile is gone already. */
static int tidy_up(struct rt_container *c, struct err *e)
{
	_cleanup_free_ char *state = state_path(c->id, "state.json");
	int r = fs_exists(state) ? rt_destroy(c, e) : 0;

	if (r == 0)
		state_remove(c->id);
	return r;
}

static int cmd_run(int argc, char **argv, struct err *e)
{
	struct make m = { 0 };
	const struct opt opts[] = {
		MAKE_OPTS(m), { 'd', "detach", OPT_BOOL, &m.detach, NULL, "Do not wait for it" },
		{ 0, "keep", OPT_BOOL, &m.keep, NULL, "Keep its state when it has ended" }, OPT_END
	};
	_cleanup_err_ struct err why = ERR_INIT;
	_cleanup_close_ int console = -EBADF;
	struct rt_container *c;
	struct proc init;
	char **args;
	int r = tool_parse(opts, argc, argv, 1, &args, e);

	m.attached = !m.detach;
	m.stays = true;
	if (r == 0)
		r = make_container(args[0], &m, &c, &init, &console, e);
	if (r < 0)
		return r;
	r = rt_start(c, e);
	if (r < 0) {
		(void)proc_kill(&init, SIGKILL);
		(void)proc_wait(&init, NULL);
	} else if (!m.detach) {
		r = tool_wait(&init, console, e);
	}
	if ((r < 0 || !m.detach) && !m.keep && tidy_up(c, &why) < 0)
		fprintf(stderr, "insula-runtime: %s\n", err_text(&why));
	rt_free(c);
	return r;
}

static int cmd_state(int argc, char **argv, struct err *e)
{
	const struct opt opts[] = { OPT_END };
	_cleanup_state_ struct state s = { 0 };
	_cleanup_free_ char *text = NULL;
	char **args;
	int r = tool_parse(opts, argc, argv, 1, &args, e);

	if (r == 0)
		r = state_read(args[0], &s, e);
	if (r == 0) {
		_cleanup_json_ struct json *o = state_object(&s);

		puts(text = json_dump_pretty(o, "  "));
	}
	return r;
}

#define SIGNAL(name) { #name, SIG##name }
static const struct { const char *name; int signo; } signals[] = {
	SIGNAL(HUP), SIGNAL(INT), SIGNAL(QUIT), SIGNAL(ILL), SIGNAL(TRAP), SIGNAL(ABRT), SIGNAL(IOT),
	SIGNAL(BUS), SIGNAL(FPE), SIGNAL(KILL), SIGNAL(USR1), SIGNAL(SEGV), SIGNAL(USR2), SIGNAL(PIPE),
	SIGNAL(ALRM), SIGNAL(TERM), SIGNAL(STKFLT), SIGNAL(CHLD), SIGNAL(CONT), SIGNAL(STOP), SIGNAL(TSTP),
	SIGNAL(TTIN), SIGNAL(TTOU), SIGNAL(URG), SIGNAL(XCPU), SIGNAL(XFSZ), SIGNAL(VTALRM), SIGNAL(PROF),
	SIGNAL(WINCH), SIGNAL(IO), SIGNAL(POLL), SIGNAL(PWR), SIGNAL(SYS),
};

static int signal_number(const char *s, int *ret, struct err *e)
{
	uint64_t n;

	if (str_to_u64(s, &n) == 0 && n > 0 && n < NSIG) {
		*ret = (int)n;
		return 0;
	}
	if (!strncasecmp(s, "SIG", 3))
		s += 3;
	if (str_starts(s, "RTMIN+") && str_to_u64(s + 6, &n) == 0 && n <= (uint64_t)(SIGRTMAX - SIGRTMIN)) {
		*ret = SIGRTMIN + (int)n;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		if (!strcasecmp(s, signals[i].name)) {
			*ret = signals[i].signo;
			return 0;
		}
	return err_msg(e, ERR_INVALID, 0, "unknown signal '%s'", s);
}

static int kill_one(const char *id, const struct each *how, struct err *e)
{
	_cleanup_state_ struct state s = { 0 };
	struct rt_container *c;
	int r = state_read(id, &s, e);

	if (r == 0 && streq(state_status(&s), "stopped") && !how->all)
		r = err_msg(e, ERR_CONFLICT, -ESRCH, "container not running");
	if (r == 0)
		r = state_container(&s, &c, NULL, e);
	if (r < 0)
		return r;
	r = rt_kill(c, how->signo, how->all, e);
	rt_free(c);
	return r;
}

static int cmd_kill(int argc, char **argv, struct err *e)
{
	struct each how = { 0 };
	bool regex = false;
	const struct opt opts[] = {
		{ 'a', "all", OPT_BOOL, &how.all, NULL, "Every process of the container" },
		{ 0, "regex", OPT_BOOL, &regex, NULL, "ID is a regular expression" }, OPT_END
	};
	_cleanup_free_ char *error = NULL, **args = NULL;
	int r;

	tool_help(opts, argc, argv);
	if (opt_parse(opts, argc, argv, false, &args, &error) < 0)
		return tool_usage(e, error);
	if (strv_len(args) < 1 || strv_len(args) > 2)
		return tool_usage(e, "kill needs a container and at most one signal");
	r = signal_number(args[1] ? args[1] : "TERM", &how.signo, e);
	if (r < 0)
		return r;
	return regex ? each_match(args[0], kill_one, &how, e) : kill_one(args[0], &how, e);
}

const struct command commands[] = {
	{ "create", "[OPTIONS] ID", "Make a container that waits for start", cmd_create },
	{ "start", "ID", "Let it run", cmd_start },
	{ "run", "[OPTIONS] ID", "create, start, wait and delete", cmd_run },
	{ "exec", "[OPTIONS] ID [COMMAND ARG...]", "Run another process in it", cmd_exec },
	{ "state", "ID", "Its state as JSON", cmd_state },
	{ "kill", "[OPTIONS] ID [SIGNAL]", "Signal it", cmd_kill },
	{ "delete", "[OPTIONS] ID", "Remove one that has stopped", cmd_delete },
	{ "list", "[OPTIONS]", "All containers", cmd_list },
	{ "ps", "[OPTIONS] ID [ps OPTIONS]", "Its processes", cmd_ps },
	{ "pause", "ID", "Stop all its processes", cmd_pause },
	{ "resume", "ID", "Let them go on", cmd_resume },
	{ "update", "[OPTIONS] ID", "Change its limits", cmd_update },
	{ "events", "[OPTIONS] ID", "What it uses, and when it runs out of memory", cmd_events },
	{ "spec", "[OPTIONS]", "Write a config.json to start from", cmd_spec },
	{ "features", "", "What this runtime can do, as JSON", cmd_features },
	{ NULL, NULL, NULL, NULL },
};
