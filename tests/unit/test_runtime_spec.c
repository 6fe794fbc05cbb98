#include "test.h"
#include "base/strv.h"
#include "oci/defaults.h"
#include "oci/runtime_spec.h"

#include <stdio.h>
#include <string.h>

/* A document with these members of process and linux beside the ones that must be there. */
static int parse(const char *process, const char *linux_part, struct oci_spec **ret, struct err *e)
{
	char text[4096];

	snprintf(text, sizeof text,
		 "{\"ociVersion\":\"1.9.9-dev\",\"unknown\":{\"x\":[1]},\"root\":{\"path\":\"rootfs\"},"
		 "\"process\":{\"args\":[\"sh\"],\"cwd\":\"/\"%s%s},\"linux\":{%s}}",
		 *process ? "," : "", process, linux_part);
	return oci_spec_parse(text, strlen(text), ret, e);
}

static void refused(const char *process, const char *linux_part, const char *words)
{
	_cleanup_err_ struct err e = ERR_INIT;
	struct oci_spec *s = NULL;

	assert_true(parse(process, linux_part, &s, &e) < 0);
	assert_null(s);
	assert_int_equal(e.kind, ERR_INVALID);
	if (!strstr(err_text(&e), words))
		fail_msg("'%s' lacks '%s'", err_text(&e), words);
}

static void test_accepts(void **state)
{
	_cleanup_oci_spec_ struct oci_spec *s = NULL;

	assert_int_equal(parse("\"user\":{\"uid\":7,\"additionalGids\":[1,2],\"umask\":18},\"consoleSize\":{"
			       "\"height\":3,\"width\":4},"
			       "\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"soft\":1,\"hard\":-1}]",
			       "\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"network\",\"path\":\"/"
			       "x\"}],\"uidMappings\":[],"
			       "\"resources\":{\"memory\":{\"limit\":5},\"devices\":[{\"allow\":false},"
			       "{\"allow\":true,\"type\":\"c\",\"major\":1,\"access\":\"rw\"}]}",
			       &s, NULL),
			 0);
	assert_int_equal(s->process->user.uid, 7);
	assert_int_equal(s->process->user.additional_gids.n, 2);
	assert_int_equal(*s->process->user.umask, 18);
	assert_int_equal(s->process->rows, 3);
	assert_int_equal(s->process->cols, 4);
	assert_true(s->process->rlimits.v[0].hard == UINT64_MAX);
	assert_true(s->ns[OCI_NS_PID].given && !s->ns[OCI_NS_PID].path);
	assert_string_equal(s->ns[OCI_NS_NET].path, "/x");
	assert_false(s->ns[OCI_NS_UTS].given);
	assert_int_equal(*s->resources.memory.limit, 5);
	assert_null(s->resources.memory.swap);
	assert_int_equal(s->resources.devices.v[0].type, 'a');
	assert_int_equal(s->resources.devices.v[1].minor, -1);
	assert_false(s->resources.devices.v[1].mknod);
}

static void test_refuses(void **state)
{
	refused("", "\"resources\":{\"memory\":{\"limit\":\"x\"}}",
		"linux.resources.memory.limit: expected integer");
	refused("", "\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"pid\"}]",
		"linux.namespaces[1]: namespace 'pid' is given twice");
	refused("", "\"namespaces\":[{\"type\":\"users\"}]", "unknown namespace type 'users'");
	refused("", "\"timeOffsets\":{\"realtime\":{\"secs\":1}}",
		"linux.timeOffsets: unknown clock 'realtime'");
	refused("", "\"timeOffsets\":{\"boottime\":{\"nanosecs\":1000000000}}",
		"linux.timeOffsets.boottime.nanosecs: must be less than a second");
	refused("", "\"intelRdt\":{\"l3CacheSchema\":\"L3:0=$x\"}",
		"linux.intelRdt.l3CacheSchema: invalid schema");
	refused("", "\"uidMappings\":[{}]", "linux.uidMappings[0].containerID: missing");
	refused("", "\"gidMappings\":[{\"containerID\":4294967295,\"hostID\":0,\"size\":1}]",
		"linux.gidMappings[0].size: value out of range");
	refused("\"scheduler\":{\"policy\":\"SCHED_IDEAL\"}", "", "process.scheduler: unknown value");
	refused("\"rlimits\":[{\"type\":\"RLIMIT_X\",\"soft\":1,\"hard\":1}]", "",
		"process.rlimits[0].type: unknown rlimit");
	refused("\"rlimits\":[{\"type\":\"RLIMIT_CPU\",\"soft\":2,\"hard\":1}]", "", "above the hard one");
	refused("\"user\":{\"uid\":-1}", "", "process.user.uid: value out of range");
	refused("\"user\":{\"additionalGids\":[4294967296]}", "",
		"process.user.additionalGids[0]: expected group id");
	refused("", "\"devices\":[{\"path\":\"/dev/x\",\"type\":\"q\"}]", "linux.devices[0].type");
	refused("", "\"resources\":{\"devices\":[{\"allow\":true,\"access\":\"x\"}]}",
		"linux.resources.devices[0].access");
}

static void test_versions(void **state)
{
	static const char old[] = "{\"ociVersion\":\"2.0.0\",\"root\":{\"path\":\"r\"}}",
			  none[] = "{\"root\":{\"path\":\"r\"}}";
	_cleanup_err_ struct err e = ERR_INIT;
	struct oci_spec *s = NULL;

	assert_true(oci_spec_parse(old, strlen(old), &s, &e) < 0);
	assert_true(oci_spec_parse(none, strlen(none), &s, NULL) < 0);
	assert_null(s);
}

static void test_lone_process(void **state)
{
	static const char good[] = "{\"args\":[\"a\"],\"cwd\":\"/\"}",
			  relative[] = "{\"args\":[\"a\"],\"cwd\":\"x\"}";
	static const char empty[] = "{\"args\":[],\"cwd\":\"/\"}";
	_cleanup_oci_process_ struct oci_process *p = NULL, *q = NULL;

	assert_int_equal(oci_process_parse(good, strlen(good), &p, NULL), 0);
	assert_string_equal(p->args[0], "a");
	assert_true(oci_process_parse(relative, strlen(relative), &q, NULL) < 0);
	assert_true(oci_process_parse(empty, strlen(empty), &q, NULL) < 0);
	assert_null(q);
}

static void test_caps(void **state)
{
	char *add[] = {(char *)"net_admin", NULL}, *all[] = {(char *)"ALL", NULL},
	     *bad[] = {(char *)"FOO", NULL};
	_cleanup_strv_ char **plus = NULL, **only = NULL, **less = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	char **none = NULL;

	assert_int_equal(oci_caps_resolve(add, NULL, false, &plus, NULL), 0);
	assert_true(strv_has(plus, "CAP_NET_ADMIN") && strv_has(plus, "CAP_CHOWN"));
	assert_int_equal(oci_caps_resolve(add, all, false, &only, NULL), 0);
	assert_int_equal(strv_len(only), 1);
	assert_int_equal(oci_caps_resolve(all, add, false, &less, NULL), 0);
	assert_true(strv_has(less, "CAP_SYS_ADMIN") && !strv_has(less, "CAP_NET_ADMIN"));
	assert_true(oci_caps_resolve(bad, NULL, false, &none, &e) < 0);
	assert_string_equal(err_text(&e), "invalid CapAdd: unknown capability: \"CAP_FOO\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_accepts),  cmocka_unit_test(test_refuses),
	    cmocka_unit_test(test_versions), cmocka_unit_test(test_lone_process),
	    cmocka_unit_test(test_caps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
