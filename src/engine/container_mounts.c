/* Volumes and bind mounts of a container: -v, --mount, --tmpfs and the VOLUMEs of its image, as one list.
 * Each entry is what inspect shows (Type, Name, Source, Destination, Driver, Mode, RW, Propagation) and
 * private keys: "CreateSource" (make a missing host directory), "NoCopy", "Options" (of a tmpfs),
 * "Anonymous", "Recursive". */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/strv.h"
#include "engine/volume.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

struct list_ctx {
	const struct create_ctx *x;
	struct json *out;
	const char *spec;		/* for messages */
};

static struct json *find_target(const struct json *list, const char *target)
{
	for (size_t i = 0; i < json_len(list); i++)
		if (streq(json_get_str(json_at(list, i), "Destination"), target))
			return json_at(list, i);
	return NULL;
}

static int check_target(const struct list_ctx *l, const char *target, char **ret, struct err *err)
{
	_cleanup_free_ char *clean = NULL;

	if (str_empty(target) || *target != '/')
		return err_msg(
		    err, ERR_INVALID, 0,
		    "invalid volume specification: '%s': invalid mount config: invalid mount path: '%s' "
		    "mount path must be absolute",
		    l->spec, target ? target : "");
	clean = path_clean(target);
	if (streq(clean, "/"))
		return err_msg(
		    err, ERR_INVALID, 0,
		    "invalid volume specification: '%s': invalid mount config: invalid specification: "
		    "destination can't be '/'",
		    l->spec);
	if (find_target(l->out, clean))
		return err_msg(err, ERR_INVALID, 0, "Duplicate mount point: %s", clean);
	*ret = TAKE_PTR(clean);
	return 0;
}

static struct json *add_mount(struct list_ctx *l, const char *type, const char *source, const char *target)
{
	struct json *m = json_add(l->out, json_object());

	json_set_str(m, "Type", type);
	json_set_str(m, "Source", source);
	json_set_str(m, "Destination", target);
	json_set_str(m, "Mode", "");
	json_set_bool(m, "RW", true);
	json_set_str(m, "Propagation", streq(type, "bind") ? "rprivate" : "");
	return m;
}

static struct json *add_volume(struct list_ctx *l, const char *name, const char *target)
{
	_cleanup_free_ char *path = NULL;
	struct id id = id_new();
	struct json *m;

	path = volume_path(l->x->engine, name ? name : id.s);
	m = add_mount(l, "volume", path, target);
	json_set_str(m, "Name", name ? name : id.s);
	json_set_str(m, "Driver", "local");
	if (!name)
		json_set_bool(m, "Anonymous", true);
	return m;
}

static int set_propagation(const struct list_ctx *l, struct json *m, const char *p, struct err *err)
{
	static const char *const fine[] = {"rprivate", "private", "rslave", "slave", NULL};

	if (str_empty(p))
		return 0;
	if (!strv_has((char *const *)fine, p) ||
	    (l->x->isolation == ISOLATION_HYPERV && !str_ends(p, "private")))
		return err_msg(
		    err, ERR_INVALID, 0,
		    "invalid volume specification: '%s': propagation '%s' is not supported with %s "
		    "isolation: use rprivate",
		    l->spec, p, isolation_name(l->x->isolation));
	json_set_str(m, "Propagation", p);
	return 0;
}

/* "ro", "rw,z", "nocopy"... of -v. */
static int set_mode(const struct list_ctx *l, struct json *m, const char *mode, struct err *err)
{
	_cleanup_strv_ char **v = strv_split(mode, ",");
	static const char *const propagations[] = {"rprivate", "private", "rslave", "slave",
						   "rshared",  "shared",  NULL};
	int r = 0;

	json_set_str(m, "Mode", mode);
	for (char **p = v; r == 0 && p && *p; p++) {
		if (streq(*p, "ro"))
			json_set_bool(m, "RW", false);
		else if (streq(*p, "nocopy"))
			json_set_bool(m, "NoCopy", true);
		else if (strv_has((char *const *)propagations, *p))
			r = set_propagation(l, m, *p, err);
		/* SELinux relabelling has no object on a host without SELinux; the others are the default */
		else if (!streq(*p, "rw") && !streq(*p, "z") && !streq(*p, "Z") && !streq(*p, "cached") &&
			 !streq(*p, "delegated") && !streq(*p, "consistent"))
			return err_msg(err, ERR_INVALID, 0,
				       "invalid volume specification: '%s': invalid mode: %s", l->spec, mode);
	}
	return r;
}

/* SOURCE:TARGET[:MODE] or TARGET. */
static int add_bind(struct list_ctx *l, const char *spec, struct err *err)
{
	_cleanup_strv_ char **f = strv_split(spec, ":");
	_cleanup_free_ char *target = NULL, *source = NULL;
	size_t n = strv_len(f);
	struct json *m;
	int r;

	l->spec = spec;
	if (n < 1 || n > 3)
		return err_msg(err, ERR_INVALID, 0, "invalid volume specification: '%s'", spec);
	r = check_target(l, n == 1 ? f[0] : f[1], &target, err);
	if (r < 0)
		return r;
	if (n == 1) {
		add_volume(l, NULL, target);
		return 0;
	}
	if (*f[0] == '/') {
		source = path_clean(f[0]);
		m = add_mount(l, "bind", source, target);
		json_set_bool(m, "CreateSource", true);
	} else {
		r = volume_name_check(f[0], err);
		if (r < 0)
			return r;
		m = add_volume(l, f[0], target);
	}
	return n == 3 ? set_mode(l, m, f[2], err) : 0;
}

/* ---- --mount ---- */

static int mount_bind(struct list_ctx *l, const struct json *j, const char *target, struct err *err)
{
	const struct json *o = json_get(j, "BindOptions");
	const char *source = json_get_str(j, "Source");
	_cleanup_free_ char *clean = NULL;
	struct json *m;

	if (str_empty(source) || *source != '/')
		return err_msg(
		    err, ERR_INVALID, 0,
		    "invalid mount config for type \"bind\": invalid mount path: '%s' mount path must be "
		    "absolute",
		    source ? source : "");
	clean = path_clean(source);
	if (json_get_bool(o, "CreateMountpoint", false))
		;
	else if (!fs_exists(clean))
		return err_msg(err, ERR_INVALID, 0,
			       "invalid mount config for type \"bind\": bind source path does not exist: %s",
			       clean);
	m = add_mount(l, "bind", clean, target);
	json_set_bool(m, "CreateSource", json_get_bool(o, "CreateMountpoint", false));
	json_set_bool(m, "RW", !json_get_bool(j, "ReadOnly", false));
	if (json_get_bool(o, "NonRecursive", false))
		json_set_bool(m, "NonRecursive", true);
	if (json_get_bool(o, "ReadOnlyForceRecursive", false))
		json_set_bool(m, "ReadOnlyRecursive", true);
	return set_propagation(l, m, json_get_str(o, "Propagation"), err);
}

static int mount_volume(struct list_ctx *l, const struct json *j, const char *target, struct err *err)
{
	const struct json *o = json_get(j, "VolumeOptions"), *driver = json_get(o, "DriverConfig");
	const char *name = json_get_str(j, "Source");
	struct json *m;
	int r = str_empty(name) ? 0 : volume_name_check(name, err);

	if (r < 0)
		return r;
	if ((!str_empty(json_get_str(driver, "Name")) && !streq(json_get_str(driver, "Name"), "local")) ||
	    json_len(json_get(driver, "Options")))
		return err_msg(
		    err, ERR_INVALID, 0,
		    "invalid mount config for type \"volume\": volume drivers and their options are not "
		    "supported by this version of insula");
	if (!str_empty(json_get_str(o, "Subpath")))
		return err_msg(
		    err, ERR_INVALID, 0,
		    "invalid mount config for type \"volume\": volume-subpath is not supported by this "
		    "version of insula: mount the whole volume");
	m = add_volume(l, str_empty(name) ? NULL : name, target);
	json_set_bool(m, "RW", !json_get_bool(j, "ReadOnly", false));
	json_set_bool(m, "NoCopy", json_get_bool(o, "NoCopy", false));
	if (json_len(json_get(o, "Labels")))
		json_set(m, "VolumeLabels", json_copy(json_get(o, "Labels")));
	return 0;
}

static int mount_tmpfs(struct list_ctx *l, const struct json *j, const char *target, struct err *err)
{
	const struct json *o = json_get(j, "TmpfsOptions");
	int64_t size = json_get_int(o, "SizeBytes", 0), mode = json_get_int(o, "Mode", 0);
	_cleanup_strv_ char **options = NULL;
	_cleanup_free_ char *text = NULL;
	struct json *m;

	if (!str_empty(json_get_str(j, "Source")))
		return err_msg(err, ERR_INVALID, 0,
			       "invalid mount config for type \"tmpfs\": field Source must not be specified");
	if (size > 0)
		strv_addf(&options, "size=%lld", (long long)size);
	if (mode > 0)
		strv_addf(&options, "mode=%llo", (unsigned long long)mode);
	if (json_get_bool(j, "ReadOnly", false))
		strv_add(&options, "ro");
	text = strv_join(options, ",");
	m = add_mount(l, "tmpfs", "", target);
	json_set_bool(m, "RW", !json_get_bool(j, "ReadOnly", false));
	json_set_str(m, "Options", text);
	return 0;
}

static const struct {
	const char *type;
	int (*add)(struct list_ctx *l, const struct json *j, const char *target, struct err *err);
} mount_types[] = {{"bind", mount_bind}, {"volume", mount_volume}, {"tmpfs", mount_tmpfs}};

static int add_typed(struct list_ctx *l, const struct json *j, struct err *err)
{
	const char *type = json_get_str(j, "Type") ?: "", *target = json_get_str(j, "Target");
	_cleanup_free_ char *clean = NULL;
	int r;

	l->spec = target ? target : "";
	for (size_t i = 0; i < ARRAY_SIZE(mount_types); i++) {
		if (!streq(mount_types[i].type, type))
			continue;
		if (str_empty(target))
			return err_msg(err, ERR_INVALID, 0,
				       "invalid mount config for type \"%s\": field Target must not be empty",
				       type);
		r = check_target(l, target, &clean, err);
		return r < 0 ? r : mount_types[i].add(l, j, clean, err);
	}
	return err_msg(
	    err, ERR_INVALID, 0,
	    "mount type '%s' is not supported by this version of insula: use bind, volume or tmpfs", type);
}

/* ---- all ---- */

int mounts_build(const struct create_ctx *x, const struct json *config, const struct json *hc,
		 struct json **ret, struct err *err)
{
	_cleanup_json_ struct json *out = json_array();
	struct list_ctx l = {.x = x, .out = out, .spec = ""};
	const struct json *binds = json_get(hc, "Binds"), *mounts = json_get(hc, "Mounts");
	struct json_iter it = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_len(binds); i++)
		r = add_bind(&l, json_str(json_at(binds, i)) ?: "", err);
	for (size_t i = 0; r == 0 && i < json_len(mounts); i++)
		r = add_typed(&l, json_at(mounts, i), err);
	while (r == 0 && json_next(json_get(hc, "Tmpfs"), &it)) {
		_cleanup_free_ char *clean = NULL;

		l.spec = it.key;
		r = check_target(&l, it.key, &clean, err);
		if (r == 0)
			json_set_str(add_mount(&l, "tmpfs", "", clean), "Options", json_str(it.value) ?: "");
	}
	it = (struct json_iter){0};
	while (r == 0 && json_next(json_get(config, "Volumes"), &it)) {
		_cleanup_free_ char *clean = *it.key == '/' ? path_clean(it.key) : NULL;

		/* a place that the user has filled otherwise */
		if (clean && find_target(out, clean))
			continue;
		l.spec = it.key;
		free(TAKE_PTR(clean));
		r = check_target(&l, it.key, &clean, err);
		if (r == 0)
			add_volume(&l, NULL, clean);
	}
	if (r < 0)
		return r;
	*ret = TAKE_PTR(out);
	return 0;
}

static int prepare_bind(const struct container *c, const struct json *m, struct err *err)
{
	const char *source = json_get_str(m, "Source");
	struct stat st;
	int r;

	if (stat(source, &st) < 0) {
		if (errno != ENOENT || !json_get_bool(m, "CreateSource", false))
			return err_msg(
			    err, ERR_INVALID, -errno,
			    "invalid mount config for type \"bind\": bind source path does not exist: "
			    "%s",
			    source);
		r = fs_mkdir_p(source, 0755);
		return r < 0 ? err_set(err, ERR_SYSTEM, r, "error while creating mount source path '%s'",
				       source)
			     : 0;
	}
	if (c->isolation == ISOLATION_HYPERV && !S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return err_msg(
		    err, ERR_INVALID, 0,
		    "bind mount of '%s': sockets, pipes and devices are not relayed into a virtual "
		    "machine by this version of insula; use --isolation=process",
		    source);
	return 0;
}

int mounts_prepare(struct container *c, struct err *err)
{
	const struct json *mounts = json_get(c->doc, "Mounts");
	int r = 0;

	for (size_t i = 0; r >= 0 && i < json_len(mounts); i++) {
		const struct json *m = json_at(mounts, i);
		const char *type = json_get_str(m, "Type");

		if (streq(type, "bind"))
			r = prepare_bind(c, m, err);
		else if (streq(type, "volume"))
			r = volume_create(c->engine, json_get_str(m, "Name"),
					  json_get_bool(m, "Anonymous", false), json_get(m, "VolumeLabels"),
					  NULL, NULL, err);
	}
	return r;
}
