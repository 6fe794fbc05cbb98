#include "runtime/cgroup.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Controllers are handed down from the root to the parent of the leaf; what a parent lacks cannot be had. */
int cgroup2_enable(struct cgroup *cg)
{
	_cleanup_strv_ char **parts = strv_split(cg->path, "/");
	_cleanup_free_ char *dir = xstrdup(cg->h[0].mount);

	for (char **p = parts; p && *p; p++) {
		_cleanup_free_ char *control = path_join(dir, "cgroup.subtree_control"),
				    *avail = path_join(dir, "cgroup.controllers");
		_cleanup_free_ char *text = NULL;
		_cleanup_strv_ char **names = NULL;
		char *sub;

		if (fs_read_line(AT_FDCWD, avail, &text) == 0)
			names = strv_split(text, " ");
		for (char **n = names; n && *n; n++) {
			_cleanup_free_ char *word = xasprintf("+%s", *n);

			(void)fs_write(AT_FDCWD, control, word);
		}
		sub = path_join(dir, *p);
		free(dir);
		dir = sub;
	}
	return 0;
}

/* The formula runc and crun share since cpu.weight's range was found to fit shares badly. */
uint64_t cgroup2_weight(uint64_t shares)
{
	double l;

	if (!shares)
		return 0;
	if (shares <= 2)
		return 1;
	if (shares >= 262144)
		return 10000;
	l = log2((double)shares);
	return (uint64_t)ceil(pow(10, (l * l + 125 * l) / 612.0 - 7.0 / 34.0));
}

static int set_limit(struct cgroup *cg, const char *controller, const char *file, const char *what, int64_t v,
		     struct err *e)
{
	return v < 0 ? cgroup_set(cg, controller, file, what, e, "max")
		     : cgroup_set(cg, controller, file, what, e, "%" PRId64, v);
}

static int apply_memory(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	int rc = 0;

	if (r->memory.limit)
		rc = set_limit(cg, "memory", "memory.max", "the memory limit", *r->memory.limit, e);
	if (rc == 0 && r->memory.reservation)
		rc = set_limit(cg, "memory", "memory.low", "the memory reservation", *r->memory.reservation,
			       e);
	/* v1 counts memory and swap together, v2 swap alone. */
	if (rc == 0 && r->memory.swap && cgroup_has_file(cg, "memory", "memory.swap.max")) {
		int64_t swap = *r->memory.swap;

		if (swap > 0 && r->memory.limit && *r->memory.limit > 0) {
			if (swap < *r->memory.limit)
				return err_msg(e, ERR_INVALID, 0,
					       "the swap limit must not be below the memory limit");
			swap -= *r->memory.limit;
		}
		rc = set_limit(cg, "memory", "memory.swap.max", "the swap limit", swap, e);
	}
	return rc;
}

static int apply_cpu(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	uint64_t period = r->cpu.period && *r->cpu.period ? *r->cpu.period : 100000;
	int rc = 0;

	if (r->cpu.shares && *r->cpu.shares)
		rc = cgroup_set(cg, "cpu", "cpu.weight", "the CPU shares", e, "%" PRIu64,
				cgroup2_weight(*r->cpu.shares));
	if (rc == 0 && r->cpu.quota && *r->cpu.quota > 0)
		rc = cgroup_set(cg, "cpu", "cpu.max", "the CPU quota", e, "%" PRId64 " %" PRIu64,
				*r->cpu.quota, period);
	else if (rc == 0 && r->cpu.period)
		rc = cgroup_set(cg, "cpu", "cpu.max", "the CPU period", e, "max %" PRIu64, period);
	if (rc == 0 && !str_empty(r->cpu.cpus))
		rc = cgroup_set(cg, "cpuset", "cpuset.cpus", "the CPUs", e, "%s", r->cpu.cpus);
	if (rc == 0 && !str_empty(r->cpu.mems))
		rc = cgroup_set(cg, "cpuset", "cpuset.mems", "the memory nodes", e, "%s", r->cpu.mems);
	return rc;
}

static int apply_io(struct cgroup *cg, const struct oci_throttles *t, const char *key, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < t->n; i++)
		rc = cgroup_set(cg, "io", "io.max", "a device's throughput", e,
				"%" PRId64 ":%" PRId64 " %s=%" PRIu64, t->v[i].major, t->v[i].minor, key,
				t->v[i].rate);
	return rc;
}

int cgroup2_apply(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	int rc = apply_memory(cg, r, e);

	if (rc == 0)
		rc = apply_cpu(cg, r, e);
	if (rc == 0 && r->pids_limit && *r->pids_limit > 0)
		rc = set_limit(cg, "pids", "pids.max", "the process limit", *r->pids_limit, e);
	if (rc == 0)
		rc = apply_io(cg, &r->blkio.read_bps, "rbps", e);
	if (rc == 0)
		rc = apply_io(cg, &r->blkio.write_bps, "wbps", e);
	if (rc == 0)
		rc = apply_io(cg, &r->blkio.read_iops, "riops", e);
	if (rc == 0)
		rc = apply_io(cg, &r->blkio.write_iops, "wiops", e);
	for (size_t i = 0; rc == 0 && i < r->unified.n; i++) {
		_cleanup_free_ char *path = NULL;

		if (strchr(r->unified.v[i].key, '/'))
			return err_msg(e, ERR_INVALID, 0, "linux.resources.unified: invalid key '%s'",
				       r->unified.v[i].key);
		path = cgroup_file(cg, &cg->h[0], r->unified.v[i].key);
		rc = fs_write(AT_FDCWD, path, r->unified.v[i].value);
		if (rc < 0)
			err_set(e, ERR_SYSTEM, rc, "cannot set %s", r->unified.v[i].key);
	}
	return rc == 0 ? cgroup2_devices(cg, &r->devices, e) : rc;
}
