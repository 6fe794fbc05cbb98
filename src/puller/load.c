/* `load`: what docker save writes (manifest.json, of any age) or an OCI layout, as one archive. */
#include "puller/puller.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "lib/digest.h"
#include "oci/chain.h"
#include "oci/image_spec.h"
#include "oci/manifest.h"
#include "oci/ref.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>

#define DOCUMENT_MAX (8u << 20)
#define THREADS 4
#define CONFIGS_MAX (32u << 20)	/* of all images of an archive together */

struct loading {
	int staging, archive;
	struct json *images, *layers;
	struct platform platform;
	char **have;			/* chains that the store has */
	size_t configs;			/* bytes of configs so far */
	bool layout;			/* OCI: blobs are called by their digests */
	struct arrivals *arrivals;	/* pull: layers are still coming, and it is told which is at work */
};

/* A regular file of the archive; links inside it are followed inside it. */
static int open_member(struct loading *l, const char *name, struct err *e)
{
	_cleanup_close_ int fd = fs_open_in_root(l->archive, name, O_RDONLY | O_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return err_msg(e, ERR_INVALID, fd, "invalid archive: open %s: %s", name, strerror(-fd));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_msg(e, ERR_INVALID, -EINVAL, "invalid archive: %s is no file", name);
	return TAKE_FD(fd);
}

static int read_member(struct loading *l, const char *name, char **ret, size_t *ret_n, struct err *e)
{
	_cleanup_close_ int fd = open_member(l, name, e);
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT_MAX(DOCUMENT_MAX);
	char chunk[16 << 10];
	ssize_t n;

	if (fd < 0)
		return fd;
	while ((n = RETRY(read(fd, chunk, sizeof chunk))) > 0)
		sbuf_add(&b, chunk, (size_t)n);
	if (n < 0 || !sbuf_ok(&b))
		return err_msg(e, ERR_INVALID, n < 0 ? -errno : -EFBIG,
			       "invalid archive: %s cannot be read or is too large", name);
	*ret_n = b.len;
	*ret = sbuf_steal(&b);
	return 0;
}

static int read_document(struct loading *l, const char *name, struct json **ret, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	size_t n;
	int r = read_member(l, name, &text, &n, e);

	if (r == 0)
		r = json_parse_foreign(text, n, ret, e);
	return r < 0 ? err_wrap(e, r, "%s", name) : 0;
}

static bool has_member(struct loading *l, const char *name)
{
	_cleanup_close_ int fd = fs_open_in_root(l->archive, name, O_PATH, 0);

	return fd >= 0;
}

/* They are checked before anything is unpacked: insulad finds no surprise in the middle of its transaction.
 */
static int check_tags(char *const *tags, struct err *e)
{
	for (; tags && *tags; tags++) {
		_cleanup_ref_ struct ref ref = { 0 };
		int r = ref_parse(*tags, &ref, e);

		if (r < 0)
			return err_wrap(e, r, "tag \"%s\"", *tags);
	}
	return 0;
}

/* hex: what it must have. */
static int verify_blob(int fd, const char *hex, struct err *e)
{
	char own[65];
	int r = sha256_fd(fd, own);

	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "read blob sha256:%s", hex);
	if (!streq(own, hex))
		return err_msg(e, ERR_INVALID, -EBADMSG,
			       "filesystem layer verification failed for digest sha256:%s", hex);
	return 0;
}

static void tell(const struct loading *l, const char *name, const char *status)
{
	_cleanup_json_ struct json *o = json_object();
	_cleanup_free_ char *id = xstrndup(path_basename(name), 12), *text = NULL, *line = NULL;

	if (!l->arrivals)
		return;
	json_set_str(o, "id", id);
	json_set_str(o, "status", status);
	text = json_dump(o);
	line = xasprintf("%s\n", text);
	(void)fd_write_full(STDOUT_FILENO, line, strlen(line));
}

/* --- layers: several at a time, each in a thread --- */

struct layer_job {
	struct loading *l;
	const char *name;
	struct layer_file file;
	char *chain;
	bool skip;		/* it is there */
	struct json *layer;	/* its description, once it is unpacked */
	struct err e;
	int r;
};

struct layer_queue {
	struct loading *l;
	struct layer_job *jobs;
	size_t n, next;
	bool failed;
	pthread_mutex_t lock;
	int (*run)(struct layer_job *j);
};

/* Files of an OCI layout are called by their digests. */
static int verify_job(struct layer_job *j)
{
	_cleanup_close_ int fd = open_member(j->l, j->name, &j->e);

	return fd < 0 ? fd : verify_blob(fd, path_basename(j->name), &j->e);
}

static void on_complete(void *ud)
{
	struct layer_job *j = ud;

	tell(j->l, j->name, "Extracting");
}

/* A try at a layer that was not complete when it began may have met what a download that broke off has
 * left and that was replaced later: then another one decides. */
static bool worth_another(struct layer_job *j, int r, const char *hex)
{
	return r < 0 && r != -ENOSPC && r != -EDQUOT && j->l->arrivals && arrivals_wait(j->l->arrivals, hex);
}

static int unpack_job(struct layer_job *j)
{
	struct loading *l = j->l;
	const char *hex = path_basename(j->name);
	_cleanup_free_ char *digest = l->layout ? xasprintf("sha256:%s", hex) : NULL;
	_cleanup_close_ int fd = open_member(l, j->name, &j->e);
	struct source source = { fd, l->arrivals, hex, on_complete, j };
	bool early;
	int r;

	if (fd < 0)
		return fd;
	j->file.source = &source;
	j->file.digest = digest;
	early = l->arrivals && !arrivals_has(l->arrivals, hex);
	r = layer_stage_file(&j->file, &j->layer, &j->e);
	if (early && worth_another(j, r, hex)) {
		err_clear(&j->e);
		j->file.attempt++;
		r = lseek(fd, 0, SEEK_SET) < 0 ? err_set(&j->e, ERR_SYSTEM, -errno, "read %s", j->name)
					       : layer_stage_file(&j->file, &j->layer, &j->e);
	}
	if (r == 0)
		tell(l, j->name, "Pull complete");
	return r;
}

static void *layer_worker(void *arg)
{
	struct layer_queue *q = arg;

	for (;;) {
		struct layer_job *j = NULL;

		pthread_mutex_lock(&q->lock);
		while (q->next < q->n && q->jobs[q->next].skip)
			q->next++;
		if (q->next < q->n && !q->failed)
			j = &q->jobs[q->next++];
		pthread_mutex_unlock(&q->lock);
		if (!j)
			return NULL;
		j->r = q->run(j);
		pthread_mutex_lock(&q->lock);
		q->failed |= j->r < 0;
		pthread_mutex_unlock(&q->lock);
	}
}

static void run_queue(struct layer_queue *q, int (*run)(struct layer_job *j))
{
	pthread_t threads[THREADS];
	size_t n = 0;

	q->run = run;
	q->next = 0;
	/* The first of them is this one. */
	while (n + 1 < THREADS && n + 1 < q->n && pthread_create(&threads[n], NULL, layer_worker, q) == 0)
		n++;
	layer_worker(q);
	for (size_t i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}

static bool is_staged(const struct json *layers, const char *chain)
{
	for (size_t i = 0; i < json_len(layers); i++)
		if (streq(json_get_str(json_at(layers, i), "chain"), chain))
			return true;
	return false;
}

/* What was unpacked while it came is verified when nobody can write it any more: what is kept as a blob
 * must be what its name says. */
static void unpack_and_verify(struct layer_queue *q)
{
	if (!q->l->arrivals) {
		if (q->l->layout)
			run_queue(q, verify_job);
		run_queue(q, unpack_job);
		return;
	}
	run_queue(q, unpack_job);
	if (!q->failed)
		arrivals_wait_end(q->l->arrivals);
	run_queue(q, verify_job);
}

/* Unpacks the layers that are not there. chains: theirs, bottom first. */
static int load_layers(struct loading *l, char *const *names, char *const *diff_ids, char ***chains,
		       struct err *e)
{
	struct layer_queue q = { .l = l, .n = strv_len(names), .lock = PTHREAD_MUTEX_INITIALIZER };
	int r = 0;

	q.jobs = new_array(struct layer_job, q.n + 1);
	for (size_t i = 0; i < q.n; i++) {
		struct layer_job *j = &q.jobs[i];

		j->l = l;
		j->chain = chain_id(i ? q.jobs[i - 1].chain : NULL, diff_ids[i]);
		j->name = names[i];
		j->file = (struct layer_file){ .staging = l->staging, .archive = l->archive, .name = names[i],
					       .diff_id = diff_ids[i], .chain = j->chain, .index = i };
		j->skip = strv_has(l->have, j->chain) || is_staged(l->layers, j->chain);
		strv_add(chains, j->chain);
	}
	unpack_and_verify(&q);
	for (size_t i = 0; i < q.n; i++) {
		struct layer_job *j = &q.jobs[i];

		if (j->layer)
			json_add(l->layers, j->layer);
		if (j->r < 0 && r == 0) {
			r = j->r;
			err_move(e, &j->e);
		}
		err_clear(&j->e);
		free(j->chain);
	}
	free(q.jobs);
	return r;
}

static int read_config(struct loading *l, const char *name, char **ret_text, size_t *ret_n, char ***ret_ids,
		       struct err *e)
{
	_cleanup_json_ struct json *config = NULL;
	_cleanup_free_ char *text = NULL;
	int r = read_member(l, name, &text, ret_n, e);

	l->configs += r == 0 ? *ret_n : 0;
	if (l->configs > CONFIGS_MAX)
		return err_msg(e, ERR_INVALID, -E2BIG, "invalid archive: it has too many images");
	if (r == 0)
		r = json_parse_foreign(text, *ret_n, &config, e);
	if (r == 0)
		r = image_config_check_host(config, e);
	if (r == 0)
		r = image_config_diff_ids(config, ret_ids, e);
	if (r < 0)
		return err_wrap(e, r, "%s", name);
	*ret_text = TAKE_PTR(text);
	return 0;
}

/* One image: its config file and its layers' files, bottom first. manifest: its descriptor, or NULL. */
static int load_image(struct loading *l, const char *config_name, char *const *layers, char *const *tags,
		      struct json *manifest, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_strv_ char **diff_ids = NULL, **chains = NULL;
	char hex[65];
	size_t n;
	int r = check_tags(tags, e);

	if (r == 0)
		r = read_config(l, config_name, &text, &n, &diff_ids, e);
	if (r < 0)
		return r;
	if (strv_len(diff_ids) != strv_len(layers))
		return err_msg(e, ERR_INVALID, -EBADMSG,
			       "invalid manifest, layers length mismatch: expected %zu, got %zu",
			       strv_len(layers), strv_len(diff_ids));
	r = load_layers(l, layers, diff_ids, &chains, e);
	if (r < 0)
		return r;
	sha256_hex(text, n, hex);
	_cleanup_free_ char *id = xasprintf("sha256:%s", hex);
	struct json *o = json_add(l->images, json_object());

	json_set_str(o, "id", id);
	json_set(o, "config", json_new_strn(text, n));
	json_set_strv(o, "chains", chains);
	json_set_strv(o, "tags", tags);
	if (manifest)
		json_set(o, "manifest", json_ref(manifest));
	return 0;
}

static int load_docker(struct loading *l, struct err *e)
{
	_cleanup_json_ struct json *manifest = NULL;
	int r = read_document(l, "manifest.json", &manifest, e);

	if (r == 0 && json_type(manifest) != JSON_ARRAY)
		r = json_expected(e, "manifest.json", "array");
	for (size_t i = 0; r == 0 && i < json_len(manifest); i++) {
		const struct json *m = json_at(manifest, i);
		_cleanup_strv_ char **layers = json_get_strv(m, "Layers"),
				    **tags = json_get_strv(m, "RepoTags");

		if (!json_get_str(m, "Config"))
			return err_msg(e, ERR_INVALID, -EBADMSG, "invalid manifest: image %zu has no Config",
				       i);
		r = load_image(l, json_get_str(m, "Config"), layers, tags, NULL, e);
	}
	return r;
}

/* blobs/sha256/HEX of a descriptor. */
static int blob_name(const struct json *descriptor, char **ret, struct err *e)
{
	const char *digest = json_get_str(descriptor, "digest");

	if (!digest || !digest_valid(digest))
		return err_msg(e, ERR_INVALID, -EBADMSG, "invalid digest in the layout's index");
	*ret = xasprintf("blobs/sha256/%s", digest + 7);
	return 0;
}

/* The same, and the file has that digest. */
static int blob_path(struct loading *l, const struct json *descriptor, char **ret, struct err *e)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -EBADF;
	int r = blob_name(descriptor, &path, e);

	if (r < 0)
		return r;
	fd = open_member(l, path, e);
	if (fd < 0)
		return fd;
	r = verify_blob(fd, path_basename(path), e);
	if (r == 0)
		*ret = TAKE_PTR(path);
	return r;
}

static int keep_manifest(struct loading *l, const char *path, const struct json *doc, struct json **ret,
			 struct err *e)
{
	_cleanup_close_ int fd = open_member(l, path, e);
	_cleanup_free_ char *digest = xasprintf("sha256:%s", path_basename(path));
	struct stat st;
	int r = fd < 0 ? fd : keep_file(l->staging, l->archive, path, fd, digest, e);

	if (r == 0 && fstat(fd, &st) < 0)
		r = err_set(e, ERR_SYSTEM, -errno, "read %s", path);
	if (r == 0)
		*ret =
		    descriptor_json(json_get_str(doc, "mediaType") ?: MEDIA_OCI_MANIFEST, digest, st.st_size);
	return r;
}

static int load_oci_manifest(struct loading *l, const struct json *descriptor, char *const *tags,
			     unsigned depth, struct err *e)
{
	_cleanup_free_ char *path = NULL, *config = NULL;
	_cleanup_json_ struct json *doc = NULL, *kept = NULL;
	_cleanup_strv_ char **layers = NULL;
	int r = blob_path(l, descriptor, &path, e);

	if (r == 0)
		r = read_document(l, path, &doc, e);
	if (r < 0)
		return r;
	if (json_get(doc, "manifests")) {
		const struct json *one = depth < 4 ? index_select(doc, &l->platform) : NULL;

		if (!one) {
			_cleanup_free_ char *name = platform_format(&l->platform);

			return err_msg(e, ERR_INVALID, -ENOENT,
				       "no matching manifest for %s in the manifest list entries", name);
		}
		return load_oci_manifest(l, one, tags, depth + 1, e);
	}
	r = blob_path(l, json_get(doc, "config"), &config, e);
	for (size_t i = 0; r == 0 && i < json_len(json_get(doc, "layers")); i++) {
		char *layer;

		r = blob_name(json_at(json_get(doc, "layers"), i), &layer, e);
		if (r == 0)
			strv_take(&layers, layer);
	}
	if (r == 0)
		r = keep_manifest(l, path, doc, &kept, e);
	return r < 0 ? r : load_image(l, config, layers, tags, kept, e);
}

static int load_oci(struct loading *l, struct err *e)
{
	_cleanup_json_ struct json *index = NULL;
	int r = read_document(l, "index.json", &index, e);
	const struct json *list = json_get(index, "manifests");

	l->layout = true;
	for (size_t i = 0; r == 0 && i < json_len(list); i++) {
		const struct json *d = json_at(list, i), *a = json_get(d, "annotations");
		const char *name = json_get_str(a, "io.containerd.image.name");
		_cleanup_strv_ char **tags = NULL;

		if (!name)
			name = json_get_str(a, "org.opencontainers.image.ref.name");
		if (name && !strpbrk(name, "/:"))
			name = NULL;	/* a tag alone, which names nothing */
		if (name)
			strv_add(&tags, name);
		r = load_oci_manifest(l, d, tags, 0, e);
	}
	return r;
}

static int open_staging(struct loading *l, struct json *result, struct err *e)
{
	l->images = json_set(result, "images", json_array());
	l->layers = json_set(result, "layers", json_array());
	l->archive = openat(l->staging, "archive", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return l->archive < 0 ? err_set(e, ERR_SYSTEM, -errno, "open the staging directory") : 0;
}

static void loading_done(struct loading *l)
{
	platform_done(&l->platform);
	strv_free(l->have);
	fd_close(&l->archive);
}

int load_archive(int staging, int fd, struct json *result, struct err *e)
{
	struct loading l = { .staging = staging, .archive = -EBADF };
	struct unpack u = { .files_only = true };
	int r;

	if (mkdirat(staging, "archive", 0700) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "make the staging directory");
	r = platform_parse("", &l.platform, e);
	if (r == 0)
		r = open_staging(&l, result, e);
	if (r == 0) {
		struct source source = { .fd = fd };

		u.root = l.archive;
		r = unpack(&u, &(struct tar_source){ source_read, &source }, e);
		unpack_done(&u);
	}
	if (r == 0 && has_member(&l, "manifest.json"))
		r = load_docker(&l, e);
	else if (r == 0 && has_member(&l, "index.json"))
		r = load_oci(&l, e);
	else if (r == 0)
		r = err_msg(e, ERR_INVALID, -ENOENT,
			    "invalid archive: it contains no image (neither manifest.json nor index.json)");
	if (r == 0 && !json_len(l.images))
		r = err_msg(e, ERR_INVALID, -ENOENT, "invalid archive: it contains no image");
	loading_done(&l);
	return r;
}

int load_layout(int staging, int fd, const struct json *what, struct json *result, struct err *e)
{
	struct loading l = { .staging = staging, .archive = -EBADF, .arrivals = arrivals_new(fd) };
	int r = platform_parse(json_get_str(what, "platform"), &l.platform, e);

	l.have = json_get_strv(what, "have");
	if (r == 0)
		r = open_staging(&l, result, e);
	if (r == 0)
		r = load_oci(&l, e);
	if (r == 0 && !json_len(l.images))
		r = err_msg(e, ERR_INVALID, -ENOENT, "invalid archive: it contains no image");
	loading_done(&l);
	return r;
}
