/* The agent link: HELLO, devices, and what the guest reports. Everything that comes from it is hostile:
 * a frame that breaks the protocol ends the machine, an unknown task or stream is ignored. */
#include "base/alloc.h"
#include "base/id.h"
#include "base/log.h"
#include "base/strv.h"
#include "vm/guest_internal.h"
#include "vm/output.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* From "go" to the agent's HELLO: generous, for a loaded host under software emulation. With KVM a second
 * does, but to be late on a loaded host, or nested, is no proof that KVM is broken. */
#define BOOT_TIMEOUT_TCG_S 120
#define BOOT_TIMEOUT_KVM_S 45
#define LEAVE_US 2000000	/* QEMU ends soon after it has closed the link */
#define ENTROPY 256
#define REASON_MAX 512
/* What the guest may let pile up by asking and not reading: a request or two and their credit. */
#define QUEUE_MAX (16u << 20)

unsigned guest_patience(const struct guest *g)
{
	if (g->patience_s)
		return g->patience_s;
	return streq(g->conf.accel, "kvm") ? BOOT_TIMEOUT_KVM_S : BOOT_TIMEOUT_TCG_S;
}

/* --- streams --- */

static int stream_index(const struct gtask *t, const struct stream *s)
{
	return s == t->s[TASK_STDERR] ? TASK_STDERR : s == t->s[TASK_STDOUT] ? TASK_STDOUT : TASK_STDIN_FD;
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
	if (i != TASK_STDIN_FD)
		g->b.events->output(g->b.userdata, t->ctr, t->exec, (enum task_stream)i, p, n);
}

static void on_eof(struct stream *s, void *ud)
{
	struct gtask *t = ud;
	int i = stream_index(t, s);

	if (i == TASK_STDIN_FD || t->eof[i] || (t->tty && i == TASK_STDERR))
		return;
	t->eof[i] = true;
	t->guest->b.events->output_eof(t->guest->b.userdata, t->ctr, t->exec, (enum task_stream)i);
}

static void on_writable(struct stream *s, void *ud)
{
	struct gtask *t = ud;

	if (stream_index(t, s) == TASK_STDIN_FD)
		t->guest->b.events->stdin_ready(t->guest->b.userdata, t->ctr, t->exec);
}

static const struct stream_ops stream_ops = { on_data, on_eof, on_writable };

int gtask_open_streams(struct gtask *t, uint32_t base)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < ARRAY_SIZE(t->s); i++)
		r = stream_open(t->guest->streams, base + i, &stream_ops, t, &t->s[i]);
	return r;
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
		_cleanup_free_ char *reason = text_clean(m.error, REASON_MAX);

		t->exited = true;
		loop_source_free(t->kill_timer);
		t->kill_timer = NULL;
		/* The time is ours: the guest's clock is its own affair. */
		g->b.events->exited(g->b.userdata, t->ctr, t->exec, (int)(m.exit_code & 0xff), now_real_ns(),
				    m.oom != 0, reason);
	}
	msg_task_state_done(&m);
	return 0;
}

static int on_memory(struct guest *g, const struct frame *f)
{
	struct msg_memory m;
	int r = msg_memory_decode(f->payload, f->len, &m);

	if (r == 0)
		guest_memory(g, &m);
	return r;
}

static void on_frame(struct conn *c, const struct frame *f, int *fds, size_t n_fds, void *ud)
{
	struct guest *g = ud;
	int r = -EPROTO;

	if (g->why)
		return;		/* it is being ended already */
	if (f->type == MSG_TASK_STATE)
		r = on_task_state(g, f);
	else if (f->type == MSG_DATA || f->type == MSG_STREAM_EOF ||
		 f->type == MSG_STREAM_STOP || f->type == MSG_CREDIT)
		r = streams_frame(g->streams, f);
	else if (f->type == MSG_PIPE_OPEN)
		r = pipe_open(g, f);
	else if (f->type == MSG_MEMORY)
		r = on_memory(g, f);
	if (r == 0 && conn_queued(c) > QUEUE_MAX)
		r = -ENOBUFS;
	if (r < 0) {
		log_error("sandbox '%s': the guest broke the protocol (%s): %s", g->sandbox,
			  msg_type_name(f->type) ?: "?", strerror(-r));
		machine_kill(g, "its agent broke the protocol");
	}
}

static void on_not_gone(struct loop_source *s, void *ud)
{
	machine_kill(ud, "the link to its agent was closed");
}

/* QEMU holds the other end: it has ended or is about to, or the guest has sent what no frame is. */
static void on_close(struct conn *c, int r, void *ud)
{
	struct guest *g = ud;

	g->hung_up = true;
	if (g->words) {
		machine_ended(g);
	} else if (r == -EPROTO) {
		machine_kill(g, "its agent broke the protocol");
	} else {
		loop_source_free(g->deadline);
		g->deadline = NULL;
		(void)loop_add_timer(g->loop, LEAVE_US, 0, on_not_gone, g, &g->deadline);
	}
}

static const struct conn_ops conn_ops = { on_frame, on_close };

int link_open(struct guest *g, int fd)
{
	int r = conn_new(g->loop, fd, true, &conn_ops, g, &g->conn);

	return r == 0 ? streams_new(g->conn, &g->streams) : r;
}

void link_hang_up(struct guest *g)
{
	if (g->conn && !g->hung_up)
		(void)shutdown(conn_fd(g->conn), SHUT_RDWR);
	else
		machine_ended(g);
}

void link_close(struct guest *g)
{
	list_for_each(t, &g->tasks, struct gtask, link)
		for (size_t i = 0; i < ARRAY_SIZE(t->s); i++) {
			stream_free(t->s[i]);
			t->s[i] = NULL;
		}
	transfers_close(g);
	streams_free(g->streams);
	g->streams = NULL;
	conn_free(g->conn);
	g->conn = NULL;
}

/* --- devices --- */

struct waiter {
	struct list link;
	backend_done_fn done;
	void *ud;
};

/* A GUEST request on its way, and those who wait for the devices it names. */
struct batch {
	struct guest *g;
	struct list waiters;
};

static void list_move(struct list *to, struct list *from)
{
	list_init(to);
	for (struct list *l = from->next; l != from; l = from->next) {
		list_remove(l);
		list_append(to, l);
	}
}

static void answer(struct list *waiters, int r, const struct err *e)
{
	struct list batch;

	list_move(&batch, waiters);
	for (struct waiter *w; (w = list_first(&batch, struct waiter, link));) {
		list_remove(&w->link);
		w->done(w->ud, r, e, NULL, 0);
		free(w);
	}
}

void link_refuse(struct guest *g, const struct err *e)
{
	answer(&g->waiting, -EIO, e);
}

static void send_guest(struct guest *g);

static void on_guest_ready(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct batch *b = ud;
	struct guest *g = b->g;

	g->telling = false;
	g->told |= r == 0;
	if (r == -ECONNRESET) {
		/* machine_ended() knows better what to say. */
		for (struct list *l = b->waiters.next; l != &b->waiters; l = b->waiters.next) {
			list_remove(l);
			list_append(&b->g->waiting, l);
		}
	} else if (r < 0) {
		_cleanup_free_ char *text = text_clean(e ? err_text(e) : strerror(-r), REASON_MAX);
		_cleanup_err_ struct err why = ERR_INIT;

		err_msg(&why, ERR_SYSTEM, r, "prepare the virtual machine: %s", text);
		answer(&b->waiters, r, &why);
	} else {
		answer(&b->waiters, 0, NULL);
	}
	free(b);
	if (r != -ECONNRESET && !list_empty(&g->waiting) && !g->telling)
		send_guest(g);
}

/* Sent again when devices of a further container have come: those only, who it is the machine knows. */
static void send_guest(struct guest *g)
{
	const struct msg_sandbox *s = &g->conf;
	bool first = !g->told;
	_cleanup_strv_ char **places = NULL;
	uint8_t entropy[ENTROPY];
	struct batch *b = new0(struct batch);

	list_for_each(d, &g->disks, struct disk, link)
		if (d->here && !d->known) {
			strv_add(&places, d->place);
			d->known = true;
		}
	struct msg_guest m = {
	    .memory = first && s->memory_extra > 0,
	    .memory_most = first ? s->memory_most : 0,
	    .sandbox = g->sandbox,
	    .entropy = {entropy, sizeof entropy},
	    .time_ns = first ? now_real_ns() : 0,
	    .hostname = first ? s->hostname : NULL,
	    .nics = s->nics,
	    .disks = places,
	    .tags = g->tags,
	};

	random_bytes(entropy, sizeof entropy);
	b->g = g;
	g->telling = true;
	g->telling_for = 0;
	guest_count(g);
	list_move(&b->waiters, &g->waiting);
	CONN_REQUEST(g->conn, GUEST, guest, &m, -EBADF, on_guest_ready, b);
	explicit_bzero(entropy, sizeof entropy);
}

/* --- boot --- */

static void on_hello(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct guest *g = ud;
	struct msg_hello h;
	bool fits;

	if (r == -ECONNRESET || g->phase != GUEST_BOOTING)
		return;
	loop_source_free(g->deadline);
	g->deadline = NULL;
	if (r != -EPROTONOSUPPORT && (r < 0 || msg_hello_decode(p, n, &h) < 0)) {
		machine_kill(g, "its agent does not speak our protocol");
		return;
	}
	fits = r == 0 && h.version == AGENT_VERSION;
	if (r == 0)
		msg_hello_done(&h);
	if (!fits) {
		machine_kill(g, "its agent is of another version: \"insula vm prepare\" makes one "
				"that fits");
		return;
	}
	g->phase = GUEST_UP;
	send_guest(g);
}

static void on_deadline(struct loop_source *s, void *ud)
{
	struct guest *g = ud;
	_cleanup_free_ char *why = xasprintf("no word from its agent in %u s", guest_patience(g));

	machine_kill(g, why);
}

static void on_running(void *ud, int r, const struct err *e)
{
	struct guest *g = ud;
	struct msg_hello m = { AGENT_VERSION, g->sandbox, (char *)"vmwp", (uint32_t)getpid() };

	if (r < 0) {
		machine_kill(g, err_text(e));
		return;
	}
	(void)loop_add_timer(g->loop, guest_patience(g) * 1000000ull, 0, on_deadline, g, &g->deadline);
	CONN_REQUEST(g->conn, HELLO, hello, &m, -EBADF, on_hello, g);
}

void link_ready(struct guest *g, backend_done_fn done, void *ud)
{
	struct waiter *w;

	if (g->phase == GUEST_GONE || g->why) {
		refuse_gone(done, ud);
		return;
	}
	w = new0(struct waiter);
	*w = (struct waiter){ .done = done, .ud = ud };
	list_append(&g->waiting, &w->link);
	if (g->phase == GUEST_STOPPED) {
		g->phase = GUEST_BOOTING;
		g->vmm->ops->go(g->vmm, on_running, g);
	} else if (g->phase == GUEST_UP && !g->telling) {
		send_guest(g);
	}
}
