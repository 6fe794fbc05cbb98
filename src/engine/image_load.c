/* Theory of operation.
 *
 * insula-puller reads the archive from a pipe and works in a staging directory of its own. When it has
 * ended well, its result names images and layers. image_commit() puts them into the store's directories;
 * last comes one database transaction. Before it the store is as it was: layers without an image are
 * orphans, collected at the next start or removal. */
#include "engine/image_int.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "engine/db.h"
#include "engine/paths.h"
#include "engine/worker.h"
#include "oci/image_spec.h"
#include "oci/ref.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>

#define RESULT_MAX (64u << 20)
#define OUT_MAX (256u << 10)

struct image_load {
	struct list link;		/* in images.loads */
	struct engine *engine;
	const struct image_load_ops *ops;
	void *ud;
	char *staging, *tag, *digest_ref;
	const char *mode;		/* of insula-puller */
	bool eof, cancelled, short_write;
	struct proc proc;
	struct loop_source *child, *in_io, *out_io;
	int in, out;			/* to its stdin, from its stdout */
	struct sbuf pending, result;
	bool exited, result_over;
	struct json *doc;
};

bool image_load_holds(const struct images *im, const char *hex)
{
	list_for_each(l, &im->loads, struct image_load, link) {
		const struct json *layers = json_get(l->doc, "layers");

		for (size_t i = 0; i < json_len(layers); i++) {
			const char *chain = json_get_str(json_at(layers, i), "chain");

			if (chain && streq(digest_hex(chain), hex))
				return true;
		}
	}
	return false;
}

bool image_load_holds_blob(const struct images *im, const char *digest)
{
	list_for_each(l, &im->loads, struct image_load, link) {
		const struct json *layers = json_get(l->doc, "layers"), *list = json_get(l->doc, "images");

		for (size_t i = 0; i < json_len(layers); i++)
			if (streq(json_get_str(json_get(json_at(layers, i), "blob"), "digest"), digest))
				return true;
		for (size_t i = 0; i < json_len(list); i++)
			if (streq(json_get_str(json_at(list, i), "id"), digest) ||
			    streq(json_get_str(json_get(json_at(list, i), "manifest"), "digest"), digest))
				return true;
	}
	return false;
}

static void drop_staging(struct image_load *l)
{
	if (l->staging)
		trash(l->engine, l->staging);
	free(TAKE_PTR(l->staging));
}

static void load_free(struct image_load *l)
{
	list_remove(&l->link);
	loop_source_free(l->child);
	loop_source_free(l->in_io);
	loop_source_free(l->out_io);
	if (l->proc.pidfd >= 0 && !l->exited) {
		(void)proc_kill(&l->proc, SIGKILL);
		(void)proc_wait(&l->proc, NULL);
	}
	proc_done(&l->proc);
	fd_close(&l->in);
	fd_close(&l->out);
	drop_staging(l);
	sbuf_done(&l->pending);
	sbuf_done(&l->result);
	json_free(l->doc);
	free(l->tag);
	free(l->digest_ref);
	free(l);
}

static void load_finish(struct image_load *l, int r, const struct err *e, char *const *ids, char *const *said)
{
	struct engine *engine = l->engine;
	bool placed = l->link.next != NULL;

	/* Whoever hears of the end finds nothing left. */
	drop_staging(l);
	if (!l->cancelled)
		l->ops->done(l->ud, r, e, ids, said);
	load_free(l);
	/* A part of it may be in the store already. */
	if (r < 0 && placed)
		image_collect(engine, false);
}

/* --- the database --- */

static uint64_t created_of(const struct json *config)
{
	const char *s = json_get_str(config, "created");
	uint64_t ns = 0;

	if (s)
		(void)time_parse_rfc3339(s, &ns);
	return ns;
}

/* Of the layers that have come, and of those that were there. */
static uint64_t size_of(const struct image_load *l, char *const *chains)
{
	const struct json *layers = json_get(l->doc, "layers");
	_cleanup_strv_ char **new = NULL;
	uint64_t size = 0;

	for (size_t i = 0; i < json_len(layers); i++)
		if (strv_has(chains, json_get_str(json_at(layers, i), "chain"))) {
			size += (uint64_t)json_get_int(json_at(layers, i), "size", 0);
			strv_add(&new, json_get_str(json_at(layers, i), "chain"));
		}
	for (char *const *c = chains; c && *c; c++)
		if (!strv_has(new, *c))
			size += image_layer_size(l->engine, *c);
	return size;
}

/* The familiar forms of an image's names. */
static char **names_of(const struct image_load *l, const struct json *desc)
{
	_cleanup_strv_ char **tags = json_get_strv(desc, "tags");
	char **names = NULL;

	if (*l->tag)
		strv_add(&tags, l->tag);
	for (char **t = tags; t && *t; t++) {
		_cleanup_ref_ struct ref ref = { 0 };

		if (ref_parse(*t, &ref, NULL) == 0 && ref.tag)
			strv_take(&names, ref_familiar(&ref));
	}
	return names;
}

static int store_image(struct image_load *l, const struct json *desc, struct err *err)
{
	struct db *db = l->engine->db;
	const char *id = json_get_str(desc, "id"), *text = json_get_str(desc, "config");
	_cleanup_strv_ char **names = names_of(l, desc), **chains = json_get_strv(desc, "chains");
	_cleanup_json_ struct json *config = NULL;
	_cleanup_free_ char *list = json_dump(json_get(desc, "chains"));
	int r = json_parse_foreign(text, strlen(text), &config, err);

	if (r == 0)
		r = image_config_check_host(config, err);
	if (r == 0)
		r = db_run(db, err,
			   "INSERT OR IGNORE INTO images(id, config, created_ns, size, chain_ids) VALUES(?, "
			   "?, ?, ?, ?)",
			   "ssiis", id, text, (int64_t)created_of(config), (int64_t)size_of(l, chains),
			   list);
	for (char **n = names; r == 0 && n && *n; n++)
		r = db_run(db, err, "INSERT OR REPLACE INTO image_tags(ref, image_id) VALUES(?, ?)", "ss", *n,
			   id);
	if (r == 0 && l->digest_ref)
		r = db_run(db, err, "INSERT OR REPLACE INTO image_digests(ref, image_id) VALUES(?, ?)", "ss",
			   l->digest_ref, id);
	if (r == 0 && json_get(desc, "manifest"))
		r = image_blobs_store_manifest(l->engine, id, json_get(desc, "manifest"), err);
	return r;
}

/* All of it, or nothing. */
static int store(struct image_load *l, struct err *err)
{
	const struct json *images = json_get(l->doc, "images"), *layers = json_get(l->doc, "layers");
	struct db *db = l->engine->db;
	int r = db_begin(db, err);

	if (r < 0)
		return r;
	r = image_sync_note(l->engine, l->doc, err);
	for (size_t k = 0; r == 0 && k < json_len(layers); k++)
		r = db_run(db, err, "INSERT OR REPLACE INTO layers(chain_id, size) VALUES(?, ?)", "si",
			   json_get_str(json_at(layers, k), "chain"),
			   json_get_int(json_at(layers, k), "size", 0));
	if (r == 0)
		r = image_blobs_store(l->engine, layers, err);
	for (size_t k = 0; r == 0 && k < json_len(images); k++)
		r = store_image(l, json_at(images, k), err);
	if (r < 0) {
		db_rollback(db);
		return r;
	}
	return db_commit(db, err);
}

/* What the database has now, in memory. */
static struct image *publish(struct image_load *l, const struct json *desc, char ***said)
{
	struct engine *e = l->engine;
	const char *id = json_get_str(desc, "id"), *text = json_get_str(desc, "config");
	_cleanup_strv_ char **names = names_of(l, desc);
	struct image *i = image_by_id(e, id);

	if (!i) {
		i = new0(struct image);
		i->id = xstrdup(id);
		(void)json_parse(text, strlen(text), &i->config, NULL);		/* was parsed before */
		i->chain_ids = json_get_strv(desc, "chains");
		i->created_ns = created_of(i->config);
		i->size = size_of(l, i->chain_ids);
		image_insert(e->images, i);
	}
	for (char **n = names; n && *n; n++) {
		image_name(e, i, *n);
		strv_addf(said, "Loaded image: %s", *n);
	}
	if (!names)
		strv_addf(said, "Loaded image ID: %s", i->id);
	if (l->digest_ref)
		image_add_digest(e, i, l->digest_ref);
	return i;
}

/* A pull is known by its reference, the others by the image. */
static const char *image_event_name(const struct image_load *l, const struct image *i)
{
	return !l->digest_ref ? i->id : i->tags ? i->tags[strv_len(i->tags) - 1] : l->digest_ref;
}

static void committed(void *ud, int r, const struct err *we, const struct sbuf *out)
{
	struct image_load *l = ud;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_strv_ char **ids = NULL, **said = NULL;
	const struct json *images = json_get(l->doc, "images");

	if (r < 0) {
		load_finish(l, r, we, NULL, NULL);
		return;
	}
	r = store(l, &e);
	if (r == 0)
		image_sync_start(l->engine);
	for (size_t k = 0; r == 0 && k < json_len(images); k++) {
		struct image *i = publish(l, json_at(images, k), &said);

		strv_add(&ids, i->id);
		if (!l->ops->silent)
			image_event(l->engine, i, l->mode, image_event_name(l, i));
	}
	load_finish(l, r, &e, ids, said);
}

static void puller_ended(struct image_load *l)
{
	_cleanup_err_ struct err e = ERR_INIT;
	int r;

	if (!l->exited || !l->result_over)
		return;
	if (l->cancelled) {
		load_free(l);
		return;
	}
	r = json_parse(sbuf_str(&l->result), l->result.len, &l->doc, &e);
	if (r < 0) {
		r = err_msg(&e, ERR_SYSTEM, -EIO, "%s: insula-puller died (see the daemon's log)",
			    l->mode);
	} else if (json_get_str(l->doc, "error")) {
		int64_t kind = json_get_int(l->doc, "kind", ERR_SYSTEM);

		r = err_msg(&e, kind > 0 && kind < _ERR_KIND_MAX ? (enum err_kind)kind : ERR_SYSTEM, -EIO,
			    "%s", json_get_str(l->doc, "error"));
	}
	if (r == 0) {
		list_append(&l->engine->images->loads, &l->link);
		r = image_commit(l->engine, l->staging, l->doc, committed, l);
		if (r < 0)
			err_set(&e, ERR_SYSTEM, r, "store the image");
	}
	if (r < 0)
		load_finish(l, r, &e, NULL, NULL);
}

/* --- pipes --- */

static void close_input(struct image_load *l)
{
	loop_source_free(l->in_io);
	l->in_io = NULL;
	fd_close(&l->in);
}

static void on_child(struct loop_source *s, const siginfo_t *si, void *ud)
{
	struct image_load *l = ud;

	loop_source_free(l->child);
	l->child = NULL;
	l->exited = true;
	close_input(l);
	puller_ended(l);
}

/* Whole lines are progress; what ends without one is the result. */
static void take_progress(struct image_load *l)
{
	char *end;

	while (l->ops->progress && (end = memchr(l->result.buf, '\n', l->result.len))) {
		_cleanup_json_ struct json *line = NULL;
		size_t n = (size_t)(end - l->result.buf);

		if (!l->cancelled && json_parse(l->result.buf, n, &line, NULL) == 0)
			l->ops->progress(l->ud, line);
		sbuf_consume(&l->result, n + 1);
	}
}

static void on_result(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct image_load *l = ud;
	char buf[16 << 10];
	ssize_t n = RETRY(read(fd, buf, sizeof buf));

	if (n > 0) {
		sbuf_add(&l->result, buf, (size_t)n);
		take_progress(l);
		return;
	}
	loop_source_free(l->out_io);
	l->out_io = NULL;
	l->result_over = true;
	puller_ended(l);
}

/* Writes what waits. Once the puller has ended with an error the rest is swallowed: the client may still be
 * sending. */
static void pump(struct image_load *l)
{
	while (l->pending.len && l->in >= 0) {
		ssize_t n = RETRY(write(l->in, l->pending.buf, l->pending.len));

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			close_input(l);
			break;
		}
		sbuf_consume(&l->pending, (size_t)n);
	}
	if (l->in < 0)
		sbuf_reset(&l->pending);
	if (l->pending.len)
		return;
	loop_source_free(l->in_io);
	l->in_io = NULL;
	if (l->eof)
		fd_close(&l->in);
}

static void on_room(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct image_load *l = ud;

	pump(l);
	if (l->short_write && l->pending.len < OUT_MAX / 2) {
		l->short_write = false;
		l->ops->room(l->ud);
	}
}

size_t image_load_write(struct image_load *l, const void *p, size_t n)
{
	size_t taken = 0, take;

	/* Less than all is taken only while bytes wait for the pipe: its next event is what calls room(). */
	while (taken < n && l->in >= 0 && (take = MIN(n - taken, OUT_MAX - l->pending.len)) > 0) {
		sbuf_add(&l->pending, (const char *)p + taken, take);
		taken += take;
		pump(l);
	}
	if (l->in < 0)
		return n;
	if (l->pending.len && !l->in_io)
		(void)loop_add_io(l->engine->loop, l->in, EPOLLOUT, on_room, l, &l->in_io);
	l->short_write = taken < n;
	return taken;
}

void image_load_eof(struct image_load *l)
{
	l->eof = true;
	if (!l->pending.len)
		close_input(l);
}

void image_load_cancel(struct image_load *l)
{
	l->cancelled = true;
	close_input(l);
	if (!l->exited)
		(void)proc_kill(&l->proc, SIGKILL);
	/* Else the worker is at it, and the image comes to be without its client. */
}

static int spawn(struct image_load *l, const struct json *config, struct err *err)
{
	_cleanup_free_ char *program = engine_program(l->engine, "insula-puller"), *text = NULL;
	_cleanup_close_ int dir = -EBADF, conf = -EBADF, in_r = -EBADF, out_w = -EBADF;
	char *argv[] = { (char *)"insula-puller", (char *)l->mode, NULL };
	struct fd_map map[5];
	int p[2], r;
	size_t n = 0;

	if (!program)
		return err_msg(err, ERR_SYSTEM, -ENOENT, "insula-puller is not installed");
	dir = open(l->staging, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_set(err, ERR_SYSTEM, -errno, "open '%s'", l->staging);
	r = fd_pipe(p, 0);
	if (r == 0) {
		in_r = p[0];
		l->in = p[1];
		r = fd_pipe(p, 0);
	}
	if (r == 0) {
		l->out = p[0];
		out_w = p[1];
		r = fd_set_nonblock(l->in, true);
	}
	if (r == 0 && config) {
		text = json_dump(config);
		conf = fd_from_bytes("image-config", text, strlen(text));
		r = conf < 0 ? conf : 0;
	}
	if (r < 0)
		return err_set(err, ERR_SYSTEM, r, "start insula-puller");
	map[n++] = (struct fd_map){ in_r, 0 };
	map[n++] = (struct fd_map){ out_w, 1 };
	map[n++] = (struct fd_map){ dir, 3 };
	if (config)
		map[n++] = (struct fd_map){ conf, 4 };
	struct spawn_args a = {
	    .path = program, .argv = argv, .fds = map, .n_fds = n, .keep_stderr = true, .pdeathsig = SIGKILL};

	r = proc_spawn(&a, &l->proc);
	if (r == 0)
		r = loop_add_child(l->engine->loop, l->proc.pidfd, on_child, l, &l->child);
	if (r == 0)
		r = loop_add_io(l->engine->loop, l->out, EPOLLIN, on_result, l, &l->out_io);
	return r < 0 ? err_set(err, ERR_SYSTEM, r, "start insula-puller") : 0;
}

static struct image_load *load_new(struct engine *e, const char *mode, const struct image_load_ops *ops,
				   void *ud)
{
	struct image_load *l = new0(struct image_load);

	*l = (struct image_load){
	    .engine = e,
	    .ops = ops,
	    .ud = ud,
	    .mode = mode,
	    .proc = PROC_INIT,
	    .in = -EBADF,
	    .out = -EBADF,
	    .result = SBUF_INIT_MAX(RESULT_MAX),
	};
	return l;
}

int image_load_begin(struct engine *e, const struct json *config, const char *tag,
		     const struct image_load_ops *ops, void *ud, struct image_load **ret, struct err *err)
{
	struct image_load *l = load_new(e, config ? "import" : "load", ops, ud);
	struct id name = id_new();
	int r;

	l->tag = xstrdup(tag ? tag : "");
	l->staging = xasprintf("%s/tmp/%.16s", e->cfg.data_root, name.s);
	r = mkdir(l->staging, 0700) < 0 ? err_set(err, ERR_SYSTEM, -errno, "create '%s'", l->staging) : 0;
	if (r == 0)
		r = spawn(l, config, err);
	if (r < 0) {
		load_free(l);
		return r;
	}
	*ret = l;
	return 0;
}

int image_load_layout(struct engine *e, const char *staging, const struct json *what, const char *digest_ref,
		      const struct image_load_ops *ops, void *ud, struct image_load **ret, struct err *err)
{
	struct image_load *l = load_new(e, "pull", ops, ud);
	int r;

	l->tag = xstrdup("");
	l->staging = xstrdup(staging);
	l->digest_ref = xstrdup(digest_ref);
	r = spawn(l, what, err);
	if (r < 0) {
		load_free(l);
		return r;
	}
	*ret = l;
	return 0;
}
