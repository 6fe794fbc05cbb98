#include "runtime/cgroup.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A new cpuset is empty, and nobody can join an empty one: it inherits its parent's. */
int cgroup1_prepare(const struct cgroup *cg, const struct cgroup_hier *h)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };
	_cleanup_strv_ char **parts = NULL;
	_cleanup_free_ char *dir = NULL;

	if (!strv_has(h->controllers, "cpuset"))
		return 0;
	dir = xstrdup(h->mount);
	parts = strv_split(cg->path, "/");
	for (char **p = parts; p && *p; p++) {
		char *sub = path_join(dir, *p);

		for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
			_cleanup_free_ char *from = path_join(dir, files[i]), *to = path_join(sub, files[i]),
					    *have = NULL, *text = NULL;

			if (fs_read_line(AT_FDCWD, to, &have) == 0 && !*have &&
			    fs_read_line(AT_FDCWD, from, &text) == 0)
				(void)fs_write(AT_FDCWD, to, text);
		}
		free(dir);
		dir = sub;
	}
	return 0;
}

static int apply_memory(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	int rc = 0;

	if (r->memory.limit)
		rc = cgroup_set(cg, "memory", "memory.limit_in_bytes", "the memory limit", e, "%" PRId64,
				*r->memory.limit);
	/* Swap accounting may be off: then only a limit that differs from the memory limit is refused. */
	if (rc == 0 && r->memory.swap && cgroup_has_file(cg, "memory", "memory.memsw.limit_in_bytes"))
		rc = cgroup_set(cg, "memory", "memory.memsw.limit_in_bytes", "the swap limit", e, "%" PRId64,
				*r->memory.swap);
	if (rc == 0 && r->memory.reservation)
		rc = cgroup_set(cg, "memory", "memory.soft_limit_in_bytes", "the memory reservation", e,
				"%" PRId64, *r->memory.reservation);
	if (rc == 0 && r->memory.swappiness)
		rc = cgroup_set(cg, "memory", "memory.swappiness", "the swappiness", e, "%" PRId64,
				*r->memory.swappiness);
	if (rc == 0 && r->memory.disable_oom_killer)
		rc = cgroup_set(cg, "memory", "memory.oom_control", "the OOM killer", e, "1");
	return rc;
}

static int apply_cpu(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	int rc = 0;

	if (r->cpu.shares)
		rc = cgroup_set(cg, "cpu", "cpu.shares", "the CPU shares", e, "%" PRIu64, *r->cpu.shares);
	if (rc == 0 && r->cpu.period)
		rc = cgroup_set(cg, "cpu", "cpu.cfs_period_us", "the CPU period", e, "%" PRIu64,
				*r->cpu.period);
	if (rc == 0 && r->cpu.quota)
		rc = cgroup_set(cg, "cpu", "cpu.cfs_quota_us", "the CPU quota", e, "%" PRId64, *r->cpu.quota);
	if (rc == 0 && !str_empty(r->cpu.cpus))
		rc = cgroup_set(cg, "cpuset", "cpuset.cpus", "the CPUs", e, "%s", r->cpu.cpus);
	if (rc == 0 && !str_empty(r->cpu.mems))
		rc = cgroup_set(cg, "cpuset", "cpuset.mems", "the memory nodes", e, "%s", r->cpu.mems);
	return rc;
}

static int apply_devices(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	int rc = 0;

	if (!cgroup_hier_of(cg, "devices"))
		return 0;
	for (size_t i = 0; rc == 0 && i < r->devices.n; i++) {
		const struct oci_device_rule *d = &r->devices.v[i];
		char major[24] = "*", minor[24] = "*";

		if (d->major >= 0)
			snprintf(major, sizeof major, "%" PRId64, d->major);
		if (d->minor >= 0)
			snprintf(minor, sizeof minor, "%" PRId64, d->minor);
		if (d->type == 'a')
			rc = cgroup_set(cg, "devices", d->allow ? "devices.allow" : "devices.deny",
					"a device rule", e, "a");
		else
			rc = cgroup_set(cg, "devices", d->allow ? "devices.allow" : "devices.deny",
					"a device rule", e, "%c %s:%s %s%s%s", d->type, major, minor,
					d->read ? "r" : "", d->write ? "w" : "", d->mknod ? "m" : "");
	}
	return rc;
}

static int apply_throttle(struct cgroup *cg, const struct oci_throttles *t, const char *file, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < t->n; i++)
		rc = cgroup_set(cg, "blkio", file, "a device's throughput", e,
				"%" PRId64 ":%" PRId64 " %" PRIu64, t->v[i].major, t->v[i].minor,
				t->v[i].rate);
	return rc;
}

int cgroup1_apply(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	int rc = apply_memory(cg, r, e);

	if (rc == 0)
		rc = apply_cpu(cg, r, e);
	if (rc == 0 && r->pids_limit)
		rc = *r->pids_limit > 0 ? cgroup_set(cg, "pids", "pids.max", "the process limit", e,
						     "%" PRId64, *r->pids_limit)
		     : cgroup_hier_of(cg, "pids")
			 ? cgroup_set(cg, "pids", "pids.max", "the process limit", e, "max")
			 : 0;
	if (rc == 0)
		rc = apply_devices(cg, r, e);
	if (rc == 0)
		rc = apply_throttle(cg, &r->blkio.read_bps, "blkio.throttle.read_bps_device", e);
	if (rc == 0)
		rc = apply_throttle(cg, &r->blkio.write_bps, "blkio.throttle.write_bps_device", e);
	if (rc == 0)
		rc = apply_throttle(cg, &r->blkio.read_iops, "blkio.throttle.read_iops_device", e);
	if (rc == 0)
		rc = apply_throttle(cg, &r->blkio.write_iops, "blkio.throttle.write_iops_device", e);
	return rc;
}
