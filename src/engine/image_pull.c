/* Theory of operation.
 *
 * insula-registry finds the manifest and asks for one file per blob; they lie in DATA/partial under their
 * digests, so that a pull that broke off goes on where it was. When it has asked for all layers the files
 * get a second name in a staging directory, as an OCI layout whose index names the digest that the reference
 * leads to, and insula-puller unpacks that like a `load`, but for the layers that the store has: each while
 * it comes. It is told which are complete, and verifies all of them once the registry's process has ended.
 * Nothing else of what insula-registry says is used.
 *
 * A pull belongs to those who watch it. The same request joins a pull at work; the last one to leave ends it.
 */
#include "engine/image_int.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "engine/registry.h"
#include "engine/worker.h"
#include "oci/ref.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define BAR 50
#define HISTORY_MAX 600

struct image_pull_watch {
	struct list link;
	struct pull *pull;
	const struct image_pull_ops *ops;
	void *ud;
};

struct pull {
	struct list link;		/* in images.pulls */
	struct engine *engine;
	char *key;			/* what makes two requests one */
	struct ref ref;
	char *platform;
	struct list watches;
	struct registry_call *call;
	struct image_load *load;
	struct image_disks *disks;
	char *staging, *digest;
	char *image;			/* its id, once it is there */
	char **have;			/* chains that need not come */
	char **files, **digests;	/* in DATA/partial, and what they hold */
	bool unpacked;			/* it was tried: what was downloaded is of no further use */
	struct json *said;		/* lines so far; of one id the last */
};

/* What is in the store, does not fit there, or holds nothing, need not wait for another try. */
static void drop_files(const struct pull *p)
{
	for (char **f = p->files; f && *f; f++) {
		struct stat st;

		if (p->unpacked || (stat(*f, &st) == 0 && st.st_size == 0))
			(void)unlink(*f);
	}
}

static void pull_free(struct pull *p)
{
	list_remove(&p->link);
	if (p->staging)
		trash(p->engine, p->staging);
	free(p->key);
	ref_done(&p->ref);
	free(p->platform);
	free(p->staging);
	free(p->digest);
	free(p->image);
	strv_free(p->have);
	strv_free(p->files);
	strv_free(p->digests);
	json_free(p->said);
	free(p);
}

/* --- telling --- */

/* Docker's bar: [====>   ]  1.2MB/3.4MB */
static char *progress_bar(int64_t current, int64_t total)
{
	_cleanup_free_ char *now = size_human((double)current), *all = size_human((double)total);
	int filled = (int)(total > 0 ? MIN((double)current / (double)total, 1.0) * BAR : 0);
	char bar[BAR + 2];

	if (total <= 0 || current > total)
		return xasprintf("%8s", now);
	memset(bar, ' ', sizeof bar);
	memset(bar, '=', (size_t)filled);
	bar[filled] = '>';
	bar[MAX(filled + 1, BAR)] = 0;
	return xasprintf("[%s] %8s/%s", bar, now, all);
}

/* Keeps the line for those who come later, in place of what was said of that id. */
static void remember(struct pull *p, struct json *line)
{
	const char *id = json_get_str(line, "id");
	struct json *kept = json_array();
	bool placed = false;

	for (size_t i = 0; i < json_len(p->said); i++) {
		struct json *old = json_at(p->said, i);
		bool same = id && json_get(old, "progressDetail") && streq(json_get_str(old, "id"), id);

		json_add(kept, json_ref(same ? line : old));
		placed |= same;
	}
	if (!placed && json_len(kept) < HISTORY_MAX)
		json_add(kept, json_ref(line));
	json_free(p->said);
	p->said = kept;
}

static void tell(struct pull *p, struct json *line /* taken */)
{
	remember(p, line);
	list_for_each(w, &p->watches, struct image_pull_watch, link)
		w->ops->line(w->ud, line);
	json_free(line);
}

struct json *image_progress_line(const struct json *m)
{
	const char *id = json_get_str(m, "id"), *status = json_get_str(m, "status");
	int64_t total = json_get_int(m, "total", -1), current = json_get_int(m, "current", 0);
	struct json *o = json_object(), *detail = json_object();

	json_set_str(o, "status", status ? status : "");
	json_set(o, "progressDetail", detail);
	if (total >= 0) {
		_cleanup_free_ char *bar = progress_bar(current, total);

		json_set_int(detail, "current", current);
		json_set_int(detail, "total", total);
		json_set_str(o, "progress", bar);
	}
	if (id)
		json_set_str(o, "id", id);
	return o;
}

static void tell_plain(struct pull *p, const char *id, const char *status)
{
	struct json *o = json_object();

	json_set_str(o, "status", status);
	if (id)
		json_set_str(o, "id", id);
	tell(p, o);
}

/* Ends it, whatever is still at work. */
static void finish(struct pull *p, int r, const struct err *e, const struct image *i)
{
	if (p->call)
		registry_cancel(p->call);
	if (p->load)
		image_load_cancel(p->load);
	if (p->disks)
		image_disks_leave(p->disks);
	/* Whoever hears of the end finds nothing left. */
	drop_files(p);
	while (!list_empty(&p->watches)) {
		struct image_pull_watch *w = container_of(p->watches.next, struct image_pull_watch, link);

		list_remove(&w->link);
		w->ops->done(w->ud, r, e, i);
		free(w);
	}
	pull_free(p);
}

/* --- blobs --- */

bool image_pull_holds(const struct images *im, const char *hex)
{
	list_for_each(p, &im->pulls, struct pull, link)
		for (char **h = p->have; h && *h; h++)
			if (streq(digest_hex(*h), hex))
				return true;
	return false;
}

static bool have_layer(struct engine *e, const char *chain)
{
	for (size_t k = 0; k < e->images->n; k++)
		if (strv_has(e->images->v[k]->chain_ids, chain))
			return true;
	return false;
}

static bool at_work(const struct images *im, const char *path)
{
	list_for_each(p, &im->pulls, struct pull, link)
		if (strv_has(p->files, path))
			return true;
	return false;
}

static int open_file(const char *path, struct err *e)
{
	int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? err_set(e, ERR_SYSTEM, -errno, "create '%s'", path) : fd;
}

static int open_blob(struct pull *p, const char *digest, struct err *e)
{
	const char *root = p->engine->cfg.data_root;
	_cleanup_free_ char *dir = path_join(root, "partial"),
			    *path = xasprintf("%s/%s", dir, digest_hex(digest));
	int fd;

	(void)fs_mkdir_p(dir, 0700);
	/* A mirror has failed, and the next endpoint is asked for the same. */
	for (size_t k = 0; p->digests && p->digests[k]; k++)
		if (streq(p->digests[k], digest))
			return open_file(p->files[k], e);
	/* Another pull is fetching the same: each has a file of its own. */
	if (at_work(p->engine->images, path)) {
		struct id other = id_new();

		free(path);
		path = xasprintf("%s/%s.%.12s", dir, digest_hex(digest), other.s);
	}
	fd = open_file(path, e);
	if (fd < 0)
		return fd;
	strv_add(&p->files, path);
	strv_add(&p->digests, digest);
	return fd;
}

static void give_blob(struct pull *p, const struct json *m)
{
	const char *digest = json_get_str(m, "digest"), *chain = json_get_str(m, "chain");
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_close_ int fd = -EBADF;

	if (!digest || !digest_valid(digest) || strv_len(p->digests) > HISTORY_MAX) {
		registry_reply(p->call, -EBADF, "the manifest names a blob that is none");
	} else if (chain && have_layer(p->engine, chain)) {
		if (!strv_has(p->have, chain))
			strv_add(&p->have, chain);
		registry_reply(p->call, -EBADF, NULL);
	} else {
		fd = open_blob(p, digest, &e);
		registry_reply(p->call, fd, fd < 0 ? err_text(&e) : NULL);
	}
}

/* --- unpacking --- */

/* The name that the image gets by its digest: busybox@sha256:... */
static char *digest_ref(const struct pull *p)
{
	_cleanup_free_ char *name = ref_familiar_name(&p->ref);

	return xasprintf("%s@%s", name, p->digest);
}

static void on_progress(void *ud, const struct json *status)
{
	struct pull *p = ud;

	tell(p, image_progress_line(status));
}

static void on_room(void *ud)
{
}

/* The image is there, whether its disks are or not: a start would make them. */
static void on_disks(void *ud, int r, const struct err *e, void *result)
{
	struct pull *p = ud;

	p->disks = NULL;
	if (r < 0)
		tell_plain(p, NULL, err_text(e));
	finish(p, 0, NULL, image_by_id(p->engine, p->image));
}

static const struct image_disks_ops disks_ops = { on_progress, on_disks };

/* Where containers are machines unless something else is asked for, it is now that somebody waits. */
static void on_loaded(void *ud, int r, const struct err *e, char *const *ids, char *const *said)
{
	struct pull *p = ud;
	struct image *i = r == 0 && ids ? image_by_id(p->engine, ids[0]) : NULL;

	p->load = NULL;
	p->unpacked = true;
	if (!i || p->engine->cfg.default_isolation != ISOLATION_HYPERV) {
		finish(p, r, e, i);
		return;
	}
	p->image = xstrdup(i->id);
	image_disks_prepare(p->engine, i, &disks_ops, p, &p->disks);
}

static const struct image_load_ops load_ops = { on_room, on_progress, on_loaded };

/* The index of a layout that has just one entry: what the reference leads to, under its name. */
static char *layout_index(const struct pull *p)
{
	_cleanup_json_ struct json *doc = json_object();
	struct json *d = json_add(json_set(doc, "manifests", json_array()), json_object());

	json_set_int(doc, "schemaVersion", 2);
	json_set_str(d, "digest", p->digest);
	if (!p->ref.digest) {
		_cleanup_free_ char *name = xasprintf("%s/%s:%s", p->ref.domain, p->ref.path, p->ref.tag);

		json_set_str(json_set(d, "annotations", json_object()), "io.containerd.image.name", name);
	}
	return json_dump(doc);
}

/* The layout in a staging directory: second names of the files. */
static int build_layout(struct pull *p, struct err *e)
{
	struct id name = id_new();
	_cleanup_free_ char *dir = NULL, *index = NULL, *text = NULL;
	int r;

	p->staging = xasprintf("%s/tmp/%.16s", p->engine->cfg.data_root, name.s);
	dir = xasprintf("%s/archive/blobs/sha256", p->staging);
	r = fs_mkdir_p(dir, 0700);
	for (size_t k = 0; r == 0 && p->files && p->files[k]; k++) {
		_cleanup_free_ char *to = xasprintf("%s/%s", dir, digest_hex(p->digests[k]));

		if (link(p->files[k], to) < 0)
			r = -errno;
	}
	index = xasprintf("%s/archive/index.json", p->staging);
	text = layout_index(p);
	if (r == 0)
		r = fs_write_atomic(AT_FDCWD, index, text, strlen(text), 0600, false);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "stage the image") : 0;
}

/* The manifest that the reference leads to is the first blob. */
static int begin_unpacking(struct pull *p, struct err *e)
{
	_cleanup_json_ struct json *what = json_object();
	_cleanup_free_ char *name = NULL;
	int r;

	if (p->load)
		return 0;
	if (!p->digests || (p->ref.digest && !streq(p->digests[0], p->ref.digest)))
		return err_msg(e, ERR_SYSTEM, -EBADMSG, "manifest verification failed for digest %s",
			       p->ref.digest ? p->ref.digest : "(none)");
	p->digest = xstrdup(p->digests[0]);
	name = digest_ref(p);
	r = build_layout(p, e);
	if (r < 0)
		return r;
	json_set_str(what, "platform", p->platform);
	json_set_strv(what, "have", p->have);
	r = image_load_layout(p->engine, p->staging, what, name, &load_ops, p, &p->load, e);
	/* It is the load's from here on, to remove too. */
	free(TAKE_PTR(p->staging));
	return r;
}

/* insula-puller learns of it; before it is at work all blobs that are done are those that it does not wait
 * for. */
static void blob_done(struct pull *p, const char *digest)
{
	_cleanup_free_ char *line = NULL;

	if (!p->load || !digest || !digest_valid(digest))
		return;
	line = xasprintf("%s\n", digest_hex(digest));
	(void)image_load_write(p->load, line, strlen(line));
}

static void on_message(void *ud, const struct json *m)
{
	struct pull *p = ud;
	const char *op = json_get_str(m, "op");
	_cleanup_err_ struct err e = ERR_INIT;
	int r = 0;

	if (streq(op, "blob"))
		give_blob(p, m);
	else if (streq(op, "done"))
		blob_done(p, json_get_str(m, "digest"));
	else if (streq(op, "status"))
		tell(p, image_progress_line(m));
	else if (streq(op, "layers"))
		r = begin_unpacking(p, &e);
	if (r < 0)
		finish(p, r, &e, NULL);
}

/* What a registry says of an image that it does not give, in Docker's words. */
static int refused(const struct pull *p, int r, const struct err *e, struct err *ret)
{
	static const char *const no_access[] = {"denied", "unauthorized", "name unknown",
						"authentication required"};
	_cleanup_free_ char *name = ref_familiar_name(&p->ref);
	const char *text = err_text(e), *id = p->ref.digest ? p->ref.digest : p->ref.tag;

	if (str_starts(text, "manifest unknown"))
		return err_msg(ret, ERR_NOT_FOUND, -ENOENT, "manifest for %s%c%s not found: %s", name,
			       p->ref.digest ? '@' : ':', id, text);
	for (size_t i = 0; i < ARRAY_SIZE(no_access); i++)
		if (str_starts(text, no_access[i]))
			return err_msg(ret, ERR_NOT_FOUND, -ENOENT,
				       "pull access denied for %s, repository does not exist or may require "
				       "'docker login': %s", name, text);
	return err_msg(ret, e->kind, r, "%s", text);
}

static void on_registry_done(void *ud, int r, const struct err *e, const struct json *result)
{
	struct pull *p = ud;
	_cleanup_err_ struct err own = ERR_INIT;
	const char *digest = json_get_str(result, "digest");

	p->call = NULL;
	if (r < 0) {
		r = refused(p, r, e, &own);
		finish(p, r, &own, NULL);
		return;
	}
	/* A mirror that failed had perhaps another image under the name. */
	if (!p->load || !digest || !streq(digest, p->digest)) {
		r = err_msg(&own, ERR_SYSTEM, -EBADMSG, "manifest verification failed for digest %s",
			    p->digest ? p->digest : "(none)");
		finish(p, r, &own, NULL);
		return;
	}
	image_load_eof(p->load);
}

/* --- watching --- */

static const struct registry_ops registry_ops = { on_message, on_registry_done };

static char *key_of(const struct ref *ref, const char *platform, const struct json *auth)
{
	_cleanup_free_ char *who = auth ? json_dump(auth) : xstrdup("");

	return xasprintf("%s/%s:%s@%s %s %s", ref->domain, ref->path, ref->tag ? ref->tag : "",
			 ref->digest ? ref->digest : "", platform, who);
}

static struct pull *find(const struct images *im, const char *key)
{
	list_for_each(p, &im->pulls, struct pull, link)
		if (streq(p->key, key))
			return p;
	return NULL;
}

static int begin(struct engine *e, struct ref *ref /* taken on success */, const char *platform,
		 const char *key, const struct json *auth, struct pull **ret, struct err *err)
{
	_cleanup_json_ struct json *request = registry_request(e, "pull", ref, "pull", auth);
	struct pull *p = new0(struct pull);
	int r;

	*p = (struct pull){
	    .engine = e, .key = xstrdup(key), .platform = xstrdup(platform), .said = json_array()};
	list_init(&p->watches);
	json_set_str(request, "platform", platform);
	r = registry_call(e, request, &registry_ops, p, &p->call, err);
	if (r < 0) {
		pull_free(p);
		return r;
	}
	p->ref = *ref;
	*ref = (struct ref){ 0 };
	list_append(&e->images->pulls, &p->link);
	*ret = p;
	return 0;
}

int image_pull(struct engine *e, const char *name, const char *platform, const struct json *auth,
	       const struct image_pull_ops *ops, void *ud, struct image_pull_watch **ret, struct err *err)
{
	_cleanup_ref_ struct ref ref = { 0 };
	_cleanup_free_ char *key = NULL, *text = NULL;
	struct image_pull_watch *w;
	struct pull *p;
	bool fresh;
	int r = ref_parse(name, &ref, err);

	if (r < 0)
		return r;
	key = key_of(&ref, platform, auth);
	p = find(e->images, key);
	fresh = !p;
	if (fresh) {
		r = begin(e, &ref, platform, key, auth, &p, err);
		if (r < 0)
			return r;
	}
	w = new0(struct image_pull_watch);
	*w = (struct image_pull_watch){ .pull = p, .ops = ops, .ud = ud };
	list_append(&p->watches, &w->link);
	*ret = w;
	if (!fresh) {
		for (size_t i = 0; i < json_len(p->said); i++)
			ops->line(ud, json_at(p->said, i));
		return 0;
	}
	text = xasprintf("Pulling from %s", p->ref.path);
	tell_plain(p, p->ref.digest ? p->ref.digest : p->ref.tag, text);
	return 0;
}

void image_pull_cancel(struct image_pull_watch *w)
{
	struct pull *p = w->pull;

	list_remove(&w->link);
	free(w);
	if (!list_empty(&p->watches))
		return;
	finish(p, -ECANCELED, NULL, NULL);
}

/* The daemon died after the image was there and before its downloads were removed. */
static bool is_kept(struct engine *e, const char *name)
{
	_cleanup_free_ char *hex = xstrndup(name, ID_LEN);

	return strlen(hex) == ID_LEN && is_hex(hex) && image_blob_named(e, hex);
}

char **image_pull_leftovers(struct engine *e, uint64_t older_than_s)
{
	_cleanup_free_ char *dir = path_join(e->cfg.data_root, "partial");
	DIR *d = opendir(dir);
	struct dirent *de;
	char **found = NULL;

	while (d && (de = readdir(d))) {
		_cleanup_free_ char *path = path_join(dir, de->d_name);
		struct stat st;

		if (fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
		    !at_work(e->images, path) &&
		    (st.st_mtime + (time_t)older_than_s <= time(NULL) || is_kept(e, de->d_name)))
			strv_addf(&found, "partial/%s", de->d_name);
	}
	if (d)
		closedir(d);
	return found;
}

void image_pull_collect(struct engine *e, uint64_t older_than_s)
{
	_cleanup_strv_ char **old = image_pull_leftovers(e, older_than_s);

	for (char **f = old; f && *f; f++) {
		_cleanup_free_ char *path = path_join(e->cfg.data_root, *f);

		trash(e, path);
	}
}
