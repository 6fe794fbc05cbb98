/* needs: src/runtime/cgroup.c src/runtime/cgroup1.c src/runtime/cgroup2.c src/runtime/cgroup_bpf.c
 * src/runtime/cgroup_freeze.c src/runtime/cgroup_oom.c src/runtime/cgroup_procs.c
 * src/runtime/cgroup_stats.c src/base/alloc.c src/base/sbuf.c src/base/strv.c src/base/err.c
 * src/base/fd.c src/base/fs.c src/base/hash.c src/base/id.c src/base/path.c src/base/log.c
 * src/base/loop.c src/base/proc.c src/base/timefmt.c -lm */
/* Files of a control group, and the list of a process's groups: names in them are those that containers give.
 * The first byte says which version of the interface the files are of. */
#include "runtime/cgroup.h"
#include "runtime/stats.h"
#include "base/alloc.h"
#include "base/strv.h"
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const files[] = {
	"cpu.stat", "cpuacct.usage", "cpuacct.usage_percpu", "memory.stat", "memory.oom_control",
	"memory.events", "memory.limit_in_bytes", "memory.current", "memory.max", "pids.current", "pids.max",
	"io.stat", "blkio.throttle.io_service_bytes_recursive", "hugetlb.2MB.max", "hugetlb.2MB.current",
	"memory.pressure", "cgroup.procs", "freezer.state", "cgroup.events",
};

static char dir[] = "/dev/shm/fuzz-cgroup-XXXXXX";
static int at = -1;

static void remove_files(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		(void)unlinkat(at, files[i], 0);
	(void)rmdir(dir);
}

static void make_dir(void)
{
	if (!mkdtemp(dir))
		abort();
	at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at < 0)
		abort();
	/* One file under all names. */
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		int fd = i ? linkat(at, files[0], at, files[i], 0)
			   : openat(at, files[0], O_RDWR | O_CREAT | O_CLOEXEC, 0644);

		if (fd < 0)
			abort();
		if (!i)
			close(fd);
	}
	atexit(remove_files);
}

static void put(const uint8_t *p, size_t n)
{
	int fd = openat(at, files[0], O_WRONLY | O_TRUNC | O_CLOEXEC);

	if (fd < 0 || write(fd, p, n) != (ssize_t)n)
		abort();
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	char path[] = "/", names[] = "memory cpu cpuacct pids blkio io freezer hugetlb";
	_cleanup_strv_ char **controllers = strv_split(names, " ");
	struct cgroup group = { .path = path, .unified = n && p[0] & 1, .n = 1 }, *own = NULL;
	_cleanup_rt_stats_ struct rt_stats stats = { 0 };
	_cleanup_free_ char *text = n ? xstrndup((const char *)p + 1, n - 1) : NULL;
	_cleanup_free_ pid_t *pids = NULL;
	size_t n_pids;

	if (!n)
		return 0;
	if (at < 0)
		make_dir();
	put(p + 1, n - 1);
	group.h[0] = (struct cgroup_hier){ dir, path, controllers, group.unified };
	cgroup_stats(&group, &stats);
	(void)cgroup_oom_kills(&group);
	(void)cgroup_frozen(&group);
	if (cgroup_pids(&group, &pids, &n_pids) == 0)
		for (size_t i = 0; i < n_pids; i++)
			if (pids[i] <= 0)
				abort();
	/* Wherever it says we are, a group below is named, and none above. */
	if (cgroup_new("sub/group", text, &own, NULL) == 0)
		for (size_t i = 0; i < own->n; i++)
			if (own->h[i].path[0] != '/' || strstr(own->h[i].path, "/../"))
				abort();
	cgroup_free(own);
	return 0;
}
