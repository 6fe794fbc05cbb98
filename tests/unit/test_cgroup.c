/* Limits as they are written to the control files, on trees of plain files: the versions and controllers that
 * the host of the tests may lack. */
#include "test.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "runtime/cgroup.h"
#include "runtime/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static char dir[64];
static struct cgroup *cg;

static void put(const char *file, const char *text)
{
	_cleanup_free_ char *path = path_join(dir, file);

	assert_int_equal(fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0644, false), 0);
}

static void holds(const char *file, const char *want)
{
	_cleanup_free_ char *path = path_join(dir, file), *text = NULL;

	assert_int_equal(fs_read(AT_FDCWD, path, 65536, &text, NULL), 0);
	assert_string_equal(text, want);
}

/* One directory serves as every hierarchy. */
static void make(bool v2, const char *const *files)
{
	static const char *const v1[] = { "memory", "cpu", "cpuset", "pids", "blkio", "hugetlb", "net_cls",
		"net_prio",
					  "rdma", "freezer", "cpuacct", NULL };

	strcpy(dir, "/tmp/test-cgroup-XXXXXX");
	assert_non_null(mkdtemp(dir));
	cg = new0(struct cgroup);
	cg->path = xstrdup("/");
	cg->unified = v2;
	cg->n = 1;
	cg->h[0] = (struct cgroup_hier){ .mount = xstrdup(dir), .path = xstrdup(""), .v2 = v2,
					 .controllers = v2 ? NULL : strv_copy((char *const *)v1) };
	for (; *files; files++)
		put(*files, "");
}

static int teardown(void **state)
{
	if (cg)
		(void)fs_rm_rf(AT_FDCWD, dir);
	cgroup_free(cg);
	cg = NULL;
	return 0;
}

static int apply(const char *text, struct err *e)
{
	_cleanup_oci_resources_ struct oci_resources res = { 0 };

	assert_int_equal(oci_resources_parse(text, strlen(text), &res, NULL), 0);
	return cgroup_apply(cg, &res, e);
}

static void applied(const char *text)
{
	_cleanup_err_ struct err e = ERR_INIT;

	if (apply(text, &e) < 0)
		fail_msg("%s: %s", text, err_text(&e));
}

static void refused(const char *text, const char *words)
{
	_cleanup_err_ struct err e = ERR_INIT;

	assert_true(apply(text, &e) < 0);
	if (!strstr(err_text(&e), words))
		fail_msg("'%s' lacks '%s'", err_text(&e), words);
}

static const char *const v2_files[] = {
	"memory.max", "memory.low", "memory.swap.max", "memory.current", "cpu.weight", "cpu.max",
		"cpu.max.burst",
	"cpu.idle", "cpuset.cpus", "cpuset.mems", "pids.max", "io.weight", "io.max", "hugetlb.2MB.max",
	"hugetlb.2MB.rsvd.max", "rdma.max", "memory.high", NULL
};

static void test_v2_memory(void **state)
{
	make(true, v2_files);
	applied("{\"memory\":{\"limit\":1000,\"reservation\":500,\"swap\":3000}}");
	holds("memory.max", "1000");
	holds("memory.low", "500");
	holds("memory.swap.max", "2000");
	/* The limit that stands counts where only swap is given. */
	put("memory.max", "1000\n");
	put("memory.swap.max", "");
	applied("{\"memory\":{\"swap\":1500}}");
	holds("memory.swap.max", "500");
	put("memory.swap.max", "");
	applied("{\"memory\":{\"limit\":1000,\"swap\":1000}}");
	holds("memory.swap.max", "0");
	put("memory.max", "");
	put("memory.swap.max", "");
	applied("{\"memory\":{\"limit\":-1}}");
	holds("memory.max", "max");
	holds("memory.swap.max", "max");
	refused("{\"memory\":{\"limit\":1000,\"swap\":999}}", "memory+swap limit should be >= memory limit");
	put("memory.max", "max\n");
	refused("{\"memory\":{\"swap\":999}}", "unable to set swap limit without memory limit");
	put("memory.current", "2000\n");
	refused("{\"memory\":{\"limit\":1000,\"checkBeforeUpdate\":true}}", "current usage: 2000");
	applied("{\"memory\":{\"limit\":3000,\"checkBeforeUpdate\":true}}");
	/* Nothing of v2: left out with a warning. */
	applied("{\"memory\":{\"kernel\":1,\"kernelTCP\":1,\"swappiness\":5,\"disableOOMKiller\":true}}");
}

static void test_v2_cpu(void **state)
{
	make(true, v2_files);
	applied("{\"cpu\":{\"shares\":1024,\"quota\":5000,\"period\":10000,\"burst\":100,\"cpus\":\"0-1\","
		"\"mems\":\"0\"}}");
	holds("cpu.weight", "100");
	holds("cpu.max", "5000 10000");
	holds("cpu.max.burst", "100");
	holds("cpuset.cpus", "0-1");
	holds("cpuset.mems", "0");
	put("cpu.max", "5000 10000");
	applied("{\"cpu\":{\"period\":20000}}");
	holds("cpu.max", "5000 20000");
	put("cpu.max", "70 20000 ");
	applied("{\"cpu\":{\"quota\":-1}}");
	holds("cpu.max", "max 20000");
	put("cpu.weight", "100");
	applied("{\"cpu\":{\"idle\":1,\"shares\":2}}");
	holds("cpu.idle", "1");
	holds("cpu.weight", "100");
	refused("{\"cpu\":{\"realtimeRuntime\":5}}", "no realtime limits");
}

static void test_shares_and_weights(void **state)
{
	static const struct { uint64_t shares, weight; } known[] = {
		{ 0, 0 }, { 1, 1 }, { 2, 1 }, { 1024, 100 }, { 262144, 10000 }, { 1 << 30, 10000 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		assert_int_equal(cgroup2_weight(known[i].shares), known[i].weight);
	for (uint64_t s = 2; s < 262144; s += 97)
		assert_true(cgroup2_weight(s) <= cgroup2_weight(s + 97));
	assert_int_equal(cgroup2_io_weight(10), 1);
	assert_int_equal(cgroup2_io_weight(1000), 10000);
}

static void test_v2_rest(void **state)
{
	make(true, v2_files);
	applied("{\"pids\":{\"limit\":9},\"blockIO\":{\"weight\":500,\"throttleReadBpsDevice\":"
		"[{\"major\":8,\"minor\":16,\"rate\":77}]},\"hugepageLimits\":[{\"pageSize\":\"2MB\","
			"\"limit\":4096}],"
		"\"rdma\":{\"mlx\":{\"hcaHandles\":3,\"hcaObjects\":4}},"
			"\"unified\":{\"memory.high\":\"123\"}}");
	holds("pids.max", "9");
	holds("io.weight", "4950");
	holds("io.max", "8:16 rbps=77");
	holds("hugetlb.2MB.max", "4096");
	holds("hugetlb.2MB.rsvd.max", "4096");
	holds("rdma.max", "mlx hca_handle=3 hca_object=4");
	holds("memory.high", "123");
	applied("{\"pids\":{\"limit\":-1}}");
	holds("pids.max", "max");
	put("io.bfq.weight", "");
	applied("{\"blockIO\":{\"weight\":500,\"weightDevice\":[{\"major\":8,\"minor\":0,\"weight\":600}]}}");
	holds("io.bfq.weight", "8:0 600");
	refused("{\"network\":{\"classID\":5}}", "cgroup v2 has no network controllers");
	refused("{\"blockIO\":{\"leafWeight\":50}}", "no leaf weights");
	refused("{\"unified\":{\"../x\":\"1\"}}", "invalid key");
	refused("{\"unified\":{\"misc.max\":\"1\"}}", "cannot set misc.max");
}

static const char *const v1_files[] = {
	"memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes",
		"memory.swappiness",
	"memory.oom_control", "memory.use_hierarchy", "memory.kmem.limit_in_bytes", "cpu.shares",
		"cpu.cfs_quota_us",
	"cpu.cfs_period_us", "cpu.cfs_burst_us", "cpu.idle", "cpu.rt_runtime_us", "cpu.rt_period_us",
		"cpuset.cpus",
	"cpuset.mems", "pids.max", "blkio.weight", "blkio.weight_device", "blkio.leaf_weight",
	"blkio.leaf_weight_device", "blkio.throttle.write_iops_device", "hugetlb.1GB.limit_in_bytes",
	"net_cls.classid", "net_prio.ifpriomap", "rdma.max", NULL
};

static void test_v1(void **state)
{
	make(false, v1_files);
	applied("{\"memory\":{\"limit\":1000,\"swap\":2000,\"reservation\":500,\"kernel\":600,"
		"\"kernelTCP\":700,"
		"\"swappiness\":60,\"disableOOMKiller\":true,\"useHierarchy\":true},"
		"\"cpu\":{\"shares\":99,\"quota\":5,\"period\":6,\"burst\":7,\"realtimeRuntime\":8,"
		"\"realtimePeriod\":9,\"cpus\":\"0\",\"mems\":\"0\"},\"pids\":{\"limit\":3}}");
	holds("memory.limit_in_bytes", "1000");
	holds("memory.memsw.limit_in_bytes", "2000");
	holds("memory.soft_limit_in_bytes", "500");
	holds("memory.kmem.limit_in_bytes", "600");
	holds("memory.swappiness", "60");
	holds("memory.oom_control", "1");
	holds("memory.use_hierarchy", "1");
	holds("cpu.shares", "99");
	holds("cpu.cfs_quota_us", "5");
	holds("cpu.cfs_period_us", "6");
	holds("cpu.cfs_burst_us", "7");
	holds("cpu.rt_runtime_us", "8");
	holds("cpu.rt_period_us", "9");
	holds("pids.max", "3");
	applied("{\"blockIO\":{\"weight\":20,\"leafWeight\":30,\"weightDevice\":[{\"major\":8,\"minor\":1,"
		"\"weight\":40,"
		"\"leafWeight\":50}],\"throttleWriteIOPSDevice\":[{\"major\":8,\"minor\":2,\"rate\":60}]},"
		"\"hugepageLimits\":[{\"pageSize\":\"1GB\",\"limit\":1}],\"network\":{\"classID\":1048577,"
		"\"priorities\":[{\"name\":\"eth0\",\"priority\":4}]},"
			"\"rdma\":{\"mlx\":{\"hcaObjects\":4}}}");
	holds("blkio.weight", "20");
	holds("blkio.leaf_weight", "30");
	holds("blkio.weight_device", "8:1 40");
	holds("blkio.leaf_weight_device", "8:1 50");
	holds("blkio.throttle.write_iops_device", "8:2 60");
	holds("hugetlb.1GB.limit_in_bytes", "1");
	holds("net_cls.classid", "1048577");
	holds("net_prio.ifpriomap", "eth0 4");
	holds("rdma.max", "mlx hca_object=4");
	refused("{\"unified\":{\"memory.high\":\"1\"}}", "no cgroup v2 controllers");
	refused("{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":1}]}", "huge page limit");
}

static void test_zero_means_not_given(void **state)
{
	make(false, v1_files);
	applied("{\"memory\":{\"limit\":0,\"swap\":0,\"reservation\":0},\"cpu\":{\"shares\":0,\"quota\":0,"
		"\"period\":0,"
		"\"realtimeRuntime\":0,\"realtimePeriod\":0},\"blockIO\":{\"weight\":0}}");
	holds("memory.limit_in_bytes", "");
	holds("cpu.shares", "");
	holds("cpu.cfs_quota_us", "");
	holds("blkio.weight", "");
}

static void test_v2_stats(void **state)
{
	static const char *const files[] = { "memory.low", NULL };
	_cleanup_rt_stats_ struct rt_stats s = { 0 };

	make(true, files);
	put("cpu.stat",
		"usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nnr_throttled 6\nthrottled_usec 4\n");
	put("memory.stat", "anon 11\nfile 12\n");
	put("memory.current", "100\n");
	put("memory.max", "max\n");
	put("memory.peak", "150\n");
	put("memory.events", "low 0\nhigh 0\nmax 8\noom 2\noom_kill 1\n");
	put("pids.current", "3\n");
	put("pids.max", "9\n");
	put("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n253:1 rbytes=7\n");
	put("hugetlb.2MB.max", "4096\n");
	put("hugetlb.2MB.current", "2048\n");
	put("memory.pressure", "some avg10=1.50 avg60=0.00 avg300=0.02 total=77\nfull avg10=0.00 avg60=0.00 "
			       "avg300=0.00 total=5\n");
	cgroup_stats(cg, &s);
	assert_int_equal(s.cpu.total_ns, 5000);
	assert_int_equal(s.cpu.user_ns, 3000);
	assert_int_equal(s.cpu.throttled_periods, 6);
	assert_int_equal(s.cpu.throttled_ns, 4000);
	assert_int_equal(s.memory.memory.usage, 100);
	assert_int_equal(s.memory.memory.max, 150);
	assert_true(s.memory.memory.limit == UINT64_MAX);
	assert_int_equal(s.memory.memory.failcnt, 8);
	assert_int_equal(s.memory.oom_kills, 1);
	assert_int_equal(rt_stats_memory(&s, "file"), 12);
	assert_int_equal(s.pids.current, 3);
	assert_int_equal(s.pids.limit, 9);
	assert_int_equal(s.io.service_bytes.n, 3);
	assert_int_equal(s.io.serviced.n, 2);
	assert_string_equal(s.io.service_bytes.v[1].op, "write");
	assert_int_equal(s.io.service_bytes.v[2].major, 253);
	assert_int_equal(s.n_hugetlb, 1);
	assert_int_equal(s.hugetlb[0].u.usage, 2048);
	assert_int_equal(s.memory.psi_some.avg10, 150);
	assert_int_equal(s.memory.psi_some.avg300, 2);
	assert_int_equal(s.memory.psi_full.total, 5);
}

static void test_v1_stats(void **state)
{
	static const char *const files[] = { "tasks", NULL };
	_cleanup_rt_stats_ struct rt_stats s = { 0 };

	make(false, files);
	put("cpuacct.usage", "900\n");
	put("cpuacct.usage_percpu", "400 500 \n");
	put("cpu.stat", "nr_periods 1\nnr_throttled 2\nthrottled_time 3\n");
	put("memory.usage_in_bytes", "10\n");
	put("memory.memsw.usage_in_bytes", "20\n");
	put("blkio.throttle.io_service_bytes_recursive", "8:0 Read 5\n8:0 Write 6\nTotal 11\n");
	cgroup_stats(cg, &s);
	assert_int_equal(s.cpu.total_ns, 900);
	assert_int_equal(s.cpu.n_percpu, 2);
	assert_int_equal(s.cpu.percpu_ns[1], 500);
	assert_int_equal(s.cpu.throttled_ns, 3);
	assert_int_equal(s.memory.memory.usage, 10);
	assert_int_equal(s.memory.swap.usage, 20);
	assert_int_equal(s.io.service_bytes.n, 2);
	assert_string_equal(s.io.service_bytes.v[1].op, "Write");
}

static void test_v2_freeze(void **state)
{
	static const char *const files[] = { "cgroup.freeze", NULL };
	_cleanup_err_ struct err e = ERR_INIT;

	make(true, files);
	put("cgroup.events", "populated 1\nfrozen 1\n");
	assert_int_equal(cgroup_freeze(cg, true, &e), 0);
	holds("cgroup.freeze", "1");
	assert_true(cgroup_frozen(cg));
	assert_int_equal(cgroup_freeze(cg, false, &e), 0);
	assert_false(cgroup_frozen(cg));
	/* One that does not come to rest is let go again. */
	put("cgroup.events", "populated 1\nfrozen 0\n");
	assert_int_equal(cgroup_freeze(cg, true, &e), -ETIMEDOUT);
	holds("cgroup.freeze", "0");
}

static void test_v2_kill(void **state)
{
	static const char *const files[] = { "cgroup.kill", "cgroup.procs", NULL };

	make(true, files);
	assert_int_equal(cgroup_signal(cg, 9), 0);
	holds("cgroup.kill", "1");
}

/* A path is taken below the caller's own group, which on v2 is the one beside it. */
static void test_paths(void **state)
{
	static const char own[] = "5:memory:/m/own\n3:pids:/p\n1:name=systemd:/s\n0::/two/leaf\n";
	_cleanup_(cgroup_freep) struct cgroup *rel = NULL, *abs = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	struct cgroup *none = NULL;
	size_t seen = 0;

	assert_int_equal(cgroup_new("a/b", own, &rel, &e), 0);
	for (size_t i = 0; i < rel->n; i++) {
		const struct cgroup_hier *h = &rel->h[i];
		const char *want = h->v2 ? "/two/a/b" : strv_has(h->controllers, "memory") ? "/m/own/a/b" :
				   strv_has(h->controllers, "pids") ? "/p/a/b" : NULL;

		if (want)
			assert_string_equal(h->path, want);
		seen += want != NULL;
	}
	assert_true(seen > 0);
	assert_int_equal(cgroup_new("/a//b/", own, &abs, &e), 0);
	for (size_t i = 0; i < abs->n; i++)
		assert_string_equal(abs->h[i].path, "/a/b");
	assert_true(cgroup_new("/a/../b", own, &none, &e) < 0);
	assert_true(cgroup_new("/", own, &none, NULL) < 0);
	assert_null(none);
}

#define T(f) cmocka_unit_test_teardown(f, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_v2_memory), T(test_v2_cpu), T(test_shares_and_weights), T(test_v2_rest), T(test_v1),
		T(test_zero_means_not_given), T(test_v2_stats), T(test_v1_stats), T(test_v2_freeze),
			T(test_v2_kill),
		T(test_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
