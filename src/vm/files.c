/* FILES: the request goes on to the agent as it is, its data through a stream of its own. */
#include "base/alloc.h"
#include "base/fd.h"
#include "base/strv.h"
#include "proto/relay.h"
#include "vm/guest_internal.h"

#include <errno.h>

#define FINISH_MS 1000

struct transfer {
	struct list link;
	struct relay *relay;
	void (*gone)(void *userdata);
	void *userdata;
};

static void transfer_free(struct transfer *t)
{
	list_remove(&t->link);
	relay_free(t->relay);
	if (t->gone)
		t->gone(t->userdata);
	free(t);
}

void transfer_then(struct transfer *t, void (*gone)(void *userdata), void *userdata)
{
	t->gone = gone;
	t->userdata = userdata;
}

static void on_over(struct relay *r, void *ud)
{
	transfer_free(ud);
}

void transfers_close(struct guest *g)
{
	/* What a container has written to a FIFO before its end is on its way, as it would be in a pipe. */
	list_for_each(t, &g->transfers, struct transfer, link) {
		relay_finish(t->relay, FINISH_MS);
		transfer_free(t);
	}
}

static bool is_file_stat(const void *p, size_t n)
{
	struct msg_file_stat m;

	if (msg_file_stat_decode(p, n, &m) < 0)
		return false;
	msg_file_stat_done(&m);
	return true;
}

static bool is_empty(const void *p, size_t n)
{
	return n == 0;
}

struct call {
	struct guest *g;
	struct transfer *t;
	backend_done_fn done;
	void *ud;
};

/* Whether the transfer of a call is still there: it ends by itself. */
static struct transfer *still(struct call *c)
{
	list_for_each(t, &c->g->transfers, struct transfer, link)
		if (t == c->t)
			return t;
	return NULL;
}

/* After a failure the guest may never end its stream. */
static void on_done(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct call *c = ud;

	if (r < 0 && still(c))
		transfer_free(c->t);
	c->done(c->ud, r, e, p, n);
	free(c);
}

void transfer_retry(struct transfer *t)
{
	relay_retry(t->relay);
}

int transfer_open(struct guest *g, uint32_t stream, const struct relay_end *end, struct transfer **ret)
{
	struct transfer *t = new0(struct transfer);
	int r;

	list_append(&g->transfers, &t->link);
	r = relay_new(g->loop, g->streams, stream, end, on_over, t, &t->relay);
	if (r < 0)
		transfer_free(t);
	else
		*ret = t;
	return r;
}

void guest_files(struct guest *g, const struct msg_files *m, int fd, backend_done_fn done, void *ud)
{
	_cleanup_close_ int data = fd;
	struct msg_files to_agent = *m;
	struct forward *f;
	struct call *c;
	int r = 0;

	if (g->phase != GUEST_UP) {
		refuse_gone(done, ud);
		return;
	}
	c = new0(struct call);
	*c = (struct call){ .g = g, .done = done, .ud = ud };
	f = forward_new(g, m->ctr, "", on_done, c);
	forward_check(f, m->op == FILES_STAT ? is_file_stat : is_empty);
	to_agent.stream = 0;
	if (data >= 0) {
		to_agent.stream = g->next_stream++;
		r = transfer_open(g, to_agent.stream, RELAY_SOCKET(TAKE_FD(data)), &c->t);
	}
	if (r < 0)
		forwarded(f, r, NULL, NULL, 0);
	else
		CONN_REQUEST(g->conn, FILES, files, &to_agent, -EBADF, forwarded, f);
}
