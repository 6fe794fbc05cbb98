#include "tests/unit/test.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "oci/image_needs.h"
#include "oci/image_spec.h"
#include "oci/manifest.h"

#include <string.h>

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct json *parse(const char *s)
{
	struct json *j = NULL;

	assert_int_equal(json_parse(s, strlen(s), &j, NULL), 0);
	return j;
}

static void diff_ids(void **state)
{
	static const char *const bad[] = {
	    "{\"rootfs\":{\"diff_ids\":{}}}",      "{\"rootfs\":{\"diff_ids\":[1]}}",
	    "{\"rootfs\":{\"diff_ids\":[\"x\"]}}", "{\"rootfs\":{\"diff_ids\":[\"sha256:../../etc\"]}}",
	    "{\"rootfs\":{\"diff_ids\":[null]}}",
	};
	_cleanup_json_ struct json *good = parse("{\"rootfs\":{\"diff_ids\":[\"sha256:" HEX64 "\"]}}"),
				   *none = parse("{}");
	_cleanup_strv_ char **v = NULL;

	assert_int_equal(image_config_diff_ids(good, &v, NULL), 0);
	assert_int_equal(strv_len(v), 1);
	assert_string_equal(v[0], "sha256:" HEX64);
	strv_free(v);
	v = NULL;
	assert_int_equal(image_config_diff_ids(none, &v, NULL), 0);
	assert_int_equal(strv_len(v), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_json_ struct json *j = parse(bad[i]);
		_cleanup_err_ struct err e = ERR_INIT;

		assert_true(image_config_diff_ids(j, &v, &e) < 0);
		assert_int_equal(e.kind, ERR_INVALID);
	}
}

static void too_many_layers(void **state)
{
	_cleanup_json_ struct json *j = parse("{\"rootfs\":{\"diff_ids\":[]}}");
	_cleanup_strv_ char **v = NULL;

	for (int i = 0; i < 600; i++)
		json_add_str(json_get(json_get(j, "rootfs"), "diff_ids"), "sha256:" HEX64);
	assert_true(image_config_diff_ids(j, &v, NULL) < 0);
}

static void host(void **state)
{
	_cleanup_free_ char *own =
	    xasprintf("{\"os\":\"linux\",\"architecture\":\"%s\"}", image_architecture());
	_cleanup_json_ struct json *good = parse(own), *os = parse("{\"os\":\"windows\"}"),
				   *arch = parse("{\"os\":\"linux\",\"architecture\":\"s390x\"}"),
				   *silent = parse("{}");
	_cleanup_err_ struct err e = ERR_INIT;

	assert_int_equal(image_config_check_host(good, NULL), 0);
	assert_int_equal(image_config_check_host(silent, NULL), 0);
	assert_true(image_config_check_host(arch, NULL) < 0);
	assert_true(image_config_check_host(os, &e) < 0);
	assert_string_equal(err_text(&e),
			    "image operating system \"windows\" cannot be used on this platform");
}

static void selects_by_platform(void **state)
{
	_cleanup_free_ char *text =
	    xasprintf("{\"manifests\":[{\"digest\":\"a\",\"platform\":{\"os\":\"unknown\",\"architecture\":"
		      "\"unknown\"}},"
		      "{\"digest\":\"b\",\"platform\":{\"os\":\"linux\",\"architecture\":\"s390x\"}},"
		      "{\"digest\":\"c\",\"platform\":{\"os\":\"linux\",\"architecture\":\"%s\"}}]}",
		      image_architecture());
	_cleanup_json_ struct json *j = parse(text),
				   *none = parse("{\"manifests\":[{\"platform\":{\"os\":\"plan9\"}}]}"),
				   *arms = parse(
				       "{\"manifests\":["
				       "{\"digest\":\"v5\",\"platform\":{\"os\":\"linux\",\"architecture\":"
				       "\"arm\",\"variant\":\"v5\"}},"
				       "{\"digest\":\"v7\",\"platform\":{\"os\":\"linux\",\"architecture\":"
				       "\"arm\",\"variant\":\"v7\"}},"
				       "{\"digest\":\"v8\",\"platform\":{\"os\":\"linux\",\"architecture\":"
				       "\"arm64\",\"variant\":\"v8\"}}]}");
	static const struct { const char *platform, *digest; } want[] = {
	    {"linux/arm", "v7"}, {"linux/arm/v7", "v7"}, {"linux/arm/v6", "v5"}, {"linux/arm/v5", "v5"},
	    {"linux/arm64", "v8"}, {"arm64", "v8"}, {"linux/aarch64/v8", "v8"}, {"linux/s390x", NULL}};
	_cleanup_platform_ struct platform own = { 0 };

	assert_int_equal(platform_parse("", &own, NULL), 0);
	assert_string_equal(json_get_str(index_select(j, &own), "digest"), "c");
	assert_null(index_select(none, &own));
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		_cleanup_platform_ struct platform p = { 0 };

		assert_int_equal(platform_parse(want[i].platform, &p, NULL), 0);
		assert_true(streq(json_get_str(index_select(arms, &p), "digest"), want[i].digest));
	}
}

static void changes(void **state)
{
	static const struct { const char *change, *result; } good[] = {
		{ "CMD [\"a\", \"b c\"]", "{\"Cmd\":[\"a\",\"b c\"]}" },
		{ "cmd echo hi", "{\"Cmd\":[\"/bin/sh\",\"-c\",\"echo hi\"]}" },
		{ "ENTRYPOINT [\"/x\"]", "{\"Entrypoint\":[\"/x\"]}" },
		{ "ENV A=1 B=\"two words\"", "{\"Env\":[\"A=1\",\"B=two words\"]}" },
		{ "ENV A one two", "{\"Env\":[\"A=one two\"]}" },
		{ "EXPOSE 80 53/udp", "{\"ExposedPorts\":{\"80/tcp\":{},\"53/udp\":{}}}" },
		{ "LABEL a=b 'c d'='e f'", "{\"Labels\":{\"a\":\"b\",\"c d\":\"e f\"}}" },
		{ "USER 1000:1000", "{\"User\":\"1000:1000\"}" },
		{ "VOLUME [\"/a\", \"/b\"]", "{\"Volumes\":{\"/a\":{},\"/b\":{}}}" },
		{ "VOLUME /a /b", "{\"Volumes\":{\"/a\":{},\"/b\":{}}}" },
		{ "WORKDIR /srv", "{\"WorkingDir\":\"/srv\"}" },
		{ "STOPSIGNAL SIGQUIT", "{\"StopSignal\":\"SIGQUIT\"}" },
	};
	static const char *const bad[] = {"RUN true", "CMD", "", "FROM x", "ENV", "LABEL justaword=1 alone",
					  "ENV A=1 B"};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		_cleanup_json_ struct json *j = json_object();
		_cleanup_free_ char *text = NULL;

		assert_int_equal(image_change_apply(j, good[i].change, NULL), 0);
		text = json_dump(j);
		assert_string_equal(text, good[i].result);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_json_ struct json *j = json_object();
		_cleanup_err_ struct err e = ERR_INIT;

		assert_true(image_change_apply(j, bad[i], &e) < 0);
		assert_int_equal(e.kind, ERR_INVALID);
	}
}

static void env_replaces(void **state)
{
	_cleanup_json_ struct json *j = json_object();
	_cleanup_free_ char *text = NULL;

	assert_int_equal(image_change_apply(j, "ENV A=1", NULL), 0);
	assert_int_equal(image_change_apply(j, "ENV B=2", NULL), 0);
	assert_int_equal(image_change_apply(j, "ENV A=3", NULL), 0);
	text = json_dump(j);
	assert_string_equal(text, "{\"Env\":[\"A=3\",\"B=2\"]}");
}

static void kernels_are_compared_by_their_numbers(void **state)
{
	static const struct { const char *a, *b; int r; } cases[] = {
	    {"6.1.0-13-amd64", "6.1", 0}, {"6.1.0", "6.1.1", -1}, {"6.18.44", "6.2", 1},
	    {"5", "5.0.0", 0},		  {"", "0", 0},		  {"x", "1", -1},
	    {"10.0", "9.9", 1},		  {"6.1-rc3", "6.1", 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(kernel_compare(cases[i].a, cases[i].b), cases[i].r);
		assert_int_equal(kernel_compare(cases[i].b, cases[i].a), -cases[i].r);
	}
}

static void needs_are_met_or_named(void **state)
{
	static const struct { const char *doc, *why; } cases[] = {
	    {"{}", NULL},
	    {"{\"os.version\":\"6.1\"}", NULL},
	    {"{\"os.version\":\"6.2\"}", "a kernel of at least 6.2"},
	    {"{\"os.features\":[\"landlock\",\"cgroup2\"]}", NULL},
	    {"{\"os.features\":[\"cgroup2\",\"win32k\"]}", "the feature \"win32k\" of a kernel"},
	    {"{\"os.features\":[7]}", "the feature \"\" of a kernel"},
	    {"{\"config\":{\"Labels\":{\"insula.kernel.min\":\"7\"}}}", "a kernel of at least 7"},
	    {"{\"config\":{\"Labels\":{\"insula.kernel.min\":\"5.10\"}}}", NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_json_ struct json *doc = NULL;
		_cleanup_free_ char *why = NULL;

		assert_int_equal(json_parse(cases[i].doc, strlen(cases[i].doc), &doc, NULL), 0);
		assert_int_equal(image_needs_met(doc, "6.1.0-56-cloud-amd64", &why), !cases[i].why);
		assert_true(streq(why, cases[i].why));
	}
}

#define FOR_KERNEL(n, v)                                                                                     \
	"{\"digest\":\"" n "\",\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"" v "}}"

static void indexes_are_chosen_from_by_kernel(void **state)
{
	static const char text[] =
	    "{\"manifests\":[" FOR_KERNEL("any", "") ","
	    FOR_KERNEL("99", ",\"os.version\":\"99.0\"") ","
	    FOR_KERNEL("5", ",\"os.version\":\"5.4\"") ","
	    FOR_KERNEL("6", ",\"os.version\":\"6.0\"") ","
	    FOR_KERNEL("x", ",\"os.features\":[\"x\"]") "]}";
	static const struct { const char *kernel, *digest; } cases[] = {
	    {"6.1", "6"}, {"5.10", "5"}, {"4.19", "any"}, {"99.1", "99"},
	};
	_cleanup_json_ struct json *doc = NULL;

	assert_int_equal(json_parse(text, strlen(text), &doc, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_platform_ struct platform p = { 0 };

		assert_int_equal(platform_parse("linux/amd64", &p, NULL), 0);
		str_replace(&p.kernel, cases[i].kernel);
		assert_string_equal(json_get_str(index_select(doc, &p), "digest"), cases[i].digest);
	}
	/* What only a machine may be able to run is better than nothing. */
	_cleanup_json_ struct json *only = json_object();
	_cleanup_platform_ struct platform p = { 0 };

	json_add(json_set(only, "manifests", json_array()),
		 json_copy(json_at(json_get(doc, "manifests"), 1)));
	assert_int_equal(platform_parse("linux/amd64", &p, NULL), 0);
	assert_string_equal(json_get_str(index_select(only, &p), "digest"), "99");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(kernels_are_compared_by_their_numbers),
	    cmocka_unit_test(needs_are_met_or_named),
	    cmocka_unit_test(indexes_are_chosen_from_by_kernel),
	    cmocka_unit_test(diff_ids), cmocka_unit_test(too_many_layers),
	    cmocka_unit_test(host),     cmocka_unit_test(selects_by_platform),
	    cmocka_unit_test(changes),  cmocka_unit_test(env_replaces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
