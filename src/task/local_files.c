/* The files of a container, whether it runs or only its root file system is here: the work is that of a
 * forked process (files.c), which has nothing of ours but the descriptor of the data. */
#include "task/files.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/sbuf.h"
#include "base/worker.h"
#include "task/local_task.h"

#include <errno.h>

struct call { backend_done_fn done; void *ud; };

static void finished(void *ud, int r, const struct err *e, const struct sbuf *out)
{
	struct call *c = ud;

	c->done(c->ud, r, e, out->buf, r < 0 ? 0 : out->len);
	free(c);
}

void op_files(struct backend *b, const struct msg_files *m, int fd, backend_done_fn done, void *ud)
{
	struct local *l = container_of(b, struct local, b);
	struct ltask *t = ltask_find(l, m->ctr, "");
	_cleanup_close_ int data = fd;
	_cleanup_err_ struct err e = ERR_INIT;
	struct files_job job = { .m = m, .hooks = l->hooks, .userdata = l->userdata, .fd = data };
	struct call *c;
	int r;

	if (!t) {
		r = err_msg(&e, ERR_NOT_FOUND, -ENOENT, "No such container: %s", m->ctr);
		done(ud, r, &e, NULL, 0);
		return;
	}
	job.bundle = t->bundle;
	c = new0(struct call);
	*c = (struct call){ done, ud };
	r = worker_run_alone(l->loop, files_run, &job, data, finished, c);
	if (r < 0) {
		free(c);
		err_set(&e, ERR_SYSTEM, r, "start a worker for container '%s'", m->ctr);
		done(ud, r, &e, NULL, 0);
	}
}
