#include "engine/volume.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "engine/container.h"
#include "engine/copyup.h"
#include "engine/db.h"
#include "engine/events.h"
#include "engine/volume_options.h"
#include "engine/worker.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

const char *const volume_filters[] = {"dangling", "driver", "label", "name", NULL};

int volume_name_check(const char *name, struct err *err)
{
	if (strlen(name) == 1)
		return err_msg(err, ERR_INVALID, 0,
			       "create %s: volume name is too short, names should be at least two "
			       "alphanumeric characters",
			       name);
	if (!name_valid(name) || strlen(name) > 255)
		return err_msg(err, ERR_INVALID, 0,
			       "create %s: \"%s\" includes invalid characters for a local volume name, only "
			       "\"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host "
			       "directory, use "
			       "absolute path",
			       name, name);
	return 0;
}

/* One integer column of a volume; -ENOENT. The columns are named by the callers below only. */
static int volume_flag(struct engine *e, const char *sql, const char *name)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	int r = db_query(e->db, &s, NULL, sql, "s", name);

	if (r >= 0)
		r = stmt_step(s, NULL);
	return r < 0 ? r : r == 0 ? -ENOENT : stmt_int(s, 0) != 0;
}

bool volume_exists(struct engine *e, const char *name)
{
	return volume_flag(e, "SELECT 1 FROM volumes WHERE name = ?", name) > 0;
}

bool volume_is_anonymous(struct engine *e, const char *name)
{
	return volume_flag(e, "SELECT anonymous FROM volumes WHERE name = ?", name) > 0;
}

char *volume_path(struct engine *e, const char *name)
{
	return xasprintf("%s/volumes/%s/_data", e->cfg.data_root, name);
}

static struct json *parse_or_empty(const char *s)
{
	struct json *j = NULL;

	return json_parse(s, strlen(s), &j, NULL) < 0 ? json_object() : j;
}

/* As Docker: {} if it was given so, null if it was not given. */
static char *json_text(const struct json *j)
{
	return json_dump(j);
}

static int make_folder(struct engine *e, const char *name, struct err *err)
{
	_cleanup_free_ char *outer = xasprintf("%s/volumes/%s", e->cfg.data_root, name),
			    *inner = volume_path(e, name);

	if ((mkdir(outer, 0701) < 0 && errno != EEXIST) || (mkdir(inner, 0755) < 0 && errno != EEXIST))
		return err_set(err, ERR_SYSTEM, -errno, "create volume '%s'", name);
	return 0;
}

static void volume_event(struct engine *e, const char *action, const char *name)
{
	struct json *a = json_object();

	json_set_str(a, "driver", "local");
	event_emit(e, "volume", action, name, a);
}

int volume_create(struct engine *e, const char *name, bool anonymous, const struct json *labels,
		  const struct json *options, char **ret_name, struct err *err)
{
	_cleanup_free_ char *l = json_text(labels), *o = json_text(options);
	struct id id = id_new();
	int r;

	if (str_empty(name))
		name = id.s;
	r = volume_name_check(name, err);
	if (r == 0)
		r = json_check_strings(labels, "Labels", err);
	if (r == 0)
		r = json_check_strings(options, "DriverOpts", err);
	if (r == 0)
		r = volume_options_check(name, options, err);
	if (r < 0)
		return r;
	if (!volume_exists(e, name)) {
		r = make_folder(e, name, err);
		if (r >= 0)
			r = db_run(
			    e->db, err,
			    "INSERT INTO volumes (name, created_ns, anonymous, labels, options, filled) "
			    "VALUES (?, ?, ?, ?, ?, 0)",
			    "siiss", name, (int64_t)now_real_ns(), (int64_t)anonymous, l, o);
		if (r < 0)
			return r;
		volume_event(e, "create", name);
	}
	if (ret_name)
		*ret_name = xstrdup(name);
	return 0;
}

static char *folder(const struct engine *e, const char *name)
{
	return xasprintf("%s/volumes/%s", e->cfg.data_root, name);
}

int volume_delete(struct engine *e, const char *name, struct err *err)
{
	_cleanup_free_ char *path = folder(e, name);
	int r = db_run(e->db, err, "DELETE FROM volumes WHERE name = ?", "s", name);

	return r < 0 ? r : trash_promise(e, path, err);
}

void volume_deleted(struct engine *e, const char *name)
{
	_cleanup_free_ char *path = folder(e, name);

	volume_forget(e, name);
	trash_promised(e, path);
	volume_event(e, "destroy", name);
}

int volume_remove(struct engine *e, const char *name, bool force, struct err *err)
{
	_cleanup_free_ char *ids = NULL;
	_cleanup_strv_ char **users = NULL;
	int r;

	if (!volume_exists(e, name))
		return force ? 0 : err_msg(err, ERR_NOT_FOUND, 0, "get %s: no such volume", name);
	users = containers_using_volume(e, name);
	if (users) {
		ids = strv_join(users, ", ");
		return err_msg(err, ERR_CONFLICT, 0, "remove %s: volume is in use - [%s]", name, ids);
	}
	r = db_begin(e->db, err);
	if (r >= 0)
		r = volume_delete(e, name, err);
	if (r >= 0)
		r = db_commit(e->db, err);
	else
		db_rollback(e->db);
	if (r < 0)
		return r;
	volume_deleted(e, name);
	return 0;
}

/* ---- looking ---- */


/* A row of: name, created_ns, labels, options. */
static struct json *row_json(struct engine *e, struct stmt *s)
{
	struct json *j = json_object(), *options = parse_or_empty(stmt_str(s, 3));
	_cleanup_free_ char *created = time_rfc3339((uint64_t)stmt_int(s, 1)),
			    *path = volume_path(e, stmt_str(s, 0));

	json_set_str(j, "CreatedAt", created);
	json_set_str(j, "Driver", "local");
	json_set(j, "Labels", parse_or_empty(stmt_str(s, 2)));
	json_set_str(j, "Mountpoint", path);
	json_set_str(j, "Name", stmt_str(s, 0));
	json_set(j, "Options", options);
	json_set_str(j, "Scope", "local");
	return j;
}

struct json *volume_options(struct engine *e, const char *name)
{
	_cleanup_stmt_ struct stmt *s = NULL;

	if (db_query(e->db, &s, NULL, "SELECT options FROM volumes WHERE name = ?", "s", name) < 0 ||
	    stmt_step(s, NULL) <= 0)
		return NULL;
	return parse_or_empty(stmt_str(s, 0));
}

struct json *volume_inspect(struct engine *e, const char *name)
{
	_cleanup_stmt_ struct stmt *s = NULL;

	if (db_query(e->db, &s, NULL, "SELECT name, created_ns, labels, options FROM volumes WHERE name = ?",
		     "s", name) < 0 ||
	    stmt_step(s, NULL) <= 0)
		return NULL;
	return row_json(e, s);
}

struct json *volumes_summaries(struct engine *e)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	struct json *out = json_array();

	if (db_query(e->db, &s, NULL, "SELECT name, created_ns, labels, options FROM volumes ORDER BY name",
		     "") >= 0)
		while (stmt_step(s, NULL) > 0)
			json_add(out, row_json(e, s));
	return out;
}

int volumes_list(struct engine *e, const struct filters *f, struct json **ret, struct err *err)
{
	_cleanup_json_ struct json *all = NULL;
	struct json *out;
	bool dangling = false;
	int r = filters_bool(f, "dangling", false, &dangling, err);

	if (r < 0)
		return r;
	all = volumes_summaries(e);
	out = json_array();
	for (size_t i = 0; i < json_len(all); i++) {
		struct json *v = json_at(all, i);
		const char *name = json_get_str(v, "Name");

		_cleanup_strv_ char **users = containers_using_volume(e, name);

		if (filters_has(f, "dangling") && !users != dangling)
			continue;
		if (filters_match_part(f, "name", name) && filters_match(f, "driver", "local") &&
		    filters_match_labels(f, "label", json_get(v, "Labels")))
			json_add(out, json_ref(v));
	}
	*ret = out;
	return 0;
}

/* ---- first use ---- */

struct fill {
	struct engine *engine;
	char *name, *to, *target;
	char **layers;
	engine_done_fn done;
	void *userdata;
};

static int fill_worker(void *arg, struct sbuf *out, struct err *err)
{
	const struct fill *f = arg;

	return copy_up(f->layers, f->target, f->to, err);
}

static void fill_done(void *ud, int r, const struct err *err, const struct sbuf *out)
{
	struct fill *f = ud;

	if (r >= 0)
		(void)db_run(f->engine->db, NULL, "UPDATE volumes SET filled = 1 WHERE name = ?", "s",
			     f->name);
	f->done(f->userdata, r, err, NULL);
	free(f->name);
	free(f->to);
	free(f->target);
	strv_free(f->layers);
	free(f);
}

void volume_fill(struct engine *e, const char *name, char *const *layer_dirs, const char *target,
		 engine_done_fn done, void *ud)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct fill *f;
	int r;

	if (volume_flag(e, "SELECT filled FROM volumes WHERE name = ?", name) != 0) {
		done(ud, 0, NULL, NULL);
		return;
	}
	f = new0(struct fill);
	*f = (struct fill){
	    e, xstrdup(name), volume_path(e, name), xstrdup(target), strv_copy(layer_dirs), done, ud};
	r = worker_run(e->loop, fill_worker, f, fill_done, f);
	if (r < 0) {
		err_set(&err, ERR_SYSTEM, r, "fill volume '%s'", name);
		fill_done(f, r, &err, NULL);
	}
}
