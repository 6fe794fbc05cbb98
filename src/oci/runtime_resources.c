/* linux.resources: limits of a container, and of an update. */
#include "oci/runtime_fields.h"
#include "base/alloc.h"
#include "base/strv.h"

#include <errno.h>
#include <string.h>

struct raw_rule { bool allow; char *type, *access; int64_t *major, *minor; };

static int put_rule(const struct raw_rule *raw, struct oci_device_rule *d, const char *path, struct err *e)
{
	const char *type = str_empty(raw->type) ? "a" : raw->type;
	const char *access = str_empty(raw->access) ? "rwm" : raw->access;

	if (strlen(type) != 1 || !strchr("abcup", type[0]))
		return err_msg(e, ERR_INVALID, 0, "%s.type: unknown device type '%s'", path, type);
	if (access[strspn(access, "rwm")])
		return err_msg(e, ERR_INVALID, 0, "%s.access: '%s' must be made of r, w and m", path, access);
	*d = (struct oci_device_rule){
		.allow = raw->allow,
		.type = type[0] == 'u' ? 'c' : type[0],
		.major = raw->major ? *raw->major : -1,
		.minor = raw->minor ? *raw->minor : -1,
		.read = strchr(access, 'r'), .write = strchr(access, 'w'), .mknod = strchr(access, 'm'),
	};
	if (d->type == 'p')
		return err_msg(e, ERR_INVALID, 0, "%s.type: a FIFO is not subject to device rules", path);
	if (d->major < -1 || d->minor < -1 || d->major > UINT32_MAX || d->minor > UINT32_MAX)
		return err_msg(e, ERR_INVALID, 0, "%s: device number out of range", path);
	return 0;
}

static int read_rules(const struct json *v, void *target, const char *path, struct err *e)
{
	static const struct json_field fields[] = {
		{ "allow", JK_BOOL, offsetof(struct raw_rule, allow), .required = true },
		{ "type", JK_STR, offsetof(struct raw_rule, type) },
		{ "access", JK_STR, offsetof(struct raw_rule, access) },
		{ "major", JK_OPT_I64, offsetof(struct raw_rule, major) },
		{ "minor", JK_OPT_I64, offsetof(struct raw_rule, minor) },
		JSON_FIELD_END,
	};
	struct oci_device_rules *to = target;
	char buf[PATH_BUF];
	int r = 0;

	if (json_type(v) != JSON_ARRAY || json_len(v) > ITEMS_MAX)
		return json_expected(e, path, "array of objects");
	to->v = new_array(struct oci_device_rule, MAX(json_len(v), (size_t)1));
	for (size_t i = 0; r == 0 && i < json_len(v); i++) {
		struct raw_rule raw = { 0 };

		json_path_at(path, i, buf, sizeof buf);
		r = json_dispatch(json_at(v, i), fields, &raw, buf, e);
		if (r == 0)
			r = put_rule(&raw, &to->v[i], buf, e);
		if (r == 0)
			to->n++;
		free(raw.type);
		free(raw.access);
		free(raw.major);
		free(raw.minor);
	}
	return r;
}

static const struct json_field throttle_fields[] = {
	{ "major", JK_I64, offsetof(struct oci_throttle, major), .required = true },
	{ "minor", JK_I64, offsetof(struct oci_throttle, minor), .required = true },
	{ "rate", JK_U64, offsetof(struct oci_throttle, rate), .required = true },
	JSON_FIELD_END,
};
DEFINE_READ_VEC(read_throttles, oci_throttle, throttle_fields)

/* A heap integer with bounds. */
static int opt_range(const struct json *v, void *target, int64_t min, int64_t max, const char *path,
		     struct err *e)
{
	if (json_type(v) != JSON_INT)
		return json_expected(e, path, "integer");
	if (json_int(v) < min || json_int(v) > max)
		return err_msg(e, ERR_INVALID, 0, "%s: value out of range", path);
	free(*(int64_t **)target);
	*(int64_t **)target = xmemdup(&(int64_t){ json_int(v) }, sizeof(int64_t));
	return 0;
}

/* Bytes, processes: -1 is "no limit". */
static int read_limit(const struct json *v, void *target, const char *path, struct err *e)
{
	return opt_range(v, target, -1, INT64_MAX, path, e);
}

/* 0 means unset, as in runc. */
static int read_weight(const struct json *v, void *target, const char *path, struct err *e)
{
	if (json_type(v) == JSON_INT && json_int(v) > 0 && json_int(v) < 10)
		return err_msg(e, ERR_INVALID, 0, "%s: value out of range", path);
	return opt_range(v, target, 0, 1000, path, e);
}

static int read_swappiness(const struct json *v, void *target, const char *path, struct err *e)
{
	return opt_range(v, target, 0, 200, path, e);
}

static int read_idle(const struct json *v, void *target, const char *path, struct err *e)
{
	return opt_range(v, target, 0, 1, path, e);
}

/* "0-3,7": what else it says is for the kernel to judge, but it must stay one line. */
static int read_cpu_list(const struct json *v, void *target, const char *path, struct err *e)
{
	const char *s = json_str(v);

	if (!s)
		return json_expected(e, path, "string");
	if (s[strspn(s, "0123456789,- ")])
		return err_msg(e, ERR_INVALID, 0, "%s: invalid list '%s'", path, s);
	str_replace(target, s);
	return 0;
}

static const struct json_field weight_device_fields[] = {
	{ "major", JK_I64, offsetof(struct oci_weight_device, major), .required = true },
	{ "minor", JK_I64, offsetof(struct oci_weight_device, minor), .required = true },
	{ "weight", JK_CALL, offsetof(struct oci_weight_device, weight), .call = read_weight },
	{ "leafWeight", JK_CALL, offsetof(struct oci_weight_device, leaf_weight), .call = read_weight },
	JSON_FIELD_END,
};
DEFINE_READ_VEC(read_weight_devices, oci_weight_device, weight_device_fields)

/* "2MB", "1GB": part of a file's name. */
static int read_page_size(const struct json *v, void *target, const char *path, struct err *e)
{
	const char *s = json_str(v);
	size_t digits;

	if (!s)
		return json_expected(e, path, "string");
	digits = strspn(s, "0123456789");
	if (!digits || !strchr("KMG", s[digits]) || !streq(s + digits + 1, "B"))
		return err_msg(e, ERR_INVALID, 0, "%s: invalid page size '%s'", path, s);
	str_replace(target, s);
	return 0;
}

static const struct json_field hugepage_fields[] = {
	{ "pageSize", JK_CALL, offsetof(struct oci_hugepage, page_size), .call = read_page_size,
	  .required = true },
	{ "limit", JK_U64, offsetof(struct oci_hugepage, limit), .required = true },
	JSON_FIELD_END,
};
DEFINE_READ_VEC(read_hugepages, oci_hugepage, hugepage_fields)

static int read_name(const struct json *v, void *target, const char *path, struct err *e)
{
	const char *s = json_str(v);

	if (!s)
		return json_expected(e, path, "string");
	if (!*s || s[strcspn(s, " \t\n")])
		return err_msg(e, ERR_INVALID, 0, "%s: invalid name '%s'", path, s);
	str_replace(target, s);
	return 0;
}

static const struct json_field priority_fields[] = {
	{ "name", JK_CALL, offsetof(struct oci_net_priority, name), .call = read_name, .required = true },
	{ "priority", JK_U32, offsetof(struct oci_net_priority, priority), .required = true },
	JSON_FIELD_END,
};
DEFINE_READ_VEC(read_priorities, oci_net_priority, priority_fields)

static int read_class_id(const struct json *v, void *target, const char *path, struct err *e)
{
	return opt_range(v, target, 0, UINT32_MAX, path, e);
}

static const struct json_field rdma_fields[] = {
	{ "hcaHandles", JK_CALL, offsetof(struct oci_rdma, handles), .call = read_class_id },
	{ "hcaObjects", JK_CALL, offsetof(struct oci_rdma, objects), .call = read_class_id },
	JSON_FIELD_END,
};

/* An object of objects: the keys are names of devices. */
static int read_rdma(const struct json *v, void *target, const char *path, struct err *e)
{
	struct json_iter it = { 0 };
	struct oci_rdmas *to = target;
	char buf[PATH_BUF];

	if (json_type(v) != JSON_OBJECT || json_len(v) > ITEMS_MAX)
		return json_expected(e, path, "object of objects");
	to->v = new_array(struct oci_rdma, MAX(json_len(v), (size_t)1));
	while (json_next(v, &it)) {
		struct oci_rdma *d = &to->v[to->n++];
		int r;

		json_path_key(path, it.key, buf, sizeof buf);
		if (!*it.key || it.key[strcspn(it.key, " \t\n")])
			return err_msg(e, ERR_INVALID, 0, "%s: invalid name", buf);
		d->name = xstrdup(it.key);
		r = json_dispatch(it.value, rdma_fields, d, buf, e);
		if (r < 0)
			return r;
	}
	return 0;
}

#define RES(f) offsetof(struct oci_resources, f)
static const struct json_field memory_fields[] = {
	{ "limit", JK_CALL, RES(memory.limit), .call = read_limit },
	{ "reservation", JK_CALL, RES(memory.reservation), .call = read_limit },
	{ "swap", JK_CALL, RES(memory.swap), .call = read_limit },
	{ "kernel", JK_CALL, RES(memory.kernel), .call = read_limit },
	{ "kernelTCP", JK_CALL, RES(memory.kernel_tcp), .call = read_limit },
	{ "swappiness", JK_CALL, RES(memory.swappiness), .call = read_swappiness },
	{ "disableOOMKiller", JK_BOOL, RES(memory.disable_oom_killer) },
	{ "useHierarchy", JK_BOOL, RES(memory.use_hierarchy) },
	{ "checkBeforeUpdate", JK_BOOL, RES(memory.check_before_update) },
	JSON_FIELD_END,
};

static const struct json_field cpu_fields[] = {
	{ "shares", JK_OPT_U64, RES(cpu.shares) },
	{ "quota", JK_CALL, RES(cpu.quota), .call = read_limit },
	{ "burst", JK_OPT_U64, RES(cpu.burst) },
	{ "period", JK_OPT_U64, RES(cpu.period) },
	{ "realtimeRuntime", JK_CALL, RES(cpu.rt_runtime), .call = read_limit },
	{ "realtimePeriod", JK_OPT_U64, RES(cpu.rt_period) },
	{ "cpus", JK_CALL, RES(cpu.cpus), .call = read_cpu_list },
	{ "mems", JK_CALL, RES(cpu.mems), .call = read_cpu_list },
	{ "idle", JK_CALL, RES(cpu.idle), .call = read_idle },
	JSON_FIELD_END,
};

static const struct json_field pids_fields[] = {
	{ "limit", JK_CALL, RES(pids_limit), .call = read_limit },
	JSON_FIELD_END,
};

static const struct json_field blkio_fields[] = {
	{ "weight", JK_CALL, RES(blkio.weight), .call = read_weight },
	{ "leafWeight", JK_CALL, RES(blkio.leaf_weight), .call = read_weight },
	{ "weightDevice", JK_CALL, RES(blkio.weight_devices), .call = read_weight_devices },
	{ "throttleReadBpsDevice", JK_CALL, RES(blkio.read_bps), .call = read_throttles },
	{ "throttleWriteBpsDevice", JK_CALL, RES(blkio.write_bps), .call = read_throttles },
	{ "throttleReadIOPSDevice", JK_CALL, RES(blkio.read_iops), .call = read_throttles },
	{ "throttleWriteIOPSDevice", JK_CALL, RES(blkio.write_iops), .call = read_throttles },
	JSON_FIELD_END,
};

static const struct json_field network_fields[] = {
	{ "classID", JK_CALL, RES(network.class_id), .call = read_class_id },
	{ "priorities", JK_CALL, RES(network.priorities), .call = read_priorities },
	JSON_FIELD_END,
};

const struct json_field oci_resources_fields[] = {
	{ "memory", JK_OBJ, 0, .sub = memory_fields },
	{ "cpu", JK_OBJ, 0, .sub = cpu_fields },
	{ "pids", JK_OBJ, 0, .sub = pids_fields },
	{ "blockIO", JK_OBJ, 0, .sub = blkio_fields },
	{ "devices", JK_CALL, RES(devices), .call = read_rules },
	{ "hugepageLimits", JK_CALL, RES(hugepages), .call = read_hugepages },
	{ "unified", JK_CALL, RES(unified), .call = field_kvs },
	{ "network", JK_OBJ, 0, .sub = network_fields },
	{ "rdma", JK_CALL, RES(rdma), .call = read_rdma },
	JSON_FIELD_END,
};

/* --- linux.intelRdt --- */

/* One line of a schemata file; what it means is for the kernel to judge. */
static int read_schema(const struct json *v, void *target, const char *path, struct err *e)
{
	const char *s = json_str(v);

	if (!s)
		return json_expected(e, path, "string");
	if (s[strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:;=_ \n")])
		return err_msg(e, ERR_INVALID, 0, "%s: invalid schema '%s'", path, s);
	str_replace(target, s);
	return 0;
}

static const struct json_field rdt_fields[] = {
	{ "closID", JK_STR, offsetof(struct oci_rdt, clos_id) },
	{ "l3CacheSchema", JK_CALL, offsetof(struct oci_rdt, l3), .call = read_schema },
	{ "memBwSchema", JK_CALL, offsetof(struct oci_rdt, mb), .call = read_schema },
	{ "schemata", JK_STRV, offsetof(struct oci_rdt, schemata) },
	JSON_FIELD_END,
};

/* Each of the three asks for a monitoring group. */
static const struct json_field monitor_fields[] = {
	{ "enableCMT", JK_BOOL, 0 }, { "enableMBM", JK_BOOL, 1 }, { "enableMonitoring", JK_BOOL, 2 },
	JSON_FIELD_END,
};

int field_rdt(const struct json *v, void *target, const char *path, struct err *e)
{
	struct oci_rdt *to = target;
	bool monitor[3] = { false };
	int r = json_dispatch(v, rdt_fields, to, path, e);

	if (r == 0)
		r = json_dispatch(v, monitor_fields, monitor, path, e);
	to->monitoring = monitor[0] || monitor[1] || monitor[2];
	to->given = true;
	return r;
}

void oci_rdt_done(struct oci_rdt *r)
{
	free(r->clos_id);
	free(r->l3);
	free(r->mb);
	strv_free(r->schemata);
}

int oci_resources_parse(const char *p, size_t n, struct oci_resources *ret, struct err *e)
{
	_cleanup_json_ struct json *j = NULL;
	struct oci_resources res = { 0 };
	int r = json_parse(p, n, &j, e);

	if (r == 0)
		r = json_dispatch(j, oci_resources_fields, &res, "", e);
	if (r < 0) {
		oci_resources_done(&res);
		return err_one_line(e, r);
	}
	*ret = res;
	return 0;
}

void oci_resources_done(struct oci_resources *r)
{
	void *heap[] = {
		r->memory.limit, r->memory.reservation, r->memory.swap, r->memory.kernel,
		r->memory.kernel_tcp, r->memory.swappiness,
		r->cpu.shares, r->cpu.period, r->cpu.rt_period, r->cpu.burst, r->cpu.quota, r->cpu.rt_runtime,
		r->cpu.idle, r->cpu.cpus, r->cpu.mems, r->pids_limit, r->blkio.weight, r->blkio.leaf_weight,
		r->blkio.read_bps.v, r->blkio.write_bps.v, r->blkio.read_iops.v, r->blkio.write_iops.v,
		r->devices.v, r->network.class_id,
	};

	for (size_t i = 0; i < ARRAY_SIZE(heap); i++)
		free(heap[i]);
	for (size_t i = 0; i < r->blkio.weight_devices.n; i++) {
		free(r->blkio.weight_devices.v[i].weight);
		free(r->blkio.weight_devices.v[i].leaf_weight);
	}
	free(r->blkio.weight_devices.v);
	for (size_t i = 0; i < r->hugepages.n; i++)
		free(r->hugepages.v[i].page_size);
	free(r->hugepages.v);
	for (size_t i = 0; i < r->network.priorities.n; i++)
		free(r->network.priorities.v[i].name);
	free(r->network.priorities.v);
	for (size_t i = 0; i < r->rdma.n; i++) {
		free(r->rdma.v[i].name);
		free(r->rdma.v[i].handles);
		free(r->rdma.v[i].objects);
	}
	free(r->rdma.v);
	oci_kvs_done(&r->unified);
}
