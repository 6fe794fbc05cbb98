/* Theory of operation.
 *
 * insula-puller reads the archive from a pipe and works in a staging directory of its own. When it has
 * ended well, its result names images and layers. A worker then marks opaque directories (which takes
 * CAP_SYS_ADMIN, which the puller has not), renames the layers into the store and writes the configs;
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
#include <sys/xattr.h>

#define RESULT_MAX (64u << 20)
#define OUT_MAX (256u << 10)

struct image_load {
	struct engine *engine;
	const struct image_load_ops *ops;
	void *ud;
	char *staging, *tag;
	bool import, eof, cancelled, short_write;
	struct proc proc;
	struct loop_source *child, *in_io, *out_io;
	int in, out;			/* to its stdin, from its stdout */
	struct sbuf pending, result;
	bool exited, result_over;
	struct json *doc;
};

static void load_free(struct image_load *l)
{
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
	trash(l->engine, l->staging);
	sbuf_done(&l->pending);
	sbuf_done(&l->result);
	json_free(l->doc);
	free(l->staging);
	free(l->tag);
	free(l);
}

static void load_finish(struct image_load *l, int r, const struct err *e, char *const *ids, char *const *said)
{
	if (!l->cancelled)
		l->ops->done(l->ud, r, e, ids, said);
	load_free(l);
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

static uint64_t size_of(const struct json *doc, char *const *chains)
{
	const struct json *layers = json_get(doc, "layers");
	uint64_t size = 0;

	for (size_t i = 0; i < json_len(layers); i++)
		if (strv_has(chains, json_get_str(json_at(layers, i), "chain")))
			size += (uint64_t)json_get_int(json_at(layers, i), "size", 0);
	return size;
}

static int insert_image(struct image_load *l, const struct json *desc, struct image **ret, struct err *err)
{
	struct engine *e = l->engine;
	const char *id = json_get_str(desc, "id"), *text = json_get_str(desc, "config");
	_cleanup_json_ struct json *config = NULL;
	_cleanup_free_ char *chains = NULL;
	struct image *i = image_by_id(e, id);
	int r;

	*ret = i;
	if (i)
		return 0;
	r = json_parse(text, strlen(text), &config, err);
	if (r == 0)
		r = image_config_check_host(config, err);
	if (r < 0)
		return r;
	i = new0(struct image);
	i->id = xstrdup(id);
	i->chain_ids = json_get_strv(desc, "chains");
	i->created_ns = created_of(config);
	i->size = size_of(l->doc, i->chain_ids);
	i->config = TAKE_PTR(config);
	chains = json_dump(json_get(desc, "chains"));
	r = db_run(e->db, err, "INSERT INTO images(id, config, created_ns, size, chain_ids) VALUES(?, ?, ?, ?, ?)", "ssiis", id, text,
		   (int64_t)i->created_ns, (int64_t)i->size, chains);
	image_insert(e->images, i);
	if (r < 0)
		image_drop(e->images, i);
	else
		*ret = i;
	return r;
}

static int tag_image(struct image_load *l, struct image *i, const struct json *desc, char ***said, struct err *err)
{
	_cleanup_strv_ char **tags = json_get_strv(desc, "tags");
	int r = 0;

	if (l->import && *l->tag)
		strv_add(&tags, l->tag);
	for (char **t = tags; r == 0 && t && *t; t++) {
		_cleanup_ref_ struct ref ref = { 0 };
		_cleanup_free_ char *familiar = NULL;

		r = image_tag(l->engine, i, *t, NULL, err);
		if (r == 0 && ref_parse(*t, &ref, NULL) == 0) {
			familiar = ref_familiar(&ref);
			strv_addf(said, "Loaded image: %s", familiar);
		}
	}
	if (r == 0 && !tags)
		strv_addf(said, "Loaded image ID: %s", i->id);
	return r;
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
	r = db_begin(l->engine->db, &e);
	for (size_t k = 0; r == 0 && k < json_len(images); k++) {
		struct image *i;

		r = insert_image(l, json_at(images, k), &i, &e);
		if (r == 0)
			r = tag_image(l, i, json_at(images, k), &said, &e);
		if (r == 0) {
			strv_add(&ids, i->id);
			image_event(l->engine, i, l->import ? "import" : "load", NULL);
		}
	}
	if (r == 0)
		r = db_commit(l->engine->db, &e);
	else
		db_rollback(l->engine->db);
	load_finish(l, r, &e, ids, said);
}

/* --- the worker --- */

struct commit { char *data_root, *staging; struct json *doc; };

static int mark_opaque(int layer, const struct json *list, struct err *e)
{
	for (size_t i = 0; i < json_len(list); i++) {
		const char *dir = json_str(json_at(list, i));
		_cleanup_close_ int fd = dir ? fs_open_beneath(layer, dir, O_RDONLY | O_DIRECTORY, 0) : -EINVAL;

		if (fd < 0 || fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) < 0)
			return err_set(e, ERR_SYSTEM, fd < 0 ? fd : -errno, "mark '%s' as opaque", dir ? dir : "");
	}
	return 0;
}

static int place_layer(const struct commit *c, const struct json *layer, struct err *e)
{
	const char *chain = json_get_str(layer, "chain");
	_cleanup_free_ char *from = NULL, *to = NULL;
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (!chain || !digest_valid(chain))
		return err_msg(e, ERR_SYSTEM, -EPROTO, "insula-puller named a layer '%s'", chain ? chain : "");
	from = xasprintf("%s/layers/%s", c->staging, digest_hex(chain));
	to = xasprintf("%s/layers/%s", c->data_root, digest_hex(chain));
	if (fs_exists(to))
		return 0;
	fd = open(from, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open layer '%s'", from);
	r = mark_opaque(fd, json_get(layer, "opaque"), e);
	if (r < 0)
		return r;
	/* All of the layer is on disk before its name says that it is complete. */
	if (syncfs(fd) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "write layer '%s'", from);
	if (rename(from, to) < 0 && errno != EEXIST && errno != ENOTEMPTY)
		return err_set(e, ERR_SYSTEM, -errno, "place layer '%s'", to);
	return 0;
}

static int commit_worker(void *arg, struct sbuf *out, struct err *e)
{
	const struct commit *c = arg;
	const struct json *layers = json_get(c->doc, "layers"), *images = json_get(c->doc, "images");
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_len(layers); i++)
		r = place_layer(c, json_at(layers, i), e);
	for (size_t i = 0; r == 0 && i < json_len(images); i++) {
		const char *id = json_get_str(json_at(images, i), "id"), *text = json_get_str(json_at(images, i), "config");
		_cleanup_free_ char *path = NULL;

		if (!id || !digest_valid(id) || !text)
			return err_msg(e, ERR_SYSTEM, -EPROTO, "insula-puller named an image '%s'", id ? id : "");
		path = xasprintf("%s/blobs/sha256/%s", c->data_root, digest_hex(id));
		r = fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, true);
		if (r < 0)
			err_set(e, ERR_SYSTEM, r, "write '%s'", path);
	}
	return r;
}

static void puller_ended(struct image_load *l)
{
	_cleanup_err_ struct err e = ERR_INIT;
	struct commit c;
	int r;

	if (!l->exited || !l->result_over)
		return;
	if (l->cancelled) {
		load_free(l);
		return;
	}
	r = json_parse(sbuf_str(&l->result), l->result.len, &l->doc, &e);
	if (r < 0) {
		r = err_msg(&e, ERR_SYSTEM, -EIO, "%s: insula-puller died (see the daemon's log)", l->import ? "import" : "load");
	} else if (json_get_str(l->doc, "error")) {
		int64_t kind = json_get_int(l->doc, "kind", ERR_SYSTEM);

		r = err_msg(&e, kind > 0 && kind < _ERR_KIND_MAX ? (enum err_kind)kind : ERR_SYSTEM, -EIO, "%s",
			    json_get_str(l->doc, "error"));
	}
	if (r == 0) {
		c = (struct commit){ l->engine->cfg.data_root, l->staging, l->doc };
		r = worker_run(l->engine->loop, commit_worker, &c, committed, l);
		if (r < 0)
			err_set(&e, ERR_SYSTEM, r, "store the image");
	}
	if (r < 0)
		load_finish(l, r, &e, NULL, NULL);
}

/* --- pipes --- */

static void on_child(struct loop_source *s, const siginfo_t *si, void *ud)
{
	struct image_load *l = ud;

	loop_source_free(l->child);
	l->child = NULL;
	l->exited = true;
	fd_close(&l->in);
	puller_ended(l);
}

static void on_result(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct image_load *l = ud;
	char buf[16 << 10];
	ssize_t n = RETRY(read(fd, buf, sizeof buf));

	if (n > 0) {
		sbuf_add(&l->result, buf, (size_t)n);
		return;
	}
	loop_source_free(l->out_io);
	l->out_io = NULL;
	l->result_over = true;
	puller_ended(l);
}

/* Writes what waits. Once the puller has ended with an error the rest is swallowed: the client may still be sending. */
static void pump(struct image_load *l)
{
	while (l->pending.len && l->in >= 0) {
		ssize_t n = RETRY(write(l->in, l->pending.buf, l->pending.len));

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			loop_source_free(l->in_io);
			l->in_io = NULL;
			fd_close(&l->in);
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
	size_t take = MIN(n, OUT_MAX - l->pending.len);

	if (l->in < 0)
		return n;
	sbuf_add(&l->pending, p, take);
	pump(l);
	if (l->pending.len && !l->in_io && l->in >= 0)
		(void)loop_add_io(l->engine->loop, l->in, EPOLLOUT, on_room, l, &l->in_io);
	l->short_write = take < n;
	return take;
}

void image_load_eof(struct image_load *l)
{
	l->eof = true;
	if (!l->pending.len)
		fd_close(&l->in);
}

void image_load_cancel(struct image_load *l)
{
	l->cancelled = true;
	if (l->exited)
		return;		/* the worker is at it: what it made becomes an orphan or an image */
	(void)proc_kill(&l->proc, SIGKILL);
}

static int spawn(struct image_load *l, const struct json *config, struct err *err)
{
	_cleanup_free_ char *program = engine_program(l->engine, "insula-puller"), *text = NULL;
	_cleanup_close_ int dir = -EBADF, conf = -EBADF, in_r = -EBADF, out_w = -EBADF;
	char *argv[] = { (char *)"insula-puller", (char *)(config ? "import" : "load"), NULL };
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
	struct spawn_args a = { .path = program, .argv = argv, .fds = map, .n_fds = n, .keep_stderr = true, .pdeathsig = SIGKILL };

	r = proc_spawn(&a, &l->proc);
	if (r == 0)
		r = loop_add_child(l->engine->loop, l->proc.pidfd, on_child, l, &l->child);
	if (r == 0)
		r = loop_add_io(l->engine->loop, l->out, EPOLLIN, on_result, l, &l->out_io);
	return r < 0 ? err_set(err, ERR_SYSTEM, r, "start insula-puller") : 0;
}

int image_load_begin(struct engine *e, const struct json *config, const char *tag, const struct image_load_ops *ops, void *ud,
		     struct image_load **ret, struct err *err)
{
	struct image_load *l = new0(struct image_load);
	struct id name = id_new();
	int r;

	*l = (struct image_load){
		.engine = e, .ops = ops, .ud = ud, .tag = xstrdup(tag ? tag : ""), .import = config != NULL, .proc = PROC_INIT,
		.in = -EBADF, .out = -EBADF, .result = SBUF_INIT_MAX(RESULT_MAX),
		.staging = xasprintf("%s/tmp/%.16s", e->cfg.data_root, name.s),
	};
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
