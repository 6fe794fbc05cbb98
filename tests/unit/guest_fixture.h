/* The backend of vmwp with a machine that is none: the test holds the guest's end of the agent link. What it
 * tells its owner is in a log. For test_guest.c and test_guest_hostile.c. */
#pragma once

#include "tests/unit/test.h"
#include "tests/fake_machine.h"

#include "base/alloc.h"
#include "base/sock.h"
#include "proto/conn.h"
#include "vm/guest_internal.h"

#include <signal.h>
#include <sys/socket.h>

#define CTR "0123456789abcdef"
#define MB (1ull << 20)
#define GB (1ull << 30)

/* --- the owner of the backend --- */

struct fixture {
	struct loop *loop;
	struct backend *b;
	char log[4096];
	char dir[64];
	uint32_t stream;	/* of the last CREATE */
	uint8_t in[65536];
	size_t n_in;
	int server;		/* listens on the socket that the guest may connect to */
};

static void note(struct fixture *f, const char *fmt, ...) _printf_(2, 3);
static void note(struct fixture *f, const char *fmt, ...)
{
	size_t n = strlen(f->log);
	va_list ap;

	va_start(ap, fmt);
	if (n)
		f->log[n++] = '\n';
	vsnprintf(f->log + n, sizeof f->log - n, fmt, ap);
	va_end(ap);
}

static void ev_output(void *ud, const char *ctr, const char *exec, enum task_stream s, const void *p,
		      size_t n)
{
	note(ud, "output %d %.*s", s, n > 40 ? 40 : (int)n, (const char *)p);
}

static void ev_eof(void *ud, const char *ctr, const char *exec, enum task_stream s)
{
	note(ud, "eof %s%d", exec, s);
}

static void ev_ready(void *ud, const char *ctr, const char *exec)
{
	note(ud, "stdin");
}

static void ev_exited(void *ud, const char *ctr, const char *exec, int code, uint64_t when, bool oom,
		      const char *reason)
{
	note(ud, "exited %s%d %s", exec, code, reason);
}

static void ev_lost(void *ud, const char *reason)
{
	note(ud, "lost %s", reason);
}

static const struct backend_events events = { ev_output, ev_eof, ev_ready, ev_exited, ev_lost };

static void done(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	note(ud, "done %s", r < 0 ? e ? err_text(e) : "?" : "ok");
}

static void spin(struct fixture *f)
{
	for (int i = 0; i < 10; i++)
		(void)loop_run_once(f->loop, 1);
}

static const char *take_log(struct fixture *f)
{
	static char copy[sizeof f->log];

	spin(f);
	memcpy(copy, f->log, sizeof copy);
	f->log[0] = 0;
	return copy;
}

/* --- the guest --- */

static void guest_writes(uint16_t type, uint32_t seq, uint32_t stream, const void *p, size_t n)
{
	struct frame h = { .len = (uint32_t)n, .type = type, .seq = seq, .stream = stream };
	uint8_t hdr[FRAME_HDR];

	frame_encode_hdr(&h, hdr);
	if (fd_write_full(machine.link, hdr, sizeof hdr) == 0)
		(void)fd_write_full(machine.link, p, n);
}

static void guest_says(struct fixture *f, uint16_t type, uint32_t seq, uint32_t stream, const void *p,
		       size_t n)
{
	guest_writes(type, seq, stream, p, n);
	spin(f);
}

/* The next frame the guest got: its type, 0 if there is none. */
static uint16_t guest_hears(struct fixture *f, struct frame *ret)
{
	static uint8_t payload[sizeof f->in];
	ssize_t n;

	spin(f);
	n = read(machine.link, f->in + f->n_in, sizeof f->in - f->n_in);
	f->n_in += n > 0 ? (size_t)n : 0;
	n = frame_decode(f->in, f->n_in, ret);
	if (n <= 0)
		return 0;
	memcpy(payload, ret->payload, ret->len);
	ret->payload = payload;
	f->n_in -= (size_t)n;
	memmove(f->in, f->in + n, f->n_in);
	return ret->type;
}

static void guest_replies(struct fixture *f, uint32_t seq, uint32_t kind, const char *message, const void *p,
			  size_t n)
{
	struct msg_reply m = { .kind = kind, .errnum = kind ? EIO : 0, .message = (char *)message,
			       .payload = { (uint8_t *)p, n } };
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	msg_reply_encode(&m, &b);
	guest_says(f, MSG_REPLY, seq, 0, b.buf, b.len);
}

/* Expects a request and answers it. */
static void guest_serves(struct fixture *f, uint16_t type, const void *p, size_t n)
{
	struct frame fr;

	assert_int_equal(guest_hears(f, &fr), type);
	if (type == MSG_CREATE) {
		struct msg_create m;

		assert_int_equal(msg_create_decode(fr.payload, fr.len, &m), 0);
		f->stream = m.stream;
		msg_create_done(&m);
	}
	guest_replies(f, fr.seq, 0, NULL, p, n);
}

static void guest_says_hello(struct fixture *f, uint32_t version)
{
	struct msg_hello m = { .version = version };
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	msg_hello_encode(&m, &b);
	guest_serves(f, MSG_HELLO, b.buf, b.len);
}

static void guest_tells_exit(struct fixture *f, const char *ctr, uint32_t code, const char *why)
{
	struct msg_task_state m = {
	    .ctr = (char *)ctr, .state = TASK_EXITED, .exit_code = code, .error = (char *)why};
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	msg_task_state_encode(&m, &b);
	guest_says(f, MSG_TASK_STATE, 0, 0, b.buf, b.len);
}

static void machine_dies(struct fixture *f)
{
	fd_close(&machine.link);
	if (!machine.told)
		machine.v.events->gone(machine.v.userdata, "QEMU was ended by signal 9");
	machine.told = true;
	spin(f);
}

/* --- set-up --- */

static char *file(struct fixture *f, const char *name)
{
	char *path = xasprintf("%s/%s", f->dir, name);

	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	return path;
}

static int setup(void **state)
{
	struct fixture *f = new0(struct fixture);
	_cleanup_free_ char *kernel = NULL;

	snprintf(f->dir, sizeof f->dir, "/tmp/insula-test-guest-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	kernel = file(f, "kernel");
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(guest_new(f->loop, "sb", false, &f->b), 0);
	f->b->events = &events;
	f->b->userdata = f;
	_cleanup_free_ char *path = xasprintf("%s/socket", f->dir);
	char *shares[] = {(char *)"v0", path, (char *)"socket", NULL};

	f->server = sock_listen_unix(path, 0600);
	assert_true(f->server >= 0 && fd_set_nonblock(f->server, true) == 0);
	struct msg_sandbox m = {.net = (char *)"none",
				.shares = shares,
				.accel = (char *)"tcg",
				.kernel = kernel,
				.initrd = kernel,
				.memory = 128 << 20,
				.memory_region = 2 * GB,
				.memory_most = 2 * GB,
				.cgroup = (char *)""};

	f->b->ops->sandbox(f->b, &m, -EBADF, done, f);
	assert_string_equal(take_log(f), "done ok");
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *cmd = xasprintf("rm -rf '%s'", f->dir);

	close(f->server);
	f->b->ops->free(f->b);
	assert_true(machine.freed);
	loop_free(f->loop);
	assert_int_equal(system(cmd), 0);
	free(f);
	return 0;
}

static void create(struct fixture *f, const char *ctr, const char *exec, const char *scratch, uint32_t flags)
{
	_cleanup_free_ char *l0 = file(f, "top"), *l1 = file(f, "low"), *up = file(f, scratch);
	char *lower[] = { l0, l1, NULL };
	struct msg_create m = { .ctr = (char *)ctr, .exec = (char *)exec, .lower = *exec ? NULL : lower,
				.upper = *exec ? (char *)"" : up, .flags = flags,
				.spec = { (uint8_t *)"{}", 2 } };

	f->b->ops->create(f->b, &m, done, f);
}

/* A container runs. */
static void up(struct fixture *f)
{
	create(f, CTR, "", "scratch", 0);
	guest_says_hello(f, AGENT_VERSION);
	guest_serves(f, MSG_GUEST, NULL, 0);
	guest_serves(f, MSG_CREATE, NULL, 0);
	f->b->ops->start(f->b, CTR, "", done, f);
	guest_serves(f, MSG_START, "\1\0\0\0", 4);
	assert_string_equal(take_log(f), "done ok\ndone ok");
}
