#include "cli/download.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>

int download(struct cli *c, const char *target, const char *output, struct err *e)
{
	_cleanup_httpc_ struct httpc *h = NULL;
	_cleanup_close_ int file = -EBADF;
	struct httpc_request req = { .method = "GET", .target = target };
	int r;

	if (!output && isatty(1))
		return err_msg(e, ERR_INVALID, 0,
			       "cowardly refusing to save to a terminal. Use the -o flag or redirect");
	r = api_open(c, &req, &h, NULL, e);
	if (r < 0)
		return r;
	if (output)
		file = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (output && file < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open %s", output);
	r = httpc_copy(h, output ? file : STDOUT_FILENO, NULL);
	if (r < 0 && output)
		(void)unlink(output);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "write %s", output ? output : "the archive") : 0;
}
