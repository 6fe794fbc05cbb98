#include "tests/unit/test.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "lib/json_scan.h"
#include "lib/json_write.h"

#include <string.h>

static void strict(void **state)
{
	static const char *const bad[] = {
	    "",        "{",    "{\"a\":1}x", "NaN",      "{\"a\":Infinity}",
	    "{'a':1}", "[1,]", "{\"a\" 1}",  "\"\xff\"", "\"\xc1\x9d\"",
	    "\"\xed\xa0\x80\"", "\"\xc3\"", "/* c */ 1",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_err_ struct err e = ERR_INIT;
		struct json *j = NULL;

		assert_true(json_parse(bad[i], strlen(bad[i]), &j, &e) < 0);
		assert_int_equal(e.kind, ERR_INVALID);
	}
}

static void round_trip(void **state)
{
	static const char text[] =
	    "{\"max\":18446744073709551615,\"s\":\"it's \\\"q\\\"\",\"l\":[1,-2,null,true,1.5]}";
	_cleanup_json_ struct json *j = NULL;

	assert_int_equal(json_parse(text, strlen(text), &j, NULL), 0);
	assert_true(json_uint(json_get(j, "max")) == UINT64_MAX);
	assert_string_equal(json_get_str(j, "s"), "it's \"q\"");
	assert_int_equal(json_len(json_get(j, "l")), 5);
	_cleanup_free_ char *out = json_dump(j);

	assert_string_equal(out, text);
}

struct conf { char *name; int64_t *limit; bool on; uint32_t id; char **args; };

static const struct json_field inner[] = { { "limit", JK_OPT_I64, 0 }, JSON_FIELD_END };
static const struct json_field fields[] = {
	{ "name", JK_STR, offsetof(struct conf, name), .required = true },
	{ "memory", JK_OBJ, offsetof(struct conf, limit), .sub = inner },
	{ "on", JK_BOOL, offsetof(struct conf, on) },
	{ "id", JK_U32, offsetof(struct conf, id) },
	{ "args", JK_STRV, offsetof(struct conf, args) },
	JSON_FIELD_END
};

static void conf_done(struct conf *c)
{
	free(c->name);
	free(c->limit);
	strv_free(c->args);
}

static void dispatch_names_the_place(void **state)
{
	static const char *const cases[][2] = {
	    {"{\"name\":\"x\",\"memory\":{\"limit\":\"lots\"}}", "linux.memory.limit: expected integer"},
	    {"{}", "linux.name: missing"},
	    {"{\"name\":5}", "linux.name: expected string"},
	    {"{\"name\":\"x\",\"id\":-1}", "linux.id: value out of range"},
	    {"{\"name\":\"x\",\"id\":4294967296}", "linux.id: value out of range"},
	    {"{\"name\":\"x\",\"args\":[\"a\",1]}", "linux.args[1]: expected string"},
	    {"{\"name\":\"x\",\"unknown\":[],\"memory\":{\"limit\":7},\"on\":true}", NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_json_ struct json *j = NULL;
		_cleanup_err_ struct err e = ERR_INIT;
		struct conf c = { 0 };

		assert_int_equal(json_parse(cases[i][0], strlen(cases[i][0]), &j, NULL), 0);
		if (cases[i][1]) {
			assert_true(json_dispatch(j, fields, &c, "linux", &e) < 0);
			assert_string_equal(err_text(&e), cases[i][1]);
		} else {
			assert_int_equal(json_dispatch(j, fields, &c, "linux", &e), 0);
			assert_int_equal(*c.limit, 7);
			assert_true(c.on);
		}
		conf_done(&c);
	}
}

static void strings_are_escaped(void **state)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	json_emit_str(&b, "a\"\\\n\x01\xff\xc3\xa9", 8);
	assert_string_equal(sbuf_str(&b), "\"a\\\"\\\\\\n\\u0001\\ufffd\xc3\xa9\"");
}

static void write_all(struct json_writer *w, const struct json *tree)
{
	char a[] = "x", b[] = "\"", *list[] = {a, b, NULL};

	jw_array(w, NULL);
	jw_object(w, NULL);
	jw_str(w, "s", "a\xff");
	jw_null(w, "n");
	jw_int(w, "i", INT64_MIN);
	jw_bool(w, "b", true);
	jw_strv(w, "v", list);
	jw_strv(w, "none", NULL);
	jw_object(w, "o");
	jw_end(w);
	jw_value(w, "t", tree);
	jw_value(w, "nil", NULL);
	jw_end(w);
	jw_int(w, NULL, 7);
	jw_end(w);
}

static void text_and_tree_say_the_same(void **state)
{
	static const char inside[] = "{\"a\":[1.50,18446744073709551615,-2,\"z\\u0000y\",null,{},[],false]}";
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_sbuf_ struct sbuf text = SBUF_INIT;
	struct json_writer to_text = JSON_WRITER_TEXT(&text), to_tree = JSON_WRITER_TREE;

	assert_int_equal(json_parse(inside, strlen(inside), &tree, NULL), 0);
	write_all(&to_text, tree);
	write_all(&to_tree, tree);
	_cleanup_json_ struct json *root = to_tree.root;
	_cleanup_free_ char *dumped = json_dump(root), *want = xasprintf(
	    "[{\"s\":\"a\\ufffd\",\"n\":null,\"i\":-9223372036854775808,\"b\":true,\"v\":[\"x\",\"\\\"\"],"
	    "\"none\":[],\"o\":{},\"t\":%s,\"nil\":null},7]", inside);

	assert_string_equal(sbuf_str(&text), want);
	assert_string_equal(dumped, want);
}

struct spilt { struct sbuf text; unsigned times; };

static void take(void *ud, struct sbuf *text)
{
	struct spilt *s = ud;

	sbuf_add(&s->text, text->buf, text->len);
	sbuf_reset(text);
	s->times++;
}

/* A list of n rows that leaves in parts, where its text is long. */
static void check_spilling(int n, unsigned times)
{
	_cleanup_sbuf_ struct sbuf text = SBUF_INIT, whole = SBUF_INIT;
	struct spilt s = {SBUF_INIT};
	struct json_writer part = {.text = &text, .spill = take, .userdata = &s},
			   all = JSON_WRITER_TEXT(&whole);

	jw_array(&part, NULL);
	jw_array(&all, NULL);
	for (int i = 0; i < n; i++) {
		jw_int(&part, NULL, 1000 + i);
		jw_row_done(&part);
		jw_int(&all, NULL, 1000 + i);
		jw_row_done(&all);
	}
	jw_end(&part);
	jw_end(&all);
	sbuf_add(&s.text, text.buf, text.len);
	assert_string_equal(sbuf_str(&s.text), sbuf_str(&whole));
	assert_int_equal(s.times, times);
	sbuf_done(&s.text);
}

static void long_lists_leave_in_parts(void **state)
{
	check_spilling(0, 0);
	check_spilling(8000, 0);
	check_spilling(9000 + 1000, 1);
	check_spilling(30000, 3);
}

static void members_are_cut_out(void **state)
{
	static const char *const keys[] = {"a", "b", NULL};
	static const struct { const char *text, *want; size_t n; } cases[] = {
	    {"{}", "{}", 2},
	    {"{\"a\":1}", "{\"a\":1}", 7},
	    {"{ \"x\" : [1,{\"a\":\"}\"}] , \"b\" : \"\\\"\" }, more", "{\"b\" : \"\\\"\"}", 36},
	    {"{\"x\":-1e3,\"a\":{\"x\":[]},\"y\":null,\"b\":\"\\\\\"}x",
	     "{\"a\":{\"x\":[]},\"b\":\"\\\\\"}", 41},
	    {"{\"a\":", NULL, 0},
	    {"{\"a\":1", NULL, 0},
	    {"{\"a\":\"1\\\"}", NULL, 0},
	    {"{\"a\" 1}", NULL, 0},
	    {"{a:1}", NULL, 0},
	    {"{\"a\":}", NULL, 0},
	    {"[1]", NULL, 0},
	    {"", NULL, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_sbuf_ struct sbuf out = SBUF_INIT;
		size_t n = json_scan_members(cases[i].text, strlen(cases[i].text), keys, &out);

		assert_int_equal(n, cases[i].n);
		if (n) {
			assert_string_equal(sbuf_str(&out), cases[i].want);
			assert_int_equal(json_scan_value(cases[i].text, strlen(cases[i].text)), n);
		}
	}
	assert_int_equal(json_scan_value("\"a\\\\\" ", 6), 5);
	assert_int_equal(json_scan_value("12,", 3), 2);
	assert_int_equal(json_scan_value("\r\n{\"a\":[]}\n{}", 13), 10);
	assert_int_equal(json_scan_value("\n", 1), 0);
	assert_int_equal(json_scan_value("12", 2), 0);
	assert_int_equal(json_scan_value("[[]", 3), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(strict),
	    cmocka_unit_test(round_trip),
	    cmocka_unit_test(dispatch_names_the_place),
	    cmocka_unit_test(strings_are_escaped),
	    cmocka_unit_test(text_and_tree_say_the_same),
	    cmocka_unit_test(long_lists_leave_in_parts),
	    cmocka_unit_test(members_are_cut_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
