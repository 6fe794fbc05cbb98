/* The backend of vmwp with a machine that is none: the test holds the guest's end of the agent link, and says
 * what no honest agent says. */
#include "tests/unit/test.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/sock.h"
#include "proto/conn.h"
#include "vm/guest.h"
#include "vm/jail.h"
#include "vm/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define CTR "0123456789abcdef"

/* --- the machine --- */

static struct {
	struct vmm v;
	int link;			/* the guest's end */
	char disks[256];
	bool killed, told, freed, fail_disks;
} machine;

static void fake_start(struct vmm *v, const struct vmm_config *c, vmm_done_fn done, void *ud)
{
	machine.link = fcntl(c->link_fd, F_DUPFD_CLOEXEC, 3);
	assert_int_equal(fd_set_nonblock(machine.link, true), 0);
	done(ud, 0, NULL);
}

static void fake_add_disk(struct vmm *v, const struct vmm_disk *d, vmm_done_fn done, void *ud)
{
	size_t n = strlen(machine.disks);
	struct err e = { ERR_SYSTEM, EIO, (char *)"QEMU: no" };

	snprintf(machine.disks + n, sizeof machine.disks - n, "%s%s%s", n ? "," : "", d->serial,
		 d->read_only ? "" : "+");
	done(ud, machine.fail_disks ? -EIO : 0, machine.fail_disks ? &e : NULL);
}

/* Notes what was taken away behind a minus. */
static void fake_remove_disk(struct vmm *v, const char *serial, vmm_done_fn done, void *ud)
{
	size_t n = strlen(machine.disks);

	snprintf(machine.disks + n, sizeof machine.disks - n, ",-%s", serial);
	done(ud, 0, NULL);
}

static void fake_go(struct vmm *v, vmm_done_fn done, void *ud)
{
	done(ud, 0, NULL);
}

static void fake_kill(struct vmm *v)
{
	machine.killed = true;
}

static const char *fake_console(struct vmm *v)
{
	return "last words";
}

static void fake_free(struct vmm *v)
{
	fd_close(&machine.link);
	machine.freed = true;
}

static const struct vmm_ops fake = {
	.start = fake_start, .add_disk = fake_add_disk, .remove_disk = fake_remove_disk, .go = fake_go,
	.kill = fake_kill, .console = fake_console, .free = fake_free,
};

int qemu_new(struct loop *l, struct vmm **ret)
{
	memset(&machine, 0, sizeof machine);
	machine.v.ops = &fake;
	*ret = &machine.v;
	return 0;
}

const char *qemu_program(void)
{
	return "/bin/true";
}

int drop_capabilities(uint64_t keep)
{
	return 0;
}

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

	strcpy(f->dir, "/tmp/insula-test-guest-XXXXXX");
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
	guest_says_hello(f, PROTO_VERSION);
	guest_serves(f, MSG_GUEST, NULL, 0);
	guest_serves(f, MSG_CREATE, NULL, 0);
	f->b->ops->start(f->b, CTR, "", done, f);
	guest_serves(f, MSG_START, "\1\0\0\0", 4);
	assert_string_equal(take_log(f), "done ok\ndone ok");
}

/* --- tests --- */

static void the_order_of_a_boot(void **state)
{
	struct fixture *f = *state;

	up(f);
	assert_string_equal(machine.disks, "l0,l1,s-0123456789ab+");
	guest_says(f, MSG_DATA, 0, f->stream + 1, "hello", 5);
	guest_says(f, MSG_DATA, 0, f->stream + 2, "err", 3);
	guest_says(f, MSG_STREAM_EOF, 0, f->stream + 1, NULL, 0);
	guest_says(f, MSG_STREAM_EOF, 0, f->stream + 2, NULL, 0);
	guest_tells_exit(f, CTR, 3, "");
	assert_string_equal(take_log(f), "output 1 hello\noutput 2 err\neof 1\neof 2\nexited 3 ");
	assert_false(machine.killed);
}

static void disks_are_attached_once(void **state)
{
	struct fixture *f = *state;
	struct frame fr;
	struct msg_create m;

	up(f);
	create(f, "other", "", "second", 0);
	guest_serves(f, MSG_GUEST, NULL, 0);
	assert_string_equal(machine.disks, "l0,l1,s-0123456789ab+,s-other+");
	assert_int_equal(guest_hears(f, &fr), MSG_CREATE);
	assert_int_equal(msg_create_decode(fr.payload, fr.len, &m), 0);
	assert_string_equal(m.lower[0], "l0");
	assert_string_equal(m.lower[1], "l1");
	assert_string_equal(m.upper, "s-other");
	msg_create_done(&m);
}

static void a_disk_that_fails(void **state)
{
	struct fixture *f = *state;

	machine.fail_disks = true;
	create(f, CTR, "", "scratch", 0);
	assert_string_equal(take_log(f), "done QEMU: no");
	machine.fail_disks = false;
	up(f);
}

static void further_creations_wait_for_the_boot(void **state)
{
	struct fixture *f = *state;

	create(f, CTR, "", "scratch", 0);
	create(f, "other", "", "second", 0);
	guest_says_hello(f, PROTO_VERSION);
	guest_serves(f, MSG_GUEST, NULL, 0);
	guest_serves(f, MSG_CREATE, NULL, 0);
	guest_serves(f, MSG_CREATE, NULL, 0);
	assert_string_equal(take_log(f), "done ok\ndone ok");
}

static void a_guest_that_cannot_prepare(void **state)
{
	struct fixture *f = *state;
	struct frame fr;

	create(f, CTR, "", "scratch", 0);
	guest_says_hello(f, PROTO_VERSION);
	assert_int_equal(guest_hears(f, &fr), MSG_GUEST);
	guest_replies(f, fr.seq, ERR_SYSTEM, "no\033[31m disk\n", NULL, 0);
	assert_string_equal(take_log(f), "done prepare the virtual machine: no [31m disk ");
}

static void the_death_of_the_machine_ends_all(void **state)
{
	struct fixture *f = *state;

	up(f);
	create(f, CTR, "e", "", TASK_TTY);
	guest_serves(f, MSG_CREATE, NULL, 0);
	(void)take_log(f);
	f->b->ops->ps(f->b, CTR, done, f);
	/* Sent before the end, read after it. */
	guest_says(f, MSG_DATA, 0, f->stream + 1, "last", 4);
	machine_dies(f);
	assert_string_equal(take_log(f), "output 1 last\ndone the virtual machine ended\neof 1\neof 2\n"
			    "exited 137 the virtual machine ended: QEMU was ended by signal 9\neof e1\n"
			    "exited e137 the virtual machine ended: QEMU was ended by signal 9\n"
			    "lost the virtual machine ended: QEMU was ended by signal 9");
	create(f, CTR, "f", "", 0);
	f->b->ops->del(f->b, CTR, "", done, f);
	f->b->ops->shutdown(f->b, done, f);
	assert_string_equal(take_log(f), "done the virtual machine is not running\ndone ok\ndone ok");
}

static void a_machine_that_dies_in_its_boot(void **state)
{
	struct fixture *f = *state;

	create(f, CTR, "", "scratch", 0);
	machine_dies(f);
	assert_string_equal(take_log(f), "done VM did not start: QEMU was ended by signal 9\n"
			    "lost the virtual machine ended: QEMU was ended by signal 9");
}

static void a_machine_that_dies_between_hello_and_guest(void **state)
{
	struct fixture *f = *state;

	create(f, CTR, "", "scratch", 0);
	guest_says_hello(f, PROTO_VERSION);
	machine_dies(f);
	assert_string_equal(take_log(f), "done the virtual machine ended: QEMU was ended by signal 9\n"
			    "lost the virtual machine ended: QEMU was ended by signal 9");
}

static void another_version(void **state)
{
	struct fixture *f = *state;

	create(f, CTR, "", "scratch", 0);
	guest_says_hello(f, PROTO_VERSION + 1);
	assert_true(machine.killed);
	machine_dies(f);
	assert_string_equal(
	    take_log(f),
	    "done VM did not start: its agent speaks another version of the protocol: "
	    "last words\nlost the virtual machine ended: its agent speaks another version of the protocol");
}

static void shutdown_asks_the_agent(void **state)
{
	struct fixture *f = *state;

	up(f);
	f->b->ops->shutdown(f->b, done, f);
	assert_false(machine.killed);
	guest_serves(f, MSG_SHUTDOWN, NULL, 0);
	assert_true(machine.killed);
	machine_dies(f);
	/* Nothing is lost that was asked for. */
	assert_string_equal(take_log(f), "eof 1\neof 2\nexited 137 \ndone ok");
}

static void shutdown_of_an_empty_machine_is_its_end(void **state)
{
	struct fixture *f = *state;
	struct frame fr;

	up(f);
	guest_tells_exit(f, CTR, 0, "");
	f->b->ops->del(f->b, CTR, "", done, f);
	guest_serves(f, MSG_DELETE, NULL, 0);
	f->b->ops->shutdown(f->b, done, f);
	assert_true(machine.killed);
	assert_int_equal(guest_hears(f, &fr), 0);
	machine_dies(f);
	assert_string_equal(take_log(f), "exited 0 \ndone ok\ndone ok");
}

static void what_is_unknown_is_ignored(void **state)
{
	struct fixture *f = *state;

	up(f);
	guest_tells_exit(f, "nobody", 1, "");
	guest_says(f, MSG_DATA, 0, 77777, "x", 1);
	guest_says(f, MSG_STREAM_EOF, 0, 77777, NULL, 0);
	guest_replies(f, 4711, 0, NULL, NULL, 0);
	guest_says(f, MSG_DATA, 0, f->stream, "to stdin?", 9);
	guest_says(f, MSG_STREAM_EOF, 0, f->stream, NULL, 0);
	assert_string_equal(take_log(f), "");
	assert_false(machine.killed);
	/* Told twice, with the wrong clock and much to say. */
	guest_tells_exit(f, CTR, 0xffffff05, "a\033]0;title\007b\n");
	guest_tells_exit(f, CTR, 6, "");
	guest_says(f, MSG_STREAM_EOF, 0, f->stream + 1, NULL, 0);
	guest_says(f, MSG_STREAM_EOF, 0, f->stream + 1, NULL, 0);
	assert_string_equal(take_log(f), "exited 5 a ]0;title b \neof 1");
}

static void answers_are_checked(void **state)
{
	struct fixture *f = *state;
	_cleanup_free_ char *long_text = xmalloc(100001);
	struct frame fr;

	up(f);
	f->b->ops->ps(f->b, CTR, done, f);
	guest_serves(f, MSG_PS, "\377\377\377\377", 4);
	f->b->ops->ps(f->b, CTR, done, f);
	guest_serves(f, MSG_PS, "\1\0\0\0\1\0\0\0x", 9);	/* a row of one cell */
	assert_string_equal(take_log(f), "done the answer of the virtual machine makes no sense\n"
			    "done the answer of the virtual machine makes no sense");
	memset(long_text, 'x', 100000);
	long_text[100000] = 0;
	f->b->ops->resize(f->b, CTR, "", 1, 1, done, f);
	assert_int_equal(guest_hears(f, &fr), MSG_RESIZE);
	guest_replies(f, fr.seq, 9999, long_text, NULL, 0);
	assert_int_equal(strlen(take_log(f)), 5 + 2048);
	assert_false(machine.killed);
}

static void data_beyond_the_window_ends_it(void **state)
{
	struct fixture *f = *state;
	static char data[32 << 10];

	memset(data, 'x', sizeof data);
	up(f);
	f->b->ops->output_pause(f->b, CTR, "", true);
	for (int i = 0; i < 4; i++)
		guest_says(f, MSG_DATA, 0, f->stream + 1, data, sizeof data);
	(void)take_log(f);
	assert_false(machine.killed);
	guest_says(f, MSG_DATA, 0, f->stream + 1, data, 1);
	assert_true(machine.killed);
	/* From here on it is not listened to. */
	guest_says(f, MSG_DATA, 0, f->stream + 2, "more", 4);
	guest_tells_exit(f, CTR, 0, "");
	assert_string_equal(take_log(f), "");
	machine_dies(f);
	assert_string_equal(
	    take_log(f), "eof 1\neof 2\nexited 137 the virtual machine ended: its agent broke the protocol\n"
			 "lost the virtual machine ended: its agent broke the protocol");
}

static void pausing_gives_the_window_back(void **state)
{
	struct fixture *f = *state;
	static char data[32 << 10];
	struct frame fr;

	up(f);
	f->b->ops->output_pause(f->b, CTR, "", true);
	for (int i = 0; i < 4; i++)
		guest_says(f, MSG_DATA, 0, f->stream + 1, data, sizeof data);
	assert_int_equal(guest_hears(f, &fr), 0);
	f->b->ops->output_pause(f->b, CTR, "", false);
	assert_int_equal(guest_hears(f, &fr), MSG_CREDIT);
	assert_int_equal(fr.stream, f->stream + 1);
	guest_says(f, MSG_DATA, 0, f->stream + 1, data, sizeof data);
	assert_false(machine.killed);
}

static void breaks(struct fixture *f, uint16_t type, uint32_t stream, const void *p, size_t n)
{
	up(f);
	guest_says(f, type, 0, stream ? f->stream : 0, p, n);
	assert_true(machine.killed);
	machine_dies(f);
	assert_non_null(strstr(take_log(f), "lost the virtual machine ended: its agent broke the protocol"));
}

static void a_frame_of_no_type(void **state) { breaks(*state, 4711, 0, NULL, 0); }
static void a_request_of_the_guest(void **state) { breaks(*state, MSG_CREATE, 0, NULL, 0); }
static void a_state_cut_short(void **state) { breaks(*state, MSG_TASK_STATE, 0, "\5\0\0\0ab", 6); }
static void more_credit_than_there_is(void **state) { breaks(*state, MSG_CREDIT, 1, "\377\377\377\377", 4); }

static void a_frame_without_end(void **state)
{
	struct fixture *f = *state;
	static const uint8_t hdr[FRAME_HDR] = { 0xff, 0xff, 0xff, 0x7f, MSG_DATA };

	up(f);
	assert_int_equal(fd_write_full(machine.link, hdr, sizeof hdr), 0);
	spin(f);
	assert_true(machine.killed);
	machine_dies(f);
	assert_non_null(strstr(take_log(f), "lost the virtual machine ended: its agent broke the protocol"));
}

/* --- sockets of the host --- */

static void guest_connects(const char *tag, uint32_t stream)
{
	struct msg_pipe_open m = {(char *)tag, stream};
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	msg_pipe_open_encode(&m, &b);
	guest_writes(MSG_PIPE_OPEN, 0, 0, b.buf, b.len);
}

#define PIPE(n) (PIPE_STREAM | (n))

static void a_connection_to_a_socket(void **state)
{
	struct fixture *f = *state;
	struct frame fr;
	char buf[16];
	int c;

	up(f);
	guest_connects("v0", PIPE(1));
	spin(f);
	c = accept(f->server, NULL, NULL);
	assert_true(c >= 0);
	guest_says(f, MSG_DATA, 0, PIPE(1), "question", 8);
	guest_says(f, MSG_STREAM_EOF, 0, PIPE(1), NULL, 0);
	assert_int_equal(read(c, buf, sizeof buf), 8);
	assert_int_equal(read(c, buf, sizeof buf), 0);
	assert_int_equal(write(c, "answer", 6), 6);
	assert_int_equal(guest_hears(f, &fr), MSG_DATA);
	assert_true(fr.stream == PIPE(1) && fr.len == 6 && !memcmp(fr.payload, "answer", 6));
	/* its reader is gone: the server is told, and the stream is free again */
	guest_says(f, MSG_STREAM_STOP, 0, PIPE(1), NULL, 0);
	assert_true(write(c, "more", 4) < 0 && errno == EPIPE);
	assert_int_equal(guest_hears(f, &fr), MSG_STREAM_EOF);
	close(c);
	guest_connects("v0", PIPE(1));
	spin(f);
	c = accept(f->server, NULL, NULL);
	assert_true(c >= 0);
	close(c);
	assert_int_equal(guest_hears(f, &fr), MSG_STREAM_EOF);
	assert_int_equal(guest_hears(f, &fr), MSG_STREAM_STOP);
	assert_false(machine.killed);
}

static void connects_wrongly(struct fixture *f, const char *tag, uint32_t stream, int times)
{
	up(f);
	for (int i = 0; i < times; i++)
		guest_connects(tag, stream);
	spin(f);
	assert_true(machine.killed);
	machine_dies(f);
	assert_non_null(strstr(take_log(f), "lost the virtual machine ended: its agent broke the protocol"));
}

static void a_socket_that_nobody_has_named(void **state) { connects_wrongly(*state, "../v0", PIPE(1), 1); }
static void a_stream_of_the_hosts(void **state) { connects_wrongly(*state, "v0", 1, 1); }
static void a_stream_that_is_there(void **state) { connects_wrongly(*state, "v0", PIPE(1), 2); }

static void more_connections_than_allowed(void **state)
{
	struct fixture *f = *state;
	struct frame fr;
	int n = 0, c, held[270];
	uint32_t i;

	up(f);
	for (i = 0; i < 270; i++) {
		guest_connects("v0", PIPE(i));
		if (i % 16 == 15 || i == 269)
			spin(f);
		while ((c = accept(f->server, NULL, NULL)) >= 0)
			held[n++] = c;
	}
	assert_int_equal(n, 256);
	for (i = 256; i < 270; i++) {
		assert_int_equal(guest_hears(f, &fr), MSG_STREAM_EOF);
		assert_int_equal(fr.stream, PIPE(i));
		assert_int_equal(guest_hears(f, &fr), MSG_STREAM_STOP);
	}
	assert_false(machine.killed);
	while (n)
		close(held[--n]);
}

static void a_flood_into_a_socket(void **state)
{
	struct fixture *f = *state;
	static char data[32 << 10];
	struct frame fr;
	int c, i;

	memset(data, 'x', sizeof data);
	up(f);
	guest_connects("v0", PIPE(1));
	spin(f);
	c = accept(f->server, NULL, NULL);
	assert_true(c >= 0);
	/* The server reads nothing: once the socket is full no credit comes back, and more is a breach. */
	for (i = 0; i < 1000 && !machine.killed; i++) {
		guest_says(f, MSG_DATA, 0, PIPE(1), data, sizeof data);
		while (guest_hears(f, &fr) == MSG_CREDIT)
			;
	}
	assert_true(machine.killed && i < 100);
	close(c);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(the_order_of_a_boot),
	    T(disks_are_attached_once),
	    T(a_disk_that_fails),
	    T(further_creations_wait_for_the_boot),
	    T(a_guest_that_cannot_prepare),
	    T(the_death_of_the_machine_ends_all),
	    T(a_machine_that_dies_in_its_boot),
	    T(a_machine_that_dies_between_hello_and_guest),
	    T(another_version),
	    T(shutdown_asks_the_agent),
	    T(shutdown_of_an_empty_machine_is_its_end),
	    T(what_is_unknown_is_ignored),
	    T(answers_are_checked),
	    T(data_beyond_the_window_ends_it),
	    T(pausing_gives_the_window_back),
	    T(a_frame_of_no_type),
	    T(a_request_of_the_guest),
	    T(a_state_cut_short),
	    T(more_credit_than_there_is),
	    T(a_frame_without_end),
	    T(a_connection_to_a_socket),
	    T(a_socket_that_nobody_has_named),
	    T(a_stream_of_the_hosts),
	    T(a_stream_that_is_there),
	    T(more_connections_than_allowed),
	    T(a_flood_into_a_socket),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
