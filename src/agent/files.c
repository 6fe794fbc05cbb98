/* Files of a container, for vmwp: the work is done by task/, its data goes through a stream of the link. */
#include "agent/agent.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/sock.h"
#include "base/strv.h"
#include "proto/relay.h"

#include <errno.h>
#include <string.h>

struct transfer {
	struct list link;
	struct agent *a;
	struct relay *relay;
	void (*gone)(struct agent *a);
};

static void transfer_free(struct transfer *t)
{
	list_remove(&t->link);
	relay_free(t->relay);
	if (t->gone)
		t->gone(t->a);
	free(t);
}

static void on_over(struct relay *r, void *ud)
{
	transfer_free(ud);
}

void files_unlink(struct agent *a)
{
	list_for_each(t, &a->relays, struct transfer, link)
		transfer_free(t);
}

int transfer_open(struct agent *a, uint32_t stream, int fd, void (*gone)(struct agent *a))
{
	struct transfer *t = new0(struct transfer);
	int r;

	t->a = a;
	list_append(&a->relays, &t->link);
	r = relay_new(a->loop, a->streams, stream, RELAY_SOCKET(fd), on_over, t, &t->relay);
	if (r < 0)
		transfer_free(t);
	else
		t->gone = gone;
	return r;
}

static void done(void *ud, int r, const struct err *e, const void *payload, size_t n)
{
	pending_reply(ud, r, e, payload, n);
}

/* Connects a stream to one end of a new pair of sockets. The other end, or -errno. */
static int open_pair(struct agent *a, uint32_t stream)
{
	int pair[2], r = sock_pair(pair);

	if (r < 0)
		return r;
	r = transfer_open(a, stream, pair[0], NULL);
	if (r < 0) {
		close(pair[1]);
		return r;
	}
	return pair[1];
}

int files_request(struct agent *a, const struct frame *f)
{
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_free_ char *spec = NULL;
	struct msg_files m, local;
	int fd = -EBADF, r = msg_files_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	local = m;
	if (m.spec.n) {
		r = spec_rewrite(a, &m.spec, NULL, &spec, &e);
		if (spec)
			local.spec = (struct bytes){ (uint8_t *)spec, strlen(spec) };
		if (r == -ENODATA)
			r = 0;
	}
	if (r >= 0 && m.stream) {
		fd = open_pair(a, m.stream);
		if (fd < 0)
			r = err_set(&e, ERR_SYSTEM, fd, "open stream %u", m.stream);
	}
	if (r < 0)
		conn_reply(a->conn, f->seq, r, &e, NULL, 0);
	else
		a->backend->ops->files(a->backend, &local, fd, done,
				       pending_new(a, f->seq, MSG_FILES, m.ctr, ""));
	msg_files_done(&m);
	return 0;
}
