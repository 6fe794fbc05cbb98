#include "api/routes_containers.h"

#include "base/strv.h"
#include <sys/utsname.h>

static void created(void *ud, int n, const struct err *e, void *result)
{
	struct request *r = ud;
	const struct container_created *made = result;
	struct json *j;

	if (n < 0) {
		resp_error(r, e);
		return;
	}
	j = json_object();
	json_set_str(j, "Id", made->id);
	json_set_strv(j, "Warnings", made->warnings);
	/* Ours: who wants to see how far it is asks for the image's disks first. */
	if (made->disks)
		json_set_int(j, "DisksToMake", (int64_t)made->disks);
	resp_json(r, 201, j);
}

/* "linux", "linux/amd64": what this host runs. */
static bool platform_fits(const char *s)
{
	static const char *const archs[][2] = {{"x86_64", "amd64"}, {"aarch64", "arm64"}};
	struct utsname u = {0};
	const char *arch;

	if (str_empty(s) || streq(s, "linux"))
		return true;
	if (!str_starts(s, "linux/"))
		return false;
	uname(&u);
	arch = u.machine;
	for (size_t i = 0; i < ARRAY_SIZE(archs); i++)
		if (streq(u.machine, archs[i][0]))
			arch = archs[i][1];
	return streq(s + 6, arch);
}

void route_container_create(struct request *r, struct engine *e)
{
	const char *platform = http_query_get(&r->query, "platform");

	if (json_type(r->body) != JSON_OBJECT)
		resp_errorf(r, ERR_INVALID, "invalid JSON: got EOF while reading request body");
	else if (!platform_fits(platform))
		resp_errorf(r, ERR_INVALID,
			    "--platform=%s: insula runs images of the host's own platform only", platform);
	else
		container_create(e, http_query_get(&r->query, "name"), r->body, created, r);
}
