#include "tests/unit/test.h"

#include "base/alloc.h"
#include "engine/logs.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE(text) "{\"log\":\"" text "\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05.000000006Z\"}"

static void check_line(const char *line, const char *want, size_t n)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	struct log_entry e;
	char when[40];

	assert_int_equal(log_line_parse(line, strlen(line), &b, when, &e), 0);
	assert_int_equal(e.n, n);
	assert_memory_equal(e.text, want, n);
}

static void check_bad(const char *line)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	struct log_entry e;
	char when[40];

	assert_int_equal(log_line_parse(line, strlen(line), &b, when, &e), -EBADMSG);
}

static void test_parse(void **state)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	struct log_entry e;
	char when[40];
	const char *err =
	    "{\"log\":\"x\\n\",\"stream\":\"stderr\",\"time\":\"2026-01-02T03:04:05.000000006Z\"}";

	check_line(LINE("plain\\n"), "plain\n", 6);
	check_line(LINE(""), "", 0);
	check_line(LINE("q\\\"b\\\\t\\tr\\r/\\/"), "q\"b\\t\tr\r//", 10);
	check_line(LINE("nul\\u0000end"), "nul\0end", 7);
	check_line(LINE("\\u00e9\\u20ac\\ud83d\\ude00"), "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9);
	check_line(LINE("\\ud83d alone"), "\xef\xbf\xbd alone", 9);
	assert_int_equal(log_line_parse(err, strlen(err), &b, when, &e), 0);
	assert_true(e.err);
	assert_string_equal(e.time, "2026-01-02T03:04:05.000000006Z");
	assert_int_equal(e.time_ns % 1000000000, 6);
}

static void test_malformed(void **state)
{
	static const char *const bad[] = {
	    "",
	    "{",
	    "{}",
	    "garbage",
	    "{\"log\":\"x",
	    "{\"log\":\"x\\",
	    "{\"log\":\"x\\u12",
	    LINE("\\x"),
	    LINE("\\u12g4"),
	    "{\"log\":\"x\",\"stream\":\"other\",\"time\":\"2026-01-02T03:04:05Z\"}",
	    "{\"log\":\"x\",\"stream\":\"stdout\",\"time\":\"never\"}",
	    "{\"log\":\"x\",\"stream\":\"stdout\",\"time\":\"2026",
	    "{\"log\":\"x\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05."
	    "0000000000000000000000000000000000000Z\"}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		check_bad(bad[i]);
}

static char *make_log(unsigned lines)
{
	char *path = xstrdup("/tmp/insula-test-log-XXXXXX");
	int fd = mkstemp(path);
	FILE *f = fdopen(fd, "w");

	for (unsigned i = 0; i < lines; i++)
		fprintf(f, "{\"log\":\"%u\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\n",
			i);
	fclose(f);
	return path;
}

static unsigned read_all(struct log_reader *r, long *ret_first, long *ret_last)
{
	struct log_entry e;
	unsigned n = 0;
	int k;

	while ((k = log_reader_next(r, &e)) == 1 || k == -EAGAIN) {
		if (k != 1)
			continue;
		*ret_last = strtol(e.text, NULL, 10);
		if (!n++)
			*ret_first = *ret_last;
	}
	assert_int_equal(k, 0);
	return n;
}

static void check_tail(const char *path, int64_t tail, unsigned want, long first)
{
	struct log_reader *r;
	long a = -1, b = -1;

	assert_int_equal(log_reader_open(path, tail, &r), 0);
	assert_int_equal(read_all(r, &a, &b), want);
	if (want)
		assert_int_equal(a, first);
	log_reader_free(r);
}

static void test_reader(void **state)
{
	_cleanup_free_ char *path = make_log(100000);	/* many chunks */

	check_tail(path, -1, 100000, 0);
	check_tail(path, 0, 0, 0);
	check_tail(path, 1, 1, 99999);
	check_tail(path, 10, 10, 99990);
	check_tail(path, 99999, 99999, 1);
	check_tail(path, 100000, 100000, 0);
	check_tail(path, 5000000, 100000, 0);
	unlink(path);
	check_tail(path, -1, 0, 0);
	check_tail("", 5, 0, 0);
}

static void test_growing(void **state)
{
	_cleanup_free_ char *path = make_log(3);
	struct log_reader *r;
	struct log_entry e;
	long a, b;
	int fd;

	assert_int_equal(log_reader_open(path, -1, &r), 0);
	assert_int_equal(read_all(r, &a, &b), 3);
	fd = open(path, O_WRONLY | O_APPEND);
	/* half a line is no line; what does not parse is skipped */
	dprintf(fd, "junk\n{\"log\":\"7\\n\",\"stream\":");
	assert_int_equal(log_reader_next(r, &e), 0);
	dprintf(fd, "\"stdout\",\"time\":\"2026-01-02T03:04:05Z\"}\n");
	assert_int_equal(read_all(r, &a, &b), 1);
	assert_int_equal(a, 7);
	close(fd);
	log_reader_free(r);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse), cmocka_unit_test(test_malformed), cmocka_unit_test(test_reader),
		cmocka_unit_test(test_growing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
