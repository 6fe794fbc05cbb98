/* Opens and closes the parts of the engine in the order in which they need each other. */
#include "engine/engine.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/strv.h"
#include "engine/accel.h"
#include "engine/apparmor.h"
#include "engine/template.h"
#include "engine/config.h"
#include "engine/container.h"
#include "engine/db.h"
#include "engine/events.h"
#include "engine/image.h"
#include "engine/network.h"
#include "engine/publish.h"
#include "engine/volume.h"
#include "engine/worker.h"
#include <errno.h>
#include <fcntl.h>

const char *isolation_name(enum isolation i)
{
	return i == ISOLATION_HYPERV ? "hyperv" : "process";
}

/* The roots' folders. All but volumes and layers hold what other users have no business to see. */
static int make_dirs(const struct engine_config *c, struct err *e)
{
	static const char *const data[] = {"blobs/sha256", "layers", "disks", "containers",
					   "volumes",      "trash",  "tmp",   "vm"};
	static const char *const exec[] = {"sandboxes", "seccomp", "vm", "resolver"};
	const struct { const char *root; const char *const *dirs; size_t n; mode_t mode; } sets[] = {
		{c->data_root, data, ARRAY_SIZE(data), 0710},
		{c->exec_root, exec, ARRAY_SIZE(exec), 0755},
	};

	for (size_t s = 0; s < ARRAY_SIZE(sets); s++) {
		int r = fs_mkdir_p(sets[s].root, sets[s].mode);

		if (r < 0)
			return err_set(e, ERR_SYSTEM, r, "create '%s'", sets[s].root);
		for (size_t i = 0; i < sets[s].n; i++) {
			_cleanup_free_ char *path = path_join(sets[s].root, sets[s].dirs[i]);

			r = fs_mkdir_p(path, 0711);
			if (r < 0)
				return err_set(e, ERR_SYSTEM, r, "create '%s'", path);
		}
	}
	return 0;
}

static int open_id(struct engine *e, struct err *err)
{
	struct id id;

	e->id = db_meta_get(e->db, "id");
	if (e->id)
		return 0;
	id = id_new();
	e->id = xasprintf("%.8s-%.4s-%.4s-%.4s-%.12s", id.s, id.s + 8, id.s + 12, id.s + 16, id.s + 20);
	return db_meta_set(e->db, "id", e->id, err);
}

static int open_db(struct engine *e, struct err *err)
{
	_cleanup_free_ char *path = path_join(e->cfg.data_root, "insula.db");
	int r = db_open(path, &e->db, err);

	return r < 0 ? r : open_id(e, err);
}

static int open_trash(struct engine *e, struct err *err)
{
	trash_keep_promises(e);
	return 0;
}

static int open_events(struct engine *e, struct err *err)
{
	int r = events_open(e);

	return r < 0 ? err_set(err, ERR_SYSTEM, r, "events") : 0;
}

int engine_open(struct loop *l, const struct engine_config *cfg, struct engine **ret, struct err *err)
{
	static int (*const parts[])(struct engine *, struct err *) = {
		open_db,      open_trash,   open_events,  images_open,
		networks_open, publish_open, volumes_open, containers_open,
	};
	struct engine *e;
	int r;

	if (fs_kernel_lacks())
		return err_msg(err, ERR_SYSTEM, -ENOSYS, "this kernel is too old: insula needs %s",
			       fs_kernel_lacks());
	e = new0(struct engine);
	e->loop = l;
	group_home_open("/insula/supervisors", &e->home);
	engine_config_copy(cfg, &e->cfg);
	apparmor_init();
	r = make_dirs(&e->cfg, err);
	for (size_t i = 0; i < ARRAY_SIZE(parts) && r >= 0; i++)
		r = parts[i](e, err);
	if (r < 0) {
		engine_close(e);
		return r;
	}
	if (!trash_empty(e))
		trash_start(e);
	*ret = e;
	return 0;
}

/* Containers and their supervisors run on. */
void engine_close(struct engine *e)
{
	if (!e)
		return;
	if (e->networks)
		networks_settle(e);
	if (e->containers)
		containers_close(e);
	if (e->volumes)
		volumes_close(e);
	if (e->networks)
		networks_close(e);
	publish_close(e);
	if (e->images)
		images_close(e);
	accel_close(e);
	template_close(e);
	events_close(e);
	if (e->db)
		db_close(e->db);
	engine_config_done(&e->cfg);
	group_home_close(&e->home);
	free(e->id);
	free(e);
}
