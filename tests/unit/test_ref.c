#include "tests/unit/test.h"

#include "base/strv.h"
#include "oci/ref.h"

#include <string.h>

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void defaults(void **state)
{
	static const struct { const char *in, *domain, *path, *tag, *digest, *familiar;
	} good[] = {
	    {"busybox", "docker.io", "library/busybox", "latest", NULL, "busybox:latest"},
	    {"busybox:1.36", "docker.io", "library/busybox", "1.36", NULL, "busybox:1.36"},
	    {"library/busybox", "docker.io", "library/busybox", "latest", NULL, "busybox:latest"},
	    {"docker.io/busybox", "docker.io", "library/busybox", "latest", NULL, "busybox:latest"},
	    {"index.docker.io/library/busybox", "docker.io", "library/busybox", "latest", NULL,
	     "busybox:latest"},
	    {"docker.io/library/a/b", "docker.io", "library/a/b", "latest", NULL, "library/a/b:latest"},
	    {"docker.io/host.name/x", "docker.io", "host.name/x", "latest", NULL,
	     "docker.io/host.name/x:latest"},
	    {"docker.io/localhost/x", "docker.io", "localhost/x", "latest", NULL,
	     "docker.io/localhost/x:latest"},
	    {"docker.io/localhost", "docker.io", "library/localhost", "latest", NULL, "localhost:latest"},
	    {"user/image:v1", "docker.io", "user/image", "v1", NULL, "user/image:v1"},
	    {"localhost/x", "localhost", "x", "latest", NULL, "localhost/x:latest"},
	    {"localhost:5000/a/b:t", "localhost:5000", "a/b", "t", NULL, "localhost:5000/a/b:t"},
	    {"[::1]:5000/a", "[::1]:5000", "a", "latest", NULL, "[::1]:5000/a:latest"},
	    {"ghcr.io/Org/x", NULL},
	    {"ghcr.io/org/x_y.z--w__v", "ghcr.io", "org/x_y.z--w__v", "latest", NULL,
	     "ghcr.io/org/x_y.z--w__v:latest"},
	    {"a@sha256:" HEX64, "docker.io", "library/a", NULL, "sha256:" HEX64, "a@sha256:" HEX64},
	    {"a:t@sha256:" HEX64, "docker.io", "library/a", "t", "sha256:" HEX64, "a:t"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		_cleanup_ref_ struct ref r = { 0 };
		_cleanup_free_ char *familiar = NULL;

		if (!good[i].domain) {
			assert_true(ref_parse(good[i].in, &r, NULL) < 0);
			continue;
		}
		assert_int_equal(ref_parse(good[i].in, &r, NULL), 0);
		assert_string_equal(r.domain, good[i].domain);
		assert_string_equal(r.path, good[i].path);
		assert_true(streq(r.tag, good[i].tag));
		assert_true(streq(r.digest, good[i].digest));
		familiar = ref_familiar(&r);
		assert_string_equal(familiar, good[i].familiar);
	}
}

static void refused(void **state)
{
	static const struct { const char *in, *text; } bad[] = {
		{ "", "invalid reference format" },
		{ "UPPER", "invalid reference format: repository name (library/UPPER) must be lowercase" },
		{ "a b", "invalid reference format" },
		{ "a:", "invalid reference format" },
		{ "a:-x", "invalid reference format" },
		{ "a@sha256:12", "invalid reference format" },
		{ "a@md5:" HEX64, "invalid reference format" },
		{ "a/", "invalid reference format" },
		{ "/a", "invalid reference format" },
		{ "a//b", "invalid reference format" },
		{ "../a", "invalid reference format" },
		{ "a/../b", "invalid reference format" },
		{ "a..b", "invalid reference format" },
		{ "a___b", "invalid reference format" },
		{ "-a", "invalid reference format" },
		{ "a-", "invalid reference format" },
		{ "host:port/a", "invalid reference format" },
		{ "a\n", "invalid reference format" },
		{ "\xc3\xa4", "invalid reference format" },
		{ HEX64, "invalid repository name (" HEX64 "), cannot specify 64-byte hexadecimal strings" },
	};
	char tag[140] = "a:";

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_ref_ struct ref r = { 0 };
		_cleanup_err_ struct err e = ERR_INIT;

		assert_true(ref_parse(bad[i].in, &r, &e) < 0);
		assert_int_equal(e.kind, ERR_INVALID);
		assert_string_equal(err_text(&e), bad[i].text);
	}
	memset(tag + 2, 'x', 128);
	_cleanup_ref_ struct ref longest = { 0 };

	assert_int_equal(ref_parse(tag, &longest, NULL), 0);
	tag[130] = 'x';
	assert_true(ref_parse(tag, &(struct ref){ 0 }, NULL) < 0);
}

static void digests(void **state)
{
	assert_true(digest_valid("sha256:" HEX64));
	assert_false(digest_valid(HEX64));
	assert_false(digest_valid("sha256:" HEX64 "0"));
	assert_false(digest_valid("sha256:G123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"));
	assert_false(digest_valid("sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef"));
	assert_false(digest_valid("sha256:../../../../../../../../../../../../../../../../../../../../../x"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults), cmocka_unit_test(refused), cmocka_unit_test(digests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
