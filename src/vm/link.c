/* The agent link: HELLO, devices, and what the guest reports. Everything that comes from it is hostile:
 * a frame that breaks the protocol ends the machine, an unknown task or stream is ignored. */
#include "vm/guest_internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/log.h"
#include "base/strv.h"

#include <errno.h>
#include <string.h>

#define BOOT_TIMEOUT_TCG_US (120ull * 1000000)
#define BOOT_TIMEOUT_KVM_US (20ull * 1000000)
#define ENTROPY 256

struct waiter {
	struct guest *guest;
	struct list link;
	backend_done_fn done;
	void *ud;
};

/* --- tasks and their streams --- */

struct gtask *gtask_find(struct guest *g, const char *ctr, const char *exec)
{
	list_for_each(t, &g->tasks, struct gtask, link)
		if (streq(t->ctr, ctr) && streq(t->exec, exec))
			return t;
	return NULL;
}

void gtask_free(struct gtask *t)
{
	list_remove(&t->link);
	loop_source_free(t->kill_timer);
	for (int i = 0; i < 3; i++)
		stream_free(t->s[i]);
	free(t->ctr);
	free(t->exec);
	free(t);
}

static int stream_index(struct gtask *t, struct stream *s)
{
	return s == t->s[2] ? 2 : s == t->s[1] ? 1 : 0;
}

static void on_data(struct stream *s, const void *p, size_t n, void *ud)
{
	struct gtask *t = ud;
	struct guest *g = t->guest;
	int i = stream_index(t, s);

	if (t->paused)
		t->untaken[i] += n;
	else
		stream_taken(s, n);
	if (i)
		g->b.events->output(g->b.userdata, t->ctr, t->exec, (enum task_stream)i, p, n);
}

static void on_eof(struct stream *s, void *ud)
{
	struct gtask *t = ud;
	int i = stream_index(t, s);

	if (i)
		t->guest->b.events->output_eof(t->guest->b.userdata, t->ctr, t->exec, (enum task_stream)i);
}

static void on_writable(struct stream *s, void *ud)
{
	struct gtask *t = ud;

	t->guest->b.events->stdin_ready(t->guest->b.userdata, t->ctr, t->exec);
}

static const struct stream_ops stream_ops = { on_data, on_eof, on_writable };

int gtask_open_streams(struct gtask *t, uint32_t base)
{
	for (uint32_t i = 0; i < 3; i++) {
		int r = stream_open(t->guest->streams, base + i, &stream_ops, t, &t->s[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

/* --- frames of the guest --- */

static int on_task_state(struct guest *g, const struct frame *f)
{
	struct msg_task_state m;
	struct gtask *t;
	int r = msg_task_state_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	t = gtask_find(g, m.ctr, m.exec);
	if (t && m.state == TASK_EXITED && !t->exited) {
		t->exited = true;
		loop_source_free(t->kill_timer);
		t->kill_timer = NULL;
		g->b.events->exited(g->b.userdata, t->ctr, t->exec, (int)(m.exit_code & 0xff), now_real_ns(), m.oom, m.error);
	}
	msg_task_state_done(&m);
	return 0;
}

static void on_frame(struct conn *c, const struct frame *f, int *fds, size_t n_fds, void *ud)
{
	struct guest *g = ud;
	int r = -EPROTO;

	if (f->type == MSG_TASK_STATE)
		r = on_task_state(g, f);
	else if (f->type == MSG_DATA || f->type == MSG_STREAM_EOF || f->type == MSG_CREDIT)
		r = streams_frame(g->streams, f);
	if (r < 0) {
		log_error("the guest broke the protocol (%s): ending it", msg_type_name(f->type));
		g->vmm->ops->kill(g->vmm);
	}
}

static void on_close(struct conn *c, int r, void *ud)
{
	struct guest *g = ud;

	/* QEMU holds the other end: it is going, or the guest sent what no frame is. */
	if (r < 0 && g->vmm)
		g->vmm->ops->kill(g->vmm);
}

static const struct conn_ops conn_ops = { on_frame, on_close };

int link_open(struct guest *g, int fd)
{
	int r = conn_new(g->loop, fd, true, &conn_ops, g, &g->conn);

	return r == 0 ? streams_new(g->conn, &g->streams) : r;
}

void link_close(struct guest *g)
{
	_cleanup_err_ struct err e = ERR_INIT;

	err_msg(&e, ERR_UNAVAILABLE, -EIO, "the virtual machine ended");
	for (struct waiter *w; (w = list_first(&g->booting, struct waiter, link));) {
		list_remove(&w->link);
		w->done(w->ud, -EIO, &e, NULL, 0);
		free(w);
	}
	list_for_each(t, &g->tasks, struct gtask, link)
		for (int i = 0; i < 3; i++) {
			stream_free(t->s[i]);
			t->s[i] = NULL;
		}
	streams_free(g->streams);
	g->streams = NULL;
	conn_free(g->conn);
	g->conn = NULL;
}

/* --- boot --- */

static void answer_waiters(struct guest *g, int r, const struct err *e)
{
	struct list batch;

	if (list_empty(&g->booting))
		return;
	batch = g->booting;
	batch.next->prev = batch.prev->next = &batch;
	list_init(&g->booting);
	for (struct waiter *w; (w = list_first(&batch, struct waiter, link));) {
		list_remove(&w->link);
		w->done(w->ud, r, e, NULL, 0);
		free(w);
	}
}

static void on_guest_ready(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct guest *g = ud;

	if (r < 0) {
		_cleanup_err_ struct err why = ERR_INIT;

		err_msg(&why, ERR_SYSTEM, r, "prepare the virtual machine: %s", err_text(e));
		answer_waiters(g, r, &why);
		return;
	}
	g->phase = GUEST_UP;
	answer_waiters(g, 0, NULL);
}

/* Also sent again when devices of a further container have come. */
static void send_guest(struct guest *g)
{
	uint8_t entropy[ENTROPY];
	const struct msg_sandbox *s = &g->conf;
	bool bridged = streq(s->net, "bridge");
	struct msg_guest m = {
		.sandbox = g->sandbox, .entropy = { entropy, sizeof entropy }, .time_ns = now_real_ns(), .hostname = s->hostname,
		.mac = bridged ? s->mac : NULL, .address = bridged ? s->address : NULL, .prefix = s->prefix,
		.gateway = bridged ? s->gateway : NULL, .mtu = s->mtu, .disks = g->disks, .tags = g->tags,
	};

	random_bytes(entropy, sizeof entropy);
	CONN_REQUEST(g->conn, GUEST, guest, &m, -EBADF, on_guest_ready, g);
}

static void on_hello(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct guest *g = ud;
	struct msg_hello h;

	loop_source_free(g->deadline);
	g->deadline = NULL;
	if (r == 0)
		r = msg_hello_decode(p, n, &h);
	if (r == 0) {
		r = h.version == PROTO_VERSION ? 0 : -EPROTO;
		msg_hello_done(&h);
	}
	if (r < 0) {
		log_error("the agent did not say hello: %s", e ? err_text(e) : strerror(-r));
		g->vmm->ops->kill(g->vmm);
		return;
	}
	send_guest(g);
}

static void on_deadline(struct loop_source *s, void *ud)
{
	struct guest *g = ud;
	_cleanup_err_ struct err e = ERR_INIT;

	loop_source_free(g->deadline);
	g->deadline = NULL;
	err_msg(&e, ERR_SYSTEM, -ETIMEDOUT, "VM did not start: no word from its agent%s%s", *g->vmm->ops->console(g->vmm) ? ": " : "",
		g->vmm->ops->console(g->vmm));
	answer_waiters(g, -ETIMEDOUT, &e);
	g->vmm->ops->kill(g->vmm);
}

static void on_running(void *ud, int r, const struct err *e)
{
	struct guest *g = ud;
	struct msg_hello m = { PROTO_VERSION, g->sandbox, (char *)"vmwp", (uint32_t)getpid() };
	bool kvm = streq(g->conf.accel, "kvm");

	if (r < 0) {
		answer_waiters(g, r, e);
		return;
	}
	(void)loop_add_timer(g->loop, kvm ? BOOT_TIMEOUT_KVM_US : BOOT_TIMEOUT_TCG_US, 0, on_deadline, g, &g->deadline);
	CONN_REQUEST(g->conn, HELLO, hello, &m, -EBADF, on_hello, g);
}

void link_ready(struct guest *g, backend_done_fn done, void *ud)
{
	struct waiter *w = new0(struct waiter);

	*w = (struct waiter){ .guest = g, .done = done, .ud = ud };
	list_append(&g->booting, &w->link);
	if (g->phase == GUEST_STOPPED) {
		g->phase = GUEST_BOOTING;
		g->vmm->ops->go(g->vmm, on_running, g);
	} else if (g->phase == GUEST_UP) {
		send_guest(g);
	}
}
