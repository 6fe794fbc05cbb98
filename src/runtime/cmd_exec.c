/* exec: another process in a container. */
#include "runtime/tool.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

struct exec_opts {
	char *file, *console, *cwd, *user, *pid_file, *apparmor, *label, *cgroup, **env, **caps, **gids;
	int64_t preserve;
	bool tty, detach, no_new_privs, ignore_paused;
};

static int read_process(const char *file, struct oci_process **ret, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	size_t n;
	int r = fs_read(AT_FDCWD, file, 16 << 20, &text, &n);

	return r < 0 ? err_set(e, ERR_INVALID, r, "read '%s'", file) : oci_process_parse(text, n, ret, e);
}

static int set_user(struct oci_process *p, const char *user, struct err *e)
{
	_cleanup_free_ char *uid = xstrndup(user, strcspn(user, ":"));
	const char *gid = strchr(user, ':');
	uint64_t u, g = p->user.gid;

	/* Numbers only, whole strings: "1000abc" is nobody (CVE-2026-30892). */
	if (str_to_u64(uid, &u) < 0 || u > INT_MAX || (gid && (str_to_u64(gid + 1, &g) < 0 || g > INT_MAX)))
		return err_msg(e, ERR_INVALID, 0, "invalid user '%s': need UID[:GID]", user);
	p->user.uid = (uint32_t)u;
	p->user.gid = (uint32_t)g;
	return 0;
}

static int add_gids(struct oci_gids *to, char *const *gids, struct err *e)
{
	for (; gids && *gids; gids++) {
		uint64_t g;

		if (str_to_u64(*gids, &g) < 0 || g > INT_MAX)
			return err_msg(e, ERR_INVALID, 0, "invalid group '%s': need a GID", *gids);
		to->v = xrealloc(to->v, to->n + 1, sizeof *to->v);
		to->v[to->n++] = (uint32_t)g;
	}
	return 0;
}

/* As runc: into the sets that decide what the program can do; ambient ones need inheritable ones. */
static void add_caps(struct oci_caps *c, char *const *caps)
{
	char ***sets[] = { &c->bounding, &c->effective, &c->permitted, &c->ambient };

	for (; caps && *caps; caps++)
		for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
			if (sets[i] == &c->ambient && !c->inheritable)
				continue;
			strv_add(sets[i], *caps);
			c->given = true;
		}
}

/* The container's own process object with what the command line changes. */
static int change_process(struct oci_process *p, const struct exec_opts *o, char **command, struct err *e)
{
	int r;

	if (!*command)
		return tool_usage(e, "exec needs a command, or --process");
	strv_free(p->args);
	p->args = strv_copy(command);
	p->terminal = o->tty;
	for (char **v = o->env; v && *v; v++)
		strv_env_set(&p->env, *v);
	if (o->cwd)
		str_replace(&p->cwd, o->cwd);
	if (o->apparmor)
		str_replace(&p->apparmor, o->apparmor);
	if (o->label)
		str_replace(&p->selinux, o->label);
	if (p->cwd[0] != '/')
		return err_msg(e, ERR_INVALID, 0, "cwd '%s' must be an absolute path", p->cwd);
	p->no_new_privs |= o->no_new_privs;
	add_caps(&p->caps, o->caps);
	r = o->user ? set_user(p, o->user, e) : 0;
	return r == 0 ? add_gids(&p->user.additional_gids, o->gids, e) : r;
}

static int run_process(struct rt_container *c, const struct exec_opts *o, const struct oci_process *p,
		       struct err *e)
{
	struct rt_exec_args a = { .process = p, .stdio = { 0, 1, 2 }, .preserve_fds = (int)o->preserve,
				  .cgroup = o->cgroup, .ignore_paused = o->ignore_paused };
	_cleanup_close_ int master = -EBADF;
	struct proc proc = PROC_INIT;
	int r;

	if (o->preserve < 0 || o->preserve > 1 << 16)
		return tool_usage(e, "invalid number of descriptors to preserve");
	if (p->terminal && !o->console && o->detach)
		return err_msg(e, ERR_INVALID, 0,
			       "cannot allocate a terminal for a detached process without "
			       "--console-socket");
	r = rt_exec(c, &a, &proc, &master, e);
	if (r == 0 && master >= 0 && o->console) {
		r = console_send(o->console, master, e);
		fd_close(&master);
	}
	if (r == 0)
		r = tool_write_pid(o->pid_file, proc.pid, e);
	return r < 0 || o->detach ? r : tool_wait(&proc, master, e);
}

static int exec_in(const char *id, char **command, const struct exec_opts *o, struct err *e)
{
	_cleanup_state_ struct state s = { 0 };
	_cleanup_oci_spec_ struct oci_spec *spec = NULL;
	_cleanup_oci_process_ struct oci_process *given = NULL;
	struct oci_process *p;
	struct rt_container *c;
	int r = state_read(id, &s, e);

	if (r == 0 && streq(state_status(&s), "stopped"))
		r = err_msg(e, ERR_CONFLICT, -ESRCH, "cannot exec in a stopped container");
	if (r == 0)
		r = state_container(&s, &c, &spec, e);
	if (r < 0)
		return r;
	if (o->file)
		r = read_process(o->file, &given, e);
	p = given ? given : spec->process;
	if (r == 0 && !p)
		r = err_msg(e, ERR_INVALID, 0, "the container has no process: exec needs --process");
	if (r == 0 && !given)
		r = change_process(p, o, command, e);
	if (r == 0)
		r = run_process(c, o, p, e);
	rt_free(c);
	return r;
}

int cmd_exec(int argc, char **argv, struct err *e)
{
	struct exec_opts o = { 0 };
	const struct opt opts[] = {
	    {'p', "process", OPT_STR, &o.file, "file", "The process as a JSON file"},
	    {'t', "tty", OPT_BOOL, &o.tty, NULL, "With a terminal"},
	    {0, "console-socket", OPT_STR, &o.console, "path", "Socket that gets the terminal's master"},
	    {0, "cwd", OPT_STR, &o.cwd, "dir", "Working directory"},
	    {'e', "env", OPT_STRV, &o.env, "K=V", "Environment"},
	    {'u', "user", OPT_STR, &o.user, "uid[:gid]", "User"},
	    {'g', "additional-gids", OPT_STRV, &o.gids, "gid", "One more group"},
	    {'c', "cap", OPT_STRV, &o.caps, "name", "One more capability"},
	    {'d', "detach", OPT_BOOL, &o.detach, NULL, "Do not wait"},
	    {0, "pid-file", OPT_STR, &o.pid_file, "file", "Where to write the pid"},
	    {0, "preserve-fds", OPT_INT, &o.preserve, "n", "Pass n more descriptors, from 3 on"},
	    {0, "cgroup", OPT_STR, &o.cgroup, "path", "Group below the container's, made if missing"},
	    {0, "no-new-privs", OPT_BOOL, &o.no_new_privs, NULL, "Set no_new_privs"},
	    {0, "apparmor", OPT_STR, &o.apparmor, "profile", "AppArmor profile"},
	    {0, "process-label", OPT_STR, &o.label, "label", "SELinux label"},
	    {0, "ignore-paused", OPT_BOOL, &o.ignore_paused, NULL, "Also in a paused container"},
	    OPT_END};
	_cleanup_free_ char **args = NULL;
	int r = tool_parse(opts, argc, argv, SIZE_MAX, &args, e);

	return r == 0 ? exec_in(args[0], args + 1, &o, e) : r;
}
