/* config.json of a container: one generator for both isolation modes. What differs under hyperv: no network
 * namespace (the machine is one), volumes by share tags instead of host paths. */
#include "engine/apparmor.h"
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "engine/paths.h"
#include "oci/defaults.h"
#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define INIT_TARGET "/sbin/docker-init"
#define GUEST_NR_OPEN (1u << 20)	/* what a kernel starts with */
#define GUEST_INIT "/lib/insula/insula-init"	/* in the guest's own file system */

static bool host_bool(const struct container *c, const char *key)
{
	return json_get_bool(ctr_host(c), key, false);
}

static bool has_security_opt(const struct container *c, const char *a, const char *b)
{
	const struct json *v = json_get(ctr_host(c), "SecurityOpt");

	for (size_t i = 0; i < json_len(v); i++)
		if (streq(json_str(json_at(v, i)), a) || streq(json_str(json_at(v, i)), b))
			return true;
	return false;
}

/* ---- process ---- */

static void add_caps(struct json *p, char *const *caps)
{
	static const char *const sets[] = {"bounding", "effective", "permitted"};
	struct json *o = json_set(p, "capabilities", json_object());

	for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
		json_set_strv(o, sets[i], caps);
}

static int resolve_caps(const struct container *c, bool privileged, char ***ret, struct err *err)
{
	_cleanup_strv_ char **add = json_get_strv(ctr_host(c), "CapAdd"),
			    **drop = json_get_strv(ctr_host(c), "CapDrop");

	return oci_caps_resolve(add, drop, privileged, ret, err);
}

static char **build_env(const struct container *c, bool tty, char *const *more)
{
	_cleanup_free_ char *hostname = ctr_hostname(c);
	_cleanup_strv_ char **own = json_get_strv(ctr_config(c), "Env");
	char **env = NULL;

	strv_add(&env, DEFAULT_PATH);
	strv_addf(&env, "HOSTNAME=%s", hostname);
	if (tty)
		strv_add(&env, "TERM=xterm");
	/* a name without "=" takes the variable away */
	for (char **v = own; v && *v; v++)
		if (strchr(*v, '='))
			strv_env_set(&env, *v);
	for (char *const *v = more; v && *v; v++)
		if (strchr(*v, '='))
			strv_env_set(&env, *v);
	return env;
}

static bool has_ulimit(const struct json *v, const char *name)
{
	for (size_t i = 0; i < json_len(v); i++)
		if (streq(json_get_str(json_at(v, i), "Name"), name))
			return true;
	return false;
}

/* The processes of a machine do not inherit what the daemon's own have, and shall have the same. Limits of
 * processes and signals go by the memory of the machine. */
static void add_inherited(const struct json *v, struct json *list)
{
	static const struct { const char *name, *type; int resource; rlim_t max; } inherited[] = {
	    {"core", "RLIMIT_CORE", RLIMIT_CORE, RLIM_INFINITY},
	    {"memlock", "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK, RLIM_INFINITY},
	    {"nofile", "RLIMIT_NOFILE", RLIMIT_NOFILE, GUEST_NR_OPEN},
	    {"stack", "RLIMIT_STACK", RLIMIT_STACK, RLIM_INFINITY},
	};

	for (size_t i = 0; i < ARRAY_SIZE(inherited); i++) {
		struct rlimit l;
		struct json *o;

		if (has_ulimit(v, inherited[i].name) || getrlimit(inherited[i].resource, &l) < 0)
			continue;
		o = json_add(list, json_object());
		json_set_str(o, "type", inherited[i].type);
		json_set(o, "hard", json_new_uint(MIN(l.rlim_max, inherited[i].max)));
		json_set(o, "soft", json_new_uint(MIN(l.rlim_cur, inherited[i].max)));
	}
}

static void add_rlimits(const struct container *c, struct json *p)
{
	const struct json *v = json_get(ctr_host(c), "Ulimits");
	struct json *list = json_set(p, "rlimits", json_array());

	if (c->isolation == ISOLATION_HYPERV)
		add_inherited(v, list);
	for (size_t i = 0; i < json_len(v); i++) {
		struct json *o = json_add(list, json_object());
		const char *name = json_get_str(json_at(v, i), "Name");
		char type[32] = "RLIMIT_";

		for (size_t k = 0; name[k] && k + 8 < sizeof type; k++)
			type[7 + k] =
			    (char)(name[k] >= 'a' && name[k] <= 'z' ? name[k] - 'a' + 'A' : name[k]);
		json_set_str(o, "type", type);
		/* -1 is "unlimited" */
		json_set(o, "hard", json_new_uint((uint64_t)json_get_int(json_at(v, i), "Hard", 0)));
		json_set(o, "soft", json_new_uint((uint64_t)json_get_int(json_at(v, i), "Soft", 0)));
	}
}

static void add_user(const struct container *c, struct json *p, const char *user)
{
	struct json *u = json_set(p, "user", json_object());
	_cleanup_strv_ char **groups = json_get_strv(ctr_host(c), "GroupAdd");

	json_set_int(u, "uid", 0);
	json_set_int(u, "gid", 0);
	/* resolved where the root file system is: the host does not read what a guest has written */
	json_set_str(u, "username", user ? user : "");
	if (groups)
		json_set_strv(u, "insulaGroups", groups);
}

static void add_common(const struct container *c, struct json *p, char *const *caps)
{
	int64_t oom = json_get_int(ctr_host(c), "OomScoreAdj", 0);
	const char *profile = apparmor_profile(c);

	add_caps(p, caps);
	add_rlimits(c, p);
	json_set_bool(p, "noNewPrivileges",
		      has_security_opt(c, "no-new-privileges", "no-new-privileges=true") ||
			  has_security_opt(c, "no-new-privileges:true", "no-new-privileges:true"));
	if (oom)
		json_set_int(p, "oomScoreAdj", oom);
	if (profile)
		json_set_str(p, "apparmorProfile", profile);
}

static void add_terminal(struct json *p, bool tty, unsigned rows, unsigned cols)
{
	struct json *size;

	json_set_bool(p, "terminal", tty);
	if (!tty || !rows || !cols)
		return;
	size = json_set(p, "consoleSize", json_object());
	json_set_int(size, "height", rows);
	json_set_int(size, "width", cols);
}

static const char *or_root(const char *dir)
{
	return str_empty(dir) ? "/" : dir;
}

static void add_process(const struct container *c, struct json *spec, char *const *caps)
{
	struct json *p = json_set(spec, "process", json_object());
	const struct json *size = json_get(ctr_host(c), "ConsoleSize");
	_cleanup_strv_ char **args = NULL, **rest = json_get_strv(c->doc, "Args"), **env = NULL;

	if (host_bool(c, "Init")) {
		strv_add(&args, INIT_TARGET);
		strv_add(&args, "--");
	}
	strv_add(&args, json_get_str(c->doc, "Path"));
	strv_extend(&args, rest);
	env = build_env(c, container_tty(c), NULL);
	add_terminal(p, container_tty(c), (unsigned)json_uint(json_at(size, 0)),
		     (unsigned)json_uint(json_at(size, 1)));
	add_user(c, p, json_get_str(ctr_config(c), "User"));
	json_set_strv(p, "args", args);
	json_set_strv(p, "env", env);
	json_set_str(p, "cwd", or_root(json_get_str(ctr_config(c), "WorkingDir")));
	add_common(c, p, caps);
}

int spec_exec_process(struct container *c, const struct exec_process *x, struct json **ret, struct err *err)
{
	_cleanup_strv_ char **caps = NULL, **env = build_env(c, x->tty, x->env);
	struct json *p;
	int r = resolve_caps(c, x->privileged || host_bool(c, "Privileged"), &caps, err);

	if (r < 0)
		return r;
	p = json_object();
	add_terminal(p, x->tty, x->rows, x->cols);
	add_user(c, p, str_empty(x->user) ? json_get_str(ctr_config(c), "User") : x->user);
	json_set_strv(p, "args", x->cmd);
	json_set_strv(p, "env", env);
	json_set_str(p, "cwd",
		     or_root(str_empty(x->cwd) ? json_get_str(ctr_config(c), "WorkingDir") : x->cwd));
	add_common(c, p, caps);
	*ret = p;
	return 0;
}

/* ---- mounts ---- */

static bool is_mounted_over(const struct container *c, const char *target)
{
	const struct json *v = json_get(c->doc, "Mounts");

	for (size_t i = 0; i < json_len(v); i++)
		if (streq(json_get_str(json_at(v, i), "Destination"), target))
			return true;
	return false;
}

/* Docker's own mounts, without those that the user replaces. */
static struct json *base_mounts(const struct container *c)
{
	_cleanup_json_ struct json *all = oci_default_mounts(
	    (uint64_t)json_get_int(ctr_host(c), "ShmSize", 64 << 20), host_bool(c, "Privileged"));
	struct json *list = json_array();

	for (size_t i = 0; i < json_len(all); i++)
		if (!is_mounted_over(c, json_get_str(json_at(all, i), "destination")))
			json_add(list, json_ref(json_at(all, i)));
	return list;
}

static int add_init(const struct container *c, struct json *list, struct err *err)
{
	char *options[] = {(char *)"bind", (char *)"ro", NULL};
	_cleanup_free_ char *path = NULL;

	if (c->isolation == ISOLATION_HYPERV) {
		spec_mount(list, "bind", GUEST_INIT, INIT_TARGET, options);
		return 0;
	}
	path = engine_program(c->engine, "insula-init");
	if (!path)
		return err_msg(err, ERR_SYSTEM, -ENOENT,
			       "--init needs the program 'insula-init', which is not in '%s'",
			       c->engine->cfg.libexec);
	spec_mount(list, "bind", path, INIT_TARGET, options);
	return 0;
}

static size_t depth_of(const struct json *m)
{
	const char *p = json_get_str(m, "destination");
	size_t n = 0;

	for (; *p; p++)
		n += *p == '/';
	return n;
}

/* The outer ones first, else a volume on /etc would hide /etc/hosts. Order is kept among equals. */
static void append_by_depth(struct json *to, const struct json *from)
{
	size_t n = json_len(from), left = n;

	for (size_t depth = 1; left > 0; depth++)
		for (size_t i = 0; i < n; i++)
			if (depth_of(json_at(from, i)) == depth) {
				json_add(to, json_ref(json_at(from, i)));
				left--;
			}
}

static int add_mounts(const struct container *c, struct json *spec, struct err *err)
{
	static const char *const files[][2] = {
		{"resolv.conf", "/etc/resolv.conf"}, {"hostname", "/etc/hostname"}, {"hosts", "/etc/hosts"},
		{"dockerenv", "/.dockerenv"},	/* by which programs know that they are in a container */
	};
	char *options[] = {(char *)"rbind", (char *)"rprivate", NULL};
	struct json *list = json_set(spec, "mounts", base_mounts(c));
	_cleanup_json_ struct json *own = json_array();
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (!is_mounted_over(c, files[i][1]))
			spec_mount(own, "bind", files[i][0], files[i][1], options);
	spec_volumes(c, own);
	if (host_bool(c, "Init"))
		r = add_init(c, own, err);
	append_by_depth(list, own);
	return r;
}

/* ---- resources ---- */

static void copy_int(const struct json *from, const char *key, struct json *to, const char *name)
{
	int64_t v = json_get_int(from, key, 0);

	if (v)
		json_set_int(to, name, v);
}

static void add_memory(const struct json *hc, struct json *res)
{
	struct json *m = json_set(res, "memory", json_object());

	copy_int(hc, "Memory", m, "limit");
	copy_int(hc, "MemoryReservation", m, "reservation");
	copy_int(hc, "MemorySwap", m, "swap");
	if (json_type(json_get(hc, "MemorySwappiness")) == JSON_INT)
		json_set_int(m, "swappiness", json_get_int(hc, "MemorySwappiness", 0));
	if (json_get_bool(hc, "OomKillDisable", false))
		json_set_bool(m, "disableOOMKiller", true);
}

static void add_cpu(const struct json *hc, struct json *res)
{
	struct json *cpu = json_set(res, "cpu", json_object());
	int64_t nano = json_get_int(hc, "NanoCpus", 0);

	copy_int(hc, "CpuShares", cpu, "shares");
	copy_int(hc, "CpuPeriod", cpu, "period");
	copy_int(hc, "CpuQuota", cpu, "quota");
	if (nano > 0) {
		json_set_int(cpu, "period", 100000);
		json_set_int(cpu, "quota", MAX(nano / 10000, (int64_t)1000));
	}
	if (!str_empty(json_get_str(hc, "CpusetCpus")))
		json_set_str(cpu, "cpus", json_get_str(hc, "CpusetCpus"));
	if (!str_empty(json_get_str(hc, "CpusetMems")))
		json_set_str(cpu, "mems", json_get_str(hc, "CpusetMems"));
}

int spec_limits(const struct json *hc, struct json *res, struct err *err)
{
	int64_t pids = json_get_int(hc, "PidsLimit", 0);

	add_memory(hc, res);
	add_cpu(hc, res);
	if (pids > 0)
		json_set_int(json_set(res, "pids", json_object()), "limit", pids);
	return blkio_limits(hc, res, err);
}

/* The devices themselves come later (container_devices.c). */
static int add_resources(const struct container *c, struct json *linux_, struct err *err)
{
	struct json *res = json_set(linux_, "resources", json_object());

	json_set(res, "devices", oci_default_device_rules(host_bool(c, "Privileged")));
	return spec_limits(ctr_host(c), res, err);
}

/* ---- linux ---- */

#define GUEST_CGROUP_PARENT "/insula"

char *ctr_cgroup(const struct container *c)
{
	const char *parent = json_get_str(ctr_host(c), "CgroupParent");
	_cleanup_free_ char *path = path_join("/", str_empty(parent) ? c->engine->cfg.cgroup_parent : parent),
			    *full = path_join(path, c->id);

	return path_clean(full);
}

/* Inside a machine there is one place for all: --cgroup-parent is about the machine, on the host. */
static char *cgroups_path(const struct container *c)
{
	return c->isolation == ISOLATION_HYPERV ? path_join(GUEST_CGROUP_PARENT, c->id) : ctr_cgroup(c);
}

/* Under hyperv the network is the machine's: joined, so that --sysctl net... may change it. */
static void add_namespaces(const struct container *c, struct json *linux_)
{
	static const char *const all[] = {"mount", "pid", "ipc", "uts", "cgroup", "network"};
	bool shared = c->isolation == ISOLATION_HYPERV || ctr_host_network(c);
	bool join = c->isolation == ISOLATION_HYPERV && json_len(json_get(ctr_host(c), "Sysctls")) > 0;
	struct json *list = json_set(linux_, "namespaces", json_array());

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		bool net = streq(all[i], "network");
		struct json *o;

		if (net && shared && !join)
			continue;
		o = json_add(list, json_object());
		json_set_str(o, "type", all[i]);
		if (net && join)
			json_set_str(o, "path", "/proc/1/ns/net");
	}
}

static void set_paths(const struct container *c, struct json *linux_, const char *key, const char *field,
		      const char *const *defaults)
{
	const struct json *given = json_get(ctr_host(c), field);

	if (json_type(given) == JSON_ARRAY)
		json_set(linux_, key, json_copy(given));
	else if (!host_bool(c, "Privileged") &&
		 !has_security_opt(c, "systempaths=unconfined", "systempaths=unconfined"))
		json_set_strv(linux_, key, (char *const *)defaults);
}

static int add_seccomp(const struct container *c, struct json *linux_, char *const *caps, struct err *err)
{
	const struct json *v = json_get(ctr_host(c), "SecurityOpt");
	struct json *profile;
	int r;

	if (host_bool(c, "Privileged") || has_security_opt(c, "seccomp=unconfined", "seccomp:unconfined"))
		return 0;
	for (size_t i = 0; i < json_len(v); i++) {
		const char *s = json_str(json_at(v, i));

		if (!str_starts(s, "seccomp=") || streq(s, "seccomp=builtin"))
			continue;
		r = json_parse(s + 8, strlen(s + 8), &profile, err);
		if (r < 0)
			return r;
		json_set(linux_, "seccomp", profile);
		return 0;
	}
	json_set(linux_, "seccomp", oci_default_seccomp(caps));
	return 0;
}

static void add_sysctls(const struct container *c, struct json *linux_)
{
	struct json *o = json_set(linux_, "sysctl", json_object());
	const struct json *given = json_get(ctr_host(c), "Sysctls");
	struct json_iter it = {0};

	/* as Docker: ports below 1024 and ping need no capability in a network of one's own; a guest has
	 * these set */
	if (c->isolation == ISOLATION_PROCESS && !ctr_host_network(c) && !ctr_joins(c)) {
		json_set_str(o, "net.ipv4.ip_unprivileged_port_start", "0");
		json_set_str(o, "net.ipv4.ping_group_range", "0 2147483647");
	}
	while (json_next(given, &it))
		json_set_str(o, it.key, json_str(it.value));
}

int spec_build(struct container *c, const struct ns_shared *shared, struct json **ret, struct err *err)
{
	_cleanup_json_ struct json *spec = json_object();
	_cleanup_strv_ char **caps = NULL;
	_cleanup_free_ char *hostname = ctr_hostname(c), *cgroup = cgroups_path(c);
	const char *domain = json_get_str(ctr_config(c), "Domainname");
	const struct json *annotations = json_get(ctr_host(c), "Annotations");
	struct json *root, *linux_;
	int r = resolve_caps(c, host_bool(c, "Privileged"), &caps, err);

	if (r < 0)
		return r;
	json_set_str(spec, "ociVersion", "1.1.0");
	add_process(c, spec, caps);
	root = json_set(spec, "root", json_object());
	json_set_str(root, "path", "rootfs");
	json_set_bool(root, "readonly", host_bool(c, "ReadonlyRootfs"));
	if (!ns_host_uts(c))
		json_set_str(spec, "hostname", hostname);
	if (!str_empty(domain))
		json_set_str(spec, "domainname", domain);
	if (json_len(annotations))
		json_set(spec, "annotations", json_copy(annotations));
	linux_ = json_set(spec, "linux", json_object());
	json_set_str(linux_, "cgroupsPath", cgroup);
	add_namespaces(c, linux_);
	ns_shared_apply(c, shared, linux_);
	set_paths(c, linux_, "maskedPaths", "MaskedPaths", oci_masked_paths);
	set_paths(c, linux_, "readonlyPaths", "ReadonlyPaths", oci_readonly_paths);
	add_sysctls(c, linux_);
	r = add_mounts(c, spec, err);
	ns_shared_mounts(c, shared, spec);
	if (r >= 0)
		r = add_resources(c, linux_, err);
	if (r >= 0)
		r = add_seccomp(c, linux_, caps, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(spec);
	return 0;
}
