/* The table of containers, and what is asked of one without changing it. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/strv.h"
#include "engine/db.h"
#include "engine/events.h"
#include "engine/health.h"
#include "engine/volume.h"
#include <errno.h>
#include <string.h>

struct container_wait {
	struct list link;
	enum wait_condition cond;
	container_wait_fn fn;
	void *userdata;
};

struct container *container_new(struct engine *e, const char *id, const char *name)
{
	struct container *c = new0(struct container);

	c->engine = e;
	c->refs = 1;
	c->id = xstrdup(id);
	c->name = xstrdup(name);
	c->sandbox = xstrdup(id);
	c->dir = xasprintf("%s/containers/%s", e->cfg.data_root, id);
	c->error = xstrdup("");
	list_init(&c->ops);
	list_init(&c->waiters);
	list_init(&c->held);
	return c;
}

struct container *container_ref(struct container *c)
{
	c->refs++;
	return c;
}

void container_unref(struct container *c)
{
	if (!c || --c->refs)
		return;
	free(c->id);
	free(c->name);
	free(c->image_id);
	free(c->dir);
	free(c->sandbox);
	free(c->error);
	json_free(c->doc);
	json_free(c->ports);
	free(c->ports_target);
	strv_free(c->volumes);
	health_free(c->health);
	free(c);
}

void container_insert(struct container *c)
{
	struct containers *t = c->engine->containers;

	hmap_set(&t->by_id, c->id, c);
	hmap_set(&t->by_name, c->name, c);
	list_append(&t->all, &c->link);
}

void container_drop(struct container *c)
{
	struct containers *t = c->engine->containers;

	if (c->gone)
		return;
	c->gone = true;
	hmap_remove(&t->by_id, c->id);
	hmap_remove(&t->by_name, c->name);
	list_remove(&c->link);
	restart_cancel(c);
	loop_source_free(TAKE_PTR(c->files_timer));
	health_stop(c);
	held_drop(c);
	execs_of_exited(c, true);
	container_tell_waiters(c, false);
	container_tell_waiters(c, true);
	ops_flush(c);
	container_unref(c);
}

/* ---- looking ---- */

static struct container *find_prefix(struct containers *t, const char *prefix, bool *ret_ambiguous)
{
	struct container *found = NULL;

	*ret_ambiguous = false;
	list_for_each(c, &t->all, struct container, link) {
		if (!str_starts(c->id, prefix))
			continue;
		if (found)
			*ret_ambiguous = true;
		found = c;
	}
	return found;
}

int container_find(struct engine *e, const char *ref, struct container **ret, struct err *err)
{
	struct containers *t = e->containers;
	const char *name = *ref == '/' ? ref + 1 : ref;
	struct container *c = hmap_get(&t->by_id, name);
	bool ambiguous = false;

	if (!c)
		c = hmap_get(&t->by_name, name);
	if (!c && *name && is_hex(name))
		c = find_prefix(t, name, &ambiguous);
	if (ambiguous)
		return err_msg(err, ERR_INVALID, 0, "Multiple IDs found with provided prefix: %s", name);
	if (!c)
		return err_msg(err, ERR_NOT_FOUND, 0, "No such container: %s", ref);
	*ret = c;
	return 0;
}

const char *container_id(const struct container *c)
{
	return c->id;
}

const char *container_name(const struct container *c)
{
	return c->name;
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
	return json_get_str(ctr_host(c), "NetworkMode") ?: "bridge";
}

bool container_tty(const struct container *c)
{
	return json_get_bool(ctr_config(c), "Tty", false);
}

bool container_running(const struct container *c)
{
	return c->status == CTR_RUNNING;
}

enum isolation container_isolation(const struct container *c)
{
	return c->isolation;
}

int not_running(const struct container *c, struct err *err)
{
	return err_msg(err, ERR_CONFLICT, 0, "container %s is not running", c->id);
}

/* ---- for other parts ---- */

void containers_count(struct engine *e, unsigned *ret_running, unsigned *ret_paused, unsigned *ret_stopped)
{
	*ret_running = *ret_paused = *ret_stopped = 0;
	list_for_each(c, &e->containers->all, struct container, link) {
		if (c->paused)
			++*ret_paused;
		else if (c->status == CTR_RUNNING)
			++*ret_running;
		else
			++*ret_stopped;
	}
}

bool containers_settling(struct engine *e)
{
	return e->containers->zombies > 0;
}

char **containers_using_volume(struct engine *e, const char *name)
{
	char **ids = NULL;

	list_for_each(c, &e->containers->all, struct container, link) {
		const struct json *mounts = json_get(c->doc, "Mounts");

		for (size_t i = 0; i < json_len(mounts); i++)
			if (streq(json_get_str(json_at(mounts, i), "Name"), name)) {
				strv_add(&ids, c->id);
				break;
			}
	}
	return ids;
}

const struct container *containers_use_image(struct engine *e, const char *image_id)
{
	const struct container *found = NULL;

	list_for_each(c, &e->containers->all, struct container, link)
		if (streq(c->image_id, image_id) && (!found || c->status == CTR_RUNNING))
			found = c;
	return found;
}

/* ---- waiting ---- */

struct container_wait *container_wait_add(struct container *c, enum wait_condition cond, container_wait_fn fn,
					  void *ud)
{
	struct container_wait *w;

	if (cond == WAIT_NOT_RUNNING && c->status != CTR_RUNNING && ctr_shown(c) != CTR_RESTARTING) {
		fn(ud, c->exit_code);
		return NULL;
	}
	w = new0(struct container_wait);
	*w = (struct container_wait){.cond = cond, .fn = fn, .userdata = ud};
	list_append(&c->waiters, &w->link);
	return w;
}

void container_wait_cancel(struct container_wait *w)
{
	if (!w)
		return;
	list_remove(&w->link);
	free(w);
}

/* Those to be told are moved to a list of their own first: a callback may add or cancel others. */
void container_tell_waiters(struct container *c, bool removed)
{
	struct list due;
	struct container_wait *w;

	list_init(&due);
	list_for_each(o, &c->waiters, struct container_wait, link)
		if ((o->cond == WAIT_REMOVED) == removed) {
			list_remove(&o->link);
			list_append(&due, &o->link);
		}
	container_ref(c);
	while ((w = list_first(&due, struct container_wait, link))) {
		list_remove(&w->link);
		w->fn(w->userdata, c->exit_code);
		free(w);
	}
	container_unref(c);
}

/* ---- events ---- */

void container_event(struct container *c, const char *action, struct json *more)
{
	struct json *a = json_object();
	const struct json *labels = json_get(ctr_config(c), "Labels");
	struct json_iter it = {0};

	while (json_next(labels, &it))
		json_set_str(a, it.key, json_str(it.value));
	it = (struct json_iter){0};
	while (json_next(more, &it))
		json_set_str(a, it.key, json_str(it.value));
	json_set_str(a, "image", json_get_str(ctr_config(c), "Image"));
	json_set_str(a, "name", c->name);
	json_free(more);
	event_emit(c->engine, "container", action, c->id, a);
}

/* ---- opening and closing ---- */

int containers_open(struct engine *e, struct err *err)
{
	struct containers *t = new0(struct containers);
	int r;

	t->engine = e;
	list_init(&t->all);
	e->containers = t;
	t->boot_id = fs_boot_id();
	r = containers_load(e, err);
	if (r < 0)
		return r;
	containers_adopt(e);
	if (t->foreign)
		return err_msg(err, ERR_CONFLICT, -EPROTONOSUPPORT,
			       "container %s was started by another version of insula and still runs: stop "
			       "it with that version, or end its supervisor, before this one can take over",
			       t->foreign->id);
	return db_meta_set(e->db, "boot_id", t->boot_id, err);
}

static void container_close(struct container *c)
{
	loop_source_free(c->restart_timer);
	held_drop(c);
	list_for_each(w, &c->waiters, struct container_wait, link)
		container_wait_cancel(w);
	list_remove(&c->link);
	container_unref(c);
}

/* Operations at work are left as they are: the process ends. Their effects are as after a crash. */
void containers_close(struct engine *e)
{
	struct containers *t = e->containers;

	if (!t)
		return;
	execs_close(e);
	sups_close(e);
	list_for_each(c, &t->all, struct container, link)
		container_close(c);
	hmap_done(&t->by_id);
	hmap_done(&t->by_name);
	hmap_done(&t->execs);
	free(t->boot_id);
	free(t);
	e->containers = NULL;
}
