/* From a create request to the document that is stored: Docker's merge with the image's config, and defaults.
 */
#include "engine/container_int.h"
#include "engine/container_log.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "engine/ports.h"
#include <string.h>

#define SHM_DEFAULT (64ll << 20)

/* Deep copies of members of o, without the named ones. */
static struct json *copy_without(const struct json *o, const char *const *skip)
{
	struct json *out = json_object();
	struct json_iter it = {0};

	while (json_next(o, &it))
		if (!strv_has((char *const *)skip, it.key))
			json_set(out, it.key, json_copy(it.value));
	return out;
}

static bool missing(const struct json *o, const char *key)
{
	const struct json *v = json_get(o, key);

	return json_type(v) == JSON_NULL || (json_type(v) == JSON_STR && !*json_str(v)) ||
	       (json_type(v) == JSON_INT && json_int(v) == 0) ||
	       ((json_type(v) == JSON_ARRAY || json_type(v) == JSON_OBJECT) && json_len(v) == 0);
}

static void inherit(struct json *config, const struct json *image, const char *key)
{
	if (missing(config, key) && json_get(image, key))
		json_set(config, key, json_copy(json_get(image, key)));
}

/* Members of the image's object that the request does not name. */
static void inherit_members(struct json *config, const struct json *image, const char *key)
{
	const struct json *from = json_get(image, key);
	struct json *to = json_get(config, key);
	struct json_iter it = {0};

	if (!json_len(from))
		return;
	if (json_type(to) != JSON_OBJECT)
		to = json_set(config, key, json_object());
	while (json_next(from, &it))
		if (!json_get(to, it.key))
			json_set(to, it.key, json_copy(it.value) ?: json_object());
}

static void inherit_env(struct json *config, const struct json *image)
{
	_cleanup_strv_ char **own = json_get_strv(config, "Env"), **theirs = json_get_strv(image, "Env");

	for (char **v = theirs; v && *v; v++) {
		_cleanup_free_ char *key = xstrndup(*v, strcspn(*v, "="));

		if (!strv_env_get(own, key))
			strv_add(&own, *v);
	}
	json_set_strv(config, "Env", own);
}

/* A given entrypoint drops the image's command; "" as entrypoint drops the image's entrypoint. */
static void merge_command(struct json *config, const struct json *image)
{
	_cleanup_strv_ char **entry = json_get_strv(config, "Entrypoint"),
			    **cmd = json_get_strv(config, "Cmd");
	bool reset = strv_len(entry) == 1 && !*entry[0];

	if (!entry) {
		if (!cmd)
			inherit(config, image, "Cmd");
		if (json_type(json_get(config, "Entrypoint")) != JSON_ARRAY)
			inherit(config, image, "Entrypoint");
	}
	if (reset)
		json_set_null(config, "Entrypoint");
}

static const struct {
	const char *key;
	enum { E_FALSE, E_EMPTY, E_NULL, E_ARRAY, E_OBJECT } kind;
} config_keys[] = {
    {"Hostname", E_EMPTY},     {"Domainname", E_EMPTY},   {"User", E_EMPTY},      {"AttachStdin", E_FALSE},
    {"AttachStdout", E_FALSE}, {"AttachStderr", E_FALSE}, {"Tty", E_FALSE},       {"OpenStdin", E_FALSE},
    {"StdinOnce", E_FALSE},    {"Env", E_ARRAY},          {"Cmd", E_NULL},        {"Image", E_EMPTY},
    {"Volumes", E_NULL},       {"WorkingDir", E_EMPTY},   {"Entrypoint", E_NULL}, {"OnBuild", E_NULL},
    {"Labels", E_OBJECT},
};

void container_config_fill(struct json *config, bool of_image)
{
	for (size_t i = 0; i < ARRAY_SIZE(config_keys); i++) {
		const char *key = config_keys[i].key;

		if (json_type(json_get(config, key)) != JSON_NULL)
			continue;
		switch (config_keys[i].kind) {
		case E_FALSE:	json_set_bool(config, key, false); break;
		case E_EMPTY:	json_set_str(config, key, ""); break;
		case E_NULL:	json_set_null(config, key); break;
		case E_ARRAY:	json_set(config, key, of_image ? NULL : json_array()); break;
		case E_OBJECT:	json_set(config, key, of_image ? NULL : json_object()); break;
		}
	}
}

/* Each part of the check that was not given is the image's. */
static void inherit_health(struct json *config, const struct json *image)
{
	static const char *const numbers[] = {"Interval", "Timeout", "StartPeriod", "StartInterval",
					      "Retries"};
	const struct json *theirs = json_get(image, "Healthcheck");
	struct json *own = json_get(config, "Healthcheck");

	if (json_type(own) != JSON_OBJECT) {
		inherit(config, image, "Healthcheck");
		return;
	}
	if (!json_len(json_get(own, "Test")) && json_get(theirs, "Test"))
		json_set(own, "Test", json_copy(json_get(theirs, "Test")));
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (!json_get_int(own, numbers[i], 0) && json_get_int(theirs, numbers[i], 0))
			json_set_int(own, numbers[i], json_get_int(theirs, numbers[i], 0));
}

static void clean_working_dir(struct json *config)
{
	const char *dir = json_get_str(config, "WorkingDir");
	_cleanup_free_ char *clean = str_empty(dir) ? NULL : path_clean(dir);

	if (clean)
		json_set_str(config, "WorkingDir", clean);
}

static struct json *build_config(struct create_ctx *x)
{
	static const char *const skip[] = {"HostConfig", "NetworkingConfig", NULL};
	struct json *config = copy_without(x->body, skip);
	const struct json *image = x->image_config;

	inherit(config, image, "User");
	inherit(config, image, "WorkingDir");
	inherit(config, image, "StopSignal");
	inherit(config, image, "StopTimeout");
	inherit(config, image, "Shell");
	inherit_members(config, image, "ExposedPorts");
	inherit_members(config, image, "Volumes");
	if (!json_len(json_get(config, "Volumes")))
		json_set_null(config, "Volumes");
	inherit_members(config, image, "Labels");
	inherit_health(config, image);
	inherit_env(config, image);
	merge_command(config, image);
	container_config_fill(config, false);
	clean_working_dir(config);
	return config;
}

/* ---- HostConfig ---- */

static void default_int(struct json *o, const char *key, int64_t v)
{
	if (json_type(json_get(o, key)) == JSON_NULL)
		json_set_int(o, key, v);
}

static void default_str(struct json *o, const char *key, const char *v)
{
	if (str_empty(json_get_str(o, key)))
		json_set_str(o, key, v);
}

/* As Docker: whoever shares as much with the host is not confined by SELinux, unless a label was asked for.
 * It is shown where there is no SELinux as well. */
static void show_unlabelled(struct json *hc)
{
	_cleanup_strv_ char **options = json_get_strv(hc, "SecurityOpt");

	if (!json_get_bool(hc, "Privileged", false) && !streq(json_get_str(hc, "IpcMode") ?: "", "host") &&
	    !streq(json_get_str(hc, "PidMode") ?: "", "host"))
		return;
	for (char **o = options; o && *o; o++)
		if (str_starts(*o, "label=") || str_starts(*o, "label:"))
			return;
	strv_add(&options, "label=disable");
	json_set_strv(hc, "SecurityOpt", options);
}

static struct json *build_host(struct create_ctx *x, const struct json *config)
{
	static const char *const none[] = {NULL};
	struct json *hc = copy_without(json_get(x->body, "HostConfig"), none), *p;
	bool offline = json_get_bool(config, "NetworkDisabled", false);

	json_set_str(hc, "Isolation", isolation_name(x->isolation));
	if (str_empty(json_get_str(hc, "NetworkMode")) || streq(json_get_str(hc, "NetworkMode"), "default"))
		json_set_str(hc, "NetworkMode", offline ? "none" : "bridge");
	p = json_get(hc, "RestartPolicy");
	if (json_type(p) != JSON_OBJECT)
		p = json_set(hc, "RestartPolicy", json_object());
	default_str(p, "Name", "no");
	default_int(p, "MaximumRetryCount", 0);
	p = json_get(hc, "LogConfig");
	if (json_type(p) != JSON_OBJECT)
		p = json_set(hc, "LogConfig", json_object());
	log_config_fill(&x->engine->cfg, p);
	default_str(hc, "IpcMode", "private");
	default_str(hc, "CgroupnsMode", "private");
	ns_modes_fill(x, hc);
	show_unlabelled(hc);
	default_str(hc, "Runtime", "insula-runtime");
	if (json_get_int(hc, "ShmSize", 0) <= 0)
		json_set_int(hc, "ShmSize", SHM_DEFAULT);
	/* -1 is "not set" to the CLI */
	if (json_get_int(hc, "MemorySwappiness", -1) == -1)
		json_set_null(hc, "MemorySwappiness");
	/* as Docker: twice the memory, unless said otherwise */
	if (json_get_int(hc, "Memory", 0) > 0 && json_get_int(hc, "MemorySwap", 0) == 0)
		json_set_int(hc, "MemorySwap", json_get_int(hc, "Memory", 0) * 2);
	if (json_get_int(hc, "PidsLimit", 0) <= 0)
		json_set_null(hc, "PidsLimit");
	return hc;
}

/* Ports that can never be served are said now; those that mean nothing are said to be dropped, as Docker
 * does. */
static int check_ports(struct create_ctx *x, const struct json *config, const struct json *hc,
		       struct err *err)
{
	_cleanup_port_maps_ struct port_maps maps = {0};
	const char *mode = json_get_str(hc, "NetworkMode");
	int r = ports_parse(config, hc, NULL, &maps, err);

	if (r == 0 && maps.n && (streq(mode, "host") || streq(mode, "none")))
		strv_addf(&x->warnings, "Published ports are discarded when using %s network mode", mode);
	return r;
}

static int set_command(struct json *doc, const struct json *config, struct err *err)
{
	_cleanup_strv_ char **entry = json_get_strv(config, "Entrypoint"),
			    **cmd = json_get_strv(config, "Cmd"), **all = NULL;

	strv_extend(&all, entry);
	strv_extend(&all, cmd);
	if (!all || !*all[0])
		return err_msg(err, ERR_INVALID, 0, "no command specified");
	json_set_str(doc, "Path", all[0]);
	json_set_strv(doc, "Args", all + 1);
	return 0;
}

int config_build(struct create_ctx *x, struct json **ret_doc, struct err *err)
{
	_cleanup_json_ struct json *doc = json_object();
	const struct json *body_hc = json_get(x->body, "HostConfig");
	struct json *config, *hc, *mounts;
	int r = config_check(x, x->body, err);

	if (r == 0)
		r = host_config_check(x, body_hc, err);
	if (r == 0)
		r = networking_check(x, json_get(x->body, "NetworkingConfig"), err);
	if (r < 0)
		return r;
	config = json_set(doc, "Config", build_config(x));
	hc = json_set(doc, "HostConfig", build_host(x, config));
	r = set_command(doc, config, err);
	if (r == 0)
		r = check_ports(x, config, hc, err);
	if (json_get_bool(hc, "OomKillDisable", false) && !json_get_int(hc, "Memory", 0))
		strv_add(&x->warnings,
			 "OOM killer is disabled for the container, but no memory limit is set, this can "
			 "result in the system running out of resources.");
	if (r == 0)
		r = mounts_build(x, config, hc, &mounts, err);
	if (r < 0)
		return r;
	json_set(doc, "Mounts", mounts);
	r = join_check_mounts(x, hc, mounts, err);
	if (r < 0)
		return r;
	*ret_doc = TAKE_PTR(doc);
	return 0;
}
