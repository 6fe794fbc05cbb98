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

#define MAGIC_SIZE 4

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
	unsigned char m[MAGIC_SIZE] = { 0 };

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

/* Whether the file itself becomes the blob. */
static bool keep_compressed(int staging, int archive, const char *name, int fd, const char *digest,
			   struct blob *b)
{
	const char *media = media_type(fd);
	char hex[65];

	if (!media)
		return false;
	if (digest)
		snprintf(b->digest, sizeof b->digest, "%s", digest);
	else if (sha256_fd(fd, hex) == 0)
		snprintf(b->digest, sizeof b->digest, "sha256:%s", hex);
	else
		return false;
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

/* A layer's directory under the name of a try. */
struct staged { char temp[40]; int dir; };

static int stage_begin(int staging, size_t index, unsigned attempt, struct staged *d, struct err *e)
{
	int r = make_dir(staging, "layers", e);

	if (r < 0)
		return r;
	snprintf(d->temp, sizeof d->temp, "layers/new-%zu.%u", index, attempt);
	if (mkdirat(staging, d->temp, 0755) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "make the layer's directory");
	d->dir = openat(staging, d->temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return d->dir < 0 ? err_set(e, ERR_SYSTEM, -errno, "open the layer's directory") : 0;
}

static int stage_end(int staging, const struct staged *d, const char *chain, struct err *e)
{
	_cleanup_free_ char *path = xasprintf("layers/%s", chain + strlen("sha256:"));

	return renameat(staging, d->temp, staging, path) < 0
		   ? err_set(e, ERR_SYSTEM, -errno, "name the layer's directory") : 0;
}

int layer_stage(int staging, int fd, const char *parent, struct json **ret, char **ret_diff_id, struct err *e)
{
	struct source source = { .fd = fd };
	struct blob b = { .fd = -EBADF };
	struct staged d = { .dir = -EBADF };
	struct unpack u = { .layer = true };
	_cleanup_free_ char *chain = NULL;
	int r = make_dir(staging, "blobs", e);

	if (r == 0)
		r = keep_begin(staging, 0, &b, e);
	if (r == 0)
		r = stage_begin(staging, 0, 0, &d, e);
	if (r == 0) {
		u.root = d.dir;
		u.keep_fd = b.fd;
		r = unpack(&u, &(struct tar_source){ source_read, &source }, e);
	}
	if (r == 0)
		r = keep_end(staging, &b, u.diff_id, e);
	if (r == 0) {
		chain = chain_id(parent, u.diff_id);
		r = stage_end(staging, &d, chain, e);
	}
	if (r == 0) {
		*ret = describe(chain, &u, &b);
		*ret_diff_id = xstrdup(u.diff_id);
	}
	unpack_done(&u);
	fd_close(&d.dir);
	fd_close(&b.fd);
	return r;
}

/* The blob of a file that is kept as it came has the size that the file has in the end. */
static int kept_size(const struct layer_file *f, struct blob *b, struct err *e)
{
	struct stat st;

	if (fstat(f->source->fd, &st) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "read the layer's archive");
	b->size = st.st_size;
	return 0;
}

int layer_stage_file(const struct layer_file *f, struct json **ret, struct err *e)
{
	struct blob b = { .fd = -EBADF };
	struct staged d = { .dir = -EBADF };
	struct unpack u = { .layer = true };
	bool as_it_came;
	int r = make_dir(f->staging, "blobs", e);

	if (r < 0)
		return r;
	source_wait(f->source, MAGIC_SIZE);
	as_it_came = keep_compressed(f->staging, f->archive, f->name, f->source->fd, f->digest, &b);
	if (!as_it_came)
		r = keep_begin(f->staging, f->index, &b, e);
	if (r == 0)
		r = stage_begin(f->staging, f->index, f->attempt, &d, e);
	if (r == 0) {
		u.root = d.dir;
		u.keep_fd = b.fd;
		r = unpack(&u, &(struct tar_source){ source_read, f->source }, e);
	}
	if (r == 0 && !streq(f->diff_id, u.diff_id))
		r = err_msg(e, ERR_INVALID, -EBADMSG,
			    "invalid diffID for layer %zu: expected \"%s\", got \"%s\"", f->index, f->diff_id,
			    u.diff_id);
	if (r == 0)
		r = as_it_came ? kept_size(f, &b, e) : keep_end(f->staging, &b, u.diff_id, e);
	if (r == 0)
		r = stage_end(f->staging, &d, f->chain, e);
	if (r == 0)
		*ret = describe(f->chain, &u, &b);
	unpack_done(&u);
	fd_close(&d.dir);
	fd_close(&b.fd);
	return r;
}
