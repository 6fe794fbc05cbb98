/* needs: src/engine/container_config.c src/engine/container_validate.c src/engine/container_mounts.c
 * src/engine/container_mount_check.c src/engine/container_ns.c src/engine/container_join.c
 * src/engine/container_devices.c src/engine/container_blkio.c src/engine/container_cpuset.c
 * src/engine/container_log.c src/engine/apparmor.c src/engine/config.c src/engine/health.c
 * src/engine/ports.c src/engine/signal.c src/engine/volume.c src/engine/volume_options.c
 * src/oci/defaults.c src/oci/default_seccomp.c src/oci/id_maps.c src/lib/json.c src/lib/json_write.c
 * src/base/alloc.c src/base/sbuf.c src/base/strv.c src/base/err.c src/base/fd.c src/base/fs.c
 * src/base/hash.c src/base/id.c src/base/log.c src/base/loop.c src/base/proc.c src/base/path.c
 * src/base/size.c src/base/timefmt.c src/base/mount.c
 * -ljson-c -lm -no-pie -Wl,--unresolved-symbols=ignore-all */
/* The rest of the engine is not there: whoever calls it from here crashes. */
/* The body of POST /containers/create, in both isolation modes, beside a container that may be joined,
 * against an image with settings of its own: what is refused says why in one line, and what is accepted
 * makes a document that says what to run, how it is isolated, and where things are mounted. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

/* ---- what the checks ask of the rest of the engine ---- */

static struct engine engine;
static struct container donor = {.engine = &engine};

const char *isolation_name(enum isolation i)
{
	return i == ISOLATION_HYPERV ? "hyperv" : "process";
}

int container_find(struct engine *e, const char *ref, struct container **ret, struct err *err)
{
	if (!streq(ref, "donor"))
		return err_msg(err, ERR_NOT_FOUND, 0, "No such container: %s", ref);
	*ret = &donor;
	return 0;
}

const struct json *ctr_config(const struct container *c)
{
	return json_get(c->doc, "Config");
}

const struct json *ctr_host(const struct container *c)
{
	return json_get(c->doc, "HostConfig");
}

const char *ctr_network(const struct container *c)
{
	return json_get_str(ctr_host(c), "NetworkMode");
}

/* ---- the target ---- */

static struct json *parse(const char *text)
{
	struct json *j = NULL;

	if (json_parse(text, strlen(text), &j, NULL) < 0)
		__builtin_trap();
	return j;
}

static const char image_text[] =
    "{\"Env\":[\"PATH=/bin\",\"A=b\"],\"Entrypoint\":[\"/init\"],\"Cmd\":[\"sh\"],\"WorkingDir\":\"/w\","
    "\"Volumes\":{\"/data\":{}},\"ExposedPorts\":{\"80/tcp\":{}},\"Labels\":{\"l\":\"v\"},"
    "\"Healthcheck\":{\"Test\":[\"CMD\",\"true\"],\"Interval\":1000000000}}";

static void set_up(void)
{
	engine.cfg.data_root = xstrdup("/nowhere/data");
	engine.cfg.exec_root = xstrdup("/nowhere/run");
	engine.cfg.vm_dir = xstrdup("/nowhere/vm");
	engine.cfg.default_isolation = ISOLATION_PROCESS;
	donor.id = xstrdup("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
	donor.name = xstrdup("donor");
	donor.doc = parse("{\"HostConfig\":{\"IpcMode\":\"shareable\",\"NetworkMode\":\"bridge\"},"
			  "\"Config\":{},\"Mounts\":[{\"Type\":\"volume\",\"Name\":\"v1\","
			  "\"Source\":\"/nowhere/v1\",\"Destination\":\"/shared\",\"RW\":true,"
			  "\"Propagation\":\"\"}]}");
}

static void check_document(const struct json *doc, enum isolation isolation)
{
	const struct json *mounts = json_get(doc, "Mounts"), *host = json_get(doc, "HostConfig");

	must(!str_empty(json_get_str(doc, "Path")) && json_type(json_get(doc, "Args")) == JSON_ARRAY);
	must(streq(json_get_str(host, "Isolation"), isolation_name(isolation)));
	must(!str_empty(json_get_str(host, "NetworkMode")));
	must(json_type(json_get(json_get(doc, "Config"), "Env")) == JSON_ARRAY);
	must(json_type(mounts) == JSON_ARRAY);
	for (size_t i = 0; i < json_len(mounts); i++) {
		const char *to = json_get_str(json_at(mounts, i), "Destination");

		must(to && to[0] == '/' && to[1]);
		must(json_get_str(json_at(mounts, i), "Source") != NULL);
	}
}

static void create(const struct json *body, const struct json *image, enum isolation isolation)
{
	struct create_ctx x = {
	    .engine = &engine, .body = body, .image_config = image, .isolation = isolation};
	_cleanup_json_ struct json *doc = NULL;
	_cleanup_err_ struct err e = ERR_INIT;

	if (config_build(&x, &doc, &e) < 0)
		must(!str_empty(err_text(&e)));
	else
		check_document(doc, isolation);
	strv_free(x.warnings);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct json *image;
	_cleanup_json_ struct json *body = NULL;

	if (!image) {
		image = parse(image_text);
		set_up();
	}
	if (json_parse((const char *)p, n, &body, NULL) < 0 || json_type(body) != JSON_OBJECT)
		return 0;
	for (enum isolation i = ISOLATION_PROCESS; i <= ISOLATION_HYPERV; i++) {
		donor.isolation = i;
		create(body, image, i);
		create(body, NULL, i);
	}
	return 0;
}
