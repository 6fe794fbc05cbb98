/* What registries answer: challenges, errors, tokens, manifests. */
#include "tests/unit/test.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "oci/manifest.h"
#include "registry/challenge.h"

#include <errno.h>
#include <string.h>

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void challenges(void **state)
{
	static const struct {
		const char *text;
		int r;
		bool bearer;
		const char *realm, *service, *scope;
	} cases[] = {
	    {"Bearer realm=\"https://a/token\",service=\"s\",scope=\"repository:x:pull\"", 0, true,
	     "https://a/token", "s", "repository:x:pull"},
	    {"bearer  Realm = \"u\" , service=bare", 0, true, "u", "bare", NULL},
	    {"Basic realm=\"x\"", 0, false, NULL, NULL, NULL},
	    {"Negotiate, Basic realm=\"x\", Bearer realm=\"y\"", 0, true, "y", NULL, NULL},
	    {"Bearer realm=\"a \\\"b\\\", c\",service=\"d\"", 0, true, "a \"b\", c", "d", NULL},
	    {"Bearer realm=\"a\",realm=\"b\"", 0, true, "a", NULL, NULL},
	    {"Bearer", -EBADMSG, false, NULL, NULL, NULL},
	    {"Bearer realm=\"\"", -EBADMSG, false, NULL, NULL, NULL},
	    {"Bearer realm=\"open", -EBADMSG, false, NULL, NULL, NULL},
	    {"Digest realm=\"x\"", -EBADMSG, false, NULL, NULL, NULL},
	    {"", -EBADMSG, false, NULL, NULL, NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_challenge_ struct challenge c = { 0 };

		assert_int_equal(challenge_parse(cases[i].text, &c), cases[i].r);
		assert_int_equal(c.bearer, cases[i].bearer);
		assert_true(streq(c.realm, cases[i].realm));
		assert_true(streq(c.service, cases[i].service));
		assert_true(streq(c.scope, cases[i].scope));
	}
}

static void errors(void **state)
{
	static const struct { const char *body, *text; } cases[] = {
	    {"{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"manifest unknown\"}]}",
	     "manifest unknown: manifest unknown"},
	    {"{\"errors\":[{\"code\":\"DENIED\"}]}", "denied"},
	    {"{\"details\":\"incorrect username or password\"}", "incorrect username or password"},
	    {"{\"errors\":[{\"message\":\"a\\u001b[31mb\"}]}", "a?[31mb"},
	    {"{\"errors\":[]}", NULL},
	    {"<html>", NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *text = registry_error_text(cases[i].body, strlen(cases[i].body));

		assert_true(streq(text, cases[i].text));
	}
}

static void tokens(void **state)
{
	static const struct { const char *body, *token; } cases[] = {
	    {"{\"token\":\"a.b-c\"}", "a.b-c"},   {"{\"access_token\":\"x\"}", "x"},
	    {"{\"token\":\"a\\r\\nX: y\"}", NULL}, {"{\"token\":\"\"}", NULL}, {"{}", NULL}, {"", NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *token = registry_token(cases[i].body, strlen(cases[i].body));

		assert_true(streq(token, cases[i].token));
	}
}

#define DESCRIPTOR(type, size)                                                                               \
	"{\"mediaType\":\"" type "\",\"digest\":\"sha256:" HEX64 "\",\"size\":" size "}"
#define CONFIG DESCRIPTOR(MEDIA_OCI_CONFIG, "7")

static void manifests(void **state)
{
	static const struct { const char *text; bool good, index; size_t layers;
	} cases[] = {
	    {"{\"config\":" CONFIG ",\"layers\":[" DESCRIPTOR(MEDIA_OCI_LAYER "+zstd", "9") "]}", true, false,
	     1},
	    {"{\"schemaVersion\":2,\"config\":" CONFIG ",\"layers\":[]}", true, false, 0},
	    {"{\"manifests\":[]}", true, true, 0},
	    {"{\"schemaVersion\":1,\"fsLayers\":[]}", false, false, 0},
	    {"{\"mediaType\":\"" MEDIA_OCI_INDEX "\",\"config\":" CONFIG ",\"layers\":[]}", false, false, 0},
	    {"{\"manifests\":[],\"layers\":[]}", false, false, 0},
	    {"{\"config\":" DESCRIPTOR(MEDIA_OCI_CONFIG, "-1") ",\"layers\":[]}", false, false, 0},
	    {"{\"config\":" DESCRIPTOR(MEDIA_OCI_CONFIG, "99999999999") ",\"layers\":[]}", false, false, 0},
	    {"{\"config\":" DESCRIPTOR("application/vnd.cncf.helm", "7") ",\"layers\":[]}", false, false, 0},
	    {"{\"config\":" CONFIG ",\"layers\":[" DESCRIPTOR("text/plain", "9") "]}", false, false, 0},
	    {"{\"config\":{\"digest\":\"sha256:../x\",\"size\":1},\"layers\":[]}", false, false, 0},
	    {"[]", false, false, 0},
	    {"", false, false, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_manifest_ struct manifest m = { 0 };
		_cleanup_err_ struct err e = ERR_INIT;
		int r = manifest_parse(cases[i].text, strlen(cases[i].text), NULL, &m, &e);

		assert_int_equal(r == 0, cases[i].good);
		assert_int_equal(m.index, cases[i].index);
		assert_int_equal(m.n_layers, cases[i].layers);
		assert_int_equal(r < 0, e.kind != ERR_NONE);
	}
}

static void written_manifests_are_read(void **state)
{
	char digest[] = "sha256:" HEX64, plain[] = MEDIA_DOCKER_LAYER_GZIP, zstd[] = MEDIA_OCI_LAYER "+zstd";
	const struct descriptor config = {NULL, digest, 7},
				layers[] = {{plain, digest, 1}, {zstd, digest, 2}};

	for (size_t n = 0; n <= 2; n++) {
		_cleanup_free_ char *text = manifest_new(&config, layers, n);
		_cleanup_manifest_ struct manifest m = { 0 };

		assert_int_equal(manifest_parse(text, strlen(text), NULL, &m, NULL), 0);
		assert_int_equal(m.n_layers, n);
		assert_true(streq(m.config.media_type, n == 2 ? MEDIA_OCI_CONFIG : MEDIA_DOCKER_CONFIG));
		if (n == 2)
			assert_string_equal(m.layers[0].media_type, MEDIA_OCI_LAYER "+gzip");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(challenges), cmocka_unit_test(errors), cmocka_unit_test(tokens),
	    cmocka_unit_test(manifests),  cmocka_unit_test(written_manifests_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
