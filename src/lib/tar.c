/* Two readers in a row: the first undoes compression and yields raw bytes (which the tee sees: the diff
 * id of a layer is the digest of these), the second reads them as tar. */
#include "lib/tar.h"
#include "base/alloc.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>

#define INPUT_SIZE (64u << 10)

struct tar {
	struct archive *raw, *tar;
	struct tar_source source;
	char *in;		/* what the source has given last */
	struct archive_entry *entry;
	tar_tee_fn tee;
	void *userdata;
};

static int archive_failure(struct archive *a, struct err *e)
{
	const char *text = archive_error_string(a);
	int no = archive_errno(a);

	return err_msg(e, ERR_INVALID, no > 0 && no < 4096 ? -no : -EBADMSG, "invalid archive: %s",
		       text ? text : "unreadable");
}

static la_ssize_t next_block(struct archive *a, void *ud, const void **ret)
{
	struct tar *t = ud;
	size_t n = 0;
	la_int64_t off;
	int r = archive_read_data_block(t->raw, ret, &n, &off);

	if (r == ARCHIVE_EOF)
		return 0;
	if (r < ARCHIVE_WARN) {
		archive_set_error(a, EBADMSG, "%s", archive_error_string(t->raw) ?: "unreadable");
		return -1;
	}
	if (t->tee)
		t->tee(t->userdata, *ret, n);
	return (la_ssize_t)n;
}

static la_ssize_t next_input(struct archive *a, void *ud, const void **ret)
{
	struct tar *t = ud;
	ssize_t n = t->source.read(t->source.ud, t->in, INPUT_SIZE);

	if (n < 0)
		archive_set_error(a, (int)-n, "%s", strerror((int)-n));
	*ret = t->in;
	return n < 0 ? ARCHIVE_FATAL : n;
}

int tar_open(const struct tar_source *source, tar_tee_fn tee, void *userdata, struct tar **ret,
	     struct err *e)
{
	struct tar *t = new0(struct tar);
	struct archive_entry *dummy;
	int r;

	t->source = *source;
	t->in = xmalloc(INPUT_SIZE);
	t->tee = tee;
	t->userdata = userdata;
	t->raw = archive_read_new();
	t->tar = archive_read_new();
	if (!t->raw || !t->tar)
		abort();
	archive_read_support_filter_gzip(t->raw);
	archive_read_support_filter_zstd(t->raw);
	archive_read_support_filter_xz(t->raw);
	archive_read_support_filter_bzip2(t->raw);
	archive_read_support_format_raw(t->raw);
	archive_read_support_format_empty(t->raw);
	archive_read_support_format_tar(t->tar);
	archive_read_support_format_empty(t->tar);
	if (archive_read_open(t->raw, t, NULL, next_input, NULL) < ARCHIVE_WARN ||
	    (r = archive_read_next_header(t->raw, &dummy)) < ARCHIVE_WARN) {
		r = archive_failure(t->raw, e);
		tar_close(t);
		return r;
	}
	/* The last of them is none. */
	if (archive_filter_count(t->raw) > 2) {
		tar_close(t);
		return err_msg(e, ERR_INVALID, -EBADMSG, "invalid archive: it is compressed more than once");
	}
	if (archive_read_open(t->tar, t, NULL, next_block, NULL) < ARCHIVE_WARN) {
		r = archive_failure(t->tar, e);
		tar_close(t);
		return r;
	}
	*ret = t;
	return 0;
}

void tar_close(struct tar *t)
{
	if (!t)
		return;
	archive_read_free(t->tar);
	archive_read_free(t->raw);
	free(t->in);
	free(t);
}

int tar_next(struct tar *t, struct tar_entry *ret, struct err *e)
{
	struct archive_entry *a;
	int r = archive_read_next_header(t->tar, &a);

	if (r == ARCHIVE_EOF)
		return 0;
	if (r < ARCHIVE_WARN)
		return archive_failure(t->tar, e);
	if (!archive_entry_pathname(a))
		return err_msg(e, ERR_INVALID, -EBADMSG, "invalid archive: an entry without a name");
	if (archive_entry_uid(a) < 0 || archive_entry_uid(a) >= UINT32_MAX || archive_entry_gid(a) < 0 ||
	    archive_entry_gid(a) >= UINT32_MAX)
		return err_msg(e, ERR_INVALID, -EBADMSG,
			       "invalid archive: the owner of \"%s\" is out of range",
			       archive_entry_pathname(a));
	t->entry = a;
	*ret = (struct tar_entry){
	    .path = archive_entry_pathname(a),
	    .link = archive_entry_symlink(a),
	    .hardlink = archive_entry_hardlink(a),
	    .mode = archive_entry_mode(a),
	    .uid = (uint32_t)archive_entry_uid(a),
	    .gid = (uint32_t)archive_entry_gid(a),
	    .size = (uint64_t)archive_entry_size(a),
	    .mtime = {archive_entry_mtime(a), archive_entry_mtime_nsec(a)},
	    .major = (unsigned)archive_entry_rdevmajor(a),
	    .minor = (unsigned)archive_entry_rdevminor(a),
	};
	archive_entry_xattr_reset(a);
	return 1;
}

int tar_data(struct tar *t, const void **ret_p, size_t *ret_n, off_t *ret_off, struct err *e)
{
	la_int64_t off;
	int r = archive_read_data_block(t->tar, ret_p, ret_n, &off);

	if (r == ARCHIVE_EOF)
		return 0;
	if (r < ARCHIVE_WARN)
		return archive_failure(t->tar, e);
	*ret_off = off;
	return 1;
}

int tar_xattr(struct tar *t, const char **ret_name, const void **ret_value, size_t *ret_n)
{
	return archive_entry_xattr_next(t->entry, ret_name, ret_value, ret_n) == ARCHIVE_OK;
}

int tar_drain(struct tar *t, struct err *e)
{
	const void *p;
	la_ssize_t n;

	/* The reader stops at the end mark; the rest counts for the digest all the same. */
	archive_read_close(t->tar);
	while ((n = next_block(t->raw, t, &p)) > 0)
		;
	return n < 0 ? err_msg(e, ERR_INVALID, -EBADMSG, "invalid archive: %s",
			       archive_error_string(t->raw) ?: "unreadable")
		     : 0;
}
