#include "cli/program.h"

#include "base/fd.h"
#include "base/proc.h"

#include <string.h>
#include <unistd.h>

int program_run(const char *path, char *const *argv, const char *input, struct sbuf *out, int *ret_code,
		struct err *e)
{
	_cleanup_close_ int in = fd_from_bytes("input", input, strlen(input)), rd = -EBADF;
	_cleanup_proc_ struct proc p = PROC_INIT;
	char buf[4096];
	int pipe[2], r = in < 0 ? in : fd_pipe(pipe, 0);
	ssize_t n;

	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "start %s", path);
	rd = pipe[0];
	const struct fd_map map[] = {{in, 0}, {pipe[1], 1}};
	const struct spawn_args a = {
	    .path = path, .argv = argv, .envp = environ, .fds = map, .n_fds = 2, .keep_stderr = true};

	r = proc_spawn(&a, &p);
	close(pipe[1]);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "start %s", path);
	while ((n = RETRY(read(rd, buf, sizeof buf))) > 0)
		sbuf_add(out, buf, (size_t)n);
	r = proc_wait(&p, ret_code);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "wait for %s", path) : 0;
}
