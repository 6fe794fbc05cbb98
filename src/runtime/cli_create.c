/* create, start, run. */
#include "runtime/cli.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define CONFIG_MAX (16u << 20)

struct create_opts {
	char *bundle, *config, *pid_file, *console_socket;
	int64_t preserve_fds;
	bool no_pivot, detach, keep, ignored;
};

static void create_opts_done(struct create_opts *o)
{
	free(o->bundle);
	free(o->config);
	free(o->pid_file);
	free(o->console_socket);
}

/* The options of create and run; run has two more at the end. */
#define CREATE_OPTS(o) \
	{ 'b', "bundle", OPT_STR, &(o)->bundle, "dir", "Directory of the bundle (default: the working directory)" }, \
	{ 'f', "config", OPT_STR, &(o)->config, "file", "Configuration apart from the bundle" }, \
	{ 0, "console-socket", OPT_STR, &(o)->console_socket, "path", "Socket that receives the terminal's master" }, \
	{ 0, "pid-file", OPT_STR, &(o)->pid_file, "file", "Write the init's process id there" }, \
	{ 0, "preserve-fds", OPT_INT, &(o)->preserve_fds, "n", "Pass n descriptors beyond the standard streams" }, \
	{ 0, "no-pivot", OPT_BOOL, &(o)->no_pivot, NULL, "Move the root instead of pivot_root" }, \
	/* No session keyring is ever made, no orphans are adopted: true without doing anything. */ \
	{ 0, "no-new-keyring", OPT_BOOL, &(o)->ignored, NULL, NULL }, \
	{ 0, "no-subreaper", OPT_BOOL, &(o)->ignored, NULL, NULL }

/* What create hands to run. */
struct created {
	struct rt_container *c;
	struct proc init;
	int console;
};

static void created_done(struct created *k)
{
	rt_free(k->c);
	proc_done(&k->init);
	fd_close(&k->console);
}

static int read_config(const struct create_opts *o, const char *bundle, char **ret, size_t *ret_n, struct err *e)
{
	_cleanup_free_ char *path = o->config ? xstrdup(o->config) : path_join(bundle, "config.json");
	int r = fs_read(AT_FDCWD, path, CONFIG_MAX, ret, ret_n);

	if (r == -ENOENT)
		return err_msg(e, ERR_NOT_FOUND, r, "JSON specification file %s not found", path);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "cannot read '%s'", path) : 0;
}

static int check_terminal(const struct create_opts *o, const struct oci_spec *spec, bool foreground, struct err *e)
{
	bool tty = spec->process && spec->process->terminal;

	if (tty && !o->console_socket && !foreground)
		return err_msg(e, ERR_INVALID, 0, "cannot allocate a terminal without --console-socket");
	if (!tty && o->console_socket)
		return err_msg(e, ERR_INVALID, 0, "--console-socket needs process.terminal in the configuration");
	return 0;
}

/* Descriptors to be kept must be there, or one of ours would take their place. */
static int check_preserved(int64_t n, struct err *e)
{
	if (n < 0 || n > 1024)
		return err_msg(e, ERR_INVALID, 0, "--preserve-fds: out of range");
	for (int fd = 3; fd < 3 + n; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			return err_msg(e, ERR_INVALID, -EBADF, "--preserve-fds: descriptor %d is not open", fd);
	return 0;
}

/* A relative path means a group of the root, none a group named after the container. */
static void set_cgroup_path(struct oci_spec *spec, const char *id)
{
	char *path;

	if (!str_empty(spec->cgroups_path) && spec->cgroups_path[0] == '/')
		return;
	path = str_empty(spec->cgroups_path) ? xasprintf("/insula/%s", id) : xasprintf("/%s", spec->cgroups_path);
	free(spec->cgroups_path);
	spec->cgroups_path = path;
}

static void fill_state(struct state *s, const struct oci_spec *spec, const char *bundle, const struct rt_container *c)
{
	s->bundle = xstrdup(bundle);
	s->rootfs = path_is_absolute(spec->root.path) ? xstrdup(spec->root.path) : path_join(bundle, spec->root.path);
	s->cgroup = xstrdup(spec->cgroups_path);
	s->annotations = spec->annotations ? json_copy(spec->annotations) : NULL;
	s->own_pid_ns = c->own_pid_ns;
}

static int make_container(const struct create_opts *o, struct state *s, const struct oci_spec *spec, const char *bundle,
			  const char *text, size_t n, struct created *k, struct err *e)
{
	_cleanup_close_ int gate = -EBADF;
	struct rt_create_args a = {
		.id = s->id, .bundle = bundle, .spec = spec, .stdio = { 0, 1, 2 }, .net_ns_fd = -EBADF, .ipc_ns_fd = -EBADF,
		.preserve_fds = (int)o->preserve_fds, .no_pivot = o->no_pivot, .console_socket = o->console_socket,
	};
	int r = fs_write_atomic(s->dir, "config.json", text, n, 0600, false);

	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "cannot keep the configuration");
	gate = state_listen(s, e);
	if (gate < 0)
		return gate;
	a.start_listen_fd = gate;
	r = rt_create(&a, &k->c, &k->init, &k->console, e);
	if (r < 0)
		return err_wrap(e, r, "unable to start container process");
	fill_state(s, spec, bundle, k->c);
	r = state_set_init(s, &k->init, e);
	if (r == 0)
		r = state_save(s, e);
	if (r == 0)
		r = state_write_pid_file(o->pid_file, k->init.pid, e);
	if (r < 0) {
		(void)rt_kill(k->c, SIGKILL, false, NULL);
		(void)proc_wait(&k->init, NULL);
		(void)rt_destroy(k->c, NULL);
	}
	return r;
}

/* On failure nothing is left. */
static int create(const struct cli *cli, const struct create_opts *o, const char *id, bool foreground, struct state *s,
		  struct created *k, struct err *e)
{
	_cleanup_oci_spec_ struct oci_spec *spec = NULL;
	_cleanup_free_ char *text = NULL, *bundle = realpath(o->bundle ? o->bundle : ".", NULL);
	size_t n;
	int r;

	if (!bundle)
		return err_set(e, ERR_NOT_FOUND, -errno, "bundle '%s'", o->bundle ? o->bundle : ".");
	r = check_preserved(o->preserve_fds, e);
	if (r == 0)
		r = read_config(o, bundle, &text, &n, e);
	if (r == 0)
		r = oci_spec_parse(text, n, &spec, e);
	if (r == 0)
		r = check_terminal(o, spec, foreground, e);
	if (r == 0)
		r = state_new(cli, id, s, e);
	if (r < 0)
		return r;
	set_cgroup_path(spec, id);
	r = make_container(o, s, spec, bundle, text, n, k, e);
	if (r < 0)
		state_remove(cli, id);
	return r;
}

/* The caller holds the lock of the state. */
static int start(struct state *s, struct err *e)
{
	_cleanup_oci_spec_ struct oci_spec *spec = NULL;
	enum rt_status st = state_status(s);
	struct rt_container *c;
	int r;

	if (st == RT_STOPPED)
		return err_msg(e, ERR_CONFLICT, -ESRCH, "cannot start a container that has stopped");
	if (st != RT_CREATED)
		return err_msg(e, ERR_CONFLICT, -EBUSY, "cannot start an already running container");
	r = state_read_spec(s, &spec, e);
	if (r == 0)
		r = state_container(s, spec, &c, e);
	if (r < 0)
		return r;
	c->gate = r = state_open_gate(s, e);
	if (r >= 0) {
		(void)unlinkat(s->dir, "start.sock", 0);
		r = rt_start(c, e);
		/* The specification (1.3): a failing poststart hook ends the container. */
		if (r < 0)
			(void)rt_kill(c, SIGKILL, false, NULL);
	}
	rt_free(c);
	return r;
}

int cmd_create(const struct cli *cli, int argc, char **argv, struct err *e)
{
	_cleanup_(create_opts_done) struct create_opts o = { 0 };
	_cleanup_(created_done) struct created k = { NULL, PROC_INIT, -EBADF };
	_cleanup_state_ struct state s = STATE_INIT;
	_cleanup_free_ char **args = NULL;
	const struct opt opts[] = { CREATE_OPTS(&o), OPT_END };
	int r = cli_parse(opts, argc, argv, 1, 1, &args, e);

	if (r == 0)
		r = create(cli, &o, args[0], false, &s, &k, e);
	return r < 0 ? cli_fail(e) : 0;
}

int cmd_start(const struct cli *cli, int argc, char **argv, struct err *e)
{
	_cleanup_state_ struct state s = STATE_INIT;
	_cleanup_free_ char **args = NULL;
	const struct opt opts[] = { OPT_END };
	int r = cli_parse(opts, argc, argv, 1, 1, &args, e);

	if (r == 0)
		r = state_load(cli, args[0], true, &s, e);
	if (r == 0)
		r = start(&s, e);
	return r < 0 ? cli_fail(e) : 0;
}

static int run_failed(const struct cli *cli, struct created *k, const char *id, struct err *e)
{
	(void)rt_kill(k->c, SIGKILL, false, NULL);
	(void)proc_wait(&k->init, NULL);
	(void)rt_destroy(k->c, NULL);
	state_remove(cli, id);
	return cli_fail(e);
}

int cmd_run(const struct cli *cli, int argc, char **argv, struct err *e)
{
	_cleanup_(create_opts_done) struct create_opts o = { 0 };
	_cleanup_(created_done) struct created k = { NULL, PROC_INIT, -EBADF };
	_cleanup_state_ struct state s = STATE_INIT;
	_cleanup_free_ char **args = NULL;
	const struct opt opts[] = {
		CREATE_OPTS(&o),
		{ 'd', "detach", OPT_BOOL, &o.detach, NULL, "Do not wait for the container" },
		{ 0, "keep", OPT_BOOL, &o.keep, NULL, "Keep the state of a container that has ended" },
		OPT_END,
	};
	int r = cli_parse(opts, argc, argv, 1, 1, &args, e), code;

	if (r == 0)
		r = create(cli, &o, args[0], !o.detach, &s, &k, e);
	if (r < 0)
		return cli_fail(e);
	r = start(&s, e);
	if (r < 0)
		return run_failed(cli, &k, args[0], e);
	if (o.detach)
		return 0;
	fd_close(&s.dir);	/* others may look at it and end it while it runs */
	code = relay_wait(&k.init, TAKE_FD(k.console));
	if (code < 0) {
		err_set(e, ERR_SYSTEM, code, "cannot wait for the container");
		return run_failed(cli, &k, args[0], e);
	}
	if (o.keep)
		return code;
	r = rt_destroy(k.c, e);
	state_remove(cli, args[0]);
	return r < 0 ? cli_fail(e) : code;
}
