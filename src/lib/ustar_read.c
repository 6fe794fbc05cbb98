/* Each entry is one header block, before which pax ('x') or GNU ('L', 'K') headers may have said more of it.
 * Every length is bounded, every number checked. */
#include "lib/ustar.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/strv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 512
#define EXTRA_MAX (1u << 20)	/* of a pax or long name header */
#define XATTRS_MAX 256

struct ustar_reader {
	int fd;
	struct ustar_entry entry;
	uint64_t left;		/* data of the current entry not read yet */
	unsigned pad;
	bool end;
	bool has_size, has_mtime, has_uid, has_gid;	/* said by a pax header */
};

static void entry_done(struct ustar_entry *t)
{
	free(t->path);
	free(t->link);
	for (size_t i = 0; i < t->n_xattrs; i++) {
		free(t->xattrs[i].name);
		free(t->xattrs[i].value);
	}
	free(t->xattrs);
	*t = (struct ustar_entry){ 0 };
}

struct ustar_reader *ustar_reader_new(int fd)
{
	struct ustar_reader *r = new0(struct ustar_reader);

	r->fd = fd;
	return r;
}

void ustar_reader_free(struct ustar_reader *r)
{
	if (!r)
		return;
	entry_done(&r->entry);
	free(r);
}

static int broken(struct err *e, const char *what)
{
	return err_msg(e, ERR_INVALID, -EBADMSG, "archive/tar: %s", what);
}

/* 1, 0 at the end of the stream, -errno. */
static int read_block(struct ustar_reader *r, void *p)
{
	ssize_t n = fd_read_full(r->fd, p, BLOCK);

	return n < 0 ? (int)n : n == 0 ? 0 : n == BLOCK ? 1 : -EBADMSG;
}

/* Octal, or base 256 if the first bit is set. */
static int number(const unsigned char *p, size_t n, uint64_t *ret)
{
	uint64_t v = 0;
	size_t i = 0;

	if (*p & 0x80) {
		for (; i < n; i++) {
			if (v >> 55)
				return -ERANGE;
			v = v << 8 | (i ? p[i] : p[i] & 0x7f);
		}
		*ret = v;
		return 0;
	}
	while (i < n && p[i] == ' ')
		i++;
	for (; i < n && p[i] && p[i] != ' '; i++) {
		if (p[i] < '0' || p[i] > '7')
			return -EINVAL;
		v = v * 8 + (uint64_t)(p[i] - '0');
	}
	*ret = v;
	return 0;
}

static char *field(const unsigned char *p, size_t n)
{
	return xstrndup((const char *)p, strnlen((const char *)p, n));
}

static bool sum_ok(const unsigned char *b)
{
	uint64_t want, sum = 0;

	for (size_t i = 0; i < BLOCK; i++)
		sum += i >= 148 && i < 156 ? ' ' : b[i];
	return number(b + 148, 8, &want) == 0 && want == sum;
}

/* An archive may end with its last byte of data, as Go's reader takes it: those of `docker context export`
 * do. */
static int skip(struct ustar_reader *r)
{
	char buf[32 << 10];
	unsigned pad = r->pad;

	r->left += r->pad;
	r->pad = 0;
	while (r->left) {
		ssize_t n = fd_read_full(r->fd, buf, MIN(r->left, (uint64_t)sizeof buf));

		if (n == 0 && r->left <= pad) {
			r->end = true;
			r->left = 0;
		} else if (n <= 0) {
			return n < 0 ? (int)n : -EBADMSG;
		}
		r->left -= (uint64_t)n;
	}
	return 0;
}

/* ---- pax ---- */

static int pax_xattr(struct ustar_entry *t, const char *name, const char *value, size_t n)
{
	struct ustar_xattr *x;

	if (t->n_xattrs >= XATTRS_MAX)
		return -E2BIG;
	t->xattrs = xrealloc(t->xattrs, t->n_xattrs + 1, sizeof *t->xattrs);
	x = &t->xattrs[t->n_xattrs++];
	x->name = xstrdup(name);
	x->value = memcpy(xmalloc(n + 1), value, n);
	x->n = n;
	return 0;
}

static int pax_id(const char *s, uint32_t *to, bool *has)
{
	uint64_t v;

	if (str_to_u64(s, &v) < 0 || v > UINT32_MAX)
		return -EINVAL;
	*to = (uint32_t)v;
	*has = true;
	return 0;
}

static int pax_time(const char *s, struct ustar_reader *r)
{
	char *end;
	long nsec = 0, scale = 100000000;
	long long sec;

	errno = 0;
	sec = strtoll(s, &end, 10);
	if (errno || end == s)
		return -EINVAL;
	if (*end == '.')
		for (end++; *end >= '0' && *end <= '9'; end++, scale /= 10)
			nsec += (*end - '0') * scale;
	r->entry.mtime = (struct timespec){ .tv_sec = sec, .tv_nsec = nsec };
	r->has_mtime = true;
	return *end ? -EINVAL : 0;
}

static int pax_apply(struct ustar_reader *r, const char *key, const char *value, size_t n)
{
	struct ustar_entry *t = &r->entry;

	if (str_starts(key, "SCHILY.xattr."))
		return pax_xattr(t, key + strlen("SCHILY.xattr."), value, n);
	if (strlen(value) != n)
		return -EINVAL;
	if (streq(key, "path"))
		str_replace(&t->path, value);
	else if (streq(key, "linkpath"))
		str_replace(&t->link, value);
	else if (streq(key, "uid"))
		return pax_id(value, &t->uid, &r->has_uid);
	else if (streq(key, "gid"))
		return pax_id(value, &t->gid, &r->has_gid);
	else if (streq(key, "mtime"))
		return pax_time(value, r);
	else if (streq(key, "size")) {
		r->has_size = true;
		return str_to_u64(value, &t->size);
	} else if (str_starts(key, "GNU.sparse."))
		return -EOPNOTSUPP;
	return 0;
}

/* Records "LEN KEY=VALUE\n". */
static int pax_parse(struct ustar_reader *r, char *p, size_t n)
{
	while (n) {
		char *end, *eq;
		unsigned long len = strtoul(p, &end, 10);
		int k;

		if (*end != ' ' || len > n || len < (size_t)(end - p) + 3 || p[len - 1] != '\n')
			return -EBADMSG;
		eq = memchr(end, '=', len - (size_t)(end - p));
		if (!eq)
			return -EBADMSG;
		*eq = 0;
		p[len - 1] = 0;
		k = pax_apply(r, end + 1, eq + 1, (size_t)(p + len - 1 - (eq + 1)));
		if (k < 0)
			return k;
		p += len;
		n -= len;
	}
	return 0;
}

/* The data of a header that describes the next entry; NUL-terminated. */
static int read_extra(struct ustar_reader *r, uint64_t size, char **ret)
{
	_cleanup_free_ char *p = NULL;
	ssize_t n;

	if (size > EXTRA_MAX)
		return -E2BIG;
	p = xmalloc(size + 1);
	n = fd_read_full(r->fd, p, size);
	if (n != (ssize_t)size)
		return n < 0 ? (int)n : -EBADMSG;
	p[size] = 0;
	r->pad = (unsigned)((BLOCK - size % BLOCK) % BLOCK);
	*ret = TAKE_PTR(p);
	return skip(r);
}

static int extra(struct ustar_reader *r, char type, uint64_t size)
{
	_cleanup_free_ char *p = NULL;
	int n = read_extra(r, size, &p);

	if (n < 0)
		return n;
	if (type == 'x')
		return pax_parse(r, p, size);
	if (type == 'L')
		str_replace(&r->entry.path, p);
	else if (type == 'K')
		str_replace(&r->entry.link, p);
	return 0;			/* 'g': of the archive as a whole; nothing of it matters here */
}

/* ---- headers ---- */

static int set_type(struct ustar_entry *t, char type)
{
	static const struct { char type; mode_t mode; } types[] = {
		{ '0', S_IFREG }, { 0, S_IFREG }, { '7', S_IFREG }, { '1', S_IFREG }, { '2', S_IFLNK },
		{ '3', S_IFCHR }, { '4', S_IFBLK }, { '5', S_IFDIR }, { '6', S_IFIFO },
	};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i].type == type) {
			t->mode |= types[i].mode;
			t->hardlink = type == '1';
			return 0;
		}
	return -EOPNOTSUPP;
}

static int basic(struct ustar_reader *r, const unsigned char *b)
{
	struct ustar_entry *t = &r->entry;
	uint64_t mode, uid, gid, size, mtime, major = 0, minor = 0;
	bool ustar = !memcmp(b + 257, "ustar", 5), dir;

	if (number(b + 100, 8, &mode) < 0 || number(b + 108, 8, &uid) < 0 || number(b + 116, 8, &gid) < 0 ||
	    number(b + 124, 12, &size) < 0 || number(b + 136, 12, &mtime) < 0)
		return -EBADMSG;
	if (ustar && (number(b + 329, 8, &major) < 0 || number(b + 337, 8, &minor) < 0))
		return -EBADMSG;
	if (!t->path && ustar && !memcmp(b + 262, "\00000", 3) && b[345]) {
		_cleanup_free_ char *prefix = field(b + 345, 155), *name = field(b, 100);

		t->path = xasprintf("%s/%s", prefix, name);
	}
	if (!t->path)
		t->path = field(b, 100);
	if (!t->link && (b[156] == '1' || b[156] == '2'))
		t->link = field(b + 157, 100);
	t->mode = mode & 07777;
	if (!r->has_uid)
		t->uid = (uint32_t)uid;
	if (!r->has_gid)
		t->gid = (uint32_t)gid;
	if (!r->has_mtime)
		t->mtime = (struct timespec){ .tv_sec = (time_t)mtime };
	if (!r->has_size)
		t->size = size;
	t->major = (unsigned)major;
	t->minor = (unsigned)minor;
	dir = *t->path && t->path[strlen(t->path) - 1] == '/';
	if (set_type(t, dir && !b[156] ? '5' : (char)b[156]) < 0)
		return -EOPNOTSUPP;
	if (!S_ISREG(t->mode) || t->hardlink)
		t->size = 0;
	if (t->size > INT64_MAX - BLOCK)
		return -EBADMSG;
	r->left = t->size;
	r->pad = (unsigned)((BLOCK - t->size % BLOCK) % BLOCK);
	return 0;
}

int ustar_next(struct ustar_reader *r, const struct ustar_entry **ret, struct err *e)
{
	unsigned char b[BLOCK];
	int n = r->end ? 0 : skip(r);

	entry_done(&r->entry);
	r->has_size = r->has_mtime = r->has_uid = r->has_gid = false;
	while (n == 0 && !r->end) {
		uint64_t size;

		n = read_block(r, b);
		if (n == 0 || (n > 0 && !b[0] && !memcmp(b, b + 1, BLOCK - 1))) {
			r->end = true;
			return 0;
		}
		if (n > 0 && !sum_ok(b))
			return broken(e, "invalid tar header");
		if (n > 0 && b[156] && strchr("xgLK", b[156])) {
			n = number(b + 124, 12, &size);
			if (n == 0)
				n = extra(r, (char)b[156], size);
			continue;
		}
		if (n > 0)
			n = basic(r, b);
		if (n == 0) {
			*ret = &r->entry;
			return 1;
		}
	}
	if (n == -EBADMSG)
		return broken(e, "unexpected end or malformed header");
	if (n == -EOPNOTSUPP)
		return broken(e, "unsupported type of entry");
	return n < 0 ? err_set(e, ERR_INVALID, n, "archive/tar") : 0;
}

ssize_t ustar_data(struct ustar_reader *r, void *p, size_t n)
{
	ssize_t got;

	n = MIN((uint64_t)n, r->left);
	if (!n)
		return 0;
	got = RETRY(read(r->fd, p, n));
	if (got < 0)
		return -errno;
	if (got == 0)
		return -EBADMSG;
	r->left -= (uint64_t)got;
	return got;
}

int ustar_drain(struct ustar_reader *r)
{
	char buf[32 << 10];
	ssize_t n;

	while ((n = RETRY(read(r->fd, buf, sizeof buf))) > 0)
		;
	return n < 0 ? -errno : 0;
}
