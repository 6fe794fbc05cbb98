/* Theory of operation.
 *
 * What a load has brought is named by the database at once and used at once; the disk gets it in the
 * background, as waiting for it takes longer than all the rest, and waits for what others write too. Until it
 * is there, table `unsynced` names the layers and images, with the boot of the machine in which they came;
 * and disks of layers, from before they are made. Three things can happen before:
 *
 * - the daemon ends: it syncs them before;
 * - the daemon dies: the kernel still has all that was written, and the next daemon syncs it;
 * - the machine dies: files may be empty. The next daemon sees another boot, and takes out what these rows
 *   name and the images that are built on it: they are as if they had never come.
 *
 * Rows that come while a sync is at work have a higher number, and wait for the next one, as do those of
 * disks that were being made when it began. */
#include "engine/image_int.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "engine/db.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int image_sync_note(struct engine *e, const struct json *doc, struct err *err)
{
	const struct json *layers = json_get(doc, "layers"), *images = json_get(doc, "images");
	_cleanup_free_ char *boot = fs_boot_id();
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_len(layers); i++)
		r = db_run(e->db, err,
			   "INSERT OR REPLACE INTO unsynced(name, boot) SELECT ?1, ?2 WHERE NOT EXISTS "
			   "(SELECT 1 FROM layers JOIN layer_blobs USING (chain_id) WHERE chain_id = ?1)",
			   "ss", json_get_str(json_at(layers, i), "chain"), boot);
	for (size_t i = 0; r == 0 && i < json_len(images); i++)
		r = db_run(e->db, err,
			   "INSERT OR REPLACE INTO unsynced(name, boot) SELECT ?1, ?2 WHERE NOT EXISTS "
			   "(SELECT 1 FROM images WHERE id = ?1)",
			   "ss", json_get_str(json_at(images, i), "id"), boot);
	return r;
}

int image_sync_note_disks(struct engine *e, char *const *paths, struct err *err)
{
	_cleanup_free_ char *boot = fs_boot_id();
	int r = db_begin(e->db, err);

	if (r < 0)
		return r;
	for (; r == 0 && *paths; paths++) {
		_cleanup_free_ char *name = path_join("disks", path_basename(*paths));

		if (!fs_exists(*paths))
			r = db_run(e->db, err, "INSERT OR REPLACE INTO unsynced(name, boot) VALUES(?, ?)",
				   "ss", name, boot);
	}
	if (r == 0)
		return db_commit(e->db, err);
	db_rollback(e->db);
	return r;
}

/* The number of the last row; 0 if there is none. */
static int64_t last_row(struct engine *e)
{
	_cleanup_stmt_ struct stmt *s = NULL;

	if (db_query(e->db, &s, NULL, "SELECT max(seq) FROM unsynced", "") < 0 || stmt_step(s, NULL) <= 0)
		return 0;
	return stmt_int(s, 0);
}

static int sync_store(const struct engine *e, struct err *err)
{
	_cleanup_close_ int fd = open(e->cfg.data_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || syncfs(fd) < 0)
		return err_set(err, ERR_SYSTEM, -errno, "write the images in '%s' to the disk",
			       e->cfg.data_root);
	return 0;
}

static void forget_rows(struct engine *e, int64_t last, bool disks)
{
	_cleanup_err_ struct err err = ERR_INIT;

	if (db_run(e->db, &err, "DELETE FROM unsynced WHERE seq <= ? AND (name NOT LIKE 'disks/%' OR ?)",
		   "ii", last, (int64_t)disks) < 0)
		log_warn("%s", err.msg);
}

static int sync_worker(void *arg, struct sbuf *out, struct err *e)
{
	return sync_store(arg, e);
}

static void synced(void *ud, int r, const struct err *err, const struct sbuf *out)
{
	struct engine *e = ud;
	struct images *im = e->images;
	bool again = im->sync_again;

	/* They stay, for the next load or the daemon's end to try again. */
	if (r < 0)
		log_warn("%s", err->msg);
	else
		forget_rows(e, im->syncing, im->syncing_disks);
	im->syncing = 0;
	im->sync_again = false;
	if (r == 0 && again)
		image_sync_start(e);
}

void image_sync_start(struct engine *e)
{
	struct images *im = e->images;
	int r;

	if (im->syncing) {
		im->sync_again = true;
		return;
	}
	im->syncing = last_row(e);
	im->syncing_disks = !im->disk_busy;
	if (!im->syncing)
		return;
	r = worker_run(e->loop, sync_worker, e, synced, e);
	if (r < 0) {
		log_warn("write the images to the disk: %s", strerror(-r));
		im->syncing = 0;
	}
}

void image_sync_finish(struct engine *e)
{
	_cleanup_err_ struct err err = ERR_INIT;
	int64_t last = last_row(e);

	if (!last)
		return;
	if (sync_store(e, &err) < 0)
		log_warn("%s", err.msg);
	else
		forget_rows(e, last, true);
}

#define LOST "(SELECT name FROM unsynced WHERE boot != ?1)"
#define LOST_IMAGE \
	"id IN " LOST " OR EXISTS (SELECT 1 FROM json_each(chain_ids) WHERE value IN " LOST ")"

static int say_lost(struct engine *e, const char *boot, struct err *err)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	int r = db_query(e->db, &s, err,
			 "SELECT id, (SELECT min(ref) FROM image_tags WHERE image_id = id) FROM images "
			 "WHERE " LOST_IMAGE, "s", boot);

	while (r == 0 && (r = stmt_step(s, err)) > 0) {
		const char *tag = stmt_str(s, 1);

		log_warn("image %s was not on the disk yet when the machine stopped, and is removed: pull or "
			 "load it again", *tag ? tag : stmt_str(s, 0));
		r = 0;
	}
	return r;
}

static int remove_disks(struct engine *e, const char *boot, struct err *err)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	int r = db_query(e->db, &s, err, "SELECT name FROM unsynced WHERE boot != ? AND name LIKE 'disks/%'",
			 "s", boot);

	while (r == 0 && (r = stmt_step(s, err)) > 0) {
		_cleanup_free_ char *path = path_join(e->cfg.data_root, stmt_str(s, 0));

		r = 0;
		if (unlink(path) < 0 && errno != ENOENT)
			r = err_set(err, ERR_SYSTEM, -errno, "remove '%s'", path);
	}
	return r;
}

int image_sync_recover(struct engine *e, struct err *err)
{
	static const char *const sql[] = {
		"DELETE FROM images WHERE " LOST_IMAGE,
		"DELETE FROM layers WHERE chain_id IN " LOST,
		"DELETE FROM layer_blobs WHERE chain_id IN " LOST,
		"DELETE FROM unsynced WHERE boot != ?1",
	};
	_cleanup_free_ char *boot = fs_boot_id();
	int r = say_lost(e, boot, err);

	if (r == 0)
		r = remove_disks(e, boot, err);
	if (r == 0)
		r = db_begin(e->db, err);
	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(sql); i++)
		r = db_run(e->db, err, sql[i], "s", boot);
	if (r == 0)
		return db_commit(e->db, err);
	db_rollback(e->db);
	return r;
}
