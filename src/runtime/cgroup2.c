#include "runtime/cgroup.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Controllers are handed down from the root to the parent of the leaf; what a parent lacks cannot be had. */
int cgroup2_enable(struct cgroup *cg)
{
	_cleanup_strv_ char **parts = strv_split(cg->h[0].path, "/");
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

int64_t cgroup2_io_weight(int64_t weight)
{
	return 1 + (weight - 10) * 9999 / 990;
}

static int set_limit(struct cgroup *cg, const char *controller, const char *file, const char *what, int64_t v,
		     struct err *e)
{
	return v < 0 ? cgroup_set(cg, controller, file, what, e, "max")
		     : cgroup_set(cg, controller, file, what, e, "%" PRId64, v);
}

/* The documents count memory and swap together, v2 counts swap alone. */
static int apply_swap(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	int64_t limit = cgroup_i64(r->memory.limit), swap = cgroup_i64(r->memory.swap);
	uint64_t now;

	if (limit == -1 && !swap)
		swap = -1;
	if (!swap || !cgroup_has_file(cg, "memory", "memory.swap.max"))
		return 0;
	if (swap == -1)
		return set_limit(cg, "memory", "memory.swap.max", "the swap limit", -1, e);
	if (!limit && cgroup_get(cg, "memory", "memory.max", &now) == 0 && now <= INT64_MAX)
		limit = (int64_t)now;
	if (limit <= 0)
		return err_msg(e, ERR_INVALID, 0, "unable to set swap limit without memory limit");
	if (swap < limit)
		return err_msg(e, ERR_INVALID, 0, "memory+swap limit should be >= memory limit");
	return set_limit(cg, "memory", "memory.swap.max", "the swap limit", swap - limit, e);
}

static int apply_memory(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	const struct { bool given; const char *name; } v1_only[] = {
		{ cgroup_i64(r->memory.kernel), "kernel" },
		{ cgroup_i64(r->memory.kernel_tcp), "kernelTCP" },
		{ r->memory.swappiness, "swappiness" },
		{ r->memory.disable_oom_killer, "disableOOMKiller" },
	};
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(v1_only); i++)
		if (v1_only[i].given)
			log_warn("linux.resources.memory.%s: cgroup v2 has no such thing, left out",
				 v1_only[i].name);
	if (cgroup_i64(r->memory.limit))
		rc = set_limit(cg, "memory", "memory.max", "the memory limit", *r->memory.limit, e);
	if (rc == 0 && cgroup_i64(r->memory.reservation))
		rc = set_limit(cg, "memory", "memory.low", "the memory reservation", *r->memory.reservation,
			       e);
	return rc == 0 ? apply_swap(cg, r, e) : rc;
}

/* cpu.max holds quota and period: the one that is not given stays. */
static int apply_bandwidth(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	const struct cgroup_hier *h = cgroup_hier_of(cg, "cpu");
	_cleanup_free_ char *path = cgroup_file(cg, h, "cpu.max"), *now = NULL, *quota = NULL;
	_cleanup_strv_ char **words = fs_read_line(AT_FDCWD, path, &now) == 0 ? strv_split(now, " ") : NULL;
	uint64_t period = r->cpu.period ? *r->cpu.period : 0;

	if (!cgroup_i64(r->cpu.quota) && !period)
		return 0;
	if (cgroup_i64(r->cpu.quota))
		quota = *r->cpu.quota > 0 ? xasprintf("%" PRId64, *r->cpu.quota) : xstrdup("max");
	else
		quota = xstrdup(strv_len(words) == 2 ? words[0] : "max");
	if (!period && (strv_len(words) != 2 || str_to_u64(words[1], &period) < 0))
		period = 100000;
	return cgroup_set(cg, "cpu", "cpu.max", "the CPU quota", e, "%s %" PRIu64, quota, period);
}

static int apply_burst(struct cgroup *cg, const struct oci_resources *r, bool *ret_later, struct err *e)
{
	int rc;

	if (!r->cpu.burst)
		return 0;
	rc = cgroup_set(cg, "cpu", "cpu.max.burst", "the CPU burst", ret_later ? NULL : e, "%" PRIu64,
			*r->cpu.burst);
	if (ret_later)
		*ret_later = rc < 0;
	return ret_later ? 0 : rc;
}

static int apply_cpu(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	bool idle = cgroup_i64(r->cpu.idle), burst_later = false;
	int rc = 0;

	if (cgroup_i64(r->cpu.rt_runtime) || (r->cpu.rt_period && *r->cpu.rt_period))
		return err_msg(e, ERR_INVALID, -EOPNOTSUPP,
			       "linux.resources.cpu.realtimeRuntime: cgroup v2 has no realtime limits");
	if (r->cpu.idle)
		rc = cgroup_set(cg, "cpu", "cpu.idle", "the CPU idle mode", e, "%" PRId64, *r->cpu.idle);
	/* The kernel takes no weight for an idle group. */
	if (rc == 0 && r->cpu.shares && *r->cpu.shares && !idle)
		rc = cgroup_set(cg, "cpu", "cpu.weight", "the CPU shares", e, "%" PRIu64,
				cgroup2_weight(*r->cpu.shares));
	/* A burst above the old quota fits the new one, one above the new quota fits the old. */
	if (rc == 0)
		rc = apply_burst(cg, r, &burst_later, e);
	if (rc == 0)
		rc = apply_bandwidth(cg, r, e);
	if (rc == 0 && burst_later)
		rc = apply_burst(cg, r, NULL, e);
	if (rc == 0 && !str_empty(r->cpu.cpus))
		rc = cgroup_set(cg, "cpuset", "cpuset.cpus", "the CPUs", e, "%s", r->cpu.cpus);
	if (rc == 0 && !str_empty(r->cpu.mems))
		rc = cgroup_set(cg, "cpuset", "cpuset.mems", "the memory nodes", e, "%s", r->cpu.mems);
	return rc;
}

static int apply_pids(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	if (!r->pids_limit)
		return 0;
	/* Without a limit there is nothing to set where the controller is absent. */
	if (*r->pids_limit <= 0 && !cgroup_has_file(cg, "pids", "pids.max"))
		return 0;
	return set_limit(cg, "pids", "pids.max", "the process limit",
			 *r->pids_limit > 0 ? *r->pids_limit : -1, e);
}

/* blkio's 10..1000 is io.weight's 1..10000; the BFQ scheduler has kept the old range. */
static int apply_weights(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	bool bfq = cgroup_has_file(cg, "io", "io.bfq.weight");
	const char *file = bfq ? "io.bfq.weight" : "io.weight";
	int rc = 0;

	if ((cgroup_i64(r->blkio.weight) || r->blkio.weight_devices.n) && !cgroup_has_file(cg, "io", file))
		return cgroup_no_weights("the block I/O weight", e);
	if (cgroup_i64(r->blkio.leaf_weight))
		return err_msg(e, ERR_INVALID, -EOPNOTSUPP,
			       "linux.resources.blockIO.leafWeight: cgroup v2 has no leaf weights");
	if (cgroup_i64(r->blkio.weight))
		rc = cgroup_set(cg, "io", file, "the block I/O weight", e, "%" PRId64,
				bfq ? *r->blkio.weight : cgroup2_io_weight(*r->blkio.weight));
	for (size_t i = 0; rc == 0 && i < r->blkio.weight_devices.n; i++) {
		const struct oci_weight_device *d = &r->blkio.weight_devices.v[i];

		if (cgroup_i64(d->leaf_weight))
			return err_msg(e, ERR_INVALID, -EOPNOTSUPP,
				       "linux.resources.blockIO.weightDevice[%zu].leafWeight: cgroup v2 has "
				       "no leaf weights", i);
		if (cgroup_i64(d->weight))
			rc = cgroup_set(cg, "io", file, "a device's weight", e,
					"%" PRId64 ":%" PRId64 " %" PRId64, d->major, d->minor,
					bfq ? *d->weight : cgroup2_io_weight(*d->weight));
	}
	return rc;
}

static int apply_throttle(struct cgroup *cg, const struct oci_throttles *t, const char *key, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < t->n; i++) {
		char rate[24] = "max";	/* 0 lifts a limit, as in v1 */

		if (t->v[i].rate)
			snprintf(rate, sizeof rate, "%" PRIu64, t->v[i].rate);
		rc = cgroup_set(cg, "io", "io.max", "a device's throughput", e,
				"%" PRId64 ":%" PRId64 " %s=%s", t->v[i].major, t->v[i].minor, key, rate);
	}
	return rc;
}

static int apply_io(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	const struct { const struct oci_throttles *t; const char *key; } all[] = {
		{ &r->blkio.read_bps, "rbps" }, { &r->blkio.write_bps, "wbps" },
		{ &r->blkio.read_iops, "riops" }, { &r->blkio.write_iops, "wiops" },
	};
	int rc = apply_weights(cg, r, e);

	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(all); i++)
		rc = apply_throttle(cg, all[i].t, all[i].key, e);
	return rc;
}

static int apply_unified(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < r->unified.n; i++) {
		_cleanup_free_ char *path = NULL;

		if (strchr(r->unified.v[i].key, '/') || !strchr(r->unified.v[i].key, '.'))
			return err_msg(e, ERR_INVALID, 0, "linux.resources.unified: invalid key '%s'",
				       r->unified.v[i].key);
		path = cgroup_file(cg, &cg->h[0], r->unified.v[i].key);
		rc = fs_write(AT_FDCWD, path, r->unified.v[i].value);
		if (rc < 0)
			err_set(e, ERR_SYSTEM, rc, "cannot set %s", r->unified.v[i].key);
	}
	return rc;
}

static int apply_devices(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	return cgroup2_devices(cg, &r->devices, e);
}

int cgroup2_apply(struct cgroup *cg, const struct oci_resources *r, struct err *e)
{
	static int (*const steps[])(struct cgroup *, const struct oci_resources *, struct err *) = {
		apply_memory, apply_cpu, apply_pids, apply_io, apply_unified, apply_devices,
	};
	int rc = 0;

	if (cgroup_i64(r->network.class_id) || r->network.priorities.n)
		return err_msg(e, ERR_INVALID, -EOPNOTSUPP,
			       "linux.resources.network: cgroup v2 has no network controllers");
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(steps); i++)
		rc = steps[i](cg, r, e);
	return rc;
}
