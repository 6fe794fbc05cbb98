/* Wrong configurations: every field with a value of the wrong type, and thousands of documents damaged at
 * random. */
#include "test.h"
#include "base/alloc.h"
#include "base/strv.h"
#include "lib/seccomp.h"
#include "oci/runtime_spec.h"

#include <stdio.h>
#include <string.h>

#define MUTATIONS 10000

/* Every field that is read, with a value that is accepted. */
static const char document[] =
    "{\"ociVersion\":\"1.2.0\",\"hostname\":\"h\",\"domainname\":\"d\",\"annotations\":{\"a\":\"b\"},"
    "\"root\":{\"path\":\"rootfs\",\"readonly\":true},"
    "\"process\":{\"terminal\":true,\"consoleSize\":{\"height\":2,\"width\":3},"
    "\"user\":{\"uid\":1,\"gid\":2,\"umask\":18,\"additionalGids\":[3,4],\"username\":\"u\"},"
    "\"args\":[\"sh\",\"-c\"],\"env\":[\"A=b\"],\"cwd\":\"/\","
    "\"capabilities\":{\"bounding\":[\"CAP_KILL\"],\"effective\":[\"CAP_KILL\"],"
    "\"inheritable\":[\"CAP_KILL\"],\"permitted\":[\"CAP_KILL\"],\"ambient\":[\"CAP_KILL\"]},"
    "\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"soft\":1,\"hard\":2}],\"noNewPrivileges\":true,"
    "\"oomScoreAdj\":5,\"apparmorProfile\":\"p\",\"selinuxLabel\":\"s\"},"
    "\"mounts\":[{\"destination\":\"/m\",\"type\":\"tmpfs\",\"source\":\"s\",\"options\":[\"ro\"],"
    "\"uidMappings\":[{\"containerID\":1,\"hostID\":2,\"size\":3}],"
    "\"gidMappings\":[{\"containerID\":1,\"hostID\":2,\"size\":3}]}],"
    "\"hooks\":{\"prestart\":[{\"path\":\"/p\",\"args\":[\"p\"],\"env\":[\"A=b\"],\"timeout\":3}],"
    "\"createRuntime\":[{\"path\":\"/p\"}],\"createContainer\":[{\"path\":\"/p\"}],"
    "\"startContainer\":[{\"path\":\"/p\"}],\"poststart\":[{\"path\":\"/p\"}],"
    "\"poststop\":[{\"path\":\"/p\"}]},"
    "\"linux\":{\"namespaces\":[{\"type\":\"pid\",\"path\":\"/p\"},{\"type\":\"mount\"},{\"type\":\"time\"},"
    "{\"type\":\"user\"}],"
    "\"uidMappings\":[{\"containerID\":0,\"hostID\":1000,\"size\":5}],"
    "\"gidMappings\":[{\"containerID\":0,\"hostID\":1000,\"size\":5}],"
    "\"timeOffsets\":{\"monotonic\":{\"secs\":1,\"nanosecs\":2},\"boottime\":{\"secs\":3}},"
    "\"devices\":[{\"path\":\"/dev/x\",\"type\":\"c\",\"major\":1,\"minor\":3,\"fileMode\":438,\"uid\":0,"
    "\"gid\":0}],"
    "\"intelRdt\":{\"closID\":\"c\",\"l3CacheSchema\":\"L3:0=f\",\"memBwSchema\":\"MB:0=20\","
    "\"schemata\":[\"L2:0=f\"],\"enableCMT\":true,\"enableMBM\":true,\"enableMonitoring\":true},"
    "\"cgroupsPath\":\"/x\",\"maskedPaths\":[\"/m\"],\"readonlyPaths\":[\"/r\"],"
    "\"rootfsPropagation\":\"private\","
    "\"sysctl\":{\"net.core.somaxconn\":\"5\"},\"personality\":{\"domain\":\"LINUX\"},"
    "\"resources\":{\"devices\":[{\"allow\":true,\"type\":\"c\",\"major\":1,\"minor\":2,\"access\":\"rwm\"}],"
    "\"memory\":{\"limit\":1,\"reservation\":2,\"swap\":3,\"kernel\":4,\"kernelTCP\":5,\"swappiness\":6,"
    "\"disableOOMKiller\":true,\"useHierarchy\":true,\"checkBeforeUpdate\":true},"
    "\"cpu\":{\"shares\":1,\"quota\":2,\"burst\":3,\"period\":4,\"realtimeRuntime\":5,\"realtimePeriod\":6,"
    "\"cpus\":\"0-1\",\"mems\":\"0\",\"idle\":1},\"pids\":{\"limit\":7},"
    "\"blockIO\":{\"weight\":10,\"leafWeight\":11,"
    "\"weightDevice\":[{\"major\":8,\"minor\":0,\"weight\":12,\"leafWeight\":13}],"
    "\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":0,\"rate\":1}],"
    "\"throttleWriteBpsDevice\":[{\"major\":8,\"minor\":0,\"rate\":1}],"
    "\"throttleReadIOPSDevice\":[{\"major\":8,\"minor\":0,\"rate\":1}],"
    "\"throttleWriteIOPSDevice\":[{\"major\":8,\"minor\":0,\"rate\":1}]},"
    "\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":9}],"
    "\"network\":{\"classID\":1,\"priorities\":[{\"name\":\"eth0\",\"priority\":5}]},"
    "\"rdma\":{\"mlx5_1\":{\"hcaHandles\":3,\"hcaObjects\":4}},\"unified\":{\"memory.high\":\"5\"}}}}";

static const char profile[] =
    "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":1,\"architectures\":[\"SCMP_ARCH_X86_64\"],"
    "\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\"],\"syscalls\":[{\"names\":[\"read\",\"write\"],"
    "\"action\":\"SCMP_ACT_ALLOW\"},{\"names\":[\"clone\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":2,"
    "\"args\":[{\"index\":0,\"value\":1,\"valueTwo\":2,\"op\":\"SCMP_CMP_MASKED_EQ\"}]}]}";

/* A copy in which the value number `target`, in order of the walk, is another. */
struct edit { size_t n, target; const char *with; char path[256]; enum json_type was; };

static struct json *parsed(const char *s)
{
	struct json *j = NULL;

	assert_int_equal(json_parse(s, strlen(s), &j, NULL), 0);
	return j;
}

static struct json *edited(const struct json *v, struct edit *ed, const char *path)
{
	char buf[256];
	struct json *copy;

	if (ed->n++ == ed->target) {
		snprintf(ed->path, sizeof ed->path, "%s", path);
		ed->was = json_type(v);
		return parsed(ed->with);
	}
	if (json_type(v) == JSON_OBJECT) {
		struct json_iter it = { 0 };

		copy = json_object();
		while (json_next(v, &it))
			json_set(copy, it.key,
				 edited(it.value, ed, json_path_key(path, it.key, buf, sizeof buf)));
		return copy;
	}
	if (json_type(v) == JSON_ARRAY) {
		copy = json_array();
		for (size_t i = 0; i < json_len(v); i++)
			json_add(copy, edited(json_at(v, i), ed, json_path_at(path, i, buf, sizeof buf)));
		return copy;
	}
	return json_copy(v);
}

static size_t count(const struct json *v)
{
	struct edit ed = { .target = SIZE_MAX };

	json_free(edited(v, &ed, ""));
	return ed.n;
}

static int parse_spec(const char *p, size_t n, struct err *e)
{
	_cleanup_oci_spec_ struct oci_spec *s = NULL;
	int r = oci_spec_parse(p, n, &s, e);

	assert_true(r == 0 ? s != NULL : s == NULL);
	return r;
}

static int compile_profile(const char *p, size_t n, struct err *e)
{
	_cleanup_seccomp_ struct seccomp_prog prog = { 0 };
	_cleanup_json_ struct json *j = NULL;
	int r = json_parse(p, n, &j, e);

	return r < 0 ? r : seccomp_prog_compile_here(j, &prog, e);
}

typedef int (*parse_fn)(const char *p, size_t n, struct err *e);

/* The path of the value that is wrong, or of the one that holds it, comes first. */
static void every_field(const char *text, const char *prefix, parse_fn parse)
{
	static const char *const values[] = { "{\"x\":[]}", "[[7]]", "\"\\u0001 no\"", "-12345678901",
		"true", "1.5" };
	_cleanup_json_ struct json *doc = parsed(text);
	size_t n = count(doc), refused = 0;

	assert_int_equal(parse(text, strlen(text), NULL), 0);
	for (size_t i = 1; i < n; i++)
		for (size_t k = 0; k < ARRAY_SIZE(values); k++) {
			struct edit ed = { .target = i, .with = values[k] };
			_cleanup_json_ struct json *bad = edited(doc, &ed, prefix), *with = parsed(values[k]);
			_cleanup_free_ char *out = json_dump(bad);
			_cleanup_err_ struct err e = ERR_INIT;
			bool same = json_type(with) == ed.was ||
				    (json_type(with) == JSON_DOUBLE && ed.was == JSON_INT);
			int r = parse(out, strlen(out), &e);

			if (same)
				continue;	/* it may be right */
			if (r == 0)
				fail_msg("%s = %s is accepted", ed.path, values[k]);
			assert_int_equal(e.kind, ERR_INVALID);
			if (!str_starts(err_text(&e), ed.path))
				fail_msg("%s = %s: '%s'", ed.path, values[k], err_text(&e));
			refused++;
		}
	assert_true(refused > n);
}

static void test_every_field(void **state)
{
	every_field(document, "", parse_spec);
}

static void test_every_field_of_a_profile(void **state)
{
	every_field(profile, "linux.seccomp", compile_profile);
}

/* --- at random --- */

static uint32_t seed = 1;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

/* Bytes: changed, taken out, doubled, put in. */
static char *damage(const char *text, size_t *ret_n)
{
	static const char *const tokens[] = { "\"", "{", "}", "[", "]", ",", ":", "null", "-1",
		"9223372036854775808",
					      "1e999", "\\u0000", "\xff", "\"x\":", "[[[[[[",
					      	"18446744073709551615" };
	size_t n = strlen(text);
	char *b = xmalloc(2 * n + 64);

	memcpy(b, text, n);
	for (uint32_t times = 1 + rnd(4); times; times--) {
		size_t at = rnd((uint32_t)n), len = 1 + rnd(20);
		const char *t = tokens[rnd(ARRAY_SIZE(tokens))];

		len = MIN(len, n - at);
		switch (rnd(4)) {
		case 0:
			b[at] = (char)rnd(256);
			break;
		case 1:
			memmove(b + at, b + at + len, n - at - len);
			n -= len;
			break;
		case 2:
			len = MIN(len, strlen(text) / 8);
			memmove(b + at + len, b + at, n - at);
			n += len;
			break;
		default:
			memmove(b + at + strlen(t), b + at, n - at);
			memcpy(b + at, t, strlen(t));
			n += strlen(t);
		}
	}
	*ret_n = n;
	return b;
}

static void clean(const char *p, size_t n, parse_fn parse, size_t *refused)
{
	_cleanup_err_ struct err e = ERR_INIT;
	int r = parse(p, n, &e);

	if (r == 0) {
		assert_null(e.msg);
		return;
	}
	(*refused)++;
	assert_int_equal(e.kind, ERR_INVALID);
	assert_true(e.msg && *e.msg);
	for (const char *c = e.msg; *c; c++)
		if ((unsigned char)*c < 0x20)
			fail_msg("'%s' is not one line of text", e.msg);
}

static void at_random(const char *text, parse_fn parse)
{
	static const char *const values[] = { "{}", "[]", "\"\"", "\"/\"", "0", "-1", "1",
		"9223372036854775807",
					      "18446744073709551615", "true", "null", "1e300", "[null]",
					      	"[\"\"]",
					      "{\"\":\"\"}", "[{}]", "\"a\\u0000b\"", "\"line\\nline\"" };
	_cleanup_json_ struct json *doc = parsed(text);
	size_t nodes = count(doc), refused = 0;

	for (int i = 0; i < MUTATIONS / 2; i++) {
		_cleanup_free_ char *bytes = NULL, *out = NULL;
		_cleanup_json_ struct json *a = NULL, *b = NULL;
		struct edit one = { .target = rnd((uint32_t)nodes), .with = values[rnd(ARRAY_SIZE(values))] },
			    two = { .target = rnd((uint32_t)nodes), .with = values[rnd(ARRAY_SIZE(values))] };
		size_t n;

		bytes = damage(text, &n);
		clean(bytes, n, parse, &refused);
		a = edited(doc, &one, "");
		b = edited(a, &two, "");
		out = json_dump(b);
		clean(out, strlen(out), parse, &refused);
	}
	assert_true(refused > MUTATIONS / 2);
}

static void test_at_random(void **state)
{
	at_random(document, parse_spec);
}

static void test_profiles_at_random(void **state)
{
	at_random(profile, compile_profile);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_field), cmocka_unit_test(test_every_field_of_a_profile),
		cmocka_unit_test(test_at_random), cmocka_unit_test(test_profiles_at_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
