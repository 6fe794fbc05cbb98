/* needs: src/vm/qemu/qmp.c src/lib/json.c src/lib/json_write.c src/base/alloc.c src/base/sbuf.c
 * src/base/strv.c src/base/err.c src/base/fd.c src/base/log.c src/base/loop.c src/base/proc.c
 * src/base/sock.c src/base/timefmt.c src/base/path.c -ljson-c -lm */
/* What a QEMU says that a guest has taken over: no command is answered twice, none is forgotten, and whoever
 * hears of it may be done with it at any moment. */
#include "base/fd.h"
#include "base/loop.h"
#include "base/sock.h"
#include "vm/qemu/qmp.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define COMMANDS 4

enum { FREE_AT_EVENT = 1, FREE_AT_ANSWER = 2, IN_PIECES = 4 };

static struct session {
	struct qmp *q;
	unsigned what, answers[COMMANDS], asked;
} s;

static void let_go(unsigned at)
{
	if (s.what & at) {
		qmp_free(s.q);
		s.q = NULL;
	}
}

static void on_answer(void *ud, int r, const struct err *e, const struct json *ret)
{
	unsigned *answers = ud;

	if (++*answers > 1 || !s.q || (r < 0 && !e->kind))
		abort();
	(void)json_get_int(ret, "fdset-id", -1);
	let_go(FREE_AT_ANSWER);
}

static void on_event(void *ud, const char *event, const struct json *data)
{
	if (!s.q || !event)
		abort();
	(void)json_get_bool(data, "guest", false);
	(void)json_get_str(data, "device");
	if (s.asked < COMMANDS) {
		s.asked++;
		qmp_command(s.q, "query-status", NULL, -EBADF, on_answer, &s.answers[s.asked - 1]);
	}
	let_go(FREE_AT_EVENT);
}

static void feed(struct loop *l, int fd, const uint8_t *p, size_t n)
{
	char heard[4096];

	while (n) {
		size_t piece = s.what & IN_PIECES ? MIN(n, (size_t)7) : n;
		ssize_t put = send(fd, p, piece, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (put <= 0)
			break;
		p += put;
		n -= (size_t)put;
		(void)loop_run_once(l, 0);
		while (recv(fd, heard, sizeof heard, MSG_DONTWAIT) > 0)
			;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	_cleanup_loop_ struct loop *l = NULL;
	int pair[2];

	s = (struct session){ .what = n ? p[0] : 0 };
	if (loop_new(&l) < 0 || sock_pair(pair) < 0 || qmp_new(l, pair[0], on_event, NULL, &s.q) < 0)
		abort();
	while (s.asked < COMMANDS / 2) {
		s.asked++;
		qmp_command(s.q, "query-status", NULL, -EBADF, on_answer, &s.answers[s.asked - 1]);
	}
	if (n)
		feed(l, pair[1], p + 1, n - 1);
	close(pair[1]);
	if (s.q)
		qmp_drain(s.q);
	for (unsigned i = 0; s.q && i < s.asked; i++)
		if (s.answers[i] != 1)
			abort();
	qmp_free(s.q);
	return 0;
}
