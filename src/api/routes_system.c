#include "api/df.h"
#include "api/info.h"
#include "api/routes_events.h"
#include "api/conn.h"
#include "base/alloc.h"
#include "base/strv.h"
#include <sys/utsname.h>

static void ping(struct request *r, struct engine *e)
{
	resp_header(r, "Builder-Version",
		    "1"); /* the classic builder: 2 makes old clients open BuildKit sessions */
	resp_header(r, "Swarm", "inactive");
	resp_header(r, "Cache-Control", "no-cache, no-store, must-revalidate");
	resp_header(r, "Pragma", "no-cache");
	resp_text(r, 200, "text/plain; charset=utf-8", streq(r->head.method, "HEAD") ? "" : "OK");
}

/* GOARCH's names, which clients compare with image platforms. */
static const char *go_arch(const char *machine)
{
	static const struct { const char *machine, *arch;
	} names[] = {
	    {"x86_64", "amd64"},    {"aarch64", "arm64"}, {"riscv64", "riscv64"},
	    {"ppc64le", "ppc64le"}, {"s390x", "s390x"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (streq(names[i].machine, machine))
			return names[i].arch;
	return machine;
}

static void component(struct json *list, const char *name, struct json *details)
{
	struct json *c = json_add(list, json_object());

	json_set_str(c, "Name", name);
	json_set_str(c, "Version", INSULA_VERSION);
	json_set(c, "Details", details);
}

static void version(struct request *r, struct engine *e)
{
	_cleanup_free_ char *max = xasprintf("1.%d", API_MINOR_MAX), *min = xasprintf("1.%d", API_MINOR_MIN);
	struct json *j = json_object(), *components;
	struct utsname u = {0};

	uname(&u);
	const char *const facts[][2] = {
	    {"ApiVersion", max},          {"MinAPIVersion", min}, {"GitCommit", ""},
	    {"GoVersion", "none (C)"},    {"Os", "linux"},        {"Arch", go_arch(u.machine)},
	    {"KernelVersion", u.release}, {"BuildTime", ""},
	};
	struct json *details = json_object();

	json_set_str(json_set(j, "Platform", json_object()), "Name", "insula");
	json_set_str(j, "Version", INSULA_VERSION);
	for (size_t i = 0; i < ARRAY_SIZE(facts); i++) {
		json_set_str(j, facts[i][0], facts[i][1]);
		json_set_str(details, facts[i][0], facts[i][1]);
	}
	json_set_str(details, "Experimental", "false");
	components = json_set(j, "Components", json_array());
	component(components, "Engine", details);
	component(components, "insula-shim", json_object());
	component(components, "vmwp", json_object());
	component(components, "insula-runtime", json_object());
	resp_json(r, 200, j);
}

const struct route routes_system[] = {
	{"HEAD", "/_ping", ping},
	{"GET", "/_ping", ping, .watch = true},
	{"GET", "/version", version, .watch = true},
	{"GET", "/info", route_info, .watch = true},
	{"GET", "/events", route_events, .watch = true},
	{"GET", "/system/df", route_df, .watch = true},
	{NULL},
};
