/* spec and features: what a configuration may look like, and what this runtime can do with it. */
#include "runtime/tool.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "oci/defaults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CAPS "[\"CAP_AUDIT_WRITE\",\"CAP_KILL\",\"CAP_NET_BIND_SERVICE\"]"

/* The same start as runc's. Mounts, masks and namespaces are added by code. */
static const char example[] =
    "{\"ociVersion\":\"1.2.0\",\"process\":{\"terminal\":true,\"user\":{\"uid\":0,\"gid\":0},"
    "\"args\":[\"sh\"],\"env\":[\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\","
    "\"TERM=xterm\"],\"cwd\":\"/\","
    "\"capabilities\":{\"bounding\":" CAPS ",\"effective\":" CAPS ",\"permitted\":" CAPS "},"
    "\"rlimits\":[{\"type\":\"RLIMIT_NOFILE\",\"hard\":1024,\"soft\":1024}],\"noNewPrivileges\":true},"
    "\"root\":{\"path\":\"rootfs\",\"readonly\":true},\"hostname\":\"insula\"}";

static void add_namespaces(struct json *lin, bool rootless)
{
	static const char *const types[] = { "pid", "network", "ipc", "uts", "mount", "cgroup" };
	struct json *a = json_set(lin, "namespaces", json_array());

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		/* An ordinary user could give a network of its own no way out. */
		if (!rootless || !streq(types[i], "network"))
			json_set_str(json_add(a, json_object()), "type", types[i]);
	if (rootless)
		json_set_str(json_add(a, json_object()), "type", "user");
}

static void add_mapping(struct json *lin, const char *key, uint32_t id)
{
	struct json *m = json_add(json_set(lin, key, json_array()), json_object());

	json_set_int(m, "containerID", 0);
	json_set_int(m, "hostID", id);
	json_set_int(m, "size", 1);
}

static struct json *without_gid(const struct json *options)
{
	struct json *kept = json_array();

	for (size_t i = 0; i < json_len(options); i++)
		if (!str_starts(json_str(json_at(options, i)), "gid="))
			json_add_str(kept, json_str(json_at(options, i)));
	return kept;
}

/* Without what an ordinary user cannot mount: a sysfs without an own network, a group of devpts outside his
 * map, control groups that are not his. */
static struct json *fit_mounts(const struct json *mounts)
{
	struct json *fit = json_array();

	for (size_t i = 0; i < json_len(mounts); i++) {
		const char *type = json_get_str(json_at(mounts, i), "type");
		struct json *m;

		if (streq(type, "cgroup"))
			continue;
		m = json_add(fit, json_copy(json_at(mounts, i)));
		if (streq(type, "sysfs")) {
			json_set_str(m, "type", "none");
			json_set_str(m, "source", "/sys");
			json_add_str(json_get(m, "options"), "rbind");
		} else if (streq(type, "devpts")) {
			json_set(m, "options", without_gid(json_get(m, "options")));
		}
	}
	return fit;
}

static struct json *names(const char *const *v)
{
	struct json *a = json_array();

	for (; *v; v++)
		json_add_str(a, *v);
	return a;
}

static struct json *example_spec(bool rootless)
{
	struct json *o = NULL, *lin;

	if (json_parse(example, sizeof(example) - 1, &o, NULL) < 0)
		return NULL;
	json_set(o, "mounts", oci_default_mounts(64 << 20, false));
	lin = json_set(o, "linux", json_object());
	if (rootless) {
		json_set(o, "mounts", fit_mounts(json_get(o, "mounts")));
		add_mapping(lin, "uidMappings", geteuid());
		add_mapping(lin, "gidMappings", getegid());
	} else {
		struct json *rule = json_add(json_set(json_set(lin, "resources", json_object()), "devices",
						      json_array()), json_object());

		json_set_bool(rule, "allow", false);
		json_set_str(rule, "access", "rwm");
	}
	add_namespaces(lin, rootless);
	json_set(lin, "maskedPaths", names(oci_masked_paths));
	json_set(lin, "readonlyPaths", names(oci_readonly_paths));
	return o;
}

int cmd_spec(int argc, char **argv, struct err *e)
{
	char *bundle = NULL;
	bool rootless = false;
	const struct opt opts[] = {
		{ 'b', "bundle", OPT_STR, &bundle, "dir", "Where to write it (the working directory)" },
		{ 0, "rootless", OPT_BOOL, &rootless, NULL, "For a container of an ordinary user" },
		OPT_END
	};
	_cleanup_free_ char **args = NULL, *path = NULL, *text = NULL, *line = NULL;
	_cleanup_json_ struct json *o = NULL;
	int r = tool_parse(opts, argc, argv, 0, &args, e);

	if (r < 0)
		return r;
	path = bundle ? path_join(bundle, "config.json") : xstrdup("config.json");
	if (fs_exists(path))
		return err_msg(e, ERR_CONFLICT, -EEXIST, "file config.json exists: remove it first");
	o = example_spec(rootless);
	text = json_dump_pretty(o, "\t");
	line = xasprintf("%s\n", text);
	r = fs_write_atomic(AT_FDCWD, path, line, strlen(line), 0666, false);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "write '%s'", path) : 0;
}

/* --- features --- */

static void enabled(struct json *o, const char *key, bool on)
{
	json_set_bool(json_set(o, key, json_object()), "enabled", on);
}

static void add_seccomp(struct json *lin)
{
	static const struct { const char *key; enum seccomp_names names; } lists[] = {
		{ "actions", SECCOMP_NAMES_ACTIONS }, { "operators", SECCOMP_NAMES_OPERATORS },
		{ "archs", SECCOMP_NAMES_ARCHS }, { "knownFlags", SECCOMP_NAMES_FLAGS },
		{ "supportedFlags", SECCOMP_NAMES_FLAGS },
	};
	struct json *o = json_set(lin, "seccomp", json_object());

	json_set_bool(o, "enabled", true);
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		struct json *a = json_set(o, lists[i].key, json_array());

		for (size_t k = 0; seccomp_name(lists[i].names, k); k++)
			json_add_str(a, seccomp_name(lists[i].names, k));
	}
}

static struct json *linux_features(void)
{
	struct json *lin = json_object(), *a = json_set(lin, "namespaces", json_array()), *cg;

	for (int i = 0; i < _OCI_NS_MAX; i++)
		json_add_str(a, oci_ns_name((enum oci_ns)i));
	a = json_set(lin, "capabilities", json_array());
	for (unsigned i = 0; oci_cap_name(i); i++)
		json_add_str(a, oci_cap_name(i));
	cg = json_set(lin, "cgroup", json_object());
	json_set_bool(cg, "v1", true);
	json_set_bool(cg, "v2", true);
	json_set_bool(cg, "systemd", true);
	json_set_bool(cg, "systemdUser", true);
	json_set_bool(cg, "rdma", true);
	add_seccomp(lin);
	enabled(lin, "apparmor", true);
	enabled(lin, "selinux", true);
	enabled(lin, "intelRdt", true);
	enabled(json_set(lin, "mountExtensions", json_object()), "idmap", true);
	enabled(lin, "netDevices", false);
	return lin;
}

int cmd_features(int argc, char **argv, struct err *e)
{
	const struct opt opts[] = { OPT_END };
	_cleanup_json_ struct json *o = json_object();
	_cleanup_free_ char *text = NULL, **args = NULL;
	struct json *a;
	int r = tool_parse(opts, argc, argv, 0, &args, e);

	if (r < 0)
		return r;
	json_set_str(o, "ociVersionMin", "1.0.0");
	json_set_str(o, "ociVersionMax", "1.2.0");
	a = json_set(o, "hooks", json_array());
	for (int i = 0; i < _OCI_HOOK_MAX; i++)
		json_add_str(a, oci_hook_name((enum oci_hook_kind)i));
	a = json_set(o, "mountOptions", json_array());
	for (size_t i = 0; mount_opt_name(i); i++)
		json_add_str(a, mount_opt_name(i));
	json_set(o, "linux", linux_features());
	json_set(o, "potentiallyUnsafeConfigAnnotations", json_array());	/* none changes what we do */
	a = json_set(o, "annotations", json_object());
	json_set_str(a, "io.github.seccomp.libseccomp.version", seccomp_lib_version());
	json_set_str(a, "org.opencontainers.runc.checkpoint.enabled", "false");
	json_set_str(a, "insula.version", INSULA_VERSION);
	puts(text = json_dump_pretty(o, "  "));
	return 0;
}
