/* What the commands of insula-runtime share. */
#include "runtime/tool.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

int tool_usage(struct err *e, const char *text)
{
	return err_msg(e, ERR_INVALID, 0, "%s", text);
}

void tool_help(const struct opt *opts, int argc, char **argv)
{
	if (argc < 2 || (!streq(argv[1], "--help") && !streq(argv[1], "-h")))
		return;
	for (const struct command *c = commands; c->name; c++)
		if (streq(c->name, argv[0]))
			printf("Usage:  insula-runtime %s %s\n\n%s\n\n", c->name, c->usage, c->help);
	opt_print_help(opts);
	exit(0);
}

int tool_parse(const struct opt *opts, int argc, char **argv, size_t want, char ***ret, struct err *e)
{
	_cleanup_free_ char *error = NULL, **args = NULL;
	size_t n;

	tool_help(opts, argc, argv);
	if (opt_parse(opts, argc, argv, want == SIZE_MAX, &args, &error) < 0)
		return tool_usage(e, error);
	n = strv_len(args);
	if (want == SIZE_MAX ? n < 1 : n != want)
		return tool_usage(e, "wrong number of arguments (see --help)");
	*ret = TAKE_PTR(args);
	return 0;
}

int tool_write_pid(const char *path, pid_t pid, struct err *e)
{
	char text[16];
	int n = snprintf(text, sizeof text, "%d", pid), r;

	if (!path)
		return 0;
	r = fs_write_atomic(AT_FDCWD, path, text, (size_t)n, 0644, false);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "write pid file '%s'", path) : 0;
}

int tool_open(const char *id, struct state *s, struct rt_container **ret, struct oci_spec **ret_spec,
	      struct err *e)
{
	int r = state_read(id, s, e);

	return r < 0 ? r : state_container(s, ret, ret_spec, e);
}
