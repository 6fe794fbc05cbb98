#include "tests/unit/test.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"
#include "lib/json.h"
#include "super/jsonlog.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static char path[] = "/tmp/insula-jsonlog-XXXXXX";

static int fresh(void **state)
{
	return truncate(path, 0);
}

/* The lines of the log, parsed as strictly as the daemon does it. */
static struct json **lines(size_t *ret_n)
{
	_cleanup_free_ char *text = NULL;
	struct json **v = NULL;
	size_t len, n = 0;

	assert_int_equal(fs_read(AT_FDCWD, path, 64 << 20, &text, &len), 0);
	for (char *p = text; p < text + len;) {
		char *nl = memchr(p, '\n', (size_t)(text + len - p));

		assert_non_null(nl);
		v = xrealloc(v, n + 1, sizeof *v);
		assert_int_equal(json_parse(p, (size_t)(nl - p), &v[n++], NULL), 0);
		p = nl + 1;
	}
	*ret_n = n;
	return v;
}

static void lines_free(struct json **v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		json_free(v[i]);
	free(v);
}

static void expect(struct json *line, const char *log, const char *stream)
{
	assert_string_equal(json_get_str(line, "log"), log);
	assert_string_equal(json_get_str(line, "stream"), stream);
}

static void writes(struct jsonlog *l, int stream, const char *s)
{
	jsonlog_write(l, stream, s, strlen(s));
}

static void lines_are_split_and_joined(void **state)
{
	struct jsonlog l;
	size_t n;

	assert_int_equal(jsonlog_open(&l, path, NULL), 0);
	writes(&l, 1, "one\ntwo\nth");
	writes(&l, 2, "err\n");
	writes(&l, 1, "ree\n\nrest");
	jsonlog_close(&l);
	struct json **v = lines(&n);

	assert_int_equal(n, 6);
	expect(v[0], "one\n", "stdout");
	expect(v[1], "two\n", "stdout");
	expect(v[2], "err\n", "stderr");
	expect(v[3], "three\n", "stdout");
	expect(v[4], "\n", "stdout");
	expect(v[5], "rest", "stdout");
	lines_free(v, n);
}

static void the_format_is_dockers(void **state)
{
	_cleanup_free_ char *text = NULL;
	struct jsonlog l;
	struct stat st;
	int day, at = 0;

	assert_int_equal(jsonlog_open(&l, path, NULL), 0);
	writes(&l, 1, "a\"\\\t\r\x01\x1b/\n");
	jsonlog_close(&l);
	assert_int_equal(fs_read(AT_FDCWD, path, 4096, &text, NULL), 0);
	(void)sscanf(
	    text,
	    "{\"log\":\"a\\\"\\\\\\t\\r\\u0001\\u001b/\\n\",\"stream\":\"stdout\",\"time\":\"%*4d-%*2d-%2dT"
	    "%*2d:%*2d:%*2d.%*9dZ\"}\n%n",
	    &day, &at);
	assert_int_equal(at, strlen(text));
	assert_int_equal(stat(path, &st), 0);
}

static void bad_utf8_is_replaced(void **state)
{
	static const struct { const char *in, *out; } t[] = {
		{ "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\n", "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\n" },
		{ "\xff\xfe\n", "\xef\xbf\xbd\xef\xbf\xbd\n" },
		{ "\xc3(\n", "\xef\xbf\xbd(\n" },
		{ "\xed\xa0\x80\n", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\n" },		/* a surrogate */
		{ "\xe0\x80\x80\n", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\n" },		/* an overlong form */
		{ "\xf4\x90\x80\x80\n", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\n" },
	};
	struct jsonlog l;
	size_t n;

	assert_int_equal(jsonlog_open(&l, path, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		writes(&l, 1, t[i].in);
	jsonlog_close(&l);
	struct json **v = lines(&n);

	assert_int_equal(n, ARRAY_SIZE(t));
	for (size_t i = 0; i < n; i++)
		expect(v[i], t[i].out, "stdout");
	lines_free(v, n);
}

static void long_lines_are_cut_between_characters(void **state)
{
	_cleanup_sbuf_ struct sbuf all = SBUF_INIT, got = SBUF_INIT;
	struct jsonlog l;
	size_t n;

	sbuf_putc(&all, 'x');
	for (int i = 0; i < 20000; i++)
		sbuf_puts(&all, "\xe2\x82\xac");
	sbuf_putc(&all, '\n');
	assert_int_equal(jsonlog_open(&l, path, NULL), 0);
	for (size_t i = 0; i < all.len; i += 1000)
		jsonlog_write(&l, 1, all.buf + i, MIN(all.len - i, (size_t)1000));
	jsonlog_close(&l);
	struct json **v = lines(&n);

	assert_int_equal(n, (all.len + JSONLOG_LINE_MAX - 1) / JSONLOG_LINE_MAX);
	for (size_t i = 0; i < n; i++) {
		const char *s = json_get_str(v[i], "log");

		assert_true(strlen(s) <= JSONLOG_LINE_MAX);
		assert_int_equal(str_ends(s, "\n"), i == n - 1);
		sbuf_puts(&got, s);
	}
	assert_string_equal(got.buf, all.buf);
	lines_free(v, n);
}

static void a_full_disk_leaves_whole_lines(void **state)
{
	struct rlimit old, small = { 250, RLIM_INFINITY };
	struct jsonlog l;
	size_t n;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	small.rlim_max = old.rlim_max;
	assert_int_equal(jsonlog_open(&l, path, NULL), 0);
	writes(&l, 1, "first\n");
	setrlimit(RLIMIT_FSIZE, &small);
	for (int i = 0; i < 5; i++)
		writes(&l, 1, "a line that fits once or twice, and is then cut off somewhere\n");
	setrlimit(RLIMIT_FSIZE, &old);
	assert_true(l.lost);
	writes(&l, 1, "last\n");
	jsonlog_close(&l);
	struct json **v = lines(&n);

	assert_true(n >= 3);
	expect(v[0], "first\n", "stdout");
	expect(v[n - 1], "last\n", "stdout");
	lines_free(v, n);
}

static void no_log_takes_everything(void **state)
{
	struct jsonlog l;

	assert_int_equal(jsonlog_open(&l, "", NULL), 0);
	writes(&l, 1, "nothing\nto see");
	jsonlog_close(&l);
	assert_int_equal(jsonlog_open(&l, "/nonexistent/log", NULL), -ENOENT);
	writes(&l, 1, "dropped\n");
	jsonlog_close(&l);
}

static int make_file(void **state)
{
	int fd = mkstemp(path);

	fd_close(&fd);
	return 0;
}

static int remove_file(void **state)
{
	return unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(lines_are_split_and_joined, fresh),
		cmocka_unit_test_setup(the_format_is_dockers, fresh),
		cmocka_unit_test_setup(bad_utf8_is_replaced, fresh),
		cmocka_unit_test_setup(long_lines_are_cut_between_characters, fresh),
		cmocka_unit_test_setup(a_full_disk_leaves_whole_lines, fresh),
		cmocka_unit_test_setup(no_log_takes_everything, fresh),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
