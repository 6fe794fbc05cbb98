#include "cli/run_opts.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "base/timefmt.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

static int parse_switch(const char *key, const char *value, bool *ret, char **why)
{
	*ret = !value || streq(value, "1") || streq(value, "t") || streq(value, "true") ||
	       streq(value, "True") || streq(value, "TRUE") || streq(value, "T");
	if (*ret || streq(value, "0") || streq(value, "f") || streq(value, "false") ||
	    streq(value, "False") || streq(value, "FALSE") || streq(value, "F"))
		return 0;
	*why = xasprintf("invalid value for %s: %s", key, value);
	return -EINVAL;
}

/* "./x" means the CLI's directory, which the daemon cannot know. */
static char *absolute_source(const char *s)
{
	_cleanup_free_ char *cwd = NULL, *joined = NULL;

	if (*s != '.')
		return xstrdup(s);
	cwd = getcwd(NULL, 0);
	joined = path_join(cwd ?: "/", s);
	return path_clean(joined);
}

/* The keys whose value goes somewhere as a string. */
static const struct { const char *key, *object, *sub, *name;
} mount_strings[] = {
    {"type", NULL, NULL, "Type"},
    {"source", NULL, NULL, "Source"},
    {"src", NULL, NULL, "Source"},
    {"target", NULL, NULL, "Target"},
    {"dst", NULL, NULL, "Target"},
    {"destination", NULL, NULL, "Target"},
    {"consistency", NULL, NULL, "Consistency"},
    {"idmap", NULL, NULL, "IdMap"},
    {"bind-propagation", "BindOptions", NULL, "Propagation"},
    {"volume-subpath", "VolumeOptions", NULL, "Subpath"},
    {"volume-driver", "VolumeOptions", "DriverConfig", "Name"},
    {"image-subpath", "ImageOptions", NULL, "Subpath"},
};

static const struct { const char *key, *object, *name; } mount_switches[] = {
	{ "readonly", NULL, "ReadOnly" }, { "ro", NULL, "ReadOnly" },
	{ "bind-nonrecursive", "BindOptions", "NonRecursive" },
	{ "volume-nocopy", "VolumeOptions", "NoCopy" },
	{ "bind-create-src", "BindOptions", "CreateMountpoint" },
};

static int bind_recursive(struct json *m, const char *value, char **why)
{
	struct json *b = parse_sub(m, "BindOptions");

	if (streq(value, "disabled"))
		json_set_bool(b, "NonRecursive", true);
	else if (streq(value, "writable"))
		json_set_bool(b, "ReadOnlyNonRecursive", true);
	else if (streq(value, "readonly"))
		json_set_bool(b, "ReadOnlyForceRecursive", true);
	else if (!streq(value, "enabled")) {
		*why = xasprintf(
		    "invalid value for bind-recursive: %s (must be \"enabled\", \"disabled\", \"writable\", "
		    "or \"readonly\")",
		    value);
		return -EINVAL;
	}
	return 0;
}

static int mount_field(struct json *m, const char *field, char **why)
{
	const char *eq = strchr(field, '='), *value = eq ? eq + 1 : NULL;
	_cleanup_free_ char *key = eq ? xstrndup(field, eq - field) : xstrdup(field);
	bool on;

	for (char *c = key; *c; c++)
		*c = tolower((unsigned char)*c);
	for (size_t i = 0; i < ARRAY_SIZE(mount_switches); i++) {
		if (!streq(key, mount_switches[i].key))
			continue;
		if (parse_switch(key, value, &on, why) < 0)
			return -EINVAL;
		json_set_bool(mount_switches[i].object ? parse_sub(m, mount_switches[i].object) : m,
			      mount_switches[i].name, on);
		return 0;
	}
	if (!value) {
		*why = xasprintf("invalid field '%s' must be a key=value pair", field);
		return -EINVAL;
	}
	for (size_t i = 0; i < ARRAY_SIZE(mount_strings); i++) {
		struct json *to = m;

		if (!streq(key, mount_strings[i].key))
			continue;
		if (mount_strings[i].object)
			to = parse_sub(to, mount_strings[i].object);
		if (mount_strings[i].sub)
			to = parse_sub(to, mount_strings[i].sub);
		json_set_str(to, mount_strings[i].name, value);
		return 0;
	}
	if (streq(key, "bind-recursive"))
		return bind_recursive(m, value, why);
	if (streq(key, "volume-label")) {
		parse_add_pair(parse_sub(parse_sub(m, "VolumeOptions"), "Labels"), value);
	} else if (streq(key, "volume-opt")) {
		parse_add_pair(parse_sub(parse_sub(parse_sub(m, "VolumeOptions"), "DriverConfig"), "Options"),
			       value);
	} else if (streq(key, "tmpfs-size")) {
		int64_t size;

		if (size_parse_ram(value, false, &size) < 0) {
			*why = xasprintf("invalid value for %s: %s", key, value);
			return -EINVAL;
		}
		json_set_int(parse_sub(m, "TmpfsOptions"), "SizeBytes", size);
	} else if (streq(key, "tmpfs-mode")) {
		char *end;
		unsigned long mode = strtoul(value, &end, 8);

		if (!*value || *end || mode > 07777) {
			*why = xasprintf("invalid value for %s: %s", key, value);
			return -EINVAL;
		}
		json_set_int(parse_sub(m, "TmpfsOptions"), "Mode", mode);
	} else {
		*why = xasprintf("unexpected key '%s' in '%s'", key, field);
		return -EINVAL;
	}
	return 0;
}

char *absolute_bind(const char *spec)
{
	size_t n = strcspn(spec, ":");
	_cleanup_free_ char *source = xstrndup(spec, n), *whole = absolute_source(source);

	return xasprintf("%s%s", whole, spec + n);
}

int parse_mount(const struct opt *o, const char *value, char **why)
{
	_cleanup_json_ struct json *m = json_object();
	struct json **list = o->target;
	const char *type, *p = value;

	json_set_str(m, "Type", "volume");
	while (p) {
		_cleanup_free_ char *field = parse_csv_field(&p);

		if (mount_field(m, field, why) < 0)
			return -EINVAL;
	}
	type = json_get_str(m, "Type");
	if (str_empty(type)) {
		*why = xstrdup("type is required");
		return -EINVAL;
	}
	if (str_empty(json_get_str(m, "Target"))) {
		*why = xstrdup("target is required");
		return -EINVAL;
	}
	if (streq(type, "bind") && json_get_str(m, "Source")) {
		_cleanup_free_ char *source = absolute_source(json_get_str(m, "Source"));

		json_set_str(m, "Source", source);
	}
	if (!*list)
		*list = json_array();
	json_add(*list, TAKE_PTR(m));
	return 0;
}
