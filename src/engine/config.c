#include "engine/config.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "engine/container_log.h"
#include "engine/paths.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#define DATA_ROOT "/var/lib/insula"
#define EXEC_ROOT "/run/insula"
#define CONFIG_FILE_MAX (1u << 20)

void daemon_config_init(struct daemon_config *c)
{
	*c = (struct daemon_config){
		.isolation = xstrdup("auto"),
		.socket_mode = 0660,
		.engine = {
			.data_root = xstrdup(DATA_ROOT),
			.exec_root = xstrdup(EXEC_ROOT),
			.subnet = xstrdup("172.30.0.0/16"),
			.accel = xstrdup("auto"),
			.cgroup_parent = xstrdup("/insula"),
			.vm_memory = 512u << 20,
			.vm_vcpus = 1,
		},
	};
}

void engine_config_done(struct engine_config *c)
{
	char *strings[] = {c->data_root, c->exec_root, c->socket, c->instance, c->bridge,
			   c->subnet,	 c->publish_ip, c->libexec, c->vm_dir, c->accel,
			   c->registry_certs, c->log_driver, c->cgroup_parent};

	for (size_t i = 0; i < ARRAY_SIZE(strings); i++)
		free(strings[i]);
	strv_free(c->registry_mirrors);
	strv_free(c->insecure_registries);
	strv_free(c->log_opts);
	*c = (struct engine_config){0};
}

void daemon_config_done(struct daemon_config *c)
{
	engine_config_done(&c->engine);
	free(c->group);
	free(c->monitor);
	free(c->monitor_group);
	free(c->docker_socket);
	free(c->pidfile);
	free(c->isolation);
	strv_free(c->hosts);
	strv_free(c->tcp);
	free(c->tls_ca);
	free(c->tls_cert);
	free(c->tls_key);
	*c = (struct daemon_config){0};
}

void engine_config_copy(const struct engine_config *from, struct engine_config *ret)
{
	*ret = *from;
	ret->data_root = xstrdup(from->data_root);
	ret->exec_root = xstrdup(from->exec_root);
	ret->socket = xstrdup(from->socket);
	ret->instance = xstrdup(from->instance);
	ret->bridge = xstrdup(from->bridge);
	ret->subnet = xstrdup(from->subnet);
	ret->publish_ip = xstrdup(from->publish_ip);
	ret->libexec = xstrdup(from->libexec);
	ret->vm_dir = xstrdup(from->vm_dir);
	ret->accel = xstrdup(from->accel);
	ret->registry_mirrors = strv_copy(from->registry_mirrors);
	ret->insecure_registries = strv_copy(from->insecure_registries);
	ret->registry_certs = xstrdup(from->registry_certs);
	ret->cgroup_parent = xstrdup(from->cgroup_parent);
	ret->log_driver = xstrdup(from->log_driver);
	ret->log_opts = strv_copy(from->log_opts);
}

/* ---- single settings ---- */

int daemon_config_isolation(struct daemon_config *c, const char *value, struct err *e)
{
	static const char *const known[] = {"auto", "process", "hyperv"};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcasecmp(value, known[i]) == 0) {
			str_replace(&c->isolation, known[i]);
			return 0;
		}
	return err_set(e, ERR_INVALID, 0,
		       "invalid isolation (%s): insulad takes 'auto', 'process', or 'hyperv'", value);
}

int daemon_config_exec_opt(struct daemon_config *c, const char *opt, struct err *e)
{
	const char *eq = strchr(opt, '=');
	_cleanup_free_ char *key = eq ? xstrndup(opt, (size_t)(eq - opt)) : NULL;
	const char *value = eq ? eq + 1 : NULL;

	if (!eq)
		return err_set(e, ERR_INVALID, 0, "invalid exec-opt '%s': expected key=value", opt);
	if (strcasecmp(key, "isolation") == 0) {
		if (strcasecmp(value, "default") == 0)
			value = "auto";
		if (daemon_config_isolation(c, value, NULL) < 0)
			return err_set(e, ERR_INVALID, 0, "invalid exec-opt value for 'isolation':'%s'",
				       value);
		return 0;
	}
	if (strcasecmp(key, "native.cgroupdriver") == 0) {
		if (!streq(value, "cgroupfs"))
			return err_set(
			    e, ERR_INVALID, 0,
			    "exec-opt native.cgroupdriver=%s: insula manages cgroups itself (cgroupfs)",
			    value);
		return 0;
	}
	return err_set(e, ERR_INVALID, 0, "unknown exec-opt '%s'", key);
}

static int set_accel(struct daemon_config *c, const char *value, struct err *e)
{
	if (!streq(value, "auto") && !streq(value, "kvm") && !streq(value, "tcg"))
		return err_set(e, ERR_INVALID, 0, "invalid hyperv-accel '%s': expected auto, kvm or tcg",
			       value);
	str_replace(&c->engine.accel, value);
	return 0;
}

/* "10.0.0.1/16", the bridge's own address -> subnet. The bridge always has the first address of its subnet.
 */
static int set_bip(struct daemon_config *c, const char *value, struct err *e)
{
	const char *slash = strchr(value, '/');
	_cleanup_free_ char *addr = slash ? xstrndup(value, (size_t)(slash - value)) : xstrdup(value);
	char text[INET_ADDRSTRLEN];
	struct in_addr in;
	uint64_t prefix = 0;
	uint32_t mask;

	if (!slash || inet_pton(AF_INET, addr, &in) != 1 || str_to_u64(slash + 1, &prefix) < 0 ||
	    prefix < 8 || prefix > 30)
		return err_set(e, ERR_INVALID, 0,
			       "invalid bip '%s': expected an IPv4 address with a prefix length of 8 to 30",
			       value);
	mask = htonl(~0u << (32 - prefix));
	if (ntohl(in.s_addr & ~mask) != 1)
		return err_set(e, ERR_INVALID, 0,
			       "invalid bip '%s': the bridge takes the first address of its subnet", value);
	in.s_addr &= mask;
	inet_ntop(AF_INET, &in, text, sizeof text);
	free(c->engine.subnet);
	c->engine.subnet = xasprintf("%s/%u", text, (unsigned)prefix);
	return 0;
}

/* Of the others nobody: whoever can talk to the daemon is root on this host. */
static int set_socket_mode(struct daemon_config *c, const char *value, struct err *e)
{
	unsigned mode = 0;
	size_t n = strspn(value, "01234567");

	if (n == 0 || n > 4 || value[n])
		return err_set(e, ERR_INVALID, 0, "invalid socket-mode '%s': expected octal digits", value);
	for (size_t i = 0; i < n; i++)
		mode = mode * 8 + (unsigned)(value[i] - '0');
	if (mode & ~0660u)
		return err_set(e, ERR_INVALID, 0,
			       "invalid socket-mode '%s': only owner and group may read and write (0660): "
			       "whoever can talk to insulad is root on this host",
			       value);
	c->socket_mode = mode;
	return 0;
}

static int set_docker_socket(struct daemon_config *c, const char *value, struct err *e)
{
	if (!path_is_absolute(value))
		return err_set(e, ERR_INVALID, 0, "invalid docker-socket '%s': expected an absolute path",
			       value);
	str_replace(&c->docker_socket, value);
	return 0;
}

static int set_ip(struct daemon_config *c, const char *value, struct err *e)
{
	struct in6_addr in;

	if (inet_pton(AF_INET, value, &in) != 1 && inet_pton(AF_INET6, value, &in) != 1)
		return err_set(e, ERR_INVALID, 0, "invalid ip '%s': expected an IP address", value);
	str_replace(&c->engine.publish_ip, value);
	return 0;
}

static int set_bridge(struct daemon_config *c, const char *value, struct err *e)
{
	if (str_empty(value) || strlen(value) > 15 || strpbrk(value, "/ \t\n") || streq(value, ".") ||
	    streq(value, ".."))
		return err_set(e, ERR_INVALID, 0, "invalid bridge name '%s'", value);
	str_replace(&c->engine.bridge, value);
	return 0;
}

bool cgroup_parent_valid(const char *path)
{
	_cleanup_strv_ char **parts = strv_split(path, "/");

	for (char **p = parts; p && *p; p++)
		if (streq(*p, "..") || strlen(*p) > NAME_MAX || strpbrk(*p, "\n\\"))
			return false;
	return true;
}

static int set_cgroup_parent(struct daemon_config *c, const char *value, struct err *e)
{
	if (str_empty(value) || !cgroup_parent_valid(value))
		return err_set(e, ERR_INVALID, 0, "invalid cgroup-parent: '%s'", value);
	str_replace(&c->engine.cgroup_parent, value);
	return 0;
}

static int set_vm_memory(struct daemon_config *c, const char *value, struct err *e)
{
	int64_t bytes;

	if (size_parse_ram(value, false, &bytes) < 0 || bytes < 64 << 20)
		return err_set(e, ERR_INVALID, 0, "invalid vm-memory '%s': expected a size of at least 64m",
			       value);
	c->engine.vm_memory = (uint64_t)bytes;
	return 0;
}

/* ---- the file ---- */

enum key_kind { KEY_STR, KEY_BOOL, KEY_CPUS, KEY_CALL, KEY_CALLV, KEY_MAP /* calls with "key=value" */ };
struct key {
	const char *name, *option;	/* in the file; on the command line */
	enum key_kind kind;
	size_t offset;
	int (*call)(struct daemon_config *c, const char *value, struct err *e);
};

static int add_host(struct daemon_config *c, const char *value, struct err *e)
{
	strv_add(&c->hosts, value);
	return 0;
}

static int add_mirror(struct daemon_config *c, const char *value, struct err *e)
{
	const char *host = strstr(value, "://");

	if ((!str_starts(value, "https://") && !str_starts(value, "http://")) || !host[3] ||
	    strchr(host + 3, '@'))
		return err_set(e, ERR_INVALID, 0, "invalid mirror: \"%s\" is not an http or https URL",
			       value);
	strv_add(&c->engine.registry_mirrors, value);
	return 0;
}

static int add_insecure(struct daemon_config *c, const char *value, struct err *e)
{
	if (str_empty(value) || strchr(value, '/'))
		return err_set(e, ERR_INVALID, 0, "insecure registry %s is not valid: expected HOST[:PORT]",
			       value);
	strv_add(&c->engine.insecure_registries, value);
	return 0;
}

static int add_log_opt(struct daemon_config *c, const char *value, struct err *e)
{
	int r = log_opt_parse(value, e);

	if (r >= 0)
		strv_add(&c->engine.log_opts, value);
	return r;
}

#define OFF(member) offsetof(struct daemon_config, member)
static const struct key keys[] = {
	{"data-root", "data-root", KEY_STR, OFF(engine.data_root)},
	{"exec-root", "exec-root", KEY_STR, OFF(engine.exec_root)},
	{"vm-dir", "vm-dir", KEY_STR, OFF(engine.vm_dir)},
	{"pidfile", "pidfile", KEY_STR, OFF(pidfile)},
	{"group", "group", KEY_STR, OFF(group)},
	{"socket-mode", "socket-mode", KEY_CALL, 0, set_socket_mode},
	{"monitor-group", "monitor-group", KEY_STR, OFF(monitor_group)},
	{"docker-socket", "docker-socket", KEY_CALL, 0, set_docker_socket},
	{"debug", "debug", KEY_BOOL, OFF(debug)},
	{"tlsverify", "tlsverify", KEY_BOOL, OFF(tls_verify)},
	{"tlscacert", "tlscacert", KEY_STR, OFF(tls_ca)},
	{"tlscert", "tlscert", KEY_STR, OFF(tls_cert)},
	{"tlskey", "tlskey", KEY_STR, OFF(tls_key)},
	{"require-hardware", "require-hardware", KEY_BOOL, OFF(engine.require_hardware)},
	{"open-firewall", "open-firewall", KEY_BOOL, OFF(engine.open_firewall)},
	{"vm-cpus", "vm-cpus", KEY_CPUS, OFF(engine.vm_vcpus)},
	{"vm-memory", "vm-memory", KEY_CALL, 0, set_vm_memory},
	{"vm-cold-boot", "vm-cold-boot", KEY_BOOL, OFF(engine.vm_cold_boot)},
	{"isolation", "isolation", KEY_CALL, 0, daemon_config_isolation},
	{"hyperv-accel", "accel", KEY_CALL, 0, set_accel},
	{"bridge", "bridge", KEY_CALL, 0, set_bridge},
	{"bip", "bip", KEY_CALL, 0, set_bip},
	{"ip", "ip", KEY_CALL, 0, set_ip},
	{"hosts", "host", KEY_CALLV, 0, add_host},
	{"registry-mirrors", "registry-mirror", KEY_CALLV, 0, add_mirror},
	{"insecure-registries", "insecure-registry", KEY_CALLV, 0, add_insecure},
	{"cgroup-parent", "cgroup-parent", KEY_CALL, 0, set_cgroup_parent},
	{"registry-certs", "registry-certs", KEY_STR, OFF(engine.registry_certs)},
	{"log-driver", "log-driver", KEY_STR, OFF(engine.log_driver)},
	{"log-opts", "log-opt", KEY_MAP, 0, add_log_opt},
	{"exec-opts", "exec-opt", KEY_CALLV, 0, daemon_config_exec_opt},
};

int daemon_config_set(struct daemon_config *c, const char *option, const char *value, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (!streq(keys[i].option, option))
			continue;
		if (keys[i].call)
			return keys[i].call(c, value, e);
		if (keys[i].kind == KEY_STR) {
			str_replace((char **)((char *)c + keys[i].offset), value);
			return 0;
		}
	}
	return err_set(e, ERR_INVALID, 0, "unknown option '%s'", option);
}

static int wrong_type(const struct key *k, const char *expected, struct err *e)
{
	return err_set(e, ERR_INVALID, 0, "%s: expected %s", k->name, expected);
}

static int apply_map(struct daemon_config *c, const struct key *k, const struct json *v, struct err *e)
{
	struct json_iter it = {0};
	int r = 0;

	if (json_type(v) != JSON_OBJECT)
		return wrong_type(k, "an object of strings", e);
	while (r >= 0 && json_next(v, &it)) {
		_cleanup_free_ char *pair = xasprintf("%s=%s", it.key, json_str(it.value) ?: "");

		r = json_str(it.value) ? k->call(c, pair, e) : wrong_type(k, "an object of strings", e);
	}
	return r;
}

static int apply_key(struct daemon_config *c, const struct key *k, const struct json *v, struct err *e)
{
	void *target = (char *)c + k->offset;
	int r = 0;

	switch (k->kind) {
	case KEY_STR:
		if (!json_str(v))
			return wrong_type(k, "a string", e);
		str_replace(target, json_str(v));
		return 0;
	case KEY_BOOL:
		if (json_type(v) != JSON_BOOL)
			return wrong_type(k, "true or false", e);
		*(bool *)target = json_bool(v);
		return 0;
	case KEY_CPUS:
		if (json_type(v) != JSON_INT || json_int(v) < 1 || json_int(v) > 255)
			return wrong_type(k, "a number from 1 to 255", e);
		*(unsigned *)target = (unsigned)json_int(v);
		return 0;
	case KEY_CALL:
		return json_str(v) ? k->call(c, json_str(v), e) : wrong_type(k, "a string", e);
	case KEY_CALLV:
		if (json_type(v) != JSON_ARRAY)
			return wrong_type(k, "a list of strings", e);
		for (size_t i = 0; i < json_len(v) && r >= 0; i++)
			r = json_str(json_at(v, i)) ? k->call(c, json_str(json_at(v, i)), e)
						    : wrong_type(k, "a list of strings", e);
		return r;
	case KEY_MAP:
		return apply_map(c, k, v, e);
	}
	return 0;
}

int daemon_config_load(struct daemon_config *c, const char *path, char *const *given, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_json_ struct json *doc = NULL;
	struct json_iter it = {0};
	size_t n;
	int r = fs_read(AT_FDCWD, path, CONFIG_FILE_MAX, &text, &n);

	if (r < 0)
		return err_set(e, ERR_INVALID, r, "unable to configure the daemon with file %s", path);
	if (json_parse(text, n, &doc, e) < 0 || json_type(doc) != JSON_OBJECT) {
		if (!e || e->kind == ERR_NONE)
			err_set(e, ERR_INVALID, 0, "expected a JSON object");
		return err_wrap(e, -EINVAL, "unable to configure the daemon with file %s", path);
	}
	while (json_next(doc, &it)) {
		const struct key *k = NULL;

		for (size_t i = 0; i < ARRAY_SIZE(keys) && !k; i++)
			if (streq(keys[i].name, it.key))
				k = &keys[i];
		if (!k)
			return err_set(
			    e, ERR_INVALID, 0,
			    "unable to configure the daemon with file %s: the following directives "
			    "don't match any configuration option: %s",
			    path, it.key);
		if (strv_has(given, k->option))
			return err_set(
			    e, ERR_INVALID, 0,
			    "unable to configure the daemon with file %s: the following directives "
			    "are specified both as a flag and in the configuration file: %s",
			    path, it.key);
		r = apply_key(c, k, it.value, e);
		if (r < 0)
			return err_wrap(e, r, "unable to configure the daemon with file %s", path);
	}
	return 0;
}

/* ---- what follows ---- */

enum isolation isolation_auto(void)
{
	/* SMBIOS 3.7 7.4.1: desktop, low profile, mini tower, tower, portable, laptop, notebook, hand held,
	 * all in one, sub notebook, space-saving, tablet, convertible, detachable, mini PC, stick PC */
	static const uint8_t workstation[] = {3, 4, 6, 7, 8, 9, 10, 11, 13, 14, 15, 30, 31, 32, 35, 36};
	_cleanup_free_ char *line = NULL, *cpuinfo = NULL;
	uint64_t type;
	size_t n;

	if (fs_read_line(AT_FDCWD, "/sys/class/dmi/id/chassis_type", &line) < 0 ||
	    str_to_u64(line, &type) < 0)
		return ISOLATION_PROCESS;
	if (!memchr(workstation, (int)MIN(type, (uint64_t)255), sizeof workstation))
		return ISOLATION_PROCESS;
	/* Some hypervisors call their virtual servers desktops. */
	if (fs_read(AT_FDCWD, "/proc/cpuinfo", 16u << 20, &cpuinfo, &n) >= 0 &&
	    strstr(cpuinfo, " hypervisor"))
		return ISOLATION_PROCESS;
	return ISOLATION_HYPERV;
}

/* "" for the default roots; else six hex digits drawn from them, the same at every start. */
static char *instance_of(const struct engine_config *c)
{
	_cleanup_free_ char *roots = NULL;
	uint32_t h = 2166136261u;	/* FNV-1a */

	if (streq(c->data_root, DATA_ROOT) && streq(c->exec_root, EXEC_ROOT))
		return xstrdup("");
	roots = xasprintf("%s\n%s", c->data_root, c->exec_root);
	for (const char *p = roots; *p; p++)
		h = (h ^ (unsigned char)*p) * 16777619u;
	return xasprintf("%06x", (h ^ h >> 24) & 0xffffff);
}

/* The path of a unix host; there is one of each kind. */
static int host_path(const char *host, const char *path, char **ret, struct err *e)
{
	if (*ret)
		return err_set(e, ERR_INVALID, 0, "invalid host '%s': insulad serves one unix socket", host);
	if (*path && *path != '/')
		return err_set(e, ERR_INVALID, 0, "invalid host '%s': expected an absolute path", host);
	*ret = xstrdup(path);
	return 0;
}

static int sort_host(struct daemon_config *c, const char *h, char **path, struct err *e)
{
	int r;

	if (str_starts(h, "fd://"))
		return 0;
	if (str_starts(h, "tcp://")) {
		strv_add(&c->tcp, h + strlen("tcp://"));
		return 0;
	}
	if (str_starts(h, "unix://"))
		return host_path(h, h + strlen("unix://"), path, e);
	if (!str_starts(h, "ro+unix://"))
		return err_set(e, ERR_INVALID, 0,
			       "invalid host '%s': insulad serves unix://PATH, ro+unix://PATH, "
			       "tcp://ADDRESS:PORT and fd://", h);
	r = host_path(h, h + strlen("ro+unix://"), &c->monitor, e);
	if (r >= 0 && !*c->monitor)
		r = err_set(e, ERR_INVALID, 0, "invalid host '%s': it names no path", h);
	return r;
}

static int socket_of(struct daemon_config *c, struct err *e)
{
	_cleanup_free_ char *path = NULL;
	int r = 0;

	for (size_t i = 0; r >= 0 && c->hosts && c->hosts[i]; i++)
		r = sort_host(c, c->hosts[i], &path, e);
	if (r < 0)
		return r;
	if (c->tcp && (!c->tls_verify || str_empty(c->tls_ca) || str_empty(c->tls_cert) ||
		       str_empty(c->tls_key)))
		return err_set(e, ERR_INVALID, 0,
			       "tcp://%s needs --tlsverify, --tlscacert, --tlscert and --tlskey: whoever "
			       "can talk to insulad is root on this host",
			       c->tcp[0]);
	c->engine.socket = str_empty(path) ? path_join(c->engine.exec_root, "insula.sock") : xstrdup(path);
	return 0;
}

/* What containers that ask for nothing would get must be something that they may have. */
static int check_log_defaults(const struct engine_config *g, struct err *e)
{
	_cleanup_json_ struct json *opts = json_object();

	for (char **o = g->log_opts; o && *o; o++) {
		char *eq = strchr(*o, '=');
		_cleanup_free_ char *key = xstrndup(*o, (size_t)(eq - *o));

		json_set_str(opts, key, eq + 1);
	}
	return log_config_check(g, "", opts, e);
}

int daemon_config_finish(struct daemon_config *c, struct err *e)
{
	struct engine_config *g = &c->engine;
	char exe[4096];
	ssize_t n;
	int r;

	char **roots[] = {&g->data_root, &g->exec_root};

	for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
		char *clean;

		if (!path_is_absolute(*roots[i]))
			return err_set(e, ERR_INVALID, 0, "invalid root '%s': expected an absolute path",
				       *roots[i]);
		clean = path_clean(*roots[i]);
		free(*roots[i]);
		*roots[i] = clean;
	}
	r = socket_of(c, e);
	if (r >= 0)
		r = check_log_defaults(g, e);
	if (r < 0)
		return r;
	n = readlink("/proc/self/exe", exe, sizeof exe - 1);
	if (n < 0)
		return err_set(e, ERR_SYSTEM, -errno, "readlink /proc/self/exe");
	exe[n] = '\0';
	g->libexec = engine_libexec_for(exe);
	g->instance = instance_of(g);
	if (!g->bridge)
		g->bridge = *g->instance ? xasprintf("insula-%s", g->instance) : xstrdup("insula0");
	if (!g->vm_dir)
		g->vm_dir = path_join(g->data_root, "vm");
	if (!path_is_absolute(g->vm_dir))
		return err_set(e, ERR_INVALID, 0, "invalid vm-dir '%s': expected an absolute path",
			       g->vm_dir);
	if (!c->pidfile)
		c->pidfile = path_join(g->exec_root, "insulad.pid");
	g->default_isolation = streq(c->isolation, "hyperv")	? ISOLATION_HYPERV
			       : streq(c->isolation, "process") ? ISOLATION_PROCESS
								: isolation_auto();
	return 0;
}
