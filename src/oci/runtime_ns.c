/* linux.namespaces and what belongs to single ones: uidMappings, gidMappings, timeOffsets. */
#include "oci/runtime_fields.h"
#include "base/alloc.h"
#include "base/strv.h"

static const struct { const char *name; enum oci_ns ns; } ns_names[] = {
	{ "mount", OCI_NS_MNT }, { "pid", OCI_NS_PID }, { "network", OCI_NS_NET }, { "ipc", OCI_NS_IPC },
	{ "uts", OCI_NS_UTS }, { "cgroup", OCI_NS_CGROUP }, { "time", OCI_NS_TIME },
	{ "user", OCI_NS_USER },
};

struct raw_ns { char *type, *path; };

static int put_namespace(const struct raw_ns *raw, struct oci_namespace *table, const char *path,
			 struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(ns_names); i++) {
		struct oci_namespace *ns = &table[ns_names[i].ns];

		if (!streq(raw->type, ns_names[i].name))
			continue;
		if (ns->given)
			return err_msg(e, ERR_INVALID, 0, "%s: namespace '%s' is given twice", path,
				       raw->type);
		if (raw->path && *raw->path && raw->path[0] != '/')
			return err_msg(e, ERR_INVALID, 0, "%s.path: must be an absolute path", path);
		ns->given = true;
		ns->path = str_empty(raw->path) ? NULL : xstrdup(raw->path);
		return 0;
	}
	return err_msg(e, ERR_INVALID, 0, "%s: unknown namespace type '%s'", path, raw->type);
}

int field_namespaces(const struct json *v, void *target, const char *path, struct err *e)
{
	static const struct json_field fields[] = {
		{ "type", JK_STR, offsetof(struct raw_ns, type), .required = true },
		{ "path", JK_STR, offsetof(struct raw_ns, path) },
		JSON_FIELD_END,
	};
	char buf[PATH_BUF];
	int r = 0;

	if (json_type(v) != JSON_ARRAY)
		return json_expected(e, path, "array of objects");
	for (size_t i = 0; r == 0 && i < json_len(v); i++) {
		struct raw_ns raw = { 0 };

		json_path_at(path, i, buf, sizeof buf);
		r = json_dispatch(json_at(v, i), fields, &raw, buf, e);
		if (r == 0)
			r = put_namespace(&raw, target, buf, e);
		free(raw.type);
		free(raw.path);
	}
	return r;
}

const char *oci_ns_name(enum oci_ns ns)
{
	for (size_t i = 0; i < ARRAY_SIZE(ns_names); i++)
		if (ns_names[i].ns == ns)
			return ns_names[i].name;
	return "unknown";
}

static const struct json_field id_map_fields[] = {
	{ "containerID", JK_U32, offsetof(struct oci_id_map, inside), .required = true },
	{ "hostID", JK_U32, offsetof(struct oci_id_map, outside), .required = true },
	{ "size", JK_U32, offsetof(struct oci_id_map, size), .required = true },
	JSON_FIELD_END,
};

int field_id_maps(const struct json *v, void *target, const char *path, struct err *e)
{
	struct oci_id_maps *to = target;
	int r = field_vec(v, target, sizeof(struct oci_id_map), id_map_fields, path, e);

	for (size_t i = 0; r == 0 && i < to->n; i++) {
		const struct oci_id_map *m = &to->v[i];

		if (!m->size || UINT32_MAX - m->size < MAX(m->inside, m->outside))
			return err_msg(e, ERR_INVALID, 0, "%s[%zu].size: value out of range", path, i);
	}
	return r;
}

static int read_offset(const struct json *v, void *target, const char *path, struct err *e)
{
	static const struct json_field fields[] = {
		{ "secs", JK_I64, offsetof(struct oci_time_offset, secs) },
		{ "nanosecs", JK_U32, offsetof(struct oci_time_offset, nanosecs) },
		JSON_FIELD_END,
	};
	struct oci_time_offset *to = target;
	int r = json_dispatch(v, fields, to, path, e);

	if (r == 0 && to->nanosecs >= 1000000000)
		return err_msg(e, ERR_INVALID, 0, "%s.nanosecs: must be less than a second", path);
	to->given = true;
	return r;
}

int field_time_offsets(const struct json *v, void *target, const char *path, struct err *e)
{
	static const struct json_field fields[] = {
		{ "monotonic", JK_CALL, sizeof(struct oci_time_offset) * OCI_CLOCK_MONOTONIC,
		  .call = read_offset },
		{ "boottime", JK_CALL, sizeof(struct oci_time_offset) * OCI_CLOCK_BOOTTIME,
		  .call = read_offset },
		JSON_FIELD_END,
	};
	struct json_iter it = { 0 };

	/* Here a name that is not known is a clock that has no offset, not a field to come. */
	while (json_next(v, &it))
		if (!streq(it.key, fields[0].key) && !streq(it.key, fields[1].key))
			return err_msg(e, ERR_INVALID, 0, "%s: unknown clock '%s'", path, it.key);
	return json_dispatch(v, fields, target, path, e);
}
