#include "tests/unit/test.h"

#include "base/fd.h"
#include "base/sock.h"
#include "base/strv.h"
#include "vm/qemu/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"

struct fixture {
	struct loop *loop;
	struct qmp *qmp;
	int peer;
	char log[512];		/* what came back, in order */
	int got_fd;
};

static void note(struct fixture *f, const char *text)
{
	size_t n = strlen(f->log);

	snprintf(f->log + n, sizeof f->log - n, "%s%s", n ? "," : "", text);
}

static void on_event(void *ud, const char *event, const struct json *data)
{
	note(ud, event);
}

static void on_reply(void *ud, int r, const struct err *e, const struct json *ret)
{
	note(ud, r < 0 ? err_text(e) : json_get_str(ret, "x") ? json_get_str(ret, "x") : "ok");
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	int pair[2];

	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(sock_pair(pair), 0);
	f->peer = pair[1];
	f->got_fd = -EBADF;
	assert_int_equal(qmp_new(f->loop, pair[0], on_event, f, &f->qmp), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	qmp_free(f->qmp);
	fd_close(&f->peer);
	fd_close(&f->got_fd);
	loop_free(f->loop);
	free(f);
	return 0;
}

static void spin(struct fixture *f)
{
	for (int i = 0; i < 20; i++)
		(void)loop_run_once(f->loop, 1);
}

static void say(struct fixture *f, const char *text)
{
	assert_int_equal(fd_write_full(f->peer, text, strlen(text)), 0);
	spin(f);
}

/* Everything that has been sent to the peer. */
static const char *heard(struct fixture *f)
{
	static char buf[4096];
	size_t n_fds = 1;
	ssize_t n;

	spin(f);
	(void)fd_set_nonblock(f->peer, true);
	n = sock_recv_fds(f->peer, buf, sizeof buf - 1, &f->got_fd, &n_fds);
	buf[n > 0 ? n : 0] = 0;
	return buf;
}

static void commands_wait_for_the_negotiation(void **state)
{
	struct fixture *f = *state;

	qmp_command(f->qmp, "cont", NULL, -EBADF, on_reply, f);
	assert_string_equal(heard(f), "{\"execute\":\"qmp_capabilities\"}\n");
	say(f, GREETING);
	assert_string_equal(heard(f), "");
	say(f, "{\"return\": {}}\r\n");
	assert_string_equal(heard(f), "{\"execute\":\"cont\"}\n");
	say(f, "{\"return\": {}}\r\n");
	assert_string_equal(f->log, "ok");
}

static void answers_go_to_their_commands(void **state)
{
	struct fixture *f = *state;
	struct json *args = json_object();

	json_set_str(args, "id", "a");
	say(f, GREETING "{\"return\": {}}\n");
	qmp_command(f->qmp, "one", args, -EBADF, on_reply, f);
	qmp_command(f->qmp, "two", NULL, -EBADF, on_reply, f);
	qmp_command(f->qmp, "three", NULL, -EBADF, on_reply, f);
	(void)heard(f);
	/* In pieces, with events between, and junk passed over. */
	say(f, "{\"return\": {\"x\": \"fir");
	say(f, "st\"}}\n{\"event\": \"RESUME\", \"data\": {}}\nnonsense\n{\"error\": {\"class\": \"G\", "
	       "\"desc\": \"no\"}}\n");
	say(f, "{\"return\": {\"x\": \"third\"}}\n{\"return\": {\"x\": \"unasked\"}}\n");
	assert_string_equal(f->log, "first,RESUME,QEMU: no,third");
}

static void descriptors_travel(void **state)
{
	struct fixture *f = *state;
	struct stat a, b;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	say(f, GREETING "{\"return\": {}}\n");
	(void)heard(f);
	qmp_command(f->qmp, "add-fd", NULL, fd, on_reply, f);
	close(fd);
	assert_string_equal(heard(f), "{\"execute\":\"add-fd\"}\n");
	assert_true(f->got_fd >= 0);
	assert_int_equal(fstat(f->got_fd, &a), 0);
	assert_int_equal(stat("/dev/null", &b), 0);
	assert_int_equal(a.st_rdev, b.st_rdev);
}

static void a_qemu_that_hangs_up_answers_all(void **state)
{
	struct fixture *f = *state;

	say(f, GREETING "{\"return\": {}}\n");
	qmp_command(f->qmp, "one", NULL, -EBADF, on_reply, f);
	qmp_command(f->qmp, "two", NULL, -EBADF, on_reply, f);
	(void)heard(f);
	/* What it said before is heard first. */
	assert_int_equal(fd_write_full(f->peer, "{\"event\": \"SHUTDOWN\"}\n{\"return\": {}}\n", 37), 0);
	fd_close(&f->peer);
	qmp_drain(f->qmp);
	qmp_command(f->qmp, "three", NULL, -EBADF, on_reply, f);
	assert_string_equal(f->log, "SHUTDOWN,ok,the virtual machine ended,the virtual machine ended");
}

static void endless_lines_end_it(void **state)
{
	struct fixture *f = *state;
	static char junk[64 << 10];

	memset(junk, 'x', sizeof junk);
	qmp_command(f->qmp, "one", NULL, -EBADF, on_reply, f);
	for (int i = 0; i < 40 && !*f->log; i++) {
		(void)!write(f->peer, junk, sizeof junk);
		spin(f);
	}
	assert_string_equal(f->log, "the virtual machine ended");
}

static void free_qmp(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct fixture *f = ud;

	qmp_free(f->qmp);
	f->qmp = NULL;
	note(f, "freed");
}

static void it_may_be_freed_in_an_answer(void **state)
{
	struct fixture *f = *state;

	say(f, GREETING "{\"return\": {}}\n");
	qmp_command(f->qmp, "one", NULL, -EBADF, free_qmp, f);
	qmp_command(f->qmp, "two", NULL, -EBADF, on_reply, f);
	say(f, "{\"return\": {}}\n{\"return\": {}}\n");
	assert_string_equal(f->log, "freed");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(commands_wait_for_the_negotiation), T(answers_go_to_their_commands), T(descriptors_travel),
		T(a_qemu_that_hangs_up_answers_all), T(endless_lines_end_it), T(it_may_be_freed_in_an_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
