#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static char *default_dir(void)
{
	const char *root = getenv("INSULA_DATA_ROOT");

	return xasprintf("%s/vm", str_empty(root) ? "/var/lib/insula" : root);
}

/* prepare: the script insula-guest-image fetches and unpacks the distribution's kernel and makes the
 * initramfs. */
int cmd_vm_prepare(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *dir = default_dir(), *script = NULL, *agent = NULL;
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
	execl(script, script, dir, agent, NULL);
	fprintf(stderr, "cannot execute '%s': %s\n", script, strerror(errno));
	return 1;
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
