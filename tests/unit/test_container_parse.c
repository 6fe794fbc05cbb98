/* What create makes of a request: no engine runs here. */
#include "tests/unit/test.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "engine/container_int.h"
#include <signal.h>
#include <string.h>

static struct engine engine = {
    .cfg = {.data_root = (char *)"/data", .default_isolation = ISOLATION_PROCESS, .vm_dir = (char *)"/vm"},
};

static struct json *parse(const char *text)
{
	struct json *j = NULL;

	assert_int_equal(json_parse(text, strlen(text), &j, NULL), 0);
	return j;
}

static int build(const char *body, const char *image, enum isolation iso, struct json **ret, struct err *e)
{
	_cleanup_json_ struct json *b = parse(body), *i = parse(image);
	struct create_ctx x = {.engine = &engine, .body = b, .image_config = i, .isolation = iso};
	int r = config_build(&x, ret, e);

	strv_free(x.warnings);
	return r;
}

#define IMAGE                                                                                                \
	"{\"Cmd\":[\"sh\"],\"Env\":[\"PATH=/bin\",\"X=image\"],\"WorkingDir\":\"/"                           \
	"w\",\"Labels\":{\"a\":\"1\"}}"

static struct json *good(const char *body)
{
	_cleanup_err_ struct err e = ERR_INIT;
	struct json *j = NULL;

	if (build(body, IMAGE, ISOLATION_PROCESS, &j, &e) < 0)
		fail_msg("%s: %s", body, err_text(&e));
	return j;
}

static void bad(enum isolation iso, const char *body, const char *words)
{
	_cleanup_err_ struct err e = ERR_INIT;
	struct json *j = NULL;

	if (build(body, IMAGE, iso, &j, &e) >= 0)
		fail_msg("accepted: %s", body);
	if (!strstr(err_text(&e), words))
		fail_msg("%s: \"%s\" lacks \"%s\"", body, err_text(&e), words);
}

static void test_signals(void **state)
{
	static const struct { const char *s; int want;
	} rows[] = {
	    {"KILL", SIGKILL}, {"SIGTERM", SIGTERM}, {"sigusr1", SIGUSR1}, {"9", 9},
	    {"RTMIN", 34},     {"RTMIN+3", 37},      {"SIGRTMAX-2", 62},   {"64", 64},
	};
	static const char *const wrong[] = {"",    "0",       "65",      "-1",      "NOSUCH",
					    "SIG", "RTMIN-1", "RTMAX+1", "RTMIN+x", "9x"};
	int signo;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(signal_parse(rows[i].s, &signo, NULL), 0);
		assert_int_equal(signo, rows[i].want);
	}
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_true(signal_parse(wrong[i], &signo, NULL) < 0);
}

static void test_isolation(void **state)
{
	static const struct { const char *s; enum isolation want;
	} rows[] = {
	    {NULL, ISOLATION_PROCESS},      {"", ISOLATION_PROCESS},      {"default", ISOLATION_PROCESS},
	    {"Process", ISOLATION_PROCESS}, {"hyperv", ISOLATION_HYPERV}, {"HyperV", ISOLATION_HYPERV},
	};
	_cleanup_err_ struct err e = ERR_INIT;
	enum isolation iso;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(isolation_parse(&engine, rows[i].s, &iso, NULL), 0);
		assert_int_equal(iso, rows[i].want);
	}
	assert_true(isolation_parse(&engine, "x", &iso, &e) < 0);
	assert_string_equal(err_text(&e),
			    "invalid isolation (x): insula supports 'default', 'process', or 'hyperv'");
}

static void test_merge(void **state)
{
	_cleanup_json_ struct json
	    *a = good("{\"Image\":\"i\",\"Env\":[\"X=mine\"]}"),
	    *b = good("{\"Cmd\":[\"-c\",\"x\"],\"Entrypoint\":[\"bash\"],\"WorkingDir\":\"/other\"}"),
	    *c = good("{\"Cmd\":[\"ls\"],\"Entrypoint\":[\"\"],\"Labels\":{\"b\":\"2\"}}");
	_cleanup_strv_ char **env = json_get_strv(json_get(a, "Config"), "Env");

	assert_string_equal(json_get_str(a, "Path"), "sh");
	assert_string_equal(strv_env_get(env, "X"), "mine");
	assert_string_equal(strv_env_get(env, "PATH"), "/bin");
	assert_string_equal(json_get_str(json_get(a, "Config"), "WorkingDir"), "/w");
	assert_string_equal(json_get_str(json_get(a, "HostConfig"), "Isolation"), "process");
	assert_string_equal(json_get_str(json_get(a, "HostConfig"), "NetworkMode"), "bridge");
	assert_string_equal(json_get_str(b, "Path"), "bash");
	assert_int_equal(json_len(json_get(b, "Args")), 2);
	assert_string_equal(json_get_str(c, "Path"), "ls");
	assert_string_equal(json_get_str(json_get(json_get(c, "Config"), "Labels"), "a"), "1");
	assert_string_equal(json_get_str(json_get(json_get(c, "Config"), "Labels"), "b"), "2");
}

#define HC(fields) "{\"HostConfig\":{" fields "}}"

static void test_refused(void **state)
{
	static const struct { const char *body, *words;
	} rows[] = {
	    {HC("\"PortBindings\":{\"80/tcp\":[{\"HostIp\":\"\",\"HostPort\":\"x\"}]}"),
	     "invalid port specification: \"x\""},
	    {HC("\"PidMode\":\"other\""), "invalid PID mode: other"},
	    {HC("\"NoSuchField\":1"), "HostConfig.NoSuchField"},
	    {HC("\"Memory\":1024"), "Minimum memory limit allowed is 6MB"},
	    {HC("\"NanoCpus\":-1"), "CPUs"},
	    {HC("\"RestartPolicy\":{\"Name\":\"sometimes\"}"), "restart policy"},
	    {HC("\"AutoRemove\":true,\"RestartPolicy\":{\"Name\":\"always\"}"), "AutoRemove"},
	    {HC("\"LogConfig\":{\"Type\":\"syslog\"}"), "log driver"},
	    {HC("\"Ulimits\":[{\"Name\":\"nofile\",\"Soft\":20,\"Hard\":10}]"), "ulimit"},
	    {HC("\"SecurityOpt\":[\"nonsense\"]"), "nonsense"},
	    {HC("\"Sysctls\":{\"kernel.panic\":\"1\"}"), "kernel.panic"},
	    {HC("\"CapAdd\":[\"NOSUCH\"]"), "NOSUCH"},
	    {HC("\"Binds\":[\"a:b:c:d\"]"), "invalid volume"},
	    {HC("\"Binds\":[\"/x:/\"]"), "destination can't be '/'"},
	    {HC("\"Binds\":[\"/x:/y\",\"/z:/y/\"]"), "Duplicate mount point: /y"},
	    {HC("\"Binds\":[\"rel/x:/y\"]"), "invalid characters for a local volume name"},
	    {HC("\"Binds\":[\"/x:/y:nonsense\"]"), "invalid mode"},
	    {HC("\"Mounts\":[{\"Type\":\"npipe\",\"Target\":\"/x\"}]"), "npipe"},
	    {"{\"WorkingDir\":\"rel\"}", "working directory 'rel' is invalid"},
	    {"{\"StopSignal\":\"NOSUCH\"}", "invalid signal: NOSUCH"},
	    {"{\"Healthcheck\":{\"Test\":[\"SHELL\",\"true\"]}}", "Unknown type \"SHELL\" in Healthcheck"},
	    {"{\"Healthcheck\":{\"Test\":[\"CMD\",\"true\"],\"Interval\":5}}", "cannot be less than 1ms"},
	    {"{\"Env\":[\"=x\"]}", "environment variable"},
	    {"{\"NetworkingConfig\":{\"EndpointsConfig\":{\"bridge\":{\"Nonsense\":1}}}}", "Nonsense"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		bad(ISOLATION_PROCESS, rows[i].body, rows[i].words);
}

static void test_refused_hyperv(void **state)
{
	bad(ISOLATION_HYPERV, HC("\"NetworkMode\":\"host\""), "network");
	bad(ISOLATION_HYPERV, HC("\"PidMode\":\"host\""), "pid namespace");
	bad(ISOLATION_HYPERV, HC("\"IpcMode\":\"host\""), "ipc namespace");
	bad(ISOLATION_HYPERV, HC("\"Devices\":[{\"PathOnHost\":\"/dev/console\"}]"), "--device");
	bad(ISOLATION_HYPERV, HC("\"DeviceCgroupRules\":[\"c 1:3 r\"]"), "--device-cgroup-rule");
	bad(ISOLATION_PROCESS, HC("\"DeviceCgroupRules\":[\"c 1:3 q\"]"),
	    "invalid device cgroup rule format");
}

static void test_cpusets(void **state)
{
	static const char *const none[] = {
		"x", "1-", "-1", "1-0", ",", "0-99999999999999999999", "0-1024",
	};
	_cleanup_json_ struct json *one = good(HC("\"CpusetCpus\":\"0\"")), *off = good("{}");

	assert_int_equal(cpuset_count(json_get(one, "HostConfig")), 1);
	assert_int_equal(cpuset_count(json_get(off, "HostConfig")), 0);
	for (size_t i = 0; i < ARRAY_SIZE(none); i++) {
		_cleanup_free_ char *cpus = xasprintf(HC("\"CpusetCpus\":\"%s\""), none[i]),
				    *mems = xasprintf(HC("\"CpusetMems\":\"%s\""), none[i]);

		bad(ISOLATION_PROCESS, cpus, "for cpuset cpus");
		bad(ISOLATION_HYPERV, mems, "for cpuset mems");
	}
	bad(ISOLATION_HYPERV, HC("\"CpusetCpus\":\"0,1023\""),
	    "Requested CPUs are not available - requested 0,1023");
	bad(ISOLATION_PROCESS, HC("\"CpusetMems\":\"1023\""), "Requested memory nodes are not available");
}

/* The empty values that every client sends are nothing to refuse. */
static void test_defaults_pass(void **state)
{
	_cleanup_json_ struct json *j = good("{\"HostConfig\":{\"Links\":null,\"PortBindings\":{},"
					     "\"BlkioWeightDevice\":[],\"CgroupParent\":\"\",\"CpuCount\":0,"
					     "\"NetworkMode\":\"default\",\"MemorySwappiness\":-1,"
					     "\"RestartPolicy\":{\"Name\":\"no\",\"MaximumRetryCount\":0},"
					     "\"LogConfig\":{\"Type\":\"\",\"Config\":{}}},"
					     "\"NetworkingConfig\":{\"EndpointsConfig\":{\"default\":"
					     "{\"IPAMConfig\":null,\"Links\":null,\"IPPrefixLen\":0}}}}");

	assert_int_equal(json_type(json_get(json_get(j, "HostConfig"), "MemorySwappiness")), JSON_NULL);
}

static void test_mounts(void **state)
{
	_cleanup_json_ struct json *j =
	    good("{\"Volumes\":{\"/anon\":{},\"/data\":{}},\"HostConfig\":{\"Binds\":[\"/etc:/h/../"
		 "etc2:ro\",\"vol1:/data\"],"
		 "\"Tmpfs\":{\"/run\":\"size=1m\"}}}");
	const struct json *m = json_get(j, "Mounts");

	assert_int_equal(json_len(m), 4);
	assert_string_equal(json_get_str(json_at(m, 0), "Destination"), "/etc2");
	assert_false(json_get_bool(json_at(m, 0), "RW", true));
	assert_string_equal(json_get_str(json_at(m, 1), "Type"), "volume");
	assert_string_equal(json_get_str(json_at(m, 1), "Source"), "/data/volumes/vol1/_data");
	assert_string_equal(json_get_str(json_at(m, 2), "Options"), "size=1m");
	assert_true(json_get_bool(json_at(m, 3), "Anonymous", false));
	assert_string_equal(json_get_str(json_at(m, 3), "Destination"), "/anon");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_signals),        cmocka_unit_test(test_isolation),
	    cmocka_unit_test(test_merge),          cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_refused_hyperv), cmocka_unit_test(test_cpusets),
	    cmocka_unit_test(test_defaults_pass),
	    cmocka_unit_test(test_mounts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
