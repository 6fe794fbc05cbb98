/* What images came as: the archives of layers and the manifests. save and push give them on byte for byte. */
#include "engine/image_int.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/strv.h"
#include "engine/db.h"
#include "engine/worker.h"

#include <dirent.h>
#include <fcntl.h>
#include <errno.h>
#include <string.h>

void image_blob_done(struct image_blob *b)
{
	free(b->digest);
	free(b->media_type);
	*b = (struct image_blob){ 0 };
}

char *image_blob_path(struct engine *e, const char *digest)
{
	return xasprintf("%s/blobs/sha256/%s", e->cfg.data_root, digest_hex(digest));
}

/* The archive that is there already stays the layer's: manifests may name it. */
int image_blobs_store(struct engine *e, const struct json *layers, struct err *err)
{
	int r = 0;

	for (size_t k = 0; r == 0 && k < json_len(layers); k++) {
		const struct json *l = json_at(layers, k), *b = json_get(l, "blob");

		if (b)
			r = db_run(e->db, err,
				   "INSERT OR IGNORE INTO layer_blobs(chain_id, digest, size, media_type) "
				   "VALUES(?, ?, ?, ?)",
				   "ssis", json_get_str(l, "chain"), json_get_str(b, "digest"),
				   json_get_int(b, "size", 0), json_get_str(b, "mediaType"));
	}
	return r;
}

int image_blobs_store_manifest(struct engine *e, const char *id, const struct json *m, struct err *err)
{
	return db_run(
	    e->db, err,
	    "INSERT OR REPLACE INTO image_manifests(image_id, digest, size, media_type) VALUES(?, ?, ?, ?)",
	    "ssis", id, json_get_str(m, "digest"), json_get_int(m, "size", 0), json_get_str(m, "mediaType"));
}

static int query_blob(struct engine *e, const char *sql, const char *key, struct image_blob *ret)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	_cleanup_free_ char *path = NULL;

	if (db_query(e->db, &s, NULL, sql, "s", key) < 0 || stmt_step(s, NULL) <= 0)
		return -ENOENT;
	path = image_blob_path(e, stmt_str(s, 0));
	if (!fs_exists(path))
		return -ENOENT;
	*ret = (struct image_blob){ xstrdup(stmt_str(s, 0)), xstrdup(stmt_str(s, 2)), stmt_int(s, 1) };
	return 0;
}

int image_layer_blob(struct engine *e, const char *chain, struct image_blob *ret, struct err *err)
{
	int r =
	    query_blob(e, "SELECT digest, size, media_type FROM layer_blobs WHERE chain_id = ?", chain, ret);

	if (r < 0)
		return err_msg(err, ERR_NOT_FOUND, r,
			       "the archive of layer %s is not kept: load or pull the image again", chain);
	return 0;
}

/* Each of the manifest's layers must be what is kept of that layer. */
static bool complete(struct engine *e, const struct image *i, const char *digest)
{
	_cleanup_free_ char *path = image_blob_path(e, digest), *text = NULL;
	_cleanup_json_ struct json *doc = NULL;
	const struct json *layers;
	size_t n;

	if (fs_read(AT_FDCWD, path, 4u << 20, &text, &n) < 0 || json_parse_foreign(text, n, &doc, NULL) < 0)
		return false;
	layers = json_get(doc, "layers");
	if (json_len(layers) != strv_len(i->chain_ids) ||
	    !streq(json_get_str(json_get(doc, "config"), "digest"), i->id))
		return false;
	for (size_t k = 0; k < json_len(layers); k++) {
		_cleanup_image_blob_ struct image_blob b = { 0 };

		if (image_layer_blob(e, i->chain_ids[k], &b, NULL) < 0 ||
		    !streq(json_get_str(json_at(layers, k), "digest"), b.digest))
			return false;
	}
	return true;
}

int image_manifest_kept(struct engine *e, const struct image *i, struct image_blob *ret)
{
	return query_blob(e, "SELECT digest, size, media_type FROM image_manifests WHERE image_id = ?", i->id,
			  ret);
}

int image_manifest_blob(struct engine *e, const struct image *i, struct image_blob *ret)
{
	int r = image_manifest_kept(e, i, ret);

	if (r == 0 && !complete(e, i, ret->digest)) {
		image_blob_done(ret);
		return -ENOENT;
	}
	return r;
}

bool image_blob_named(struct engine *e, const char *hex)
{
	_cleanup_free_ char *digest = xasprintf("sha256:%s", hex);
	_cleanup_stmt_ struct stmt *s = NULL;

	if (image_by_id(e, digest) || image_load_holds_blob(e->images, digest))
		return true;
	return db_query(e->db, &s, NULL,
			"SELECT 1 FROM layer_blobs WHERE digest = ? UNION ALL "
			"SELECT 1 FROM image_manifests WHERE digest = ?",
			"ss", digest, digest) < 0 ||
	       stmt_step(s, NULL) != 0;
}

void image_blobs_collect(struct engine *e, bool at_start)
{
	_cleanup_free_ char *dir = path_join(e->cfg.data_root, "blobs/sha256");
	DIR *d = opendir(dir);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		_cleanup_free_ char *path = path_join(dir, de->d_name);
		bool whole = strlen(de->d_name) == ID_LEN && is_hex(de->d_name);

		if (whole ? !image_blob_named(e, de->d_name) : at_start && de->d_type == DT_REG)
			trash(e, path);
	}
	if (d)
		closedir(d);
}
