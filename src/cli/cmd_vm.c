#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/sock.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "cli/format.h"
#include "cli/targets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static char *default_dir(void)
{
	const char *root = getenv("INSULA_DATA_ROOT");

	return xasprintf("%s/vm", str_empty(root) ? "/var/lib/insula" : root);
}

/* The template, if there is a daemon to make it: else the first hyperv container has it made. */
static int make_template(struct cli *c)
{
	int fd = c->socket ? sock_connect_unix(c->socket) : -ENOENT;
	_cleanup_json_ struct json *answer = NULL;
	_cleanup_err_ struct err e = ERR_INIT;

	if (fd < 0)
		return 0;
	close(fd);
	return api_call(c, "POST", "/vm/templates", NULL, &answer, &e) < 0 ? cli_fail(&e) : 0;
}

static int run_script(const char *script, const char *dir, const char *agent)
{
	char *argv[] = {(char *)script, (char *)dir, (char *)agent, NULL};
	const struct fd_map fds[] = {{0, 0}, {1, 1}, {2, 2}};
	const struct spawn_args a = {.path = script, .argv = argv, .envp = environ, .fds = fds,
				     .n_fds = ARRAY_SIZE(fds), .chdir = "."};
	_cleanup_proc_ struct proc p = PROC_INIT;
	int code = 1, r = proc_spawn(&a, &p);

	if (r == 0)
		r = proc_wait(&p, &code);
	if (r < 0)
		fprintf(stderr, "cannot execute '%s': %s\n", script, strerror(-r));
	return r < 0 ? 1 : code;
}

/* prepare: the script insula-guest-image fetches and unpacks the distribution's kernel and makes the
 * initramfs; then the template is made. */
int cmd_vm_prepare(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *dir = default_dir(), *usual = default_dir(),
			    *script = NULL, *agent = NULL;
	const struct opt opts[] = {
	    {0, "dir", OPT_STR, &dir, "string",
	     "Where the guest kernel and initramfs go (default \"/var/lib/insula/vm\")"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args))
		return c->exit_code;
	if (geteuid() != 0) {
		fprintf(stderr, "insula vm prepare must be run as root\n");
		return 1;
	}
	script = cli_find_program("../../tools/guest-image", "lib/insula/insula-guest-image");
	agent = cli_find_program("agent/insula-agent", "lib/insula/insula-agent");
	if (!script || !agent) {
		fprintf(stderr, "insula vm prepare: '%s' is not installed\n",
			script ? "insula-agent" : "insula-guest-image");
		return 1;
	}
	if (fs_mkdir_p(dir, 0711) < 0) {
		fprintf(stderr, "cannot create directory '%s': %s\n", dir, strerror(errno));
		return 1;
	}
	return run_script(script, dir, agent) ?: (streq(dir, usual) ? make_template(c) : 0);
}

static const struct field fields[] = {
    {"Created", "CREATED"},
    {"InUse", "IN USE"},
    {"Name", "TEMPLATE"},
    {"Size", "SIZE"},
    {NULL, NULL},
};

int cmd_vm_ls(struct cli *c, int argc, char **argv)
{
	static const struct list_spec spec = {
		.fields = fields, .quiet = "{{.Name}}", .go_type = "*insula.template", .sort = "Name",
		.table = "{{.Name}}\t{{.Created}}\t{{.Size}}\t{{.InUse}}",
	};
	_cleanup_free_ char *format = NULL, **args = NULL;
	_cleanup_json_ struct json *answer = NULL, *rows = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_list_ struct list list = {0};
	bool quiet = false;
	const struct opt opts[] = {{0, "format", OPT_STR, &format, "string",
				    "Format output: 'table', 'table TEMPLATE', 'json' or a Go template"},
				   {'q', "quiet", OPT_BOOL, &quiet, NULL, "Only display names"},
				   OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args) || !list_open(&list, &spec, format, quiet))
		return args ? 1 : c->exit_code;
	if (api_call(c, "GET", "/vm/templates", NULL, &answer, &e) < 0)
		return cli_fail(&e);
	rows = json_array();
	for (size_t i = 0; i < json_len(answer); i++) {
		const struct json *t = json_at(answer, i);
		struct json *row = json_add(rows, json_object());
		_cleanup_free_ char *ago = text_ago(json_get_int(t, "Created", 0)),
				    *size = size_human((double)json_get_int(t, "Size", 0));

		json_set_str(row, "Created", ago);
		json_set_str(row, "InUse", json_get_bool(t, "InUse", false) ? "true" : "false");
		json_set_str(row, "Name", json_get_str(t, "Name") ?: "");
		json_set_str(row, "Size", size);
	}
	return list_print(&list, rows);
}

static char *rm_url(const char *name, void *userdata)
{
	return url_path("/vm/templates/", name, "");
}

int cmd_vm_rm(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL;
	const struct opt opts[] = { OPT_END };

	if (!cli_parse(c, opts, argc, argv, 0, 1, ARGS_ANY, &args))
		return c->exit_code;
	return targets_call(c, args, "DELETE", rm_url, NULL, 0);
}

static const char *driver_status(const struct json *info, const char *key)
{
	const struct json *list = json_get(info, "DriverStatus");

	for (size_t i = 0; i < json_len(list); i++)
		if (streq(json_str(json_at(json_at(list, i), 0)), key))
			return json_str(json_at(json_at(list, i), 1));
	return NULL;
}

int cmd_vm_status(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *path = NULL, *release = NULL;
	_cleanup_json_ struct json *info = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	const char *root;
	const struct opt opts[] = { OPT_END };

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args))
		return c->exit_code;
	if (api_call(c, "GET", "/info", NULL, &info, &e) < 0)
		return cli_fail(&e);
	root = json_get_str(info, "DockerRootDir") ?: "/var/lib/insula";
	path = xasprintf("%s/vm/kernel-release", root);
	printf("Default isolation: %s\n", json_get_str(info, "Isolation") ?: "");
	printf("hyperv:            %s\n", driver_status(info, "hyperv") ?: "unknown");
	if (fs_read_line(AT_FDCWD, path, &release) >= 0)
		printf("Guest kernel:      %s\n", release);
	else
		printf("Guest kernel:      none in %s/vm: run 'insula vm prepare'\n", root);
	return 0;
}
