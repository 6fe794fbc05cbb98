/* What no honest agent says: vmwp ignores it, or ends the machine. */
#include "tests/unit/guest_fixture.h"
#include "vm/output.h"

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

static void a_console_that_steers_a_terminal(void **state)
{
	static const char words[] = "\033c\033[?7l\033[2JSea\033[1;31mBIOS\033[0m\nnext \033[31\nlast\033";
	_cleanup_loop_ struct loop *loop = NULL;
	struct output o;
	int fd = -EBADF;

	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(output_open(&o, loop, "console", LOG_LVL_DEBUG, &fd), 0);
	assert_int_equal(write(fd, words, sizeof words - 1), sizeof words - 1);
	close(fd);
	output_drain(&o);
	assert_string_equal(output_tail(&o), "SeaBIOS | next  | last");
	output_close(&o);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
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
	    T(a_console_that_steers_a_terminal),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
