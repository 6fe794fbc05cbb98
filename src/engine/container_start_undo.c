/* The way back from a start that has failed: what there is of it is ended, and then who asked is told. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "engine/network.h"
#include "engine/publish.h"

#include <string.h>

#define RUNTIME_PREFIX                                                                                       \
	"failed to create task for container: failed to create shim task: OCI runtime create failed: "       \
	"insula-runtime create failed: unable to start container process: "

struct failure { struct op *op; int r; struct err err; };

static int exit_code_of(enum err_kind k)
{
	return k == ERR_CMD_NOT_FOUND ? 127 : k == ERR_CMD_NOT_EXECUTABLE ? 126 : 128;
}

/* All that was made is gone: tells who asked. */
static void failed(void *ud)
{
	struct failure *f = ud;
	struct op *op = f->op;
	struct container *c = op->c;

	if (!sandbox_lives(c->engine, c->id))
		endpoints_release(c->engine, c->id, NULL);
	mounts_drop(c);
	if (op->files) {
		op->opened(op, f->r, &f->err);
		err_clear(&f->err);
		free(f);
		return;
	}
	held_drop(c);
	c->starting = false;
	if (json_get_bool(ctr_host(c), "AutoRemove", false)) {
		c->status = CTR_REMOVING;
		container_forget(c, true);
	} else {
		container_save(c);
	}
	op_finish(op, f->r, &f->err);
	err_clear(&f->err);
	free(f);
}

void start_undo(struct op *op, int r, const struct err *e, bool runtime)
{
	struct container *c = op->c;
	struct failure *f = new0(struct failure);
	enum err_kind kind = e && e->kind ? e->kind : ERR_SYSTEM;

	*f = (struct failure){.op = op, .r = r};
	if (runtime && (kind == ERR_SYSTEM || kind == ERR_CMD_NOT_FOUND || kind == ERR_CMD_NOT_EXECUTABLE))
		err_msg(&f->err, kind, r, RUNTIME_PREFIX "%s: unknown", e ? err_text(e) : strerror(-r));
	else
		err_msg(&f->err, kind, r, "%s", e ? err_text(e) : strerror(-r));
	if (!op->files) {
		c->exit_code = exit_code_of(kind);
		str_replace(&c->error, err_text(&f->err));
	}
	publish_stop(c);
	sup_abort(c, failed, f);
}
