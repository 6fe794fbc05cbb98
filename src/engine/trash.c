/* Deleting trees without blocking: what is to go is renamed into data_root/trash, at once and atomically, and
 * one worker at a time empties that folder. What a crash leaves there goes at the next start, and so does
 * what it has kept from being moved there (promises: rows of the table meta). */
#include "engine/worker.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/strv.h"
#include "engine/db.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct { bool running, again; } state;	/* one engine per process */

static int empty_trash(void *arg, struct sbuf *out, struct err *e)
{
	const char *path = arg;
	DIR *d = opendir(path);
	struct dirent *de;
	int worst = 0;

	if (!d)
		return errno == ENOENT ? 0 : err_set(e, ERR_SYSTEM, -errno, "trash '%s'", path);
	while ((de = readdir(d))) {
		int r;

		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		r = fs_rm_rf(dirfd(d), de->d_name);
		if (r < 0)
			worst = err_set(e, ERR_SYSTEM, r, "trash '%s/%s'", path, de->d_name);
	}
	closedir(d);
	return worst;
}

struct round { struct engine *engine; char *path; };

static void on_emptied(void *userdata, int r, const struct err *e, const struct sbuf *out)
{
	struct round *round = userdata;

	state.running = false;
	if (r < 0)
		log_warn("%s", err_text(e));
	if (state.again && r >= 0)
		trash_start(round->engine);
	free(round->path);
	free(round);
}

void trash_start(struct engine *e)
{
	struct round *round;
	int r;

	state.again = state.running;
	if (state.running)
		return;
	round = new0(struct round);
	*round = (struct round){e, path_join(e->cfg.data_root, "trash")};
	state.running = true;
	r = worker_run(e->loop, empty_trash, round->path, on_emptied, round);
	if (r < 0) {
		state.running = false;
		log_warn("trash: %s", strerror(-r));
		free(round->path);
		free(round);
	}
}

void trash(struct engine *e, const char *path)
{
	_cleanup_free_ char *dir = path_join(e->cfg.data_root, "trash"), *to = NULL;
	struct id name = id_new();

	(void)fs_mkdir_p(dir, 0700);
	to = path_join(dir, name.s);
	if (rename(path, to) == 0)
		trash_start(e);
	else if (errno != ENOENT)
		log_warn("remove '%s': %s", path, strerror(errno));
}

#define PROMISE "trash:"

int trash_promise(struct engine *e, const char *path, struct err *err)
{
	_cleanup_free_ char *key = xasprintf(PROMISE "%s", path);

	return db_meta_set(e->db, key, "", err);
}

void trash_promised(struct engine *e, const char *path)
{
	_cleanup_free_ char *key = xasprintf(PROMISE "%s", path);

	trash(e, path);
	(void)db_run(e->db, NULL, "DELETE FROM meta WHERE key = ?", "s", key);
}

void trash_keep_promises(struct engine *e)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	_cleanup_strv_ char **paths = NULL;

	if (db_query(e->db, &s, NULL, "SELECT key FROM meta WHERE key LIKE '" PROMISE "%'", "") < 0)
		return;
	while (stmt_step(s, NULL) > 0)
		strv_add(&paths, stmt_str(s, 0) + strlen(PROMISE));
	for (char **v = paths; v && *v; v++)
		trash_promised(e, *v);
}

bool trash_empty(const struct engine *e)
{
	_cleanup_free_ char *dir = path_join(e->cfg.data_root, "trash");
	DIR *d = opendir(dir);
	struct dirent *de;
	bool empty = true;

	if (!d)
		return true;
	while (empty && (de = readdir(d)))
		empty = !strcmp(de->d_name, ".") || !strcmp(de->d_name, "..");
	closedir(d);
	return empty;
}
