/* The sizes are those of the disk (allocated blocks), taken by a worker that walks the data root, so that the
 * sum agrees with du(1): of images all that the store keeps for them, layers, their disks and their archives.
 * The worker reports one object: {"files": {PATH: N}, "containers": {ID: N}, "volumes": {NAME: N}}. */
#include "api/df.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "engine/container.h"
#include "engine/image.h"
#include "engine/volume.h"
#include "engine/worker.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* What a container has written: its part of the overlay, or its scratch disk. */
static const char *const written[] = {"upper", "scratch.ext4"};

/* What cannot be read (it may be on its way out) counts as nothing. */
static uint64_t tree_size(const char *path)
{
	uint64_t n = 0;

	(void)fs_du(AT_FDCWD, path, &n);
	return n;
}

static uint64_t container_size(const char *dir)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(written); i++) {
		_cleanup_free_ char *path = path_join(dir, written[i]);

		sum += tree_size(path);
	}
	return sum;
}

/* Sizes of the folders of data_root/name, by folder. */
static struct json *sizes_below(const char *data_root, const char *name, uint64_t (*size)(const char *dir))
{
	_cleanup_free_ char *path = path_join(data_root, name);
	struct json *out = json_object();
	DIR *d = opendir(path);
	struct dirent *de;

	while (d && (de = readdir(d))) {
		_cleanup_free_ char *sub = path_join(path, de->d_name);

		if (de->d_name[0] != '.')
			json_set_int(out, de->d_name, (int64_t)size(sub));
	}
	if (d)
		closedir(d);
	return out;
}

/* Where the store keeps what belongs to images; suffix: of the names that count, NULL = all. */
static const struct { const char *folder, *suffix; } stores[] = {
    {"layers", NULL}, {"disks", ".erofs"}, {"blobs/sha256", NULL}, {"partial", NULL},
};

static struct json *image_file_sizes(const char *data_root)
{
	struct json *out = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(stores); i++) {
		_cleanup_json_ struct json *sizes = sizes_below(data_root, stores[i].folder, tree_size);
		struct json_iter it = {0};

		while (json_next(sizes, &it)) {
			_cleanup_free_ char *path = path_join(stores[i].folder, it.key);

			if (!stores[i].suffix || str_ends(it.key, stores[i].suffix))
				json_set(out, path, json_ref(it.value));
		}
	}
	return out;
}

static int measure(void *arg, struct sbuf *out, struct err *e)
{
	const char *data_root = arg;
	_cleanup_json_ struct json *j = json_object();
	_cleanup_free_ char *text = NULL;

	json_set(j, "files", image_file_sizes(data_root));
	json_set(j, "containers", sizes_below(data_root, "containers", container_size));
	json_set(j, "volumes", sizes_below(data_root, "volumes", tree_size));
	text = json_dump(j);
	sbuf_puts(out, text);
	return 0;
}

/* `type` may be repeated; absent means all. */
static bool wants(const struct request *r, const char *type)
{
	bool any = false;

	for (size_t i = 0; r->query.keys && r->query.keys[i]; i++) {
		if (!streq(r->query.keys[i], "type"))
			continue;
		if (streq(r->query.values[i], type))
			return true;
		any = true;
	}
	return !any;
}

static void count(struct json *counts, const char *key)
{
	json_set_int(counts, key, json_get_int(counts, key, 0) + 1);
}

/* Of each image all that is there for it, and how much of that other images have too. */
static struct json *images_part(struct engine *e, const struct json *sizes)
{
	_cleanup_json_ struct json *owners = json_object(), *users = json_object(),
				   *containers = containers_summaries(e);
	struct json *list = json_array();
	size_t n;
	struct image *const *all = images_all(e, &n);
	char ***files = new_array(char **, n + 1);

	for (size_t i = 0; i < json_len(containers); i++)
		count(users, json_get_str(json_at(containers, i), "ImageID"));
	for (size_t k = 0; k < n; k++) {
		files[k] = image_files(e, all[k]);
		for (char **f = files[k]; f && *f; f++)
			count(owners, *f);
	}
	/* Newest first, as they are listed elsewhere. */
	for (size_t k = n; k-- > 0;) {
		struct json_writer w = JSON_WRITER_TREE;
		int64_t size = 0, shared = 0;
		struct json *o;

		image_summary(&w, all[k], all[k]->tags);
		o = json_add(list, w.root);

		for (char **f = files[k]; f && *f; f++) {
			size += json_get_int(sizes, *f, 0);
			shared += json_get_int(owners, *f, 0) > 1 ? json_get_int(sizes, *f, 0) : 0;
		}
		json_set_int(o, "Size", size);
		json_set_int(o, "VirtualSize", size);
		json_set_int(o, "SharedSize", shared);
		json_set_int(o, "Containers", json_get_int(users, all[k]->id, 0));
		strv_free(files[k]);
	}
	free(files);
	return list;
}

static int64_t sum_of(const struct json *sizes)
{
	struct json_iter it = {0};
	int64_t sum = 0;

	while (json_next(sizes, &it))
		sum += json_int(it.value);
	return sum;
}

static struct json *containers_part(struct engine *e, const struct json *sizes)
{
	struct json *list = containers_summaries(e);

	for (size_t i = 0; i < json_len(list); i++) {
		struct json *c = json_at(list, i);

		json_set_int(c, "SizeRw", json_get_int(sizes, json_get_str(c, "Id"), 0));
	}
	return list;
}

static struct json *volumes_part(struct engine *e, const struct json *sizes)
{
	struct json *list = volumes_summaries(e);

	for (size_t i = 0; i < json_len(list); i++) {
		struct json *v = json_at(list, i), *usage = json_set(v, "UsageData", json_object());
		const char *name = json_get_str(v, "Name");
		_cleanup_strv_ char **users = containers_using_volume(e, name);

		json_set_int(usage, "Size", json_get_int(sizes, name, 0));
		json_set_int(usage, "RefCount", (int64_t)strv_len(users));
	}
	return list;
}

static void on_measured(void *userdata, int r, const struct err *err, const struct sbuf *out)
{
	struct request *req = userdata;
	_cleanup_json_ struct json *sizes = NULL;
	_cleanup_err_ struct err bad = ERR_INIT;
	struct json *j;

	if (r < 0) {
		resp_error(req, err);
		return;
	}
	if (json_parse(sbuf_str(out), out->len, &sizes, &bad) < 0) {
		resp_error(req, &bad);
		return;
	}
	j = json_object();
	if (wants(req, "image")) {
		json_set_int(j, "LayersSize", sum_of(json_get(sizes, "files")));
		json_set(j, "Images", images_part(req->engine, json_get(sizes, "files")));
	}
	if (wants(req, "container"))
		json_set(j, "Containers", containers_part(req->engine, json_get(sizes, "containers")));
	if (wants(req, "volume"))
		json_set(j, "Volumes", volumes_part(req->engine, json_get(sizes, "volumes")));
	if (wants(req, "build-cache")) {
		json_set(j, "BuildCache", json_array());
		json_set_int(j, "BuilderSize", 0);
	}
	resp_json(req, 200, j);
}

void route_df(struct request *r, struct engine *e)
{
	int n = worker_run(e->loop, measure, e->cfg.data_root, on_measured, r);

	if (n < 0)
		resp_errorf(r, ERR_SYSTEM, "system df: %s", strerror(-n));
}

/* ---- sizes of some containers ---- */

struct sizing { struct request *req; struct json *j; };

static size_t count_of(const struct json *j)
{
	return json_type(j) == JSON_ARRAY ? json_len(j) : 1;
}

static struct json *nth(struct json *j, size_t i)
{
	return json_type(j) == JSON_ARRAY ? json_at(j, i) : j;
}

/* A number for each. */
static int measure_some(void *arg, struct sbuf *out, struct err *e)
{
	const struct sizing *s = arg;

	for (size_t i = 0; i < count_of(s->j); i++) {
		_cleanup_free_ char *dir =
		    xasprintf("%s/containers/%s", s->req->engine->cfg.data_root,
			      json_get_str(nth(s->j, i), "Id"));
		uint64_t n = container_size(dir);

		sbuf_add(out, &n, sizeof n);
	}
	return 0;
}

static void set_size(struct engine *e, struct json *c, uint64_t own)
{
	const char *image = json_get_str(c, "ImageID") ?: json_get_str(c, "Image");
	struct image *i;
	uint64_t below = image_find(e, image ?: "", &i, NULL) < 0 ? 0 : i->size;

	json_set_int(c, "SizeRw", (int64_t)own);
	json_set_int(c, "SizeRootFs", (int64_t)(own + below));
}

static void some_measured(void *ud, int r, const struct err *err, const struct sbuf *out)
{
	struct sizing *s = ud;

	for (size_t i = 0; r >= 0 && i < count_of(s->j) && (i + 1) * sizeof(uint64_t) <= out->len; i++) {
		uint64_t n;

		memcpy(&n, out->buf + i * sizeof n, sizeof n);
		set_size(s->req->engine, nth(s->j, i), n);
	}
	if (r < 0) {
		resp_error(s->req, err);
		json_free(s->j);
	} else {
		resp_json(s->req, 200, s->j);
	}
	free(s);
}

void answer_with_sizes(struct request *r, struct json *j)
{
	struct sizing *s = new0(struct sizing);
	int n;

	*s = (struct sizing){r, j};
	n = worker_run(r->engine->loop, measure_some, s, some_measured, s);
	if (n < 0) {
		resp_errorf(r, ERR_SYSTEM, "measure containers: %s", strerror(-n));
		json_free(j);
		free(s);
	}
}
