/* What is told about containers: inspect and ps. */
#include "engine/apparmor.h"
#include "engine/container_int.h"
#include "engine/container_log.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "engine/image.h"
#include "engine/network.h"
#include "engine/exec.h"
#include "engine/health.h"
#include "engine/ports.h"
#include "oci/defaults.h"
#include <regex.h>
#include <string.h>
#include <strings.h>

static const char *const status_names[] = {
	[CTR_CREATED] = "created", [CTR_RUNNING] = "running", [CTR_EXITED] = "exited",
	[CTR_RESTARTING] = "restarting", [CTR_REMOVING] = "removing", [CTR_DEAD] = "dead",
};

static const char *container_status(const struct container *c)
{
	return c->paused ? "paused" : status_names[ctr_shown(c)];
}

/* ---- inspect ---- */

static struct json *state_json(const struct container *c)
{
	struct json *j = json_object();
	_cleanup_free_ char *started = time_rfc3339(c->started_ns),
			    *finished =
				time_rfc3339(c->status == CTR_RUNNING && c->finished_ns < c->started_ns &&
						     !c->restart_count
						 ? 0
						 : c->finished_ns);

	json_set_str(j, "Status", container_status(c));
	json_set_bool(j, "Running", c->status == CTR_RUNNING || ctr_shown(c) == CTR_RESTARTING);
	json_set_bool(j, "Paused", c->paused);
	json_set_bool(j, "Restarting", ctr_shown(c) == CTR_RESTARTING);
	json_set_bool(j, "OOMKilled", c->oom);
	json_set_bool(j, "Dead", c->status == CTR_DEAD);
	json_set_int(j, "Pid", c->pid);
	json_set_int(j, "ExitCode", c->exit_code);
	json_set_str(j, "Error", c->error);
	json_set_str(j, "StartedAt", started);
	json_set_str(j, "FinishedAt", finished);
	if (c->health)
		json_set(j, "Health", health_json(c));
	return j;
}

static void show_networks(struct json_writer *w, const struct container *c)
{
	/* the address outlives the container for the moment that its interface does */
	endpoints_show(c->engine, w, c->id, c->status == CTR_RUNNING, ctr_attachments(c));
}

/* The fields of the old days repeat those of the default network. */
static struct json *network_settings(const struct container *c)
{
	struct json_writer nets = JSON_WRITER_TREE;
	struct json *j = json_object();
	const struct json *bridge;

	show_networks(&nets, c);
	bridge = json_get(nets.root, "bridge");
	json_set_str(j, "Bridge", "");
	json_set_str(j, "SandboxID", c->status == CTR_RUNNING ? c->id : "");
	json_set_str(j, "SandboxKey", "");
	json_set(j, "Ports",
		 c->status == CTR_RUNNING ? ports_inspect(ctr_config(c), c->ports) : json_object());
	json_set_bool(j, "HairpinMode", false);
	json_set_str(j, "LinkLocalIPv6Address", "");
	json_set_int(j, "LinkLocalIPv6PrefixLen", 0);
	json_set_null(j, "SecondaryIPAddresses");
	json_set_null(j, "SecondaryIPv6Addresses");
	json_set_str(j, "EndpointID", json_get_str(bridge, "EndpointID") ?: "");
	json_set_str(j, "Gateway", json_get_str(bridge, "Gateway") ?: "");
	json_set_str(j, "GlobalIPv6Address", "");
	json_set_int(j, "GlobalIPv6PrefixLen", 0);
	json_set_str(j, "IPAddress", json_get_str(bridge, "IPAddress") ?: "");
	json_set_int(j, "IPPrefixLen", json_get_int(bridge, "IPPrefixLen", 0));
	json_set_str(j, "IPv6Gateway", "");
	json_set_str(j, "MacAddress", json_get_str(bridge, "MacAddress") ?: "");
	json_set(j, "Networks", nets.root);
	return j;
}

static void show_mounts(struct json_writer *w, const struct container *c)
{
	static const char *const shown[] = {"Type",   "Name", "Source", "Destination",
					    "Driver", "Mode", "RW",     "Propagation"};
	const struct json *v = json_get(c->doc, "Mounts");

	jw_array(w, "Mounts");
	for (size_t i = 0; i < json_len(v); i++) {
		const struct json *m = json_at(v, i);

		/* as Docker: --tmpfs is told in HostConfig.Tmpfs only, --mount type=tmpfs here */
		if (streq(json_get_str(m, "Type"), "tmpfs") &&
		    json_get(json_get(ctr_host(c), "Tmpfs"), json_get_str(m, "Destination")))
			continue;
		jw_object(w, NULL);
		for (size_t k = 0; k < ARRAY_SIZE(shown); k++)
			if (json_get(m, shown[k]))
				jw_value(w, shown[k], json_get(m, shown[k]));
		jw_end(w);
	}
	jw_end(w);
}

static struct json *driver_json(const struct container *c)
{
	struct json *j = json_object(), *data = json_set(j, "Data", json_object());
	_cleanup_free_ char *upper = path_join(c->dir, "upper"), *work = path_join(c->dir, "work"),
			    *merged = path_join(c->dir, "rootfs"),
			    *scratch = path_join(c->dir, "scratch.ext4"), *lower = NULL;
	_cleanup_strv_ char **dirs = NULL;
	struct image *i;

	json_set_str(j, "Name", "overlay2");
	if (c->isolation == ISOLATION_HYPERV) {
		json_set_str(data, "ScratchDisk", scratch);
		return j;
	}
	if (image_find(c->engine, c->image_id, &i, NULL) >= 0)
		dirs = image_layer_dirs(c->engine, i);
	lower = dirs ? strv_join(dirs, ":") : xstrdup("");
	json_set_str(data, "LowerDir", lower);
	json_set_str(data, "MergedDir", merged);
	json_set_str(data, "UpperDir", upper);
	json_set_str(data, "WorkDir", work);
	return j;
}

static struct json *host_json(const struct container *c)
{
	struct json *hc = json_copy(ctr_host(c));
	bool open = json_get_bool(hc, "Privileged", false);

	if (json_type(json_get(hc, "MaskedPaths")) != JSON_ARRAY && !open)
		json_set_strv(hc, "MaskedPaths", (char *const *)oci_masked_paths);
	if (json_type(json_get(hc, "ReadonlyPaths")) != JSON_ARRAY && !open)
		json_set_strv(hc, "ReadonlyPaths", (char *const *)oci_readonly_paths);
	return hc;
}

static struct json *config_json(const struct container *c)
{
	struct json *j = json_copy(ctr_config(c));
	_cleanup_free_ char *hostname = ctr_hostname(c);

	if (str_empty(json_get_str(j, "Hostname")))
		json_set_str(j, "Hostname", hostname);
	return j;
}

struct json *container_inspect(struct container *c)
{
	static const char *const files[][2] = {
		{"ResolvConfPath", "resolv.conf"}, {"HostnamePath", "hostname"}, {"HostsPath", "hosts"},
	};
	struct json *j = json_object(), *machine = machine_json(c);
	struct json_writer mounts = JSON_WRITER_TREE;
	const char *profile = apparmor_profile(c);
	_cleanup_free_ char *created = time_rfc3339(c->created_ns), *name = xasprintf("/%s", c->name),
		       *log = c->started_ns ? container_log_public_path(c) : xstrdup("");

	json_set_str(j, "Id", c->id);
	json_set_str(j, "Created", created);
	json_set_str(j, "Path", json_get_str(c->doc, "Path"));
	json_set(j, "Args", json_ref(json_get(c->doc, "Args")));
	json_set(j, "State", state_json(c));
	json_set_str(j, "Image", c->image_id);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *path = c->started_ns ? path_join(c->dir, files[i][1]) : xstrdup("");

		json_set_str(j, files[i][0], path);
	}
	json_set_str(j, "LogPath", log);
	json_set_str(j, "Name", name);
	json_set_int(j, "RestartCount", c->restart_count);
	json_set_str(j, "Driver", "overlay2");
	json_set_str(j, "Platform", "linux");
	json_set_str(j, "MountLabel", "");
	json_set_str(j, "ProcessLabel", "");
	json_set_str(j, "AppArmorProfile", profile ? profile : "");
	json_set(j, "ExecIDs", execs_of(c));
	json_set(j, "HostConfig", host_json(c));
	json_set(j, "GraphDriver", driver_json(c));
	if (machine)
		json_set(j, "VirtualMachine", machine);
	show_mounts(&mounts, c);
	json_set(j, "Mounts", mounts.root);
	json_set(j, "Config", config_json(c));
	json_set(j, "NetworkSettings", network_settings(c));
	return j;
}

/* ---- ps ---- */

static const char *running_note(const struct container *c)
{
	const char *health = health_status(c);

	return c->paused ? " (Paused)" : streq(health, "starting") ? " (health: starting)"
	     : streq(health, "healthy") ? " (healthy)" : streq(health, "unhealthy") ? " (unhealthy)" : "";
}

static char *status_text(const struct container *c)
{
	uint64_t now = now_real_ns();
	uint64_t since = c->status == CTR_RUNNING ? c->started_ns : c->finished_ns;
	_cleanup_free_ char *ago = time_human_duration(now > since ? (now - since) / 1000000000 : 0);

	switch (ctr_shown(c)) {
	case CTR_RUNNING:	return xasprintf("Up %s%s", ago, running_note(c));
	case CTR_RESTARTING:	return xasprintf("Restarting (%d) %s ago", c->exit_code, ago);
	case CTR_REMOVING:	return xstrdup("Removal In Progress");
	case CTR_DEAD:		return xstrdup("Dead");
	case CTR_CREATED:	return xstrdup("Created");
	default:		return xasprintf("Exited (%d) %s ago", c->exit_code, ago);
	}
}

static char *command_text(const struct container *c)
{
	const struct json *args = json_get(c->doc, "Args");
	struct sbuf b = SBUF_INIT;

	sbuf_puts(&b, json_get_str(c->doc, "Path"));
	for (size_t i = 0; i < json_len(args); i++) {
		const char *a = json_str(json_at(args, i));

		sbuf_printf(&b, strchr(a, ' ') ? " '%s'" : " %s", a);
	}
	return sbuf_steal(&b);
}

/* The reference it was made from, unless that is another image by now. */
static const char *image_text(const struct container *c)
{
	const char *ref = json_get_str(ctr_config(c), "Image");
	struct image *i;

	return image_find(c->engine, ref, &i, NULL) >= 0 && streq(i->id, c->image_id) ? ref : c->image_id;
}

static void summary(struct json_writer *w, const struct container *c)
{
	_cleanup_free_ char *name = xasprintf("/%s", c->name), *status = status_text(c),
			    *command = command_text(c);
	const struct json *labels = json_get(ctr_config(c), "Labels");
	bool running = c->status == CTR_RUNNING;

	jw_object(w, NULL);
	jw_str(w, "Id", c->id);
	jw_array(w, "Names");
	jw_str(w, NULL, name);
	jw_end(w);
	jw_str(w, "Image", image_text(c));
	jw_str(w, "ImageID", c->image_id);
	jw_str(w, "Command", command);
	jw_int(w, "Created", (int64_t)(c->created_ns / 1000000000));
	ports_summary(w, running ? ctr_config(c) : NULL, running ? c->ports : NULL);
	if (labels) {
		jw_value(w, "Labels", labels);
	} else {
		jw_object(w, "Labels");
		jw_end(w);
	}
	jw_str(w, "State", container_status(c));
	jw_str(w, "Status", status);
	jw_object(w, "HostConfig");
	jw_str(w, "NetworkMode", ctr_network(c));
	jw_end(w);
	jw_object(w, "NetworkSettings");
	show_networks(w, c);
	jw_end(w);
	show_mounts(w, c);
	jw_end(w);
}

struct json *containers_summaries(struct engine *e)
{
	struct json_writer w = JSON_WRITER_TREE;

	jw_array(&w, NULL);
	list_for_each(c, &e->containers->all, struct container, link)
		summary(&w, c);
	return w.root;
}

/* ---- filters ---- */

const char *const container_filters[] = {
    "ancestor", "before", "exited",  "expose",  "health", "id",     "isolation", "is-task",
    "label",    "name",   "network", "publish", "since",  "status", "volume",    NULL,
};

static bool match_ancestor(const struct container *c, const struct filters *f)
{
	_cleanup_strv_ char **v = filters_values(f, "ancestor");

	for (char **p = v; p && *p; p++) {
		struct image *i;

		if (image_find(c->engine, *p, &i, NULL) >= 0 && streq(i->id, c->image_id))
			return true;
	}
	return !v;
}

static bool match_volume(const struct container *c, const struct filters *f)
{
	const struct json *v = json_get(c->doc, "Mounts");

	if (!filters_has(f, "volume"))
		return true;
	for (size_t i = 0; i < json_len(v); i++)
		if (filters_match(f, "volume", json_get_str(json_at(v, i), "Name") ?: "") ||
		    filters_match(f, "volume", json_get_str(json_at(v, i), "Source")) ||
		    filters_match(f, "volume", json_get_str(json_at(v, i), "Destination")))
			return true;
	return false;
}

/* One of the values names one of the ports (the keys of an object). */
static bool match_ports(const struct json *ports, const struct filters *f, const char *key)
{
	_cleanup_strv_ char **v = filters_values(f, key);

	for (char **p = v; p && *p; p++) {
		struct json_iter it = {0};

		while (json_next(ports, &it))
			if (ports_filter_match(*p, it.key))
				return true;
	}
	return !v;
}

/* As Docker: the ports of the host. */
static bool match_published(const struct container *c, const struct filters *f)
{
	_cleanup_json_ struct json *published = json_object();
	struct json_iter it = {0};

	while (json_next(c->ports, &it))
		for (size_t i = 0; i < json_len(it.value); i++) {
			const char *port = json_get_str(json_at(it.value, i), "HostPort");
			_cleanup_free_ char *key = xasprintf("%s%s", port ?: "", strchr(it.key, '/') ?: "");

			json_set_bool(published, key, true);
		}
	return match_ports(published, f, "publish");
}

static bool match_isolation(const struct container *c, const struct filters *f)
{
	_cleanup_strv_ char **v = filters_values(f, "isolation");

	for (char **p = v; p && *p; p++)
		if (!strcasecmp(*p, isolation_name(c->isolation)) ||
		    (!strcasecmp(*p, "default") && c->isolation == c->engine->cfg.default_isolation))
			return true;
	return !v;
}

/* By name, or by id or its beginning. */
static bool match_network(const struct container *c, const struct filters *f)
{
	_cleanup_strv_ char **v = filters_values(f, "network");

	for (char **p = v; p && *p; p++) {
		const char *name;

		if (network_name(c->engine, *p, &name, NULL) == 0 && json_get(ctr_attachments(c), name))
			return true;
	}
	return !v;
}

/* A regular expression, as in Docker, for the name with its slash or without. What is none matches
 * nothing. */
static bool match_name(const struct container *c, const struct filters *f)
{
	_cleanup_free_ char *slashed = xasprintf("/%s", c->name);
	_cleanup_strv_ char **v = filters_values(f, "name");

	for (char **p = v; p && *p; p++) {
		regex_t re;
		bool found;

		if (regcomp(&re, *p, REG_EXTENDED | REG_NOSUB) != 0)
			continue;
		found = regexec(&re, c->name, 0, NULL, 0) == 0 || regexec(&re, slashed, 0, NULL, 0) == 0;
		regfree(&re);
		if (found)
			return true;
	}
	return !v;
}

struct bounds { const struct container *before, *since; };

static bool matches(const struct container *c, const struct filters *f, const struct bounds *b)
{
	_cleanup_free_ char *code = NULL;

	if (!f->keys)
		return true;
	code = xasprintf("%d", c->exit_code);
	if (filters_has(f, "exited") && (ctr_shown(c) != CTR_EXITED || !filters_match(f, "exited", code)))
		return false;
	if (b->before && c->created_ns >= b->before->created_ns)
		return false;
	if (b->since && c->created_ns <= b->since->created_ns)
		return false;
	return filters_match_prefix(f, "id", c->id) && match_name(c, f) &&
	       filters_match(f, "status", container_status(c)) &&
	       filters_match_labels(f, "label", json_get(ctr_config(c), "Labels")) &&
	       match_network(c, f) && filters_match(f, "health", health_status(c)) &&
	       match_isolation(c, f) && match_volume(c, f) && match_published(c, f) &&
	       match_ports(json_get(ctr_config(c), "ExposedPorts"), f, "expose") && match_ancestor(c, f);
}

static int find_bound(struct engine *e, const struct filters *f, const char *key,
		      const struct container **ret, struct err *err)
{
	_cleanup_strv_ char **v = filters_values(f, key);
	struct container *c;
	int r;

	*ret = NULL;
	if (!v)
		return 0;
	r = container_find(e, v[0], &c, err);
	if (r >= 0)
		*ret = c;
	return r;
}

static bool known_status(const char *v)
{
	for (size_t i = 0; i < ARRAY_SIZE(status_names); i++)
		if (streq(v, status_names[i]))
			return true;
	return streq(v, "paused");
}

static bool known_health(const char *v)
{
	static const char *const known[] = {"none", "starting", "healthy", "unhealthy", NULL};

	return strv_has((char *const *)known, v);
}

static bool is_number(const char *v)
{
	int64_t n;

	return str_to_i64(v, &n) == 0;
}

/* Filters that not every text is a value of. */
static int check_values(const struct filters *f, struct err *err)
{
	static const struct { const char *key; bool (*fits)(const char *v); } rules[] = {
	    {"status", known_status}, {"health", known_health}, {"exited", is_number},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		_cleanup_strv_ char **v = filters_values(f, rules[i].key);

		for (char **p = v; p && *p; p++)
			if (!rules[i].fits(*p))
				return err_msg(err, ERR_INVALID, 0, "invalid filter '%s=%s'", rules[i].key,
					       *p);
	}
	return 0;
}

static int check_port_values(const struct filters *f, struct err *err)
{
	static const char *const port_filters[] = {"publish", "expose"};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(port_filters); i++) {
		_cleanup_strv_ char **v = filters_values(f, port_filters[i]);

		for (char **p = v; p && *p && r == 0; p++)
			r = ports_filter_check(*p, err);
	}
	return r;
}

int containers_list(struct engine *e, const struct list_args *a, struct json_writer *w, struct err *err)
{
	const struct filters *f = a->filters;
	bool all = a->all || a->limit > 0 || filters_has(f, "status") || filters_has(f, "exited") ||
		   filters_has(f, "before") || filters_has(f, "since");
	bool is_task = false;
	struct bounds b;
	int64_t left = a->limit > 0 ? a->limit : INT64_MAX;
	int r = find_bound(e, f, "before", &b.before, err);

	if (r >= 0)
		r = find_bound(e, f, "since", &b.since, err);
	if (r >= 0)
		r = check_values(f, err);
	if (r >= 0)
		r = check_port_values(f, err);
	if (r >= 0)
		r = filters_bool(f, "is-task", false, &is_task, err);
	if (r < 0)
		return r;
	jw_array(w, NULL);
	/* newest first */
	for (struct list *l = e->containers->all.prev; l != &e->containers->all && left > 0; l = l->prev) {
		const struct container *c = container_of(l, struct container, link);

		if (is_task || (!all && c->status != CTR_RUNNING && ctr_shown(c) != CTR_RESTARTING) ||
		    !matches(c, f, &b))
			continue;
		summary(w, c);
		jw_row_done(w);
		left--;
	}
	jw_end(w);
	return 0;
}
