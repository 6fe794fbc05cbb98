#include "cli/cmds.h"

#include "base/fd.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static int copy(struct httpc *h, int fd)
{
	static char buf[256 << 10];

	for (;;) {
		ssize_t n = httpc_read(h, buf, sizeof(buf));
		int r = n > 0 ? fd_write_full(fd, buf, (size_t)n) : (int)n;

		if (n <= 0 || r < 0)
			return r;
	}
}

int cmd_export(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *path = NULL, *output = NULL;
	_cleanup_httpc_ struct httpc *h = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_close_ int file = -EBADF;
	struct httpc_request req = { .method = "GET" };
	int r;
	const struct opt opts[] = {
	    {'o', "output", OPT_STR, &output, "string", "Write to a file, instead of STDOUT"}, OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 1, 1, &args))
		return c->exit_code;
	if (!output && isatty(1)) {
		fprintf(stderr, "cowardly refusing to save to a terminal. Use the -o flag or redirect\n");
		return 1;
	}
	path = url_path("/containers/", args[0], "/export");
	req.target = path;
	if (api_open(c, &req, &h, NULL, &e) < 0)
		return cli_fail(&e);
	if (output)
		file = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (output && file < 0) {
		err_set(&e, ERR_SYSTEM, -errno, "open %s", output);
		return cli_fail(&e);
	}
	r = copy(h, output ? file : 1);
	if (r < 0) {
		err_set(&e, ERR_SYSTEM, r, "export of %s", args[0]);
		return cli_fail(&e);
	}
	return 0;
}
