#include "runtime/cgroup.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* mount: the length of the path of the hierarchy's own directory, which is never empty. */
static void inherit(const char *dir, const char *file, size_t mount)
{
	_cleanup_free_ char *above = xstrndup(dir, (size_t)(path_basename(dir) - dir) - 1),
			    *from = path_join(above, file), *to = path_join(dir, file), *have = NULL,
			    *text = NULL;

	if (strlen(dir) <= mount || fs_read_line(AT_FDCWD, to, &have) < 0 || *have)
		return;
	if (fs_read_line(AT_FDCWD, from, &text) == 0 && !*text) {
		free(text);
		text = NULL;
		inherit(above, file, mount);
		(void)fs_read_line(AT_FDCWD, from, &text);
	}
	if (text)
		(void)fs_write(AT_FDCWD, to, text);
}

/* A new cpuset is empty, and nobody can join an empty one: it inherits its parent's. */
int cgroup1_prepare(const struct cgroup *cg, const struct cgroup_hier *h)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };
	_cleanup_free_ char *dir = NULL;

	if (!strv_has(h->controllers, "cpuset"))
		return 0;
	dir = cgroup_file(cg, h, "");
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		inherit(dir, files[i], strlen(h->mount));
	return 0;
}

static int set_memory(struct cgroup *cg, int64_t limit, struct err *e)
{
	_cleanup_err_ struct err why = ERR_INIT;
	int r = cgroup_set(cg, "memory", "memory.limit_in_bytes", "the memory limit", &why, "%" PRId64,
			   limit);
	uint64_t usage = 0;

	if (r == -EBUSY && cgroup_get(cg, "memory", "memory.usage_in_bytes", &usage) == 0)
		return err_msg(e, ERR_CONFLICT, r,
			       "unable to set memory limit to %" PRId64 " (current usage: %" PRIu64 ")",
			       limit, usage);
	if (r < 0)
		err_move(e, &why);
	return r;
}

/* Swap accounting may be off: then a limit of swap means nothing. */
static int set_swap(struct cgroup *cg, int64_t limit, struct err *e)
{
	return cgroup_has_file(cg, "memory", "memory.memsw.limit_in_bytes")
		       ? cgroup_set(cg, "memory", "memory.memsw.limit_in_bytes", "the swap limit", e,
				    "%" PRId64, limit)
		       : 0;
}

/* The limit of memory and swap together must never be below that of memory: which one is written first
 * depends on where they stand. */
static int apply_limits(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	int64_t limit = cgroup_i64(r->memory.limit), swap = cgroup_i64(r->memory.swap);
	uint64_t now = 0;
	bool swap_first;
	int rc;

	if (limit == -1 && !swap)
		swap = -1;
	if (limit && swap)
		(void)cgroup_get(cg, "memory", "memory.limit_in_bytes", &now);
	swap_first = swap == -1 || (limit && swap && now < (uint64_t)swap);
	rc = swap_first ? set_swap(cg, swap, e) : 0;
	if (rc == 0 && limit)
		rc = set_memory(cg, limit, e);
	return rc == 0 && swap && !swap_first ? set_swap(cg, swap, e) : rc;
}

/* Limits of kernel memory are gone from newer kernels; what is asked for must not keep a container down. */
static int apply_kernel(struct cgroup *cg, const int64_t *limit, const char *file, struct err *e)
{
	if (!cgroup_i64(limit))
		return 0;
	if (!cgroup_has_file(cg, "memory", file)) {
		log_warn("this kernel has no %s: the limit is left out", file);
		return 0;
	}
	int r = cgroup_set(cg, "memory", file, "the kernel memory limit", NULL, "%" PRId64, *limit);

	if (r == -EOPNOTSUPP) {
		log_warn("this kernel does not support %s: the limit is left out", file);
		return 0;
	}
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r,
			       "cannot set the kernel memory limit: write '%" PRId64 "' to %s", *limit, file);
	return 0;
}

static int apply_memory(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	int rc = 0;

	if (r->memory.use_hierarchy && cgroup_has_file(cg, "memory", "memory.use_hierarchy"))
		rc = cgroup_set(cg, "memory", "memory.use_hierarchy", "the memory hierarchy", e, "1");
	if (rc == 0)
		rc = apply_limits(cg, r, e);
	if (rc == 0 && cgroup_i64(r->memory.reservation))
		rc = cgroup_set(cg, "memory", "memory.soft_limit_in_bytes", "the memory reservation", e,
				"%" PRId64, *r->memory.reservation);
	if (rc == 0)
		rc = apply_kernel(cg, r->memory.kernel, "memory.kmem.limit_in_bytes", e);
	if (rc == 0)
		rc = apply_kernel(cg, r->memory.kernel_tcp, "memory.kmem.tcp.limit_in_bytes", e);
	if (rc == 0 && r->memory.swappiness)
		rc = cgroup_set(cg, "memory", "memory.swappiness", "the swappiness", e, "%" PRId64,
				*r->memory.swappiness);
	if (rc == 0 && r->memory.disable_oom_killer)
		rc = cgroup_set(cg, "memory", "memory.oom_control", "the OOM killer", e, "1");
	return rc;
}

/* A period, or a burst, that does not fit the old quota fits the new one, and the other way round. */
static int apply_bandwidth(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	const struct { const uint64_t *v; const char *file, *what; } parts[] = {
		{ r->cpu.period && *r->cpu.period ? r->cpu.period : NULL, "cpu.cfs_period_us",
		  "the CPU period" },
		{ r->cpu.burst, "cpu.cfs_burst_us", "the CPU burst" },
	};
	bool quota = cgroup_i64(r->cpu.quota), later[ARRAY_SIZE(parts)];
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(parts); i++) {
		later[i] = false;
		if (!parts[i].v)
			continue;
		rc = cgroup_set(cg, "cpu", parts[i].file, parts[i].what, quota ? NULL : e, "%" PRIu64,
				*parts[i].v);
		later[i] = quota && rc < 0;
		rc = later[i] ? 0 : rc;
	}
	if (rc == 0 && quota)
		rc = cgroup_set(cg, "cpu", "cpu.cfs_quota_us", "the CPU quota", e, "%" PRId64, *r->cpu.quota);
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(parts); i++)
		if (later[i])
			rc = cgroup_set(cg, "cpu", parts[i].file, parts[i].what, e, "%" PRIu64, *parts[i].v);
	return rc;
}

static int apply_cpu(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	bool idle = cgroup_i64(r->cpu.idle);
	int rc = 0;

	if (r->cpu.idle)
		rc = cgroup_set(cg, "cpu", "cpu.idle", "the CPU idle mode", e, "%" PRId64, *r->cpu.idle);
	/* The kernel takes no shares for an idle group. */
	if (rc == 0 && r->cpu.shares && *r->cpu.shares && !idle)
		rc = cgroup_set(cg, "cpu", "cpu.shares", "the CPU shares", e, "%" PRIu64, *r->cpu.shares);
	if (rc == 0)
		rc = apply_bandwidth(cg, r, e);
	if (rc == 0 && r->cpu.rt_period && *r->cpu.rt_period)
		rc = cgroup_set(cg, "cpu", "cpu.rt_period_us", "the CPU realtime period", e, "%" PRIu64,
				*r->cpu.rt_period);
	if (rc == 0 && cgroup_i64(r->cpu.rt_runtime))
		rc = cgroup_set(cg, "cpu", "cpu.rt_runtime_us", "the CPU realtime runtime", e, "%" PRId64,
				*r->cpu.rt_runtime);
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

/* The weights belong to whichever scheduler the kernel has for them. */
static int set_weight(struct cgroup *cg, const char *name, const char *what, struct err *e,
		      const char *value)
{
	_cleanup_free_ char *bfq = xasprintf("blkio.bfq.%s", name), *cfq = xasprintf("blkio.%s", name);

	if (cgroup_has_file(cg, "blkio", bfq))
		return cgroup_set(cg, "blkio", bfq, what, e, "%s", value);
	if (cgroup_hier_of(cg, "blkio") && !cgroup_has_file(cg, "blkio", cfq))
		return cgroup_no_weights(what, e);
	return cgroup_set(cg, "blkio", cfq, what, e, "%s", value);
}

static int apply_weights(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	const struct { const int64_t *v; const char *file; } all[] = {
		{ r->blkio.weight, "weight" }, { r->blkio.leaf_weight, "leaf_weight" },
	};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(all); i++)
		if (cgroup_i64(all[i].v)) {
			_cleanup_free_ char *value = xasprintf("%" PRId64, *all[i].v);

			rc = set_weight(cg, all[i].file, "the block I/O weight", e, value);
		}
	for (size_t i = 0; rc == 0 && i < r->blkio.weight_devices.n; i++) {
		const struct oci_weight_device *d = &r->blkio.weight_devices.v[i];
		const struct { const int64_t *v; const char *file; } dev[] = {
			{ d->weight, "weight_device" }, { d->leaf_weight, "leaf_weight_device" },
		};

		for (size_t k = 0; rc == 0 && k < ARRAY_SIZE(dev); k++)
			if (cgroup_i64(dev[k].v)) {
				_cleanup_free_ char *value =
					xasprintf("%" PRId64 ":%" PRId64 " %" PRId64, d->major, d->minor,
						  *dev[k].v);

				rc = set_weight(cg, dev[k].file, "a device's weight", e, value);
			}
	}
	return rc;
}

static int apply_io(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	const struct { const struct oci_throttles *t; const char *file; } all[] = {
		{ &r->blkio.read_bps, "blkio.throttle.read_bps_device" },
		{ &r->blkio.write_bps, "blkio.throttle.write_bps_device" },
		{ &r->blkio.read_iops, "blkio.throttle.read_iops_device" },
		{ &r->blkio.write_iops, "blkio.throttle.write_iops_device" },
	};
	int rc = apply_weights(cg, r, e);

	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(all); i++)
		rc = apply_throttle(cg, all[i].t, all[i].file, e);
	return rc;
}

static int apply_pids(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	if (!r->pids_limit)
		return 0;
	if (*r->pids_limit > 0)
		return cgroup_set(cg, "pids", "pids.max", "the process limit", e, "%" PRId64, *r->pids_limit);
	return cgroup_hier_of(cg, "pids") ? cgroup_set(cg, "pids", "pids.max", "the process limit", e, "max")
					  : 0;
}

static int apply_network(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	int rc = 0;

	if (cgroup_i64(r->network.class_id))
		rc = cgroup_set(cg, "net_cls", "net_cls.classid", "the network class", e, "%" PRId64,
				*r->network.class_id);
	for (size_t i = 0; rc == 0 && i < r->network.priorities.n; i++)
		rc = cgroup_set(cg, "net_prio", "net_prio.ifpriomap", "a network priority", e, "%s %u",
				r->network.priorities.v[i].name, r->network.priorities.v[i].priority);
	return rc;
}

int cgroup1_apply(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	static int (*const steps[])(struct cgroup *, const struct oci_resources *, struct err *) = {
		apply_memory, apply_cpu, apply_pids, apply_devices, apply_io, apply_network,
	};
	int rc = 0;

	if (r->unified.n)
		return err_msg(e, ERR_INVALID, -EOPNOTSUPP,
			       "linux.resources.unified: this host has no cgroup v2 controllers");
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(steps); i++)
		rc = steps[i](cg, r, e);
	return rc;
}
