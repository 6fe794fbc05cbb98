#include "tests/unit/test.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/sock.h"
#include "proto/conn.h"
#include "proto/stream.h"

#include <errno.h>
#include <string.h>

#define ONE(kind, name) +1
enum { CREATE_FIELDS = 0 MSG_FIELDS_CREATE(ONE) };

static void messages_survive_the_wire(void **state)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	char *files[] = { (char *)"hosts", (char *)"127.0.0.1", NULL };
	struct msg_create m = {.ctr = (char *)"c1",
			       .files = files,
			       .spec = {(uint8_t *)"a\0b", 3},
			       .rows = 40},
			  d;

	msg_create_encode(&m, &b);
	assert_int_equal(msg_create_decode(b.buf, b.len, &d), 0);
	assert_string_equal(d.ctr, "c1");
	assert_string_equal(d.exec, "");
	assert_int_equal(d.spec.n, 3);
	assert_memory_equal(d.spec.p, "a\0b", 3);
	assert_int_equal(strv_len(d.files), 2);
	assert_int_equal(d.rows, 40);
	msg_create_done(&d);
	/* Every truncation within a field is refused, nothing is left allocated. */
	for (size_t n = 0, whole = 0; n < b.len; n++) {
		uint8_t *cut = xmemdup(b.buf, n);
		int r = msg_create_decode(cut, n, &d);

		free(cut);
		whole += r == 0;
		assert_true(r == 0 ? whole < CREATE_FIELDS : r == -EPROTO);
		if (r == 0)
			msg_create_done(&d);
	}
}

/* What an older peer sends, and what a newer one does. Messages never change but by appending. */
static void fields_may_be_appended(void **state)
{
	static const uint8_t hello[] = { 1, 0, 0, 0, 2, 0, 0, 0, 's', 'b' };
	static const uint8_t newer[] = { 1, 0, 0, 0, 2, 0, 0, 0, 's', 'b', 0, 0, 0, 0, 7, 0, 0, 0, 9, 9, 9 };
	struct msg_hello h;

	assert_int_equal(msg_hello_decode(hello, sizeof hello, &h), 0);
	assert_int_equal(h.version, 1);
	assert_string_equal(h.sandbox, "sb");
	assert_string_equal(h.kind, "");
	assert_int_equal(h.pid, 0);
	msg_hello_done(&h);
	assert_int_equal(msg_hello_decode(newer, sizeof newer, &h), 0);
	assert_int_equal(h.pid, 7);
	msg_hello_done(&h);
	assert_int_equal(msg_hello_decode(hello, 0, &h), -EPROTO);
	assert_int_equal(msg_hello_decode(hello, 4, &h), 0);
	msg_hello_done(&h);
}

/* The bytes of version 1: a daemon may be years younger than the supervisor that sent them. */
static void task_state_is_as_it_was(void **state)
{
	static const uint8_t wire[] = {
	    2, 0, 0, 0, 's', 'b', 2, 0, 0, 0, 'c', '1', 0, 0, 0, 0, 3, 42, 0, 0, 0,
	    1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 137, 0, 0, 0, 1, 1, 0, 0, 0, 'x'};
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	struct msg_task_state m;

	assert_int_equal(msg_task_state_decode(wire, sizeof wire, &m), 0);
	assert_string_equal(m.ctr, "c1");
	assert_int_equal(m.state, 3);
	assert_int_equal(m.pid, 42);
	assert_int_equal(m.started_ns, 1);
	assert_int_equal(m.exited_ns, 2);
	assert_int_equal(m.exit_code, 137);
	assert_true(m.oom);
	assert_string_equal(m.error, "x");
	msg_task_state_encode(&m, &b);
	assert_int_equal(b.len, sizeof wire);
	assert_memory_equal(b.buf, wire, sizeof wire);
	msg_task_state_done(&m);
}

static void strings_with_nul_are_refused(void **state)
{
	static const uint8_t raw[] = { 1, 0, 0, 0, 3, 0, 0, 0, 'a', 0, 'b', 0, 0, 0, 0, 0, 0, 0, 0 };
	struct msg_hello h;

	assert_int_equal(msg_hello_decode(raw, sizeof raw, &h), -EPROTO);
}

static void oversized_frames_end_it(void **state)
{
	uint8_t hdr[FRAME_HDR];
	struct frame f = { .len = FRAME_MAX + 1 };

	frame_encode_hdr(&f, hdr);
	assert_int_equal(frame_decode(hdr, sizeof hdr, &f), -EPROTO);
	assert_int_equal(frame_decode(hdr, 5, &f), 0);
}

struct side {
	struct loop *l;
	struct conn *c;
	struct streams *ss;
	struct stream *s;
	size_t got, sent;
	bool eof, closed, hold, passed;
	int replies, reply_r;
};

static void on_frame(struct conn *c, const struct frame *f, int *fds, size_t n_fds, void *ud)
{
	struct side *x = ud;

	if (f->type == MSG_START) {
		x->passed = n_fds == 1 && write(fds[0], "!", 1) == 1;
		conn_reply(c, f->seq, x->passed ? 0 : -ENOENT, NULL, "pid", 3);
	} else {
		assert_int_equal(streams_frame(x->ss, f), 0);
	}
}

static void on_close(struct conn *c, int r, void *ud)
{
	((struct side *)ud)->closed = true;
}

static const struct conn_ops ops = { on_frame, on_close };

static void on_data(struct stream *s, const void *p, size_t n, void *ud)
{
	struct side *x = ud;

	x->got += n;
	if (!x->hold)
		stream_taken(s, n);
}

static void on_eof(struct stream *s, void *ud)
{
	((struct side *)ud)->eof = true;
}

static void on_writable(struct stream *s, void *ud)
{
}

static const struct stream_ops sops = { on_data, on_eof, on_writable };

static void on_reply(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct side *x = ud;

	x->replies++;
	x->reply_r = r;
	if (r == 0)
		assert_memory_equal(p, "pid", 3);
}

static void pair(struct loop *l, struct side *a, struct side *b)
{
	int sp[2];

	assert_int_equal(sock_pair(sp), 0);
	assert_int_equal(conn_new(l, sp[0], true, &ops, a, &a->c), 0);
	assert_int_equal(conn_new(l, sp[1], true, &ops, b, &b->c), 0);
	streams_new(a->c, &a->ss);
	streams_new(b->c, &b->ss);
	assert_int_equal(stream_open(a->ss, 9, &sops, a, &a->s), 0);
	assert_int_equal(stream_open(b->ss, 9, &sops, b, &b->s), 0);
}

static void unpair(struct side *a, struct side *b)
{
	streams_free(a->ss);
	streams_free(b->ss);
	conn_free(a->c);
	conn_free(b->c);
}

static void requests_carry_descriptors_and_get_replies(void **state)
{
	_cleanup_loop_ struct loop *l = NULL;
	struct side a = { 0 }, b = { 0 };
	int p[2];
	char c = 0;

	loop_new(&l);
	pair(l, &a, &b);
	assert_int_equal(fd_pipe(p, 0), 0);
	conn_request(a.c, MSG_START, "x", 1, p[1], on_reply, &a);
	conn_request(a.c, MSG_START, "x", 1, -1, on_reply, &a);
	while (a.replies < 2)
		assert_int_equal(loop_run_once(l, 1000), 0);
	assert_int_equal(a.reply_r, -ENOENT);
	assert_int_equal(read(p[0], &c, 1), 1);
	assert_int_equal(c, '!');
	close(p[0]);
	close(p[1]);
	/* The peer goes: the owner hears it. */
	conn_free(b.c);
	while (!a.closed)
		assert_int_equal(loop_run_once(l, 1000), 0);
	b.c = NULL;
	streams_free(b.ss);
	streams_free(a.ss);
	conn_free(a.c);
}

/* What is written before the reader looks comes in one read: the descriptor is that of the second frame. */
static void descriptors_find_their_frame(void **state)
{
	_cleanup_loop_ struct loop *l = NULL;
	struct side a = { 0 }, b = { 0 };
	int p[2];
	char c = 0;

	loop_new(&l);
	pair(l, &a, &b);
	assert_int_equal(fd_pipe(p, 0), 0);
	conn_request(a.c, MSG_START, "x", 1, -1, on_reply, &a);
	conn_request(a.c, MSG_START, "x", 1, p[1], on_reply, &a);
	while (a.replies < 2)
		assert_int_equal(loop_run_once(l, 1000), 0);
	assert_int_equal(a.reply_r, 0);
	assert_int_equal(read(p[0], &c, 1), 1);
	assert_int_equal(c, '!');
	close(p[0]);
	close(p[1]);
	unpair(&a, &b);
}

static void streams_stop_at_the_window_and_go_on(void **state)
{
	_cleanup_loop_ struct loop *l = NULL;
	struct side a = { 0 }, b = { .hold = true };
	static char block[STREAM_WINDOW * 2];

	loop_new(&l);
	pair(l, &a, &b);
	a.sent = stream_write(a.s, block, sizeof block);
	assert_int_equal(a.sent, STREAM_WINDOW);
	for (int i = 0; i < 50; i++)
		loop_run_once(l, 0);
	assert_int_equal(b.got, STREAM_WINDOW);
	stream_taken(b.s, b.got);
	for (int i = 0; i < 10; i++)
		loop_run_once(l, 0);
	a.sent += stream_write(a.s, block, sizeof block - a.sent);
	assert_int_equal(a.sent, sizeof block);
	stream_eof(a.s);
	while (!b.eof)
		assert_int_equal(loop_run_once(l, 1000), 0);
	assert_int_equal(b.got, sizeof block);
	unpair(&a, &b);
}

static void credit_beyond_the_window_is_an_error(void **state)
{
	_cleanup_loop_ struct loop *l = NULL;
	_cleanup_sbuf_ struct sbuf buf = SBUF_INIT;
	struct side a = { 0 }, b = { 0 };
	struct msg_credit m = { .bytes = 1 };

	loop_new(&l);
	pair(l, &a, &b);
	msg_credit_encode(&m, &buf);
	struct frame f = {
	    .type = MSG_CREDIT, .stream = 9, .len = (uint32_t)buf.len, .payload = (uint8_t *)buf.buf};

	assert_int_equal(streams_frame(a.ss, &f), -EPROTO);
	f.stream = 1234;
	assert_int_equal(streams_frame(a.ss, &f), 0);
	unpair(&a, &b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(messages_survive_the_wire),
	    cmocka_unit_test(fields_may_be_appended),
	    cmocka_unit_test(task_state_is_as_it_was),
	    cmocka_unit_test(strings_with_nul_are_refused),
	    cmocka_unit_test(oversized_frames_end_it),
	    cmocka_unit_test(requests_carry_descriptors_and_get_replies),
	    cmocka_unit_test(descriptors_find_their_frame),
	    cmocka_unit_test(streams_stop_at_the_window_and_go_on),
	    cmocka_unit_test(credit_beyond_the_window_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
