#include "puller/puller.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "lib/digest.h"
#include "oci/chain.h"
#include "oci/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* temp: its name while it is written. */
struct blob { char digest[72], media[80], temp[32]; int64_t size; int fd; };

static struct json *describe(const char *chain, const struct unpack *u, const struct blob *b)
{
	struct json *o = json_object();

	json_set_str(o, "chain", chain);
	json_set_int(o, "size", (int64_t)u->size);
	json_set_strv(o, "opaque", u->opaque);
	json_set(o, "blob", descriptor_json(b->media, b->digest, b->size));
	return o;
}

/* --- the blob that is kept --- */

/* What registries take, by the first bytes; NULL for anything else. Plain archives are told by their digest.
 */
static const char *media_type(int fd)
{
	unsigned char m[4] = { 0 };

	if (pread(fd, m, sizeof m, 0) != sizeof m)
		return NULL;
	if (m[0] == 0x1f && m[1] == 0x8b)
		return MEDIA_DOCKER_LAYER_GZIP;
	/* a frame, or one to be skipped */
	if ((m[0] == 0x28 && m[1] == 0xb5 && m[2] == 0x2f && m[3] == 0xfd) ||
	    ((m[0] & 0xf0) == 0x50 && m[1] == 0x2a && m[2] == 0x4d && m[3] == 0x18))
		return MEDIA_OCI_LAYER "+zstd";
	return NULL;
}

static int make_dir(int staging, const char *name, struct err *e)
{
	if (mkdirat(staging, name, 0700) < 0 && errno != EEXIST)
		return err_set(e, ERR_SYSTEM, -errno, "make '%s' in the staging directory", name);
	return 0;
}

/* A second name for the file, if it is the one that fd is: links in archives may lead elsewhere. */
static bool link_file(int staging, int archive, const char *name, int fd, const char *digest)
{
	_cleanup_free_ char *to = xasprintf("blobs/%s", digest + strlen("sha256:"));
	struct stat a, b;

	if (fstatat(staging, to, &a, AT_SYMLINK_NOFOLLOW) == 0)
		return true;
	/* The same layer twice: another thread was faster. */
	if (linkat(archive, name, staging, to, AT_SYMLINK_FOLLOW) < 0)
		return errno == EEXIST;
	if (fstatat(staging, to, &a, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &b) == 0 &&
	    a.st_ino == b.st_ino && a.st_dev == b.st_dev)
		return true;
	(void)unlinkat(staging, to, 0);
	return false;
}

int keep_file(int staging, int archive, const char *name, int fd, const char *digest, struct err *e)
{
	int r = make_dir(staging, "blobs", e);

	if (r == 0 && !link_file(staging, archive, name, fd, digest))
		r = err_msg(e, ERR_INVALID, -EINVAL, "invalid archive: %s is no file of its own", name);
	return r;
}

static int keep_compressed(int staging, int archive, const char *name, int fd, const char *digest,
			   struct blob *b)
{
	const char *media = media_type(fd);
	struct stat st;
	char hex[65];

	if (!media || fstat(fd, &st) < 0)
		return 0;
	if (digest)
		snprintf(b->digest, sizeof b->digest, "%s", digest);
	else if (sha256_fd(fd, hex) == 0)
		snprintf(b->digest, sizeof b->digest, "sha256:%s", hex);
	else
		return 0;
	b->size = st.st_size;
	snprintf(b->media, sizeof b->media, "%s", media);
	return link_file(staging, archive, name, fd, b->digest);
}

static int keep_begin(int staging, size_t index, struct blob *b, struct err *e)
{
	snprintf(b->temp, sizeof b->temp, "blobs/new-%zu", index);
	b->fd = openat(staging, b->temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	return b->fd < 0 ? err_set(e, ERR_SYSTEM, -errno, "keep the layer's archive") : 0;
}

static int keep_end(int staging, struct blob *b, const char *diff_id, struct err *e)
{
	_cleanup_free_ char *to = xasprintf("blobs/%s", diff_id + strlen("sha256:"));
	struct stat st;

	if (fstat(b->fd, &st) < 0 || renameat(staging, b->temp, staging, to) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "keep the layer's archive");
	fd_close(&b->fd);
	b->size = st.st_size;
	snprintf(b->digest, sizeof b->digest, "%s", diff_id);
	snprintf(b->media, sizeof b->media, "%s", MEDIA_DOCKER_LAYER);
	return 0;
}

/* --- unpacking --- */

/* b->fd >= 0: the plain archive is to be kept. chain: of this layer; NULL if it follows from the diff id and
 * the parent. */
static int stage(int staging, size_t index, int fd, const char *want, const char *chain, const char *parent,
		 struct json **ret, char **ret_diff_id, struct blob *b, struct err *e)
{
	_cleanup_close_ int dir = -EBADF;
	_cleanup_free_ char *id = xstrdup(chain), *path = NULL, *temp = xasprintf("layers/new-%zu", index);
	struct unpack u = { .layer = true, .keep_fd = b->fd };
	int r = make_dir(staging, "layers", e);

	if (r < 0)
		return r;
	if (mkdirat(staging, temp, 0755) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "make the layer's directory");
	dir = openat(staging, temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open the layer's directory");
	u.root = dir;
	r = unpack(&u, fd, e);
	if (r == 0 && want && !streq(want, u.diff_id))
		r = err_msg(e, ERR_INVALID, -EBADMSG,
			    "invalid diffID for layer %zu: expected \"%s\", got \"%s\"", index, want,
			    u.diff_id);
	if (r == 0 && b->fd >= 0)
		r = keep_end(staging, b, u.diff_id, e);
	if (r == 0) {
		if (!id)
			id = chain_id(parent, u.diff_id);
		path = xasprintf("layers/%s", id + strlen("sha256:"));
		if (renameat(staging, temp, staging, path) < 0)
			r = err_set(e, ERR_SYSTEM, -errno, "name the layer's directory");
	}
	if (r == 0) {
		*ret = describe(id, &u, b);
		if (ret_diff_id)
			*ret_diff_id = xstrdup(u.diff_id);
	}
	unpack_done(&u);
	return r;
}

int layer_stage(int staging, int fd, const char *parent, struct json **ret, char **ret_diff_id, struct err *e)
{
	struct blob b = { .fd = -EBADF };
	int r = make_dir(staging, "blobs", e);

	if (r == 0)
		r = keep_begin(staging, 0, &b, e);
	if (r == 0)
		r = stage(staging, 0, fd, NULL, NULL, parent, ret, ret_diff_id, &b, e);
	fd_close(&b.fd);
	return r;
}

int layer_stage_file(const struct layer_file *f, struct json **ret, struct err *e)
{
	struct blob b = { .fd = -EBADF };
	int r = make_dir(f->staging, "blobs", e);

	if (r == 0 && !keep_compressed(f->staging, f->archive, f->name, f->fd, f->digest, &b))
		r = keep_begin(f->staging, f->index, &b, e);
	if (r == 0)
		r = stage(f->staging, f->index, f->fd, f->diff_id, f->chain, NULL, ret, NULL, &b, e);
	fd_close(&b.fd);
	return r;
}
