/* The store: images in memory and in the database, references, tags, removal. */
#include "engine/image_int.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "engine/container.h"
#include "engine/db.h"
#include "engine/events.h"
#include "engine/worker.h"
#include "oci/ref.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

#define PARTIAL_AGE_S (7u * 24 * 3600)

const char *digest_hex(const char *digest)
{
	const char *colon = strchr(digest, ':');

	return colon ? colon + 1 : digest;
}

static void image_free(struct image *i)
{
	free(i->id);
	json_free(i->config);
	strv_free(i->chain_ids);
	strv_free(i->tags);
	strv_free(i->digests);
	free(i);
}

struct image *image_by_id(struct engine *e, const char *id)
{
	return id ? hmap_get(&e->images->by_id, id) : NULL;
}

struct image *const *images_all(struct engine *e, size_t *ret_n)
{
	*ret_n = e->images->n;
	return e->images->v;
}

void image_insert(struct images *im, struct image *i)
{
	size_t k = im->n;

	im->v = xrealloc(im->v, im->n + 1, sizeof *im->v);
	for (; k > 0 && im->v[k - 1]->created_ns > i->created_ns; k--)
		im->v[k] = im->v[k - 1];
	im->v[k] = i;
	im->n++;
	hmap_set(&im->by_id, i->id, i);
}

/* Those that another image has got meanwhile stay its own. */
static void forget_names(struct images *im, const struct image *i, char *const *names)
{
	for (; names && *names; names++)
		if (hmap_get(&im->by_name, *names) == i)
			hmap_remove(&im->by_name, *names);
}

void image_drop(struct images *im, struct image *i)
{
	for (size_t k = 0; k < im->n; k++)
		if (im->v[k] == i) {
			memmove(&im->v[k], &im->v[k + 1], (im->n - k - 1) * sizeof *im->v);
			im->n--;
			break;
		}
	forget_names(im, i, i->tags);
	forget_names(im, i, i->digests);
	hmap_remove(&im->by_id, i->id);
	image_free(i);
}

void image_event(struct engine *e, const struct image *i, const char *action, const char *ref)
{
	struct json *a = json_object();

	json_set_str(a, "name", ref ? ref : i->tags ? i->tags[0] : i->id);
	event_emit(e, "image", action, i->id, a);
}

void image_summary(struct json_writer *w, const struct image *i, char *const *tags)
{
	jw_object(w, NULL);
	jw_str(w, "Id", i->id);
	jw_str(w, "ParentId", "");
	jw_strv(w, "RepoTags", tags);
	jw_strv(w, "RepoDigests", i->digests);
	jw_int(w, "Created", (int64_t)(i->created_ns / 1000000000));
	jw_int(w, "Size", (int64_t)i->size);
	jw_int(w, "SharedSize", -1);
	jw_int(w, "VirtualSize", (int64_t)i->size);
	jw_value(w, "Labels", json_get(json_get(i->config, "config"), "Labels"));
	jw_int(w, "Containers", -1);
	jw_end(w);
}

size_t images_count(struct engine *e)
{
	return e->images->n;
}

/* --- opening --- */

static int load_names(struct engine *e, struct image *i, const char *sql, char ***to, struct err *err)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	int r = db_query(e->db, &s, err, sql, "s", i->id);

	while (r == 0 && (r = stmt_step(s, err)) > 0) {
		strv_add(to, stmt_str(s, 0));
		hmap_set(&e->images->by_name, stmt_str(s, 0), i);
		r = 0;
	}
	return r;
}

static int load_images(struct engine *e, struct err *err)
{
	_cleanup_stmt_ struct stmt *s = NULL;
	int r =
	    db_query(e->db, &s, err,
		     "SELECT id, config, created_ns, size, chain_ids FROM images ORDER BY created_ns", "");

	if (r < 0)
		return r;
	while ((r = stmt_step(s, err)) > 0) {
		_cleanup_json_ struct json *chains = json_object(), *list = NULL;
		struct image *i = new0(struct image);

		i->id = xstrdup(stmt_str(s, 0));
		i->created_ns = (uint64_t)stmt_int(s, 2);
		i->size = (uint64_t)stmt_int(s, 3);
		r = json_parse(stmt_str(s, 1), strlen(stmt_str(s, 1)), &i->config, err);
		if (r == 0)
			r = json_parse(stmt_str(s, 4), strlen(stmt_str(s, 4)), &list, err);
		if (r < 0) {
			image_free(i);
			return err_wrap(err, r, "image in the database");
		}
		json_set(chains, "ids", json_ref(list));
		i->chain_ids = json_get_strv(chains, "ids");
		image_insert(e->images, i);
	}
	for (size_t k = 0; r == 0 && k < e->images->n; k++) {
		struct image *i = e->images->v[k];

		r = load_names(e, i, "SELECT ref FROM image_tags WHERE image_id = ? ORDER BY ref", &i->tags,
			       err);
		if (r == 0)
			r = load_names(e, i, "SELECT ref FROM image_digests WHERE image_id = ? ORDER BY ref",
				       &i->digests, err);
	}
	return r;
}

/* By another image than that one, which may be NULL. */
static bool chain_used(const struct images *im, const struct image *but, const char *hex)
{
	for (size_t k = 0; k < im->n; k++)
		for (char **c = im->v[k]->chain_ids; im->v[k] != but && c && *c; c++)
			if (streq(digest_hex(*c), hex))
				return true;
	return image_load_holds(im, hex) || image_pull_holds(im, hex);
}

/* What a crash or a removal has left without an image: layers and disks that no chain names. Merged disks
 * are called m-HEX after the chain they end with. */
static void collect(struct engine *e, const char *folder, const char *suffix)
{
	_cleanup_free_ char *dir = path_join(e->cfg.data_root, folder);
	DIR *d = opendir(dir);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		_cleanup_free_ char *name = xstrdup(de->d_name), *path = path_join(dir, de->d_name);
		char *hex = str_starts(name, "m-") ? name + 2 : name;

		if (!str_ends(hex, suffix) || strlen(hex) != ID_LEN + strlen(suffix))
			continue;
		hex[ID_LEN] = 0;
		if (is_hex(hex) && !chain_used(e->images, NULL, hex))
			trash(e, path);
	}
	if (d)
		closedir(d);
}

static void collect_staging(struct engine *e)
{
	_cleanup_free_ char *dir = path_join(e->cfg.data_root, "tmp");
	DIR *d = opendir(dir);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		_cleanup_free_ char *path = path_join(dir, de->d_name);

		if (!streq(de->d_name, ".") && !streq(de->d_name, ".."))
			trash(e, path);
	}
	if (d)
		closedir(d);
}

void image_collect(struct engine *e, bool at_start)
{
	collect(e, "layers", "");
	collect(e, "disks", ".erofs");
	image_blobs_collect(e, at_start);
}

int images_open(struct engine *e, struct err *err)
{
	int r;

	e->images = new0(struct images);
	e->images->engine = e;
	list_init(&e->images->loads);
	list_init(&e->images->pulls);
	list_init(&e->images->disk_jobs);
	r = image_sync_recover(e, err);
	if (r == 0)
		r = load_images(e, err);
	if (r < 0)
		return r;
	image_sync_start(e);
	image_collect(e, true);
	image_pull_collect(e, PARTIAL_AGE_S);
	collect_staging(e);
	return 0;
}

void images_close(struct engine *e)
{
	image_sync_finish(e);
	while (e->images->n)
		image_drop(e->images, e->images->v[0]);
	hmap_done(&e->images->by_id);
	hmap_done(&e->images->by_name);
	free(e->images->v);
	free(e->images);
	e->images = NULL;
}

/* --- finding --- */

/* By a tag or by NAME@DIGEST. */
static struct image *by_name(struct engine *e, const char *familiar)
{
	return hmap_get(&e->images->by_name, familiar);
}

/* A digest says all; a tag beside it is only for people. */
static char *name_of(const struct ref *ref)
{
	_cleanup_free_ char *name = ref->digest ? ref_familiar_name(ref) : NULL;

	return name ? xasprintf("%s@%s", name, ref->digest) : ref_familiar(ref);
}

/* ID, or the beginning of just one. */
static int by_prefix(struct engine *e, const char *s, struct image **ret, struct err *err)
{
	struct image *found = NULL;

	if (str_starts(s, "sha256:"))
		s += 7;
	if (!is_hex(s) || strlen(s) > ID_LEN)
		return -ENOENT;
	for (size_t k = 0; k < e->images->n; k++)
		if (str_starts(digest_hex(e->images->v[k]->id), s)) {
			if (found)
				return err_msg(err, ERR_INVALID, -EEXIST, "ambiguous image id prefix: %s", s);
			found = e->images->v[k];
		}
	*ret = found;
	return found ? 0 : -ENOENT;
}

int image_find(struct engine *e, const char *s, struct image **ret, struct err *err)
{
	_cleanup_ref_ struct ref ref = { 0 };
	_cleanup_free_ char *familiar = NULL;
	_cleanup_err_ struct err bad = ERR_INIT;
	struct image *i = NULL;
	int r = ref_parse(s, &ref, &bad);

	if (r == 0) {
		familiar = name_of(&ref);
		i = by_name(e, familiar);
	}
	if (!i) {
		int p = by_prefix(e, s, &i, err);

		if (p == -EEXIST)
			return p;
	}
	if (i) {
		*ret = i;
		return 0;
	}
	if (r < 0 && !is_hex(s) && !str_starts(s, "sha256:")) {
		err_move(err, &bad);
		return r;
	}
	return err_msg(err, ERR_NOT_FOUND, 0, "No such image: %s", familiar && r == 0 ? familiar : s);
}

char **image_layer_dirs(struct engine *e, const struct image *i)
{
	char **v = NULL;

	for (size_t k = strv_len(i->chain_ids); k-- > 0;)
		strv_addf(&v, "%s/layers/%s", e->cfg.data_root, digest_hex(i->chain_ids[k]));
	return v;
}

/* --- tags and removal --- */

static void drop_name(char ***names, const char *familiar)
{
	char **keep = NULL;

	for (char **t = *names; t && *t; t++)
		if (!streq(*t, familiar))
			strv_add(&keep, *t);
	strv_free(*names);
	*names = keep;
}

static void name_remove(struct engine *e, struct image *i, const char *familiar)
{
	hmap_remove(&e->images->by_name, familiar);
	drop_name(&i->tags, familiar);
	drop_name(&i->digests, familiar);
}

void image_name(struct engine *e, struct image *i, const char *familiar)
{
	struct image *old = by_name(e, familiar);

	if (old)
		name_remove(e, old, familiar);
	strv_add(&i->tags, familiar);
	hmap_set(&e->images->by_name, familiar, i);
}

void image_add_digest(struct engine *e, struct image *i, const char *familiar)
{
	struct image *old = by_name(e, familiar);

	if (old)
		name_remove(e, old, familiar);
	strv_add(&i->digests, familiar);
	hmap_set(&e->images->by_name, familiar, i);
}

uint64_t image_layer_size(struct engine *e, const char *chain_id)
{
	_cleanup_stmt_ struct stmt *s = NULL;

	if (db_query(e->db, &s, NULL, "SELECT size FROM layers WHERE chain_id = ?", "s", chain_id) < 0 ||
	    stmt_step(s, NULL) <= 0)
		return 0;
	return (uint64_t)stmt_int(s, 0);
}

int image_tag(struct engine *e, struct image *i, const char *repo, const char *tag, struct err *err)
{
	_cleanup_free_ char *text = str_empty(tag) ? xstrdup(repo) : xasprintf("%s:%s", repo, tag),
			    *familiar = NULL;
	_cleanup_ref_ struct ref ref = { 0 };
	int r = ref_parse(text, &ref, err);

	if (r < 0)
		return r;
	if (ref.digest)
		return err_msg(err, ERR_INVALID, 0, "refusing to create a tag with a digest reference");
	familiar = ref_familiar(&ref);
	r = db_run(e->db, err, "INSERT OR REPLACE INTO image_tags(ref, image_id) VALUES(?, ?)", "ss",
		   familiar, i->id);
	if (r < 0)
		return r;
	image_name(e, i, familiar);
	image_event(e, i, "tag", familiar);
	return 0;
}

static void remember(struct json *list, const char *what, const char *value)
{
	json_set_str(json_add(list, json_object()), what, value);
}

static int untag(struct engine *e, struct image *i, const char *familiar, struct json *list, struct err *err)
{
	int r = db_run(e->db, err, "DELETE FROM image_tags WHERE ref = ?", "s", familiar);

	if (r == 0)
		r = db_run(e->db, err, "DELETE FROM image_digests WHERE ref = ?", "s", familiar);
	if (r < 0)
		return r;
	remember(list, "Untagged", familiar);
	image_event(e, i, "untag", familiar);
	name_remove(e, i, familiar);
	return 0;
}

static int untag_all(struct engine *e, struct image *i, struct json *list, struct err *err)
{
	_cleanup_strv_ char **tags = strv_copy(i->tags);
	int r = 0;

	strv_extend(&tags, i->digests);
	for (char **t = tags; r == 0 && t && *t; t++)
		r = untag(e, i, *t, list, err);
	return r;
}

/* Of one file of an image that is gone: whether another one has it too. */
static bool file_used(struct engine *e, const char *path)
{
	const char *base = path_basename(path);
	_cleanup_free_ char *hex = xstrndup(str_starts(base, "m-") ? base + 2 : base, ID_LEN);

	return str_starts(path, "blobs/") ? image_blob_named(e, hex) : chain_used(e->images, NULL, hex);
}

/* The image and those of its layers that no other has, or nothing: a row that is left would keep a layer's
 * archive for ever. */
static int forget(struct engine *e, const struct image *i, struct err *err)
{
	int r = db_begin(e->db, err);

	if (r < 0)
		return r;
	r = db_run(e->db, err, "DELETE FROM images WHERE id = ?", "s", i->id);
	for (char **c = i->chain_ids; r == 0 && c && *c; c++) {
		if (chain_used(e->images, i, digest_hex(*c)))
			continue;
		r = db_run(e->db, err, "DELETE FROM layers WHERE chain_id = ?", "s", *c);
		if (r == 0)
			r = db_run(e->db, err, "DELETE FROM layer_blobs WHERE chain_id = ?", "s", *c);
	}
	if (r == 0)
		return db_commit(e->db, err);
	db_rollback(e->db);
	return r;
}

static int delete_image(struct engine *e, struct image *i, struct json *list, struct err *err)
{
	_cleanup_strv_ char **chains = strv_copy(i->chain_ids), **files = image_files(e, i);
	int r = untag_all(e, i, list, err);

	if (r == 0)
		r = forget(e, i, err);
	if (r < 0)
		return r;
	image_event(e, i, "delete", i->id);
	remember(list, "Deleted", i->id);
	image_drop(e->images, i);
	for (size_t k = strv_len(chains); k-- > 0;)
		if (!chain_used(e->images, NULL, digest_hex(chains[k])))
			remember(list, "Deleted", chains[k]);
	for (char **f = files; f && *f; f++) {
		_cleanup_free_ char *path = path_join(e->cfg.data_root, *f);

		if (!file_used(e, *f))
			trash(e, path);
	}
	return 0;
}

static int remove_by_name(struct engine *e, struct image *i, const char *s, const char *familiar, bool force,
			  struct json *list, struct err *err)
{
	const struct container *user = containers_use_image(e, i->id);
	bool last = strv_len(i->tags) + (strv_has(i->digests, familiar) ? strv_len(i->digests) : 0) == 1;

	if (user && last && !force)
		return err_msg(err, ERR_CONFLICT, 0,
			       "conflict: unable to remove repository reference \"%s\" (must force) - "
			       "container %.12s is using its referenced image %.12s",
			       s, container_id(user), digest_hex(i->id));
	return last && !user ? delete_image(e, i, list, err) : untag(e, i, familiar, list, err);
}

static int remove_by_id(struct engine *e, struct image *i, bool force, struct json *list, struct err *err)
{
	const struct container *user = containers_use_image(e, i->id);
	bool running = user && container_running(user);
	const char *hex = digest_hex(i->id);

	if (running)
		return err_msg(err, ERR_CONFLICT, 0,
			       "conflict: unable to delete %.12s (cannot be forced) - image is being used by "
			       "running container %.12s",
			       hex, container_id(user));
	if (strv_len(i->tags) > 1 && !force)
		return err_msg(err, ERR_CONFLICT, 0,
			       "conflict: unable to delete %.12s (must be forced) - image is referenced in "
			       "multiple repositories",
			       hex);
	if (user && (!force || !i->tags))
		return err_msg(err, ERR_CONFLICT, 0,
			       "conflict: unable to delete %.12s (%s) - image is being used by stopped "
			       "container %.12s",
			       hex, force ? "cannot be forced" : "must be forced", container_id(user));
	return user ? untag_all(e, i, list, err) : delete_image(e, i, list, err);
}

int image_remove(struct engine *e, const char *s, bool force, struct json **ret, struct err *err)
{
	_cleanup_json_ struct json *list = json_array();
	_cleanup_ref_ struct ref ref = { 0 };
	_cleanup_free_ char *familiar = NULL;
	struct image *i;
	int r = image_find(e, s, &i, err);

	if (r < 0)
		return r;
	if (ref_parse(s, &ref, NULL) == 0 && (familiar = name_of(&ref)) &&
	    (strv_has(i->tags, familiar) || strv_has(i->digests, familiar)))
		r = remove_by_name(e, i, s, familiar, force, list, err);
	else
		r = remove_by_id(e, i, force, list, err);
	if (r == 0)
		*ret = TAKE_PTR(list);
	return r;
}
