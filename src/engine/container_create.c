#include "engine/container_int.h"
#include "engine/firewall.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "engine/accel.h"
#include "engine/template.h"
#include "engine/db.h"
#include "engine/guest_kernel.h"
#include "engine/image.h"
#include "engine/network.h"
#include "engine/publish.h"
#include "engine/worker.h"
#include "oci/image_needs.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

/* A creation that waits for the verdict on the accelerator. */
struct creating {
	struct engine *engine;
	char *name;
	struct json *body;
	enum isolation isolation;
	engine_done_fn done;
	void *userdata;
	char **warnings;
	uint64_t disks;			/* bytes that the first start has to convert */
};

int container_name_check(const char *name, struct err *err)
{
	if (!name_valid(name) || strlen(name) > 255)
		return err_msg(err, ERR_INVALID, 0,
			       "Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
			       name);
	return 0;
}

int container_name_taken(const char *name, const struct container *by, struct err *err)
{
	return err_msg(
	    err, ERR_CONFLICT, 0,
	    "Conflict. The container name \"/%s\" is already in use by container \"%s\". You have to "
	    "remove (or rename) that container to be able to reuse that name.",
	    name, by->id);
}

static int choose_name(struct creating *k, char **ret, struct err *err)
{
	const char *name = k->name && *k->name == '/' ? k->name + 1 : k->name;
	struct container *other;
	int r;

	if (str_empty(name)) {
		*ret = container_random_name(k->engine);
		return 0;
	}
	r = container_name_check(name, err);
	if (r < 0)
		return r;
	other = hmap_get(&k->engine->containers->by_name, name);
	if (other)
		return container_name_taken(name, other, err);
	*ret = xstrdup(name);
	return 0;
}

/* What the image asks of a kernel: of the host's, which process isolation shares, or of the guest's. */
static int check_kernel(const struct engine *e, const struct image *i, enum isolation isolation,
			struct err *err)
{
	const char *name = i->tags ? i->tags[0] : i->id;
	_cleanup_free_ char *guest = NULL, *of_host = NULL, *of_guest = NULL;
	bool host_fits, guest_fits;
	struct utsname host = { 0 };

	(void)uname(&host);
	host_fits = image_needs_met(i->config, host.release, &of_host);
	if (host_fits && isolation == ISOLATION_PROCESS)
		return 0;
	guest = guest_kernel_release(e);
	guest_fits = image_needs_met(i->config, guest ?: "0", &of_guest);
	if (isolation == ISOLATION_PROCESS)
		return err_msg(err, ERR_INVALID, 0,
			       "image \"%s\" needs %s, and process isolation shares the kernel of this host, "
			       "%s%s", name, of_host, host.release,
			       guest_fits ? ": use --isolation=hyperv" : "");
	return guest_fits ? 0
			  : err_msg(err, ERR_INVALID, 0,
				    "image \"%s\" needs %s, and the kernel of virtual machines here is %s%s",
				    name, of_guest, guest ?: "of unknown release",
				    host_fits ? ": use --isolation=process" : "");
}

static int check_platform(const struct engine *e, const struct image *i, enum isolation isolation,
			  struct err *err)
{
	const char *os = json_get_str(i->config, "os");

	if (!str_empty(os) && !streq(os, "linux"))
		return err_msg(err, ERR_INVALID, 0,
			       "image operating system \"%s\" cannot be used on this platform", os);
	return check_kernel(e, i, isolation, err);
}

/* Who waits for the first start is told why. */
static void warn_of_disks(struct creating *k, const struct image *i)
{
	_cleanup_free_ char *size = NULL;

	if (k->isolation != ISOLATION_HYPERV)
		return;
	k->disks = image_disks_missing(k->engine, i);
	size = size_human((double)k->disks);
	if (k->disks)
		strv_addf(&k->warnings,
			  "hyperv: the first start converts %s of the image to disks, which takes a while.",
			  size);
}

static int make_folder(struct container *c, struct err *err)
{
	if (mkdir(c->dir, 0710) < 0)
		return err_set(err, ERR_SYSTEM, -errno, "create '%s'", c->dir);
	return 0;
}

/* With the volumes that are made for it, or not at all. */
static int store(struct container *c, struct err *err)
{
	struct db *db = c->engine->db;
	int r = db_begin(db, err);

	if (r < 0)
		return r;
	r = mounts_prepare(c, err);
	if (r >= 0)
		r = container_store(c, err);
	if (r >= 0)
		return db_commit(db, err);
	db_rollback(db);
	return r;
}

static void warn_of_macvlan(struct engine *e, const struct json *hc, char ***warnings)
{
	const char *driver = network_driver(e, json_get_str(hc, "NetworkMode"));

	if (streq(driver, "macvlan") &&
	    (json_len(json_get(hc, "PortBindings")) || json_get_bool(hc, "PublishAllPorts", false)))
		strv_addf(warnings, "Published ports are discarded when using %s network mode", driver);
}

static int create(struct creating *k, struct container **ret, struct err *err)
{
	struct engine *e = k->engine;
	const char *ref = json_get_str(k->body, "Image");
	struct create_ctx x = {.engine = e, .body = k->body, .isolation = k->isolation};
	_cleanup_free_ char *name = NULL;
	_cleanup_json_ struct json *doc = NULL;
	struct json *networks;
	struct container *c;
	struct image *image;
	struct id id = id_new();
	int r;

	if (str_empty(ref))
		return err_msg(err, ERR_INVALID, 0, "no image specified: Config.Image is empty");
	r = choose_name(k, &name, err);
	if (r >= 0)
		r = image_find(e, ref, &image, err);
	if (r >= 0)
		r = check_platform(e, image, k->isolation, err);
	if (r < 0)
		return r;
	x.image_config = json_get(image->config, "config");
	r = config_build(&x, &doc, err);
	if (r >= 0)
		r = attachments_build(&x, json_get_str(json_get(doc, "HostConfig"), "NetworkMode"),
				      &networks, err);
	if (r >= 0)
		json_set(doc, "Networks", networks);
	strv_extend(&k->warnings, x.warnings);
	strv_free(x.warnings);
	if (r < 0)
		return r;
	firewall_warn(e, networks, &k->warnings);
	warn_of_macvlan(e, json_get(doc, "HostConfig"), &k->warnings);
	c = container_new(e, id.s, name);
	c->image_id = xstrdup(image->id);
	c->isolation = k->isolation;
	c->created_ns = now_real_ns();
	c->doc = TAKE_PTR(doc);
	r = make_folder(c, err);
	if (r >= 0) {
		r = store(c, err);
		if (r < 0)
			trash(e, c->dir);
	}
	if (r < 0) {
		container_unref(c);
		return r;
	}
	container_insert(c);
	container_event(c, "create", NULL);
	warn_of_disks(k, image);
	*ret = c;
	return 0;
}

static void creating_finish(struct creating *k, int r, const struct err *e)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct container *c = NULL;

	if (r >= 0) {
		r = create(k, &c, &err);
		e = &err;
	}
	struct container_created made = {c ? c->id : NULL, k->warnings, k->disks};

	k->done(k->userdata, r, e, &made);
	free(k->name);
	json_free(k->body);
	strv_free(k->warnings);
	free(k);
}

static void accel_known(void *ud, int r, const struct err *e, void *result)
{
	struct creating *k = ud;
	const struct accel *a = result;

	if (r >= 0 && streq(a->name, "tcg"))
		strv_addf(&k->warnings,
			  "hyperv: qemu/tcg (%s): software emulation, slower and not a hardware boundary.",
			  a->reason);
	creating_finish(k, r, e);
}

void container_create(struct engine *e, const char *name, const struct json *body, engine_done_fn done,
		      void *ud)
{
	struct creating *k = new0(struct creating);
	_cleanup_err_ struct err err = ERR_INIT;
	int r;

	*k = (struct creating){
	    .engine = e, .name = xstrdup(name), .body = json_copy(body), .done = done, .userdata = ud};
	r = isolation_parse(e, json_get_str(json_get(body, "HostConfig"), "Isolation"), &k->isolation, &err);
	if (r >= 0 && k->isolation == ISOLATION_HYPERV)
		r = guest_kernel_check(e, &err);
	if (r >= 0 && k->isolation == ISOLATION_HYPERV)
		accel_get(e, accel_known, k);
	else
		creating_finish(k, r, &err);
}
