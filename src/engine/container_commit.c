/* commit: what the container has written goes from its supervisor to insula-puller as a tar stream, like a
 * layer from anywhere, and becomes one more layer upon those of the container's image. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/sock.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "engine/image.h"
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

struct commit {
	struct container *c;		/* referenced */
	char *name, *comment;
	bool paused;			/* by us: to be let go on */
	struct json *doc;		/* the image */
	struct image_load *load;	/* NULL once it has ended */
	int fd;				/* the layer */
	struct loop_source *io;
	struct sbuf held;		/* what the puller has not taken */
	char *id;
	bool files_over, load_over;
	int r;
	struct err err;
	engine_done_fn done;
	void *userdata;
};

struct json *container_image_config(const struct container *c)
{
	/* how this one container was attached to and called */
	static const char *const own[] = {"Hostname",	  "Domainname", "AttachStdin", "AttachStdout",
					  "AttachStderr", "Tty",	"OpenStdin",   "StdinOnce",
					  "Image",	  "StopTimeout", "MacAddress"};
	struct json *j = json_copy(ctr_config(c));

	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		json_del(j, own[i]);
	return j;
}

static void event(struct commit *k)
{
	struct json *a = json_object();

	json_set_str(a, "comment", k->comment);
	json_set_str(a, "imageID", k->id);
	json_set_str(a, "imageRef", k->name);
	container_event(k->c, "commit", a);
}

static void commit_free(struct commit *k)
{
	loop_source_free(k->io);
	fd_close(&k->fd);
	sbuf_done(&k->held);
	err_clear(&k->err);
	json_free(k->doc);
	container_unref(k->c);
	free(k->name);
	free(k->comment);
	free(k->id);
	free(k);
}

static void thawed(void *ud, int r, const struct err *e, void *result)
{
	struct commit *k = ud;

	if (k->r >= 0 && !k->c->gone)
		event(k);
	k->done(k->userdata, k->r, &k->err, k->id);
	commit_free(k);
}

static void fail(struct commit *k, int r, const struct err *e)
{
	if (k->r < 0)
		return;			/* the first says why */
	k->r = r;
	err_msg(&k->err, e && e->kind ? e->kind : ERR_SYSTEM, r, "%s", e ? err_text(e) : strerror(-r));
}

static void maybe_over(struct commit *k)
{
	if (!k->files_over || !k->load_over)
		return;
	if (k->paused)
		container_pause(k->c, false, thawed, k);
	else
		thawed(k, 0, NULL, NULL);
}

/* ---- the stream ---- */

static void give_up(struct commit *k)
{
	loop_source_free(TAKE_PTR(k->io));
	fd_close(&k->fd);
	if (k->load) {
		image_load_cancel(k->load);
		k->load = NULL;
		k->load_over = true;
	}
}

/* The archive ends before the answer comes that says whether it is whole: the puller hears of the end with
 * that. */
static void maybe_eof(struct commit *k)
{
	if (k->load && k->files_over && k->fd < 0 && !k->held.len)
		image_load_eof(k->load);
}

static void on_room(void *ud)
{
	struct commit *k = ud;

	sbuf_consume(&k->held, image_load_write(k->load, k->held.buf, k->held.len));
	if (k->held.len)
		return;
	if (k->io)
		(void)loop_io_set(k->io, EPOLLIN);
	maybe_eof(k);
}

static void on_loaded(void *ud, int r, const struct err *e, char *const *ids, char *const *said)
{
	struct commit *k = ud;

	k->load = NULL;
	k->load_over = true;
	if (r < 0)
		fail(k, r, e);
	else
		k->id = xstrdup(ids[0]);
	loop_source_free(TAKE_PTR(k->io));
	fd_close(&k->fd);
	maybe_over(k);
}

static void on_layer(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct commit *k = ud;
	char buf[32 << 10];
	ssize_t n = RETRY(read(fd, buf, sizeof buf));
	size_t taken;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		loop_source_free(TAKE_PTR(k->io));
		fd_close(&k->fd);
		maybe_eof(k);
		return;
	}
	taken = image_load_write(k->load, buf, (size_t)n);
	sbuf_add(&k->held, buf + taken, (size_t)n - taken);
	if (k->held.len)
		(void)loop_io_set(k->io, 0);
}

static void on_files(void *ud, int r, const struct err *e, void *result)
{
	struct commit *k = ud;

	k->files_over = true;
	if (r < 0) {
		fail(k, r, e);
		give_up(k);
	} else {
		maybe_eof(k);
	}
	maybe_over(k);
}

static const struct image_load_ops ops = {.room = on_room, .done = on_loaded, .silent = true};

static int begin(struct commit *k, struct err *err)
{
	struct engine *e = k->c->engine;
	struct files_args args = {.op = FILES_LAYER};
	int pair[2], r = image_load_begin(e, k->doc, k->name, &ops, k, &k->load, err);

	if (r < 0)
		return r;
	r = sock_pair(pair);
	if (r < 0)
		return err_set(err, ERR_SYSTEM, r, "open a socket pair");
	k->fd = pair[0];
	args.fd = pair[1];
	(void)fd_set_nonblock(k->fd, true);
	r = loop_add_io(e->loop, k->fd, EPOLLIN, on_layer, k, &k->io);
	if (r < 0) {
		close(pair[1]);
		return err_set(err, ERR_SYSTEM, r, "watch a socket pair");
	}
	container_files(k->c, &args, on_files, k);
	return 0;
}

static void start(struct commit *k)
{
	_cleanup_err_ struct err err = ERR_INIT;
	int r = begin(k, &err);

	if (r >= 0)
		return;
	fail(k, r, &err);
	give_up(k);
	k->files_over = k->load_over = true;
	maybe_over(k);
}

static void on_paused(void *ud, int r, const struct err *e, void *result)
{
	struct commit *k = ud;

	/* Ended meanwhile, or paused by somebody else: it stands still in either case. */
	k->paused = r >= 0;
	start(k);
}

/* ---- the image ---- */

static int describe(struct commit *k, const struct commit_args *a, struct err *err)
{
	_cleanup_free_ char *now = time_rfc3339(now_real_ns()), *by = NULL;
	_cleanup_strv_ char **cmd = json_get_strv(ctr_config(k->c), "Cmd");
	struct json *history, *h;
	struct image *image;
	int r = image_find(k->c->engine, k->c->image_id, &image, err);

	if (r < 0)
		return r;
	k->doc = json_copy(image->config);
	by = cmd ? strv_join(cmd, " ") : xstrdup("");
	json_set_str(k->doc, "created", now);
	json_set_str(k->doc, "author", a->author ? a->author : "");
	json_set_str(k->doc, "comment", k->comment);
	json_set_str(k->doc, "container", k->c->id);
	json_del(k->doc, "container_config");
	json_set(k->doc, "config", json_ref(a->config));
	history = json_get(k->doc, "history") ?: json_set(k->doc, "history", json_array());
	h = json_add(history, json_object());
	json_set_str(h, "created", now);
	if (!str_empty(a->author))
		json_set_str(h, "author", a->author);
	json_set_str(h, "created_by", by);
	if (*k->comment)
		json_set_str(h, "comment", k->comment);
	return 0;
}

void container_commit(struct container *c, const struct commit_args *a, engine_done_fn done, void *ud)
{
	struct commit *k = new0(struct commit);
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_json_ struct json *config = a->config;
	int r;

	*k = (struct commit){.c = container_ref(c), .name = xstrdup(a->name ? a->name : ""), .fd = -EBADF,
			     .comment = xstrdup(a->comment ? a->comment : ""), .done = done, .userdata = ud};
	r = describe(k, a, &err);
	if (r < 0) {
		done(ud, r, &err, NULL);
		commit_free(k);
	} else if (a->pause && c->status == CTR_RUNNING && !c->paused) {
		container_pause(c, true, on_paused, k);
	} else {
		start(k);
	}
}
