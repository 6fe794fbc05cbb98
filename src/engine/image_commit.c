/* What insula-puller has unpacked moves into the store. A worker marks opaque directories (which takes
 * CAP_SYS_ADMIN, which the puller has not), writes the configs, and renames blobs and layers to their
 * places. */
#include "engine/image_int.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "oci/ref.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/xattr.h>

struct commit { struct engine *engine; const char *data_root, *staging; const struct json *doc; };

static int mark_opaque(int layer, const struct json *list, struct err *e)
{
	for (size_t i = 0; i < json_len(list); i++) {
		const char *dir = json_str(json_at(list, i));
		_cleanup_close_ int fd =
		    dir ? fs_open_beneath(layer, dir, O_RDONLY | O_DIRECTORY, 0) : -EINVAL;

		if (fd < 0 || fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) < 0)
			return err_set(e, ERR_SYSTEM, fd < 0 ? fd : -errno, "mark '%s' as opaque",
				       dir ? dir : "");
	}
	return 0;
}

static char *layer_path(const char *root, const char *chain)
{
	return xasprintf("%s/layers/%s", root, digest_hex(chain));
}

static int finish_layer(const struct commit *c, const struct json *layer, struct err *e)
{
	const char *chain = json_get_str(layer, "chain");
	_cleanup_free_ char *from = NULL;
	_cleanup_close_ int fd = -EBADF;

	if (!chain || !digest_valid(chain))
		return err_msg(e, ERR_SYSTEM, -EPROTO, "insula-puller named a layer '%s'",
			       chain ? chain : "");
	from = layer_path(c->staging, chain);
	fd = open(from, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open layer '%s'", from);
	return mark_opaque(fd, json_get(layer, "opaque"), e);
}

/* One that is in the store already stays: same chain id, same content. */
static int place_layer(const struct commit *c, const struct json *layer, struct err *e)
{
	const char *chain = json_get_str(layer, "chain");
	_cleanup_free_ char *from = layer_path(c->staging, chain), *to = layer_path(c->data_root, chain);

	if (rename(from, to) < 0 && errno != EEXIST && errno != ENOTEMPTY)
		return err_set(e, ERR_SYSTEM, -errno, "place layer '%s'", to);
	return 0;
}

static int flush(const char *path, struct err *e)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 ? errno != ENOENT : fsync(fd) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "write '%s' to the disk", path);
	return 0;
}

/* A blob that is kept. The same name has the same content: the one that is there may be on the disk already.
 * durable: what names it will not be taken back if the machine stops (image_sync.c). */
static int place_blob(const struct commit *c, const struct json *blob, bool durable, struct err *e)
{
	const char *digest = json_get_str(blob, "digest");
	_cleanup_free_ char *from = NULL, *to = NULL;

	if (!blob)
		return 0;
	if (!digest || !digest_valid(digest))
		return err_msg(e, ERR_SYSTEM, -EPROTO, "insula-puller named a blob '%s'",
			       digest ? digest : "");
	from = xasprintf("%s/blobs/%s", c->staging, digest_hex(digest));
	to = xasprintf("%s/blobs/sha256/%s", c->data_root, digest_hex(digest));
	if (durable && flush(from, e) < 0)
		return -EIO;
	/* Two layers of the same content share it. */
	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) < 0 && errno != EEXIST &&
	    (errno != ENOENT || !fs_exists(to)))
		return err_set(e, ERR_SYSTEM, -errno, "place blob '%s'", to);
	return 0;
}

static int place_config(const struct commit *c, const struct json *image, struct err *e)
{
	const char *id = json_get_str(image, "id"), *text = json_get_str(image, "config");
	_cleanup_free_ char *path = NULL;
	int r;

	if (!id || !digest_valid(id) || !text)
		return err_msg(e, ERR_SYSTEM, -EPROTO, "insula-puller named an image '%s'", id ? id : "");
	path = xasprintf("%s/blobs/sha256/%s", c->data_root, digest_hex(id));
	r = fs_write_atomic(AT_FDCWD, path, text, strlen(text), 0600, false);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "write '%s'", path) : 0;
}

static int place_image(const struct commit *c, const struct json *image, struct err *e)
{
	bool known = image_by_id(c->engine, json_get_str(image, "id"));
	int r = known ? 0 : place_config(c, image, e);

	return r < 0 ? r : place_blob(c, json_get(image, "manifest"), known, e);
}

static int commit_worker(void *arg, struct sbuf *out, struct err *e)
{
	const struct commit *c = arg;
	const struct json *layers = json_get(c->doc, "layers"), *images = json_get(c->doc, "images");
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_len(layers); i++)
		r = finish_layer(c, json_at(layers, i), e);
	for (size_t i = 0; r == 0 && i < json_len(layers); i++)
		r = place_blob(c, json_get(json_at(layers, i), "blob"), false, e);
	for (size_t i = 0; r == 0 && i < json_len(images); i++)
		r = place_image(c, json_at(images, i), e);
	for (size_t i = 0; r == 0 && i < json_len(layers); i++)
		r = place_layer(c, json_at(layers, i), e);
	return r;
}

int image_commit(struct engine *e, const char *staging, const struct json *doc, worker_done_fn done, void *ud)
{
	struct commit c = { e, e->cfg.data_root, staging, doc };

	return worker_run(e->loop, commit_worker, &c, done, ud);
}
