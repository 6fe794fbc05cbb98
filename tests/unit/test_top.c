#include "tests/unit/test.h"

#include "base/strv.h"
#include "engine/top.h"

static const char *const cells[] = {
    "4242",  "1",      "0",      "0",          "S",    "0",    "1000000", "61000",   "2272",
    "1580",  "0",      "sleep",  "sleep 1000", "4243", "4242", "1000",    "1000",    "R",
    "34818", "999940", "600000", "4096",       "2048", "5",    "sh",      "sh -c x", NULL,
};
static const struct top_input input = {
    .cells = (char *const *)cells,
    .now_s = 1000060,
    .memory_kb = 158000,
    .passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\n",
};

static struct json *ok(const char *args)
{
	_cleanup_err_ struct err e = ERR_INIT;
	struct json *j = NULL;

	if (top_format(args, &input, &j, &e) < 0)
		fail_msg("top %s: %s", args, err_text(&e));
	return j;
}

static void check_row(const struct json *j, size_t row, size_t col, const char *want)
{
	assert_string_equal(json_str(json_at(json_at(json_get(j, "Processes"), row), col)), want);
}

static void check_titles(const struct json *j, const char *want)
{
	_cleanup_strv_ char **v = json_get_strv(j, "Titles");
	_cleanup_free_ char *text = strv_join(v, " ");

	assert_string_equal(text, want);
}

static void check_error(const char *args, const char *want)
{
	_cleanup_err_ struct err e = ERR_INIT;
	struct json *j = NULL;

	assert_true(top_format(args, &input, &j, &e) < 0);
	assert_int_equal(e.kind, ERR_INVALID);
	assert_string_equal(err_text(&e), want);
}

static void test_full(void **state)
{
	_cleanup_json_ struct json *j = ok("-ef");

	check_titles(j, "UID PID PPID C STIME TTY TIME CMD");
	assert_int_equal(json_len(json_get(j, "Processes")), 2);
	check_row(j, 0, 0, "root");
	check_row(j, 0, 1, "4242");
	check_row(j, 0, 3, "99");		/* 61 s of processor time in 60 s */
	check_row(j, 0, 5, "?");
	check_row(j, 0, 6, "00:01:01");
	check_row(j, 0, 7, "sleep 1000");
	check_row(j, 1, 0, "ann");
	check_row(j, 1, 5, "pts/2");
	check_row(j, 1, 6, "00:10:00");
}

static void test_aux(void **state)
{
	_cleanup_json_ struct json *j = ok("aux"), *dashed = ok("-aux");

	check_titles(j, "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND");
	check_titles(dashed, "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND");
	check_row(j, 0, 2, "101.6");
	check_row(j, 0, 3, "1.0");
	check_row(j, 1, 9, "10:00");
}

static void test_lists(void **state)
{
	_cleanup_json_ struct json *a = ok("-o pid,args"), *b = ok("-eo pid,comm"),
				   *c = ok("-o user -o pid -o comm=WHAT"), *d = ok("-opid,nice,etime");

	check_titles(a, "PID COMMAND");
	check_row(a, 1, 1, "sh -c x");
	check_titles(b, "PID COMMAND");
	check_row(b, 1, 1, "sh");
	check_titles(c, "USER PID WHAT");
	check_titles(d, "PID NI ELAPSED");
	check_row(d, 0, 2, "01:00");
}

static void test_other_forms(void **state)
{
	_cleanup_json_ struct json *a = ok("-e"), *b = ok("ax"), *c = ok("");

	check_titles(a, "PID TTY TIME CMD");
	check_titles(b, "PID TTY STAT TIME COMMAND");
	check_titles(c, "PID TTY TIME CMD");
}

static void test_errors(void **state)
{
	check_error("-o pid,nonsense", "ps: error: unknown user-defined format specifier \"nonsense\"");
	check_error("-o comm", "Couldn't find PID field in ps output");
	check_error("-o pid,comm=PID", "specifying \"comm=PID\" is not allowed");
	check_error("-o", "ps: error: format specification must follow -o");
	check_error("-ez", "ps: error: unsupported option \"-z\"");
	check_error("--forest", "ps: error: unsupported option \"--forest\"");
	check_error("-o ,", "ps: error: improper list");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full), cmocka_unit_test(test_aux), cmocka_unit_test(test_lists),
		cmocka_unit_test(test_other_forms), cmocka_unit_test(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
