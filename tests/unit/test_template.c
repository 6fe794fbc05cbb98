#include "tests/unit/test.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "cli/template.h"

#include <string.h>

static const char *const document =
    "{\"Id\":\"abc\",\"Name\":\"/c1\",\"Empty\":\"\",\"State\":{\"Running\":true,\"Pid\":12,\"ExitCode\":0},"
    "\"Args\":[\"-c\",\"x <y>&\"],\"Labels\":{\"k\":\"v\",\"a\":\"b\"},\"Binds\":null,\"Init\":null,"
    "\"Ports\":{\"80/tcp\":[{\"HostIp\":\"::\",\"HostPort\":\"8080\"}],\"443/tcp\":null},"
    "\"NanoCpus\":1500000000,\"ApiVersion\":\"1.47\"}";

/* Renders text over the document; the result or "! message" is heap. */
static char *render_env(const char *text, const struct tmpl_env *env)
{
	_cleanup_json_ struct json *doc = NULL;
	_cleanup_tmpl_ struct tmpl *t = NULL;
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT;
	_cleanup_free_ char *error = NULL;

	assert_int_equal(json_parse(document, strlen(document), &doc, NULL), 0);
	if (tmpl_parse(text, &t, &error) < 0 || tmpl_exec(t, env, doc, &out, &error) < 0)
		return xasprintf("! %s", error);
	return xstrdup(sbuf_str(&out));
}

struct example { const char *text, *result; };

static void check(const struct example *e, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *got = render_env(e[i].text, NULL);

		if (strcmp(got, e[i].result))
			print_error("template %s\n", e[i].text);
		assert_string_equal(got, e[i].result);
	}
}

/* Every expectation here is what docker 28.2.2 prints for the same document. */
static void fields(void **state)
{
	static const struct example examples[] = {
		{ "plain", "plain" },
		{ "{{.Name}}", "/c1" },
		{ "{{ .State.Pid }} {{.State.Running}}", "12 true" },
		{ "{{.ID}} {{.APIVersion}}", "abc 1.47" },
		{ "{{.Args}}", "[-c x <y>&]" },
		{ "{{.Labels}}", "map[a:b k:v]" },
		{ "{{.State}}", "{true 12 0}" },
		{ "{{.Binds}} {{.Init}}", "[] <nil>" },
		{ "{{.Labels.k}} {{.Labels.none}}", "v <no value>" },
		{ "{{.NanoCpus}}", "1500000000" },
		{ "{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080" },
	};

	check(examples, ARRAY_SIZE(examples));
}

static void control(void **state)
{
	static const struct example examples[] = {
		{ "{{if .State.Running}}up{{else}}down{{end}}", "up" },
		{ "{{if .Empty}}a{{else if eq .Name \"/c1\"}}b{{else}}c{{end}}", "b" },
		{ "{{range .Args}}[{{.}}]{{end}}", "[-c][x <y>&]" },
		{ "{{range $i, $e := .Args}}{{$i}}={{$e}};{{end}}", "0=-c;1=x <y>&;" },
		{ "{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}", "a=b k=v " },
		{ "{{range .Binds}}x{{else}}none{{end}}", "none" },
		{ "{{range .Args}}{{.}}{{break}}{{end}}", "-c" },
		{ "{{range .Args}}{{if eq . \"-c\"}}{{continue}}{{end}}{{.}}{{end}}", "x <y>&" },
		{ "{{with .State}}{{.Pid}}{{end}}{{with .Empty}}x{{else}}y{{end}}", "12y" },
		{ "{{$x := .Name}}{{range .Args}}{{$x}}{{end}}", "/c1/c1" },
		{ "{{$n := 1}}{{range .Args}}{{$n = 2}}{{end}}{{$n}}", "2" },
		{ "{{range .Args}}{{$.Name}}{{end}}", "/c1/c1" },
		{ "a {{- .Name -}} b {{- /* c */ -}} c", "a/c1bc" },
	};

	check(examples, ARRAY_SIZE(examples));
}

static void functions(void **state)
{
	static const struct example examples[] = {
	    {"{{json .Args}} {{json .Labels}}", "[\"-c\",\"x <y>&\"] {\"a\":\"b\",\"k\":\"v\"}"},
	    {"{{join .Args \",\"}} {{.Name | upper | printf \"%s!\"}}", "-c,x <y>& /C1!"},
	    {"{{split .Name \"/\"}} {{len .Args}} {{title \"ab cd\"}}", "[ c1] 2 Ab Cd"},
	    {"{{printf \"%s-%d %q %v|%5d|%-4s|\" .Name .State.Pid .Id .Args 7 \"a\"}}",
	     "/c1-12 \"abc\" [-c x <y>&]|    7|a   |"},
	    {"{{println .Id 1}}{{print 1 2 \"a\" 3}}", "abc 1\n1 2a3"},
	    {"{{slice .Id 0 2}} {{truncate \"abcdef\" 3}} {{pad \"x\" 1 2}}|", "ab abc  x  |"},
	    {"{{index .Labels \"k\"}} {{index .Args 1}} {{index .Labels \"zz\"}}|", "v x <y>& |"},
	    {"{{eq 1 1}} {{ne .Id \"x\"}} {{lt 1 2}} {{ge 2 2}} {{eq .Id \"x\" \"abc\"}}",
	     "true true true true true"},
	    {"{{and 1 0}} {{or \"\" \"d\"}} {{not .Empty}}", "0 d true"},
	    {"{{and (eq .State.Pid 12) .State.Running}}", "true"},
	};

	check(examples, ARRAY_SIZE(examples));
}

static void errors(void **state)
{
	static const struct example examples[] = {
	    {"{{.Foo", "! template: :1: unclosed action"},
	    {"{{.Foo}}", "! template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\""},
	    {"ab\n{{.State.Foo}}",
	     "! template: :2:8: executing \"\" at <.State.Foo>: map has no entry for key \"Foo\""},
	    {"{{nope}}", "! template: :1: function \"nope\" not defined"},
	    {"{{if}}", "! template: :1: missing value for if"},
	    {"{{.Name}}{{end}}", "! template: :1: unexpected {{end}}"},
	    {"{{range .Args}}x", "! template: :1: unexpected EOF"},
	    {"{{$y}}", "! template: :1: undefined variable \"$y\""},
	    {"{{(.Name}}", "! template: :1: unclosed left paren"},
	    {"{{\"a", "! template: :1: unterminated quoted string"},
	    {"{{break}}", "! template: :1: {{break}} outside {{range}}"},
	    {"{{index .Args 7}}", "! template: :1:2: executing \"\" at <index .Args 7>: error calling index: "
				  "index out of range: 7"},
	    {"{{join .Args}}",
	     "! template: :1:2: executing \"\" at <join .Args>: wrong number of args for join: want 2 got 1"},
	};

	check(examples, ARRAY_SIZE(examples));
}

static struct json *label(const struct json *row, const char *name, struct json *const *args, size_t n,
			  bool *handled)
{
	*handled = !strcmp(name, "Label");
	return *handled ? json_new_str(json_get_str(json_get(row, "Labels"), json_str(args[0]))) : NULL;
}

static void environment(void **state)
{
	const struct tmpl_env env = { .root_type = "*t.Row", .method = label, .row = true };
	_cleanup_free_ char *method = render_env("{{.Label \"k\"}}", &env);
	_cleanup_free_ char *missing = render_env("{{.Foo}}", &env);
	_cleanup_free_ char *row = render_env("{{json .}}", &env);

	assert_string_equal(method, "v");
	assert_string_equal(
	    missing, "! template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *t.Row");
	assert_non_null(strstr(row, "x \\u003cy\\u003e\\u0026"));
}

/* Deep nesting must end in a message, not in a stack overflow. */
static void nesting(void **state)
{
	enum { N = 100000 };
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	_cleanup_free_ char *got = NULL;

	sbuf_puts(&b, "{{");
	for (int i = 0; i < N; i++)
		sbuf_putc(&b, '(');
	got = render_env(sbuf_str(&b), NULL);
	assert_string_equal(got, "! template: :1: template nested too deeply");
	sbuf_reset(&b);
	for (int i = 0; i < N; i++)
		sbuf_puts(&b, "{{if 1}}");
	free(got);
	got = render_env(sbuf_str(&b), NULL);
	assert_string_equal(got, "! template: :1: template nested too deeply");
}

static void uses(void **state)
{
	_cleanup_tmpl_ struct tmpl *t = NULL;
	_cleanup_free_ char *error = NULL;

	assert_int_equal(tmpl_parse("{{if .A}}{{range .B}}{{upper (lower .Size)}}{{end}}{{end}}", &t, &error),
			 0);
	assert_true(tmpl_uses(t, "Size"));
	assert_true(tmpl_uses(t, "B"));
	assert_false(tmpl_uses(t, "C"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(fields), cmocka_unit_test(control),     cmocka_unit_test(functions),
	    cmocka_unit_test(errors), cmocka_unit_test(environment), cmocka_unit_test(nesting),
	    cmocka_unit_test(uses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
