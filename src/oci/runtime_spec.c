#include "oci/runtime_fields.h"
#include "base/alloc.h"
#include "base/strv.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

/* --- process --- */

static int read_gids(const struct json *v, void *target, const char *path, struct err *e)
{
	struct oci_gids *to = target;
	char buf[PATH_BUF];

	if (json_type(v) != JSON_ARRAY || json_len(v) > ITEMS_MAX)
		return json_expected(e, path, "array of integers");
	to->v = new_array(uint32_t, MAX(json_len(v), (size_t)1));
	for (size_t i = 0; i < json_len(v); i++) {
		struct json *g = json_at(v, i);

		if (json_type(g) != JSON_INT || json_int(g) < 0 || json_int(g) > UINT32_MAX)
			return json_expected(e, json_path_at(path, i, buf, sizeof buf), "group id");
		to->v[to->n++] = (uint32_t)json_int(g);
	}
	return 0;
}

static const struct json_field user_fields[] = {
	{ "uid", JK_U32, offsetof(struct oci_user, uid) },
	{ "gid", JK_U32, offsetof(struct oci_user, gid) },
	{ "additionalGids", JK_CALL, offsetof(struct oci_user, additional_gids), .call = read_gids },
	{ "umask", JK_OPT_U64, offsetof(struct oci_user, umask) },
	{ "username", JK_STR, offsetof(struct oci_user, username) },
	{ "insulaGroups", JK_STRV, offsetof(struct oci_user, groups) },
	JSON_FIELD_END,
};

static const struct { const char *name; int resource;
} rlimit_names[] = {
    {"RLIMIT_AS", RLIMIT_AS},
    {"RLIMIT_CORE", RLIMIT_CORE},
    {"RLIMIT_CPU", RLIMIT_CPU},
    {"RLIMIT_DATA", RLIMIT_DATA},
    {"RLIMIT_FSIZE", RLIMIT_FSIZE},
    {"RLIMIT_LOCKS", RLIMIT_LOCKS},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
    {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
    {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_NOFILE", RLIMIT_NOFILE},
    {"RLIMIT_NPROC", RLIMIT_NPROC},
    {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
    {"RLIMIT_RTTIME", RLIMIT_RTTIME},
    {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_STACK", RLIMIT_STACK},
};

/* Limits are unsigned in the specification; older generators write unlimited as -1. */
static int read_limit(const struct json *v, void *target, const char *path, struct err *e)
{
	if (json_type(v) != JSON_INT)
		return json_expected(e, path, "integer");
	*(uint64_t *)target = json_int(v) == -1 ? UINT64_MAX : json_uint(v);
	if (json_int(v) < -1)
		return err_msg(e, ERR_INVALID, 0, "%s: value out of range", path);
	return 0;
}

static int read_rlimit_type(const struct json *v, void *target, const char *path, struct err *e)
{
	struct oci_rlimit *to = container_of((const char **)target, struct oci_rlimit, name);

	for (size_t i = 0; i < ARRAY_SIZE(rlimit_names); i++) {
		if (streq(json_str(v), rlimit_names[i].name)) {
			to->name = rlimit_names[i].name;
			to->resource = rlimit_names[i].resource;
			return 0;
		}
	}
	return err_msg(e, ERR_INVALID, 0, "%s: unknown rlimit '%s'", path, json_str(v) ? json_str(v) : "");
}

static const struct json_field rlimit_fields[] = {
	{ "type", JK_CALL, offsetof(struct oci_rlimit, name), .call = read_rlimit_type, .required = true },
	{ "soft", JK_CALL, offsetof(struct oci_rlimit, soft), .call = read_limit, .required = true },
	{ "hard", JK_CALL, offsetof(struct oci_rlimit, hard), .call = read_limit, .required = true },
	JSON_FIELD_END,
};

static int read_rlimits(const struct json *v, void *target, const char *path, struct err *e)
{
	struct oci_rlimits *to = target;
	int r = field_vec(v, target, sizeof(struct oci_rlimit), rlimit_fields, path, e);

	for (size_t i = 0; r == 0 && i < to->n; i++) {
		if (to->v[i].soft > to->v[i].hard)
			return err_msg(e, ERR_INVALID, 0, "%s[%zu]: soft limit of %s is above the hard one",
				       path, i, to->v[i].name);
		for (size_t j = 0; j < i; j++)
			if (to->v[j].resource == to->v[i].resource)
				return err_msg(e, ERR_INVALID, 0, "%s[%zu]: %s is given twice", path, i,
					       to->v[i].name);
	}
	return r;
}

static const struct json_field caps_fields[] = {
	{ "bounding", JK_STRV, offsetof(struct oci_caps, bounding) },
	{ "effective", JK_STRV, offsetof(struct oci_caps, effective) },
	{ "inheritable", JK_STRV, offsetof(struct oci_caps, inheritable) },
	{ "permitted", JK_STRV, offsetof(struct oci_caps, permitted) },
	{ "ambient", JK_STRV, offsetof(struct oci_caps, ambient) },
	JSON_FIELD_END,
};

static int read_caps(const struct json *v, void *target, const char *path, struct err *e)
{
	((struct oci_caps *)target)->given = true;
	return json_dispatch(v, caps_fields, target, path, e);
}

static int read_console_size(const struct json *v, void *target, const char *path, struct err *e)
{
	static const struct json_field fields[] = {
		{ "height", JK_U32, offsetof(struct oci_process, rows) },
		{ "width", JK_U32, offsetof(struct oci_process, cols) },
		JSON_FIELD_END,
	};

	return json_dispatch(v, fields, container_of((uint32_t *)target, struct oci_process, rows), path, e);
}

static const struct json_field process_fields[] = {
	{ "terminal", JK_BOOL, offsetof(struct oci_process, terminal) },
	{ "consoleSize", JK_CALL, offsetof(struct oci_process, rows), .call = read_console_size },
	{ "user", JK_OBJ, offsetof(struct oci_process, user), .sub = user_fields },
	{ "args", JK_STRV, offsetof(struct oci_process, args) },
	{ "env", JK_STRV, offsetof(struct oci_process, env) },
	{ "cwd", JK_STR, offsetof(struct oci_process, cwd) },
	{ "capabilities", JK_CALL, offsetof(struct oci_process, caps), .call = read_caps },
	{ "rlimits", JK_CALL, offsetof(struct oci_process, rlimits), .call = read_rlimits },
	{ "noNewPrivileges", JK_BOOL, offsetof(struct oci_process, no_new_privs) },
	{ "oomScoreAdj", JK_OPT_I64, offsetof(struct oci_process, oom_score_adj) },
	{ "apparmorProfile", JK_STR, offsetof(struct oci_process, apparmor) },
	{ "selinuxLabel", JK_STR, offsetof(struct oci_process, selinux) },
	{ "scheduler", JK_CALL, offsetof(struct oci_process, scheduler), .call = field_scheduler },
	{ "ioPriority", JK_CALL, offsetof(struct oci_process, io_priority), .call = field_io_priority },
	{ "execCPUAffinity", JK_CALL, .call = field_refuse },
	JSON_FIELD_END,
};

static int read_process(const struct json *v, void *target, const char *path, struct err *e)
{
	struct oci_process *p = *(struct oci_process **)target = new0(struct oci_process);
	int r = json_dispatch(v, process_fields, p, path, e);

	if (r < 0)
		return r;
	if (!p->args || str_empty(p->args[0]))
		return err_msg(e, ERR_INVALID, 0, "%s%sargs: missing or empty", path, *path ? "." : "");
	if (!p->cwd || p->cwd[0] != '/')
		return err_msg(e, ERR_INVALID, 0, "%s%scwd: must be an absolute path", path,
			       *path ? "." : "");
	return 0;
}

/* --- root, mounts, hooks --- */

static const struct json_field root_fields[] = {
	{ "path", JK_STR, offsetof(struct oci_spec, root.path), .required = true },
	{ "readonly", JK_BOOL, offsetof(struct oci_spec, root.readonly) },
	JSON_FIELD_END,
};

static int read_root(const struct json *v, void *target, const char *path, struct err *e)
{
	return json_dispatch(v, root_fields, container_of((char **)target, struct oci_spec, root.path), path,
			     e);
}

static const struct json_field mount_fields[] = {
	{ "destination", JK_STR, offsetof(struct oci_mount, destination), .required = true },
	{ "type", JK_STR, offsetof(struct oci_mount, type) },
	{ "source", JK_STR, offsetof(struct oci_mount, source) },
	{ "options", JK_STRV, offsetof(struct oci_mount, options) },
	{ "insulaSubpath", JK_STR, offsetof(struct oci_mount, subpath) },
	{ "insulaSource", JK_STR, offsetof(struct oci_mount, shown) },
	{ "uidMappings", JK_CALL, offsetof(struct oci_mount, uids), .call = field_id_maps },
	{ "gidMappings", JK_CALL, offsetof(struct oci_mount, gids), .call = field_id_maps },
	JSON_FIELD_END,
};
DEFINE_READ_VEC(read_mounts, oci_mount, mount_fields)

static const struct json_field hook_fields[] = {
	{ "path", JK_STR, offsetof(struct oci_hook, path), .required = true },
	{ "args", JK_STRV, offsetof(struct oci_hook, args) },
	{ "env", JK_STRV, offsetof(struct oci_hook, env) },
	{ "timeout", JK_OPT_I64, offsetof(struct oci_hook, timeout) },
	JSON_FIELD_END,
};

static int read_hooks(const struct json *v, void *target, const char *path, struct err *e)
{
	const struct oci_hooks *to = target;
	int r = field_vec(v, target, sizeof(struct oci_hook), hook_fields, path, e);

	for (size_t i = 0; r == 0 && i < to->n; i++) {
		if (to->v[i].path[0] != '/')
			return err_msg(e, ERR_INVALID, 0, "%s[%zu].path: must be an absolute path", path, i);
		if (to->v[i].timeout && *to->v[i].timeout <= 0)
			return err_msg(e, ERR_INVALID, 0, "%s[%zu].timeout: must be greater than zero", path,
				       i);
	}
	return r;
}

#define HOOK(name, kind) { name, JK_CALL, sizeof(struct oci_hooks) * (kind), .call = read_hooks }
static const struct json_field hooks_fields[] = {
	HOOK("prestart", OCI_HOOK_PRESTART), HOOK("createRuntime", OCI_HOOK_CREATE_RUNTIME),
	HOOK("createContainer", OCI_HOOK_CREATE_CONTAINER), HOOK("startContainer", OCI_HOOK_START_CONTAINER),
	HOOK("poststart", OCI_HOOK_POSTSTART), HOOK("poststop", OCI_HOOK_POSTSTOP),
	JSON_FIELD_END,
};

/* --- linux --- */

static const struct json_field device_fields[] = {
	{ "path", JK_STR, offsetof(struct oci_device, path), .required = true },
	{ "type", JK_STR, offsetof(struct oci_device, type), .required = true },
	{ "major", JK_I64, offsetof(struct oci_device, major) },
	{ "minor", JK_I64, offsetof(struct oci_device, minor) },
	{ "fileMode", JK_OPT_U64, offsetof(struct oci_device, mode) },
	{ "uid", JK_U32, offsetof(struct oci_device, uid) },
	{ "gid", JK_U32, offsetof(struct oci_device, gid) },
	JSON_FIELD_END,
};

static int read_devices(const struct json *v, void *target, const char *path, struct err *e)
{
	struct oci_devices *to = target;
	int r = field_vec(v, target, sizeof(struct oci_device), device_fields, path, e);

	for (size_t i = 0; r == 0 && i < to->n; i++) {
		const struct oci_device *d = &to->v[i];

		if (strlen(d->type) != 1 || !strchr("cbup", d->type[0]))
			return err_msg(e, ERR_INVALID, 0, "%s[%zu].type: unknown device type '%s'", path, i,
				       d->type);
		if (d->path[0] != '/')
			return err_msg(e, ERR_INVALID, 0, "%s[%zu].path: must be an absolute path", path, i);
		if (d->type[0] != 'p' &&
		    (d->major < 0 || d->minor < 0 || d->major > 0xfff || d->minor > 0xfffff))
			return err_msg(e, ERR_INVALID, 0, "%s[%zu]: device number out of range", path, i);
	}
	return r;
}

static const struct json_field personality_fields[] = {
	{ "domain", JK_STR, 0, .required = true },
	{ "flags", JK_CALL, 0, .call = field_refuse },
	JSON_FIELD_END,
};

static int read_personality(const struct json *v, void *target, const char *path, struct err *e)
{
	char **domain = target;
	int r = json_dispatch(v, personality_fields, domain, path, e);

	if (r == 0 && !streq(*domain, "LINUX") && !streq(*domain, "LINUX32"))
		return err_msg(e, ERR_INVALID, 0, "%s.domain: unknown personality '%s'", path, *domain);
	return r;
}

#define SPEC(f) offsetof(struct oci_spec, f)
static const struct json_field linux_fields[] = {
	{ "namespaces", JK_CALL, SPEC(ns), .call = field_namespaces },
	{ "devices", JK_CALL, SPEC(devices), .call = read_devices },
	{ "cgroupsPath", JK_STR, SPEC(cgroups_path) },
	{ "resources", JK_OBJ, SPEC(resources), .sub = oci_resources_fields },
	{ "maskedPaths", JK_STRV, SPEC(masked_paths) },
	{ "readonlyPaths", JK_STRV, SPEC(readonly_paths) },
	{ "rootfsPropagation", JK_STR, SPEC(rootfs_propagation) },
	{ "sysctl", JK_CALL, SPEC(sysctl), .call = field_kvs },
	{ "seccomp", JK_CALL, SPEC(seccomp), .call = field_json },
	{ "personality", JK_CALL, SPEC(personality), .call = read_personality },
	{ "uidMappings", JK_CALL, SPEC(uids), .call = field_id_maps },
	{ "gidMappings", JK_CALL, SPEC(gids), .call = field_id_maps },
	{ "timeOffsets", JK_CALL, SPEC(time_offsets), .call = field_time_offsets },
	{ "mountLabel", JK_STR, SPEC(mount_label) },
	{ "intelRdt", JK_CALL, SPEC(rdt), .call = field_rdt },
	{ "memoryPolicy", JK_CALL, .call = field_refuse },
	{ "netDevices", JK_CALL, .call = field_refuse },
	JSON_FIELD_END,
};

static int read_version(const struct json *v, void *target, const char *path, struct err *e)
{
	const char *s = json_str(v);

	if (!s)
		return json_expected(e, path, "string");
	if (!str_starts(s, "1."))
		return err_msg(e, ERR_INVALID, 0, "%s: unsupported version '%s' (1.x is)", path, s);
	str_replace(target, s);
	return 0;
}

static const struct json_field spec_fields[] = {
	{ "ociVersion", JK_CALL, SPEC(version), .call = read_version, .required = true },
	{ "process", JK_CALL, SPEC(process), .call = read_process },
	{ "root", JK_CALL, SPEC(root.path), .call = read_root, .required = true },
	{ "hostname", JK_STR, SPEC(hostname) },
	{ "domainname", JK_STR, SPEC(domainname) },
	{ "mounts", JK_CALL, SPEC(mounts), .call = read_mounts },
	{ "hooks", JK_OBJ, SPEC(hooks), .sub = hooks_fields },
	{ "annotations", JK_CALL, SPEC(annotations), .call = field_str_map },
	{ "linux", JK_OBJ, 0, .sub = linux_fields },
	JSON_FIELD_END,
};

int oci_spec_parse(const char *p, size_t n, struct oci_spec **ret, struct err *e)
{
	_cleanup_json_ struct json *j = NULL;
	_cleanup_oci_spec_ struct oci_spec *s = new0(struct oci_spec);
	int r;

	r = json_parse(p, n, &j, e);
	if (r == 0)
		r = json_dispatch(j, spec_fields, s, "", e);
	if (r < 0)
		return err_one_line(e, r);
	*ret = TAKE_PTR(s);
	return 0;
}

int oci_process_parse(const char *p, size_t n, struct oci_process **ret, struct err *e)
{
	_cleanup_json_ struct json *j = NULL;
	_cleanup_oci_process_ struct oci_process *proc = NULL;
	int r;

	r = json_parse(p, n, &j, e);
	if (r == 0)
		r = read_process(j, &proc, "", e);
	if (r < 0)
		return err_one_line(e, r);
	*ret = TAKE_PTR(proc);
	return 0;
}

void oci_process_free(struct oci_process *p)
{
	if (!p)
		return;
	free(p->user.additional_gids.v);
	free(p->user.umask);
	free(p->user.username);
	strv_free(p->user.groups);
	strv_free(p->args);
	strv_free(p->env);
	free(p->cwd);
	strv_free(p->caps.bounding);
	strv_free(p->caps.effective);
	strv_free(p->caps.inheritable);
	strv_free(p->caps.permitted);
	strv_free(p->caps.ambient);
	free(p->rlimits.v);
	free(p->oom_score_adj);
	free(p->apparmor);
	free(p->selinux);
	free(p);
}

static void hooks_done(struct oci_hooks *h)
{
	for (size_t i = 0; i < h->n; i++) {
		free(h->v[i].path);
		strv_free(h->v[i].args);
		strv_free(h->v[i].env);
		free(h->v[i].timeout);
	}
	free(h->v);
}

void oci_spec_free(struct oci_spec *s)
{
	if (!s)
		return;
	free(s->version);
	oci_process_free(s->process);
	free(s->root.path);
	free(s->hostname);
	free(s->domainname);
	for (size_t i = 0; i < s->mounts.n; i++) {
		free(s->mounts.v[i].destination);
		free(s->mounts.v[i].type);
		free(s->mounts.v[i].source);
		free(s->mounts.v[i].subpath);
		free(s->mounts.v[i].shown);
		strv_free(s->mounts.v[i].options);
		free(s->mounts.v[i].uids.v);
		free(s->mounts.v[i].gids.v);
	}
	free(s->mounts.v);
	for (int k = 0; k < _OCI_HOOK_MAX; k++)
		hooks_done(&s->hooks[k]);
	json_free(s->annotations);
	for (int k = 0; k < _OCI_NS_MAX; k++)
		free(s->ns[k].path);
	free(s->uids.v);
	free(s->gids.v);
	for (size_t i = 0; i < s->devices.n; i++) {
		free(s->devices.v[i].path);
		free(s->devices.v[i].type);
		free(s->devices.v[i].mode);
	}
	free(s->devices.v);
	free(s->cgroups_path);
	oci_resources_done(&s->resources);
	oci_rdt_done(&s->rdt);
	strv_free(s->masked_paths);
	strv_free(s->readonly_paths);
	free(s->rootfs_propagation);
	oci_kvs_done(&s->sysctl);
	json_free(s->seccomp);
	free(s->personality);
	free(s->mount_label);
	free(s);
}

const char *oci_hook_name(enum oci_hook_kind k)
{
	return k >= 0 && k < _OCI_HOOK_MAX ? hooks_fields[k].key : "unknown";
}

bool oci_spec_has_hooks(const struct oci_spec *s, enum oci_hook_kind k)
{
	return s->hooks[k].n > 0;
}
