/* save: insula-puller writes the archive of images into a pipe. */
#include "engine/image_int.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/strv.h"
#include "engine/paths.h"
#include "oci/manifest.h"
#include "oci/ref.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>

struct image_save {
	struct engine *engine;
	const struct image_save_ops *ops;
	void *ud;
	struct proc proc;
	struct loop_source *child, *io;
	int fd, code;
	bool exited, eof;
};

static void save_free(struct image_save *s)
{
	loop_source_free(s->child);
	loop_source_free(s->io);
	if (s->proc.pidfd >= 0 && !s->exited) {
		(void)proc_kill(&s->proc, SIGKILL);
		(void)proc_wait(&s->proc, NULL);
	}
	proc_done(&s->proc);
	fd_close(&s->fd);
	free(s);
}

static void ended(struct image_save *s)
{
	if (!s->exited || !s->eof)
		return;
	s->ops->done(s->ud, s->code == 0);
	save_free(s);
}

static void on_child(struct loop_source *src, const siginfo_t *si, void *ud)
{
	struct image_save *s = ud;

	loop_source_free(TAKE_PTR(s->child));
	s->exited = true;
	s->code = proc_exit_code(si->si_code, si->si_status);
	ended(s);
}

static void on_data(struct loop_source *src, int fd, uint32_t events, void *ud)
{
	struct image_save *s = ud;
	char buf[64 << 10];
	ssize_t n = RETRY(read(fd, buf, sizeof buf));

	if (n > 0) {
		if (!s->ops->data(s->ud, buf, (size_t)n))
			(void)loop_io_set(s->io, 0);
		return;
	}
	loop_source_free(TAKE_PTR(s->io));
	s->eof = true;
	ended(s);
}

void image_save_resume(struct image_save *s)
{
	if (s->io)
		(void)loop_io_set(s->io, EPOLLIN);
}

void image_save_cancel(struct image_save *s)
{
	save_free(s);
}

/* --- what is to be saved --- */

static struct json *find_entry(struct json *images, const char *id)
{
	for (size_t i = 0; i < json_len(images); i++)
		if (streq(json_get_str(json_at(images, i), "id"), id))
			return json_at(images, i);
	return NULL;
}

static int new_entry(struct engine *e, const struct image *i, struct json *images, struct json **ret,
		     struct err *err)
{
	_cleanup_free_ char *config = image_blob_path(e, i->id);
	_cleanup_image_blob_ struct image_blob manifest = { 0 };
	_cleanup_json_ struct json *o = json_object();
	struct json *layers = json_set(o, "layers", json_array());
	struct stat st;

	if (stat(config, &st) < 0)
		return err_set(err, ERR_SYSTEM, -errno, "open '%s'", config);
	json_set_str(o, "id", i->id);
	json_set_int(o, "size", st.st_size);
	json_set(o, "tags", json_array());
	for (char **c = i->chain_ids; c && *c; c++) {
		_cleanup_image_blob_ struct image_blob b = { 0 };
		int r = image_layer_blob(e, *c, &b, err);

		if (r < 0)
			return r;
		json_add(layers, descriptor_json(b.media_type, b.digest, b.size));
	}
	if (image_manifest_blob(e, i, &manifest) == 0)
		json_set(o, "manifest", descriptor_json(manifest.media_type, manifest.digest, manifest.size));
	*ret = json_add(images, TAKE_PTR(o));
	return 0;
}

/* A name with a tag stands for itself, a bare name for all its tags, an id for none. */
static void add_names(const struct image *i, const char *asked, struct json *entry)
{
	_cleanup_strv_ char **have = json_get_strv(entry, "tags");
	_cleanup_ref_ struct ref ref = { 0 };
	_cleanup_free_ char *familiar = NULL, *name = NULL;
	const char *slash = strrchr(asked, '/');
	bool bare = !strchr(slash ? slash : asked, ':') && !strchr(asked, '@');
	size_t n;

	if (ref_parse(asked, &ref, NULL) < 0 || ref.digest)
		return;
	familiar = ref_familiar(&ref);
	name = ref_familiar_name(&ref);
	n = strlen(name);
	for (char **t = i->tags; t && *t; t++)
		if (!strv_has(have, *t) &&
		    (streq(*t, familiar) || (bare && str_starts(*t, name) && (*t)[n] == ':')))
			strv_add(&have, *t);
	json_set_strv(entry, "tags", have);
}

static bool named(const struct image *i, const char *name)
{
	size_t n = strlen(name);

	for (char **t = i->tags; t && *t; t++)
		if (str_starts(*t, name) && (*t)[n] == ':')
			return true;
	return false;
}

static int add_image(struct engine *e, const struct image *i, const char *asked, struct json *images,
		     struct err *err)
{
	struct json *entry = find_entry(images, i->id);
	int r = entry ? 0 : new_entry(e, i, images, &entry, err);

	if (r == 0)
		add_names(i, asked, entry);
	return r;
}

static int add_asked(struct engine *e, const char *asked, struct json *images, struct err *err)
{
	_cleanup_ref_ struct ref ref = { 0 };
	_cleanup_free_ char *name = NULL;
	const char *slash = strrchr(asked, '/');
	bool any = false;
	struct image *i;
	int r = 0;

	/* A bare repository name is all its tags, of several images perhaps. */
	if (!strchr(slash ? slash : asked, ':') && ref_parse(asked, &ref, NULL) == 0 && !ref.digest) {
		name = ref_familiar_name(&ref);
		for (size_t k = 0; r == 0 && k < e->images->n; k++)
			if (named(e->images->v[k], name)) {
				any = true;
				r = add_image(e, e->images->v[k], asked, images, err);
			}
		if (any)
			return r;
	}
	r = image_find(e, asked, &i, err);
	return r < 0 ? r : add_image(e, i, asked, images, err);
}

static int spawn(struct image_save *s, const struct json *what, struct err *err)
{
	_cleanup_free_ char *program = engine_program(s->engine, "insula-puller"), *text = json_dump(what);
	_cleanup_free_ char *blobs = path_join(s->engine->cfg.data_root, "blobs/sha256");
	_cleanup_close_ int conf = fd_from_bytes("save-request", text, strlen(text)), out = -EBADF;
	_cleanup_close_ int dir = open(blobs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *argv[] = { (char *)"insula-puller", (char *)"save", NULL };
	int p[2], r;

	if (!program)
		return err_msg(err, ERR_SYSTEM, -ENOENT, "insula-puller is not installed");
	if (dir < 0 || conf < 0)
		return err_set(err, ERR_SYSTEM, dir < 0 ? -errno : conf, "open '%s'", blobs);
	r = fd_pipe(p, 0);
	if (r < 0)
		return err_set(err, ERR_SYSTEM, r, "start insula-puller");
	s->fd = p[0];
	out = p[1];
	const struct fd_map map[] = { { out, 1 }, { dir, 3 }, { conf, 4 } };
	const struct spawn_args a = { .path = program,
				      .argv = argv,
				      .fds = map,
				      .n_fds = ARRAY_SIZE(map),
				      .keep_stderr = true,
				      .pdeathsig = SIGKILL };

	r = proc_spawn(&a, &s->proc);
	if (r == 0)
		r = loop_add_child(s->engine->loop, s->proc.pidfd, on_child, s, &s->child);
	if (r == 0)
		r = loop_add_io(s->engine->loop, s->fd, EPOLLIN, on_data, s, &s->io);
	return r < 0 ? err_set(err, ERR_SYSTEM, r, "start insula-puller") : 0;
}

int image_save(struct engine *e, char *const *names, const struct image_save_ops *ops, void *ud,
	       struct image_save **ret, struct err *err)
{
	_cleanup_json_ struct json *what = json_object();
	struct json *images = json_set(what, "images", json_array());
	struct image_save *s;
	int r = 0;

	for (char *const *n = names; r == 0 && n && *n; n++)
		r = add_asked(e, *n, images, err);
	if (r < 0)
		return r;
	s = new0(struct image_save);
	*s = (struct image_save){ .engine = e, .ops = ops, .ud = ud, .proc = PROC_INIT, .fd = -EBADF };
	r = spawn(s, what, err);
	if (r < 0) {
		save_free(s);
		return r;
	}
	for (size_t k = 0; k < json_len(images); k++) {
		struct image *i = image_by_id(e, json_get_str(json_at(images, k), "id"));

		image_event(e, i, "save", i->id);
	}
	*ret = s;
	return 0;
}
