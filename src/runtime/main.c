/* insula-runtime: the OCI runtime as a program of its own. */
#include "runtime/tool.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static void help(const struct opt *opts)
{
	printf("Usage:  insula-runtime [OPTIONS] COMMAND\n\nCommands:\n");
	for (const struct command *c = commands; c->name; c++)
		printf("  %-10s %-30s %s\n", c->name, c->usage, c->help);
	printf("\n");
	opt_print_help(opts);
}

static void print_version(void)
{
	printf("insula-runtime version %s\nspec: 1.2.0\n+SYSTEMD +SECCOMP +CAP +CGROUPFS\n", INSULA_VERSION);
}

static int open_log(const char *path, const char *format)
{
	int fd;

	if (format && !streq(format, "json") && !streq(format, "text")) {
		fprintf(stderr, "insula-runtime: unknown log-format '%s'\n", format);
		return -EINVAL;
	}
	if (streq(format, "json"))
		log_set_json(true);
	if (!path)
		return 0;
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
	/* Not being able to log is no reason not to work. */
	if (fd < 0)
		fprintf(stderr, "insula-runtime: open log '%s': %s\n", path, strerror(errno));
	else
		log_set_fd(fd);
	return 0;
}

static int set_cgroups(const char *manager)
{
	static const char *const names[] = {
		[TOOL_CGROUPFS] = "cgroupfs", [TOOL_SYSTEMD] = "systemd", [TOOL_NO_CGROUPS] = "disabled",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!manager || streq(manager, names[i])) {
			runtime_cgroups = (enum tool_cgroups)i;
			return 0;
		}
	fprintf(stderr, "insula-runtime: unknown cgroup manager '%s'\n", manager);
	return -EINVAL;
}

static char *default_root(void)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");

	/* Root of a user namespace may well have /run for himself, unless he says otherwise. */
	if (geteuid() == 0 && (str_empty(dir) || proc_is_root()))
		return xstrdup(RUNTIME_ROOT);
	return str_empty(dir) ? xasprintf("/run/user/%u/insula-runtime", geteuid())
			      : xasprintf("%s/insula-runtime", dir);
}

static const struct command *command_find(const char *name)
{
	for (const struct command *c = commands; c->name; c++)
		if (streq(c->name, name))
			return c;
	return NULL;
}

int main(int argc, char **argv)
{
	char *log = NULL, *format = NULL, *level = NULL, *rootless = NULL, *manager = NULL, *error = NULL,
	     **args = NULL;
	bool debug = false, version = false, want_help = false, systemd = false;
	const struct opt opts[] = {
	    {0, "root", OPT_STR, &runtime_root, "dir", "Where states are kept (default " RUNTIME_ROOT ")"},
	    {0, "log", OPT_STR, &log, "file", "Where messages go"},
	    {0, "log-format", OPT_STR, &format, "text|json", "Their form"},
	    {0, "log-level", OPT_STR, &level, "level", NULL},
	    {0, "debug", OPT_BOOL, &debug, NULL, "Say more"},
	    {0, "rootless", OPT_STR, &rootless, "value", NULL},
	    {0, "cgroup-manager", OPT_STR, &manager, "name", "cgroupfs (default), systemd, disabled"},
	    {0, "systemd-cgroup", OPT_BOOL, &systemd, NULL, "As --cgroup-manager systemd"},
	    {'v', "version", OPT_BOOL, &version, NULL, "Print the version"},
	    {'h', "help", OPT_BOOL, &want_help, NULL, "Print this"},
	    OPT_END};
	_cleanup_err_ struct err e = ERR_INIT;
	const struct command *c;
	int r;

	log_init("insula-runtime", LOG_LVL_WARN);
	if (opt_parse(opts, argc, argv, true, &args, &error) < 0) {
		fprintf(stderr, "insula-runtime: %s\n", error);
		return 1;
	}
	if (version || want_help || !args[0]) {
		if (version)
			print_version();
		else
			help(opts);
		return version || want_help ? 0 : 1;
	}
	if (set_cgroups(systemd ? "systemd" : manager) < 0)
		return 1;
	c = command_find(args[0]);
	if (!c) {
		fprintf(stderr, "insula-runtime: unknown command '%s' (see --help)\n", args[0]);
		return 1;
	}
	if (!runtime_root)
		runtime_root = default_root();
	if (open_log(log, format) < 0)
		return 1;
	if (debug || streq(level, "debug"))
		log_init("insula-runtime", LOG_LVL_DEBUG);
	r = rt_protect_self(argv);
	if (fs_kernel_lacks()) {
		fprintf(stderr, "insula-runtime: this kernel is too old: needs %s\n", fs_kernel_lacks());
		return 1;
	}
	if (r < 0)
		log_warn("cannot protect the runtime's own file: %s", strerror(-r));
	r = c->run((int)strv_len(args), args, &e);
	if (r >= 0)
		return r;
	if (log)
		log_error("%s", err_text(&e));
	fprintf(stderr, "insula-runtime: %s\n", err_text(&e));
	return e.kind == ERR_CMD_NOT_FOUND ? 127 : e.kind == ERR_CMD_NOT_EXECUTABLE ? 126 : 1;
}
