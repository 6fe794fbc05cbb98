/* A volume with options is mounted while somebody uses it. Mounting may take long (a file server): workers do
 * it, one at a time for each volume, and whoever comes meanwhile waits. */
#include "engine/volume.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "engine/volume_options.h"
#include "engine/worker.h"
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

struct volumes {
	struct hmap used;		/* name -> struct used */
};

struct used {
	struct engine *engine;
	char *name, *path;
	struct json *options;
	unsigned users;			/* waiting ones too */
	bool mounted, busy;
	bool mounting;			/* what the worker is at */
	struct list waiters;
};

struct waiter { struct list link; engine_done_fn done; void *userdata; };

static void used_free(struct used *u)
{
	hmap_remove(&u->engine->volumes->used, u->name);
	list_for_each(w, &u->waiters, struct waiter, link)
		free(w);
	json_free(u->options);
	free(u->name);
	free(u->path);
	free(u);
}

static void answer(struct used *u, int r, const struct err *e)
{
	for (struct waiter *w; (w = list_first(&u->waiters, struct waiter, link));) {
		list_remove(&w->link);
		if (r < 0)
			u->users--;
		w->done(w->userdata, r, e, NULL);
		free(w);
	}
}

static int change_worker(void *arg, struct sbuf *out, struct err *err)
{
	const struct used *u = arg;

	if (u->mounting)
		return volume_options_mount(u->path, u->options, err);
	volume_options_umount(u->path);
	return 0;
}

static void settle(struct used *u);

static void changed(void *ud, int r, const struct err *e, const struct sbuf *out)
{
	struct used *u = ud;

	u->busy = false;
	u->mounted = u->mounting && r >= 0;
	if (r < 0)
		answer(u, r, e);
	settle(u);
}

/* One step toward what is wanted: mounted if there are users. */
static void settle(struct used *u)
{
	_cleanup_err_ struct err err = ERR_INIT;
	int r;

	if (u->busy)
		return;
	if (u->users && u->mounted) {
		answer(u, 0, NULL);
		return;
	}
	if (!u->users && !u->mounted) {
		used_free(u);
		return;
	}
	u->mounting = u->users > 0;
	u->busy = true;
	r = worker_run(u->engine->loop, change_worker, u, changed, u);
	if (r < 0) {
		err_set(&err, ERR_SYSTEM, r, "mount volume '%s'", u->name);
		u->busy = false;
		answer(u, r, &err);
	}
}

static struct used *used_get(struct engine *e, const char *name)
{
	struct used *u = hmap_get(&e->volumes->used, name);
	struct json *options;

	if (u)
		return u;
	options = volume_options(e, name);
	if (!json_len(options)) {
		json_free(options);
		return NULL;
	}
	u = new0(struct used);
	*u = (struct used){.engine = e, .name = xstrdup(name), .path = volume_path(e, name),
			   .options = options};
	list_init(&u->waiters);
	hmap_set(&e->volumes->used, name, u);
	return u;
}

void volume_hold(struct engine *e, const char *name, engine_done_fn done, void *ud)
{
	struct used *u = used_get(e, name);
	struct waiter *w;

	if (!u) {
		done(ud, 0, NULL, NULL);
		return;
	}
	w = new0(struct waiter);
	*w = (struct waiter){.done = done, .userdata = ud};
	list_append(&u->waiters, &w->link);
	u->users++;
	settle(u);
}

void volume_adopt(struct engine *e, const char *name)
{
	struct used *u = used_get(e, name);

	if (u) {
		u->users++;
		u->mounted = true;
	}
}

void volume_drop(struct engine *e, const char *name)
{
	struct used *u = hmap_get(&e->volumes->used, name);

	if (!u || !u->users)
		return;
	u->users--;
	settle(u);
}

/* Detaching does not wait for what is open in it. A worker that is at the same finds nothing to do. */
void volume_forget(struct engine *e, const char *name)
{
	struct used *u = hmap_get(&e->volumes->used, name);

	if (u)
		volume_options_umount(u->path);
}

void volumes_settle(struct engine *e)
{
	_cleanup_json_ struct json *all = volumes_summaries(e);

	for (size_t i = 0; i < json_len(all); i++) {
		const char *name = json_get_str(json_at(all, i), "Name");
		struct used *u = json_len(json_get(json_at(all, i), "Options")) ? used_get(e, name) : NULL;

		if (!u || u->users)
			continue;
		u->mounted = true;	/* as far as is known */
		settle(u);
	}
}

/* Empty folders without a row: the daemon died when it had just made them. */
static void remove_unborn(struct engine *e)
{
	_cleanup_free_ char *path = path_join(e->cfg.data_root, "volumes");
	DIR *d = opendir(path);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		_cleanup_free_ char *outer = path_join(path, de->d_name), *inner = path_join(outer, "_data");

		if (de->d_name[0] != '.' && !volume_exists(e, de->d_name) &&
		    (rmdir(inner) == 0 || errno == ENOENT))
			(void)rmdir(outer);
	}
	if (d)
		closedir(d);
}

int volumes_open(struct engine *e, struct err *err)
{
	e->volumes = new0(struct volumes);
	remove_unborn(e);
	return 0;
}

/* Containers run on, and so does what they have mounted. */
void volumes_close(struct engine *e)
{
	struct hmap_iter it = {0};

	while (hmap_next(&e->volumes->used, &it))
		used_free(it.entry->value);
	hmap_done(&e->volumes->used);
	free(e->volumes);
	e->volumes = NULL;
}
