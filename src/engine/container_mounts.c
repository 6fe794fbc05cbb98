/* Volumes and bind mounts of a container: -v, --mount, --tmpfs, --volumes-from and the VOLUMEs of its image,
 * as one list. All forms become the API's mount object first, so that there is one check of it, with Docker's
 * words.
 *
 * Each entry is what inspect shows (Type, Name, Source, Destination, Driver, Mode, RW, Propagation) and
 * private keys: "CreateSource" (make a missing host directory), "NoCopy", "NonRecursive" (without what is
 * mounted below the source), "ReadOnlyTop" (what is mounted below stays writable), "Subpath" (of a volume),
 * "Options" (of a tmpfs), "IdMap" (see oci_id_maps_parse()), "Anonymous", "VolumeLabels", "VolumeOptions" (of
 * a volume that is not made yet).
 */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/strv.h"
#include "engine/volume.h"
#include <errno.h>
#include <string.h>

struct list_ctx {
	struct create_ctx *x;
	struct json *out;
};

static struct json *find_target(const struct json *list, const char *target)
{
	for (size_t i = 0; i < json_len(list); i++)
		if (streq(json_get_str(json_at(list, i), "Destination"), target))
			return json_at(list, i);
	return NULL;
}

static struct json *add_mount(struct list_ctx *l, const char *type, const char *source, const char *target)
{
	struct json *m = json_add(l->out, json_object());

	json_set_str(m, "Type", type);
	json_set_str(m, "Source", source);
	json_set_str(m, "Destination", target);
	json_set_str(m, "Mode", "");
	json_set_bool(m, "RW", true);
	json_set_str(m, "Propagation", streq(type, "bind") || streq(type, "npipe") ? "rprivate" : "");
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

/* ---- one mount object ---- */

/* Docker's frame around what is wrong with a mount. */
#define MOUNT_ERROR(j, err, ...) mount_error(j, xasprintf(__VA_ARGS__), err)

static int mount_error(const struct json *j, char *what, struct err *err)
{
	int r = err_msg(err, ERR_INVALID, 0, "invalid mount config for type \"%s\": %s",
			json_get_str(j, "Type") ?: "", what);

	free(what);
	return r;
}

static int check_target(const struct json *j, const char *target, struct err *err)
{
	_cleanup_free_ char *clean = NULL;

	if (str_empty(target))
		return MOUNT_ERROR(j, err, "field Target must not be empty");
	clean = path_clean(target);
	if (streq(clean, "/"))
		return MOUNT_ERROR(j, err, "invalid specification: destination can't be '/'");
	if (*target != '/')
		return MOUNT_ERROR(j, err, "invalid mount path: '%s' mount path must be absolute", target);
	return 0;
}

/* Both checks say only what is wrong. */
static int check_options(const struct create_ctx *x, const struct json *j, struct err *err)
{
	const char *p = json_get_str(json_get(j, "BindOptions"), "Propagation");
	_cleanup_err_ struct err why = ERR_INIT;
	int r = propagation_check(x->isolation, p, &why);

	if (r == 0)
		r = idmap_check(json_get_str(j, "IdMap"), p, &why);
	return r < 0 ? MOUNT_ERROR(j, err, "%s", err_text(&why)) : 0;
}

/* raw: of -v, whose source is made if it is missing. */
static int check_bind(const struct json *j, bool raw, struct err *err)
{
	const struct json *o = json_get(j, "BindOptions");
	const char *source = json_get_str(j, "Source");
	bool made = raw || json_get_bool(o, "CreateMountpoint", false);

	if (str_empty(source))
		return MOUNT_ERROR(j, err, "field Source must not be empty");
	if (json_len(json_get(j, "VolumeOptions")))
		return MOUNT_ERROR(j, err, "field VolumeOptions must not be specified");
	if (*source != '/')
		return MOUNT_ERROR(j, err, "invalid mount path: '%s' mount path must be absolute", source);
	if (json_get_bool(o, "ReadOnlyForceRecursive", false) && !json_get_bool(j, "ReadOnly", false))
		return MOUNT_ERROR(j, err, "mount is configured as ReadOnlyForceRecursive but not ReadOnly");
	if (json_get_bool(o, "ReadOnlyForceRecursive", false) &&
	    json_get_bool(o, "ReadOnlyNonRecursive", false))
		return MOUNT_ERROR(
		    j, err, "ReadOnlyNonRecursive and ReadOnlyForceRecursive cannot both be set");
	if (!made && !fs_exists(source))
		return MOUNT_ERROR(j, err, "bind source path does not exist: %s", source);
	return 0;
}

/* Only what stays inside: "a/../b" does, "/a" and "a/../../b" do not. */
static bool is_local(const char *path)
{
	_cleanup_strv_ char **parts = strv_split(path, "/");
	int depth = 0;

	for (char **p = parts; p && *p && depth >= 0; p++)
		depth += streq(*p, "..") ? -1 : streq(*p, ".") || !**p ? 0 : 1;
	return *path && *path != '/' && depth >= 0;
}

static int check_volume(const struct json *j, struct err *err)
{
	const struct json *o = json_get(j, "VolumeOptions"), *driver = json_get(o, "DriverConfig");
	const char *name = json_get_str(j, "Source"), *sub = json_get_str(o, "Subpath"),
		   *driver_name = json_get_str(driver, "Name");

	if (json_len(json_get(j, "BindOptions")))
		return MOUNT_ERROR(j, err, "field BindOptions must not be specified");
	if (str_empty(name) && json_get_bool(j, "ReadOnly", false))
		return MOUNT_ERROR(j, err, "must not set ReadOnly mode when using anonymous volumes");
	if (str_empty(name) && !str_empty(sub))
		return MOUNT_ERROR(j, err, "must not set Subpath when using anonymous volumes");
	if (!str_empty(sub) && !is_local(sub))
		return MOUNT_ERROR(j, err, "subpath must be a relative path within the volume");
	if (!str_empty(driver_name) && !streq(driver_name, "local"))
		return err_msg(err, ERR_INVALID, 0,
			       "error looking up volume plugin %s: plugin \"%s\" not found", driver_name,
			       driver_name);
	return str_empty(name) ? 0 : volume_name_check(name, err);
}

static int check_tmpfs(const struct json *j, struct err *err)
{
	if (json_len(json_get(j, "BindOptions")))
		return MOUNT_ERROR(j, err, "field BindOptions must not be specified");
	if (!str_empty(json_get_str(j, "Source")))
		return MOUNT_ERROR(j, err, "field Source must not be specified");
	return json_get(j, "IdMap") ? MOUNT_ERROR(j, err, "field IdMap must not be specified") : 0;
}

static struct json *add_bind(struct list_ctx *l, const struct json *j, const char *target)
{
	const struct json *o = json_get(j, "BindOptions");
	_cleanup_free_ char *clean = path_clean(json_get_str(j, "Source"));
	const char *propagation = json_get_str(o, "Propagation");
	struct json *m = add_mount(l, json_get_str(j, "Type"), clean, target);

	json_set_bool(m, "RW", !json_get_bool(j, "ReadOnly", false));
	if (json_get_bool(o, "CreateMountpoint", false))
		json_set_bool(m, "CreateSource", true);
	if (json_get_bool(o, "NonRecursive", false))
		json_set_bool(m, "NonRecursive", true);
	if (json_get_bool(o, "ReadOnlyNonRecursive", false))
		json_set_bool(m, "ReadOnlyTop", true);
	if (!str_empty(propagation))
		json_set_str(m, "Propagation", propagation);
	if (json_get(j, "IdMap"))
		json_set_str(m, "IdMap", json_get_str(j, "IdMap"));
	return m;
}

static struct json *add_named(struct list_ctx *l, const struct json *j, const char *target)
{
	const struct json *o = json_get(j, "VolumeOptions"), *options =
		json_get(json_get(o, "DriverConfig"), "Options");
	const char *name = json_get_str(j, "Source"), *sub = json_get_str(o, "Subpath");
	struct json *m = add_volume(l, str_empty(name) ? NULL : name, target);

	json_set_str(m, "Mode", "z");		/* as Docker shows it, with SELinux and without */
	json_set_bool(m, "RW", !json_get_bool(j, "ReadOnly", false));
	json_set_bool(m, "NoCopy", json_get_bool(o, "NoCopy", false));
	if (!str_empty(sub))
		json_set_str(m, "Subpath", sub);
	if (json_get(j, "IdMap"))
		json_set_str(m, "IdMap", json_get_str(j, "IdMap"));
	if (json_len(json_get(o, "Labels")))
		json_set(m, "VolumeLabels", json_copy(json_get(o, "Labels")));
	if (json_len(options))
		json_set(m, "VolumeOptions", json_copy(options));
	return m;
}

static struct json *add_tmpfs(struct list_ctx *l, const struct json *j, const char *target)
{
	const struct json *o = json_get(j, "TmpfsOptions");
	int64_t size = json_get_int(o, "SizeBytes", 0), mode = json_get_int(o, "Mode", 0);
	_cleanup_strv_ char **options = NULL;
	_cleanup_free_ char *text = NULL;
	struct json *m = add_mount(l, "tmpfs", "", target);

	if (size > 0)
		strv_addf(&options, "size=%lld", (long long)size);
	if (mode > 0)
		strv_addf(&options, "mode=%llo", (unsigned long long)mode);
	if (json_get_bool(j, "ReadOnly", false))
		strv_add(&options, "ro");
	text = strv_join(options, ",");
	json_set_bool(m, "RW", !json_get_bool(j, "ReadOnly", false));
	json_set_str(m, "Options", text);
	return m;
}

/* Checks a mount object and adds it. */
static int add_object(struct list_ctx *l, const struct json *j, bool raw, struct json **ret, struct err *err)
{
	const char *type = json_get_str(j, "Type"), *target = json_get_str(j, "Target");
	_cleanup_free_ char *clean = NULL;
	int r = check_target(j, target, err);

	if (r < 0)
		return r;
	if (streq(type, "bind") || streq(type, "npipe"))
		r = check_bind(j, raw, err);
	else if (streq(type, "volume"))
		r = check_volume(j, err);
	else if (streq(type, "tmpfs"))
		r = check_tmpfs(j, err);
	else
		r = MOUNT_ERROR(j, err, "mount type unknown");
	if (r == 0)
		r = check_options(l->x, j, err);
	if (r < 0)
		return r;
	clean = path_clean(target);
	if (find_target(l->out, clean))
		return err_msg(err, ERR_INVALID, 0, "Duplicate mount point: %s", clean);
	*ret = streq(type, "bind") || streq(type, "npipe") ? add_bind(l, j, clean)
	       : streq(type, "volume") ? add_named(l, j, clean)
				       : add_tmpfs(l, j, clean);
	return 0;
}

/* ---- -v ---- */

enum mode_class {
	MODE_RW, MODE_LABEL, MODE_PROPAGATION, MODE_COPY, MODE_CONSISTENCY, MODE_IDMAP, _MODE_CLASSES
};

static const struct { const char *word; enum mode_class class; } mode_words[] = {
	{"rw", MODE_RW}, {"ro", MODE_RW}, {"rro", MODE_RW}, {"ro-force-recursive", MODE_RW},
	{"ro-non-recursive", MODE_RW}, {"z", MODE_LABEL}, {"Z", MODE_LABEL},
	{"private", MODE_PROPAGATION}, {"rprivate", MODE_PROPAGATION}, {"slave", MODE_PROPAGATION},
	{"rslave", MODE_PROPAGATION}, {"shared", MODE_PROPAGATION}, {"rshared", MODE_PROPAGATION},
	{"nocopy", MODE_COPY}, {"consistent", MODE_CONSISTENCY}, {"cached", MODE_CONSISTENCY},
	{"delegated", MODE_CONSISTENCY}, {"idmap", MODE_IDMAP},
};

/* Of "idmap=MAPS" and "idmap"; NULL if p is neither. */
static const char *idmap_value(const char *p)
{
	size_t n = strlen("idmap");

	return !str_starts(p, "idmap") || (p[n] && p[n] != '=') ? NULL : p[n] ? p + n + 1 : "";
}

/* "ro,z" -> a word of each class, NULL where it has none. Words are borrowed from the table. */
static bool mode_parse(const char *mode, const char *ret[_MODE_CLASSES])
{
	_cleanup_strv_ char **v = strv_split(mode, ",");

	memset(ret, 0, _MODE_CLASSES * sizeof *ret);
	for (char **p = v; p && *p; p++) {
		size_t i = 0;

		while (i < ARRAY_SIZE(mode_words) &&
		       !streq(mode_words[i].word, idmap_value(*p) ? "idmap" : *p))
			i++;
		if (i == ARRAY_SIZE(mode_words) || ret[mode_words[i].class])
			return false;
		ret[mode_words[i].class] = mode_words[i].word;
	}
	return true;
}

static void add_idmap(struct json *j, const char *mode)
{
	_cleanup_strv_ char **v = strv_split(mode, ",");

	for (char **p = v; p && *p; p++)
		if (idmap_value(*p))
			json_set_str(j, "IdMap", idmap_value(*p));
}

/* SOURCE:TARGET[:MODE] or TARGET as a mount object. */
static int bind_object(const struct create_ctx *x, const char *spec, struct json **ret, const char **ret_mode,
		       char ***fields, struct err *err)
{
	char **f = *fields = strv_split(spec, ":");
	const char *driver = json_get_str(json_get(x->body, "HostConfig"), "VolumeDriver");
	const char *mode[_MODE_CLASSES];
	size_t n = strv_len(f);
	struct json *j, *o;

	if (n < 1 || n > 3 || *spec == ':' || strstr(spec, "::") || (n == 1 && strchr(spec, ':')) ||
	    (n == 2 && mode_parse(f[1], mode)))
		return err_msg(err, ERR_INVALID, 0, "invalid volume specification: '%s'", spec);
	*ret_mode = n == 3 ? f[2] : "";
	if (!mode_parse(*ret_mode, mode))
		return err_msg(err, ERR_INVALID, 0, "invalid mode: %s", *ret_mode);
	j = *ret = json_object();
	json_set_str(j, "Type", n > 1 && *f[0] == '/' ? "bind" : "volume");
	json_set_str(j, "Source", n > 1 ? f[0] : "");
	json_set_str(j, "Target", n > 1 ? f[1] : f[0]);
	json_set_bool(j, "ReadOnly", mode[MODE_RW] && !streq(mode[MODE_RW], "rw"));
	add_idmap(j, *ret_mode);
	if (streq(json_get_str(j, "Type"), "bind")) {
		o = json_set(j, "BindOptions", json_object());
		json_set_str(o, "Propagation", mode[MODE_PROPAGATION] ?: "");
		json_set_bool(o, "ReadOnlyNonRecursive", streq(mode[MODE_RW] ?: "", "ro-non-recursive"));
		json_set_bool(o, "CreateMountpoint", true);
		if (mode[MODE_COPY])
			json_set_bool(json_set(j, "VolumeOptions", json_object()), "NoCopy", true);
		return 0;
	}
	if (mode[MODE_PROPAGATION])
		json_set_str(json_set(j, "BindOptions", json_object()), "Propagation",
			     mode[MODE_PROPAGATION]);
	if (mode[MODE_RW] && strlen(mode[MODE_RW]) > 2)
		return err_msg(err, ERR_INVALID, 0,
			       "mount mode \"%s\" requires a bind mount: invalid volume specification: '%s'",
			       *ret_mode, spec);
	o = json_set(j, "VolumeOptions", json_object());
	json_set_bool(o, "NoCopy", mode[MODE_COPY] != NULL);
	json_set_str(json_set(o, "DriverConfig", json_object()), "Name", driver ?: "");
	return 0;
}

/* SELinux labels have no object on a host without it, and no meaning for a virtual machine. */
static void note_label(struct list_ctx *l, const char *spec, const char *mode)
{
	const char *words[_MODE_CLASSES];

	if (mode_parse(mode, words) && words[MODE_LABEL])
		strv_addf(&l->x->warnings, "volume '%s': '%s' is ignored: insula does not relabel files",
			  spec, words[MODE_LABEL]);
}

static int add_spec(struct list_ctx *l, const char *spec, struct err *err)
{
	_cleanup_strv_ char **fields = NULL;
	_cleanup_json_ struct json *j = NULL;
	_cleanup_err_ struct err why = ERR_INIT;
	const char *mode = "";
	struct json *m;
	int r = bind_object(l->x, spec, &j, &mode, &fields, err);

	if (r < 0)
		return r;
	r = add_object(l, j, true, &m, &why);
	if (r < 0)
		return str_starts(err_text(&why), "invalid mount config")
			   ? err_msg(err, why.kind, r, "invalid volume specification: '%s': %s", spec,
				     err_text(&why))
			   : err_msg(err, why.kind, r, "%s", err_text(&why));
	if (*mode)
		json_set_str(m, "Mode", mode);
	note_label(l, spec, mode);
	return 0;
}

/* ---- --volumes-from ---- */

static int volumes_from_parse(const char *spec, const struct create_ctx *x, struct container **ret,
			      bool *ret_rw, struct err *err)
{
	size_t n = strcspn(spec, ":");
	_cleanup_free_ char *id = xstrndup(spec, n);
	const char *mode = spec[n] ? spec + n + 1 : "", *words[_MODE_CLASSES];

	if (!*spec)
		return err_msg(err, ERR_INVALID, 0, "volumes-from specification cannot be an empty string");
	if (!mode_parse(mode, words) || words[MODE_PROPAGATION] || words[MODE_COPY] || words[MODE_IDMAP] ||
	    (words[MODE_RW] && strlen(words[MODE_RW]) > 2))
		return err_msg(err, ERR_INVALID, 0, "invalid mode: %s", mode);
	*ret_rw = !words[MODE_RW] || streq(words[MODE_RW], "rw");
	/* 404 would mean to a client that the image is missing. */
	return container_find(x->engine, id, ret, NULL) < 0
		   ? err_msg(err, ERR_INVALID, 0, "No such container: %s", id)
		   : 0;
}

static int add_from(struct list_ctx *l, const char *spec, struct err *err)
{
	struct container *c;
	const struct json *v;
	bool rw = false;
	int r = volumes_from_parse(spec, l->x, &c, &rw, err);

	if (r < 0)
		return r;
	v = json_get(c->doc, "Mounts");
	for (size_t i = 0; i < json_len(v); i++) {
		const struct json *from = json_at(v, i);
		struct json *m;

		/* What the user has named goes before. */
		if (streq(json_get_str(from, "Type"), "tmpfs") ||
		    find_target(l->out, json_get_str(from, "Destination")))
			continue;
		r = propagation_check(l->x->isolation, json_get_str(from, "Propagation"), err);
		if (r < 0)
			return r;
		m = json_add(l->out, json_copy(from));
		json_set_str(m, "Mode", "");
		json_set_bool(m, "RW", rw && json_get_bool(from, "RW", true));
		json_set_bool(m, "NoCopy", true);
	}
	return 0;
}

/* ---- all ---- */

static int add_target_only(struct list_ctx *l, const char *type, const char *target, struct json **ret,
			   struct err *err)
{
	_cleanup_json_ struct json *j = json_object();

	json_set_str(j, "Type", type);
	json_set_str(j, "Target", target);
	return add_object(l, j, false, ret, err);
}

static int add_image_volumes(struct list_ctx *l, const struct json *volumes, struct err *err)
{
	struct json_iter it = {0};
	int r = 0;

	while (r == 0 && json_next(volumes, &it)) {
		_cleanup_free_ char *clean = *it.key == '/' ? path_clean(it.key) : NULL;
		struct json *m = NULL;

		/* a place that the user has filled otherwise */
		if (!clean || !find_target(l->out, clean))
			r = add_target_only(l, "volume", it.key, &m, err);
		if (r == 0 && m)
			json_set_str(m, "Mode", "");
	}
	return r;
}

int mounts_build(struct create_ctx *x, const struct json *config, const struct json *hc, struct json **ret,
		 struct err *err)
{
	_cleanup_json_ struct json *out = json_array();
	struct list_ctx l = {.x = x, .out = out};
	const struct json *binds = json_get(hc, "Binds"), *mounts = json_get(hc, "Mounts"),
			  *from = json_get(hc, "VolumesFrom");
	struct json_iter it = {0};
	struct json *m;
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_len(binds); i++)
		r = add_spec(&l, json_str(json_at(binds, i)) ?: "", err);
	for (size_t i = 0; r == 0 && i < json_len(mounts); i++)
		r = add_object(&l, json_at(mounts, i), false, &m, err);
	while (r == 0 && json_next(json_get(hc, "Tmpfs"), &it)) {
		r = add_target_only(&l, "tmpfs", it.key, &m, err);
		if (r == 0)
			json_set_str(m, "Options", json_str(it.value) ?: "");
	}
	/* The last one named wins. */
	for (size_t i = json_len(from); r == 0 && i > 0; i--)
		r = add_from(&l, json_str(json_at(from, i - 1)) ?: "", err);
	if (r == 0)
		r = add_image_volumes(&l, json_get(config, "Volumes"), err);
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
	if (streq(json_get_str(m, "Type"), "npipe") && !S_ISSOCK(st.st_mode) && !S_ISFIFO(st.st_mode))
		return err_msg(err, ERR_INVALID, 0,
			       "invalid mount config for type \"npipe\": '%s' is neither a named pipe nor a "
			       "socket",
			       source);
	if (c->isolation == ISOLATION_HYPERV && (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)))
		return err_msg(err, ERR_INVALID, 0,
			       "bind mount of '%s': a device of the host is none of a virtual machine's "
			       "kernel; use --device, or --isolation=process", source);
	return propagation_possible(source, json_get_str(m, "Propagation"), err);
}

int mounts_prepare(struct container *c, struct err *err)
{
	const struct json *mounts = json_get(c->doc, "Mounts");
	int r = 0;

	for (size_t i = 0; r >= 0 && i < json_len(mounts); i++) {
		const struct json *m = json_at(mounts, i);
		const char *type = json_get_str(m, "Type");

		if (streq(type, "bind") || streq(type, "npipe"))
			r = prepare_bind(c, m, err);
	}
	/* Nothing else can fail by now: no volume is made for nothing. */
	for (size_t i = 0; r >= 0 && i < json_len(mounts); i++) {
		const struct json *m = json_at(mounts, i);

		if (streq(json_get_str(m, "Type"), "volume"))
			r = volume_create(c->engine, json_get_str(m, "Name"),
					  json_get_bool(m, "Anonymous", false), json_get(m, "VolumeLabels"),
					  json_get(m, "VolumeOptions"), NULL, err);
	}
	return r;
}

void mounts_drop(struct container *c)
{
	_cleanup_strv_ char **held = TAKE_PTR(c->volumes);

	for (char **v = held; v && *v; v++)
		volume_drop(c->engine, *v);
}

void mounts_adopt(struct container *c)
{
	const struct json *mounts = json_get(c->doc, "Mounts");

	for (size_t i = 0; i < json_len(mounts); i++)
		if (streq(json_get_str(json_at(mounts, i), "Type"), "volume")) {
			volume_adopt(c->engine, json_get_str(json_at(mounts, i), "Name"));
			strv_add(&c->volumes, json_get_str(json_at(mounts, i), "Name"));
		}
}
