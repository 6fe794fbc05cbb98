/* Exit records: what a daemon that was not there finds. Apart from the supervisor itself, because the daemon
 * links this file alone. */
#include "super/super.h"
#include "base/alloc.h"
#include "base/fs.h"

#include <fcntl.h>

#define RECORD_MAX (64u << 10)

static char *record_path(const char *dir, const char *ctr)
{
	return xasprintf("%s/exit-%s", dir, ctr);
}

int exit_record_write(const char *dir, const struct msg_task_state *m)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	_cleanup_free_ char *path = record_path(dir, m->ctr);

	msg_task_state_encode(m, &b);
	/* Not durable: the directory is gone after a reboot anyway, and all containers with it. */
	return fs_write_atomic(AT_FDCWD, path, b.buf, b.len, 0600, false);
}

int exit_record_read(const char *dir, const char *ctr, struct msg_task_state *ret)
{
	_cleanup_free_ char *path = record_path(dir, ctr), *raw = NULL;
	size_t n;
	int r = fs_read(AT_FDCWD, path, RECORD_MAX, &raw, &n);

	return r < 0 ? r : msg_task_state_decode(raw, n, ret);
}
