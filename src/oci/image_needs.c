#include "oci/image_needs.h"
#include "base/alloc.h"
#include "base/strv.h"

#include <stdlib.h>
#include <string.h>

/* Features that can be told, and since when kernels have them. What is not here is promised by none. */
static const struct { const char *name, *since; } features[] = {
    {"bpf", "3.18"},    {"btf", "5.2"},     {"cgroup2", "4.5"},     {"erofs", "5.4"},
    {"pidfd", "5.3"},   {"userns", "3.8"},  {"openat2", "5.6"},     {"timens", "5.6"},
    {"seccomp", "3.5"}, {"io_uring", "5.1"}, {"landlock", "5.13"},  {"wireguard", "5.6"},
    {"overlayfs", "3.18"}, {"fanotify", "2.6.37"}, {"idmapped-mounts", "5.12"},
};

int kernel_compare(const char *a, const char *b)
{
	for (int i = 0; i < 3; i++) {
		unsigned long x = strtoul(a, (char **)&a, 10), y = strtoul(b, (char **)&b, 10);

		if (x != y)
			return x < y ? -1 : 1;
		a += *a == '.';
		b += *b == '.';
	}
	return 0;
}

static bool at_least(const char *min, const char *release, char **ret_why)
{
	if (str_empty(min) || kernel_compare(release, min) >= 0)
		return true;
	if (ret_why)
		*ret_why = xasprintf("a kernel of at least %.64s", min);
	return false;
}

static const char *since(const char *feature)
{
	for (size_t i = 0; i < ARRAY_SIZE(features); i++)
		if (streq(features[i].name, feature))
			return features[i].since;
	return NULL;
}

bool platform_needs_met(const struct json *platform, const char *release, char **ret_why)
{
	const struct json *list = json_get(platform, "os.features");

	if (!at_least(json_get_str(platform, "os.version"), release, ret_why))
		return false;
	for (size_t i = 0; i < json_len(list); i++) {
		const char *name = json_str(json_at(list, i)), *from = name ? since(name) : NULL;

		if (from && kernel_compare(release, from) >= 0)
			continue;
		if (ret_why)
			*ret_why = xasprintf("the feature \"%.64s\" of a kernel", name ? name : "");
		return false;
	}
	return true;
}

bool image_needs_met(const struct json *config, const char *release, char **ret_why)
{
	const struct json *labels = json_get(json_get(config, "config"), "Labels");

	return platform_needs_met(config, release, ret_why) &&
	       at_least(json_get_str(labels, LABEL_KERNEL_MIN), release, ret_why);
}
