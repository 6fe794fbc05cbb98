/* Theory of operation. The supervisor appends whole lines; a reader keeps an offset and a buffer of what lies
 * behind it, so it can go on when the file has grown. For a tail the file is searched backwards for newlines
 * first, a chunk at a time. Lines that do not parse (a full disk cuts them) are skipped.
 *
 * Full files are moved on: PATH becomes PATH.1, that becomes PATH.2, and so on (super/jsonlog.h). A file is
 * known by its inode: at its end the reader looks whether PATH is still the file that it has open; if not, it
 * looks under which number that is now, and goes on with the one before. */
#include "engine/logs.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/timefmt.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define CHUNK (64u << 10)
#define LINE_MAX_BYTES (1u << 20)	/* 16 KiB of text, each byte escaped at worst, are far below */
#define SCAN_CHUNKS 32			/* of one call */
#define FILES_MAX 1000			/* as many as max-file may ask for */
#define MOVES_MAX 8			/* files that may be taken away under a reader in one call */

struct log_reader {
	char *path;
	int fd;
	off_t at;		/* where the next chunk is read */
	struct sbuf in;		/* not yet parsed */
	size_t used;		/* of in */
	struct sbuf text;
	char time[40];
	bool scanning;
	int64_t want;		/* newlines still to be found backwards */
	off_t scan_at, size;	/* in the file at hand, which is */
	unsigned scan_file;	/* this many before the present one */
	bool skipping;		/* an overlong line */
};

/* ---- a line ---- */

static int hex4(const char *p)
{
	int v = 0;

	for (int i = 0; i < 4; i++) {
		int d = p[i] >= '0' && p[i] <= '9' ? p[i] - '0' : p[i] >= 'a' && p[i] <= 'f' ? p[i] - 'a' + 10
			: p[i] >= 'A' && p[i] <= 'F' ? p[i] - 'A' + 10 : -1;

		if (d < 0)
			return -1;
		v = v * 16 + d;
	}
	return v;
}

static void put_utf8(struct sbuf *b, unsigned c)
{
	if (c < 0x80) {
		sbuf_putc(b, (char)c);
	} else if (c < 0x800) {
		sbuf_putc(b, (char)(0xc0 | c >> 6));
		sbuf_putc(b, (char)(0x80 | (c & 63)));
	} else if (c < 0x10000) {
		sbuf_putc(b, (char)(0xe0 | c >> 12));
		sbuf_putc(b, (char)(0x80 | (c >> 6 & 63)));
		sbuf_putc(b, (char)(0x80 | (c & 63)));
	} else {
		sbuf_putc(b, (char)(0xf0 | c >> 18));
		sbuf_putc(b, (char)(0x80 | (c >> 12 & 63)));
		sbuf_putc(b, (char)(0x80 | (c >> 6 & 63)));
		sbuf_putc(b, (char)(0x80 | (c & 63)));
	}
}

/* \uXXXX at p (behind the u), a surrogate pair taken together. Returns the bytes used, 0 if malformed. */
static size_t unescape_u(const char *p, const char *end, struct sbuf *b)
{
	int hi, lo;

	if (end - p < 4 || (hi = hex4(p)) < 0)
		return 0;
	if (hi >= 0xd800 && hi < 0xdc00 && end - p >= 10 && p[4] == '\\' && p[5] == 'u' &&
	    (lo = hex4(p + 6)) >= 0xdc00 && lo < 0xe000) {
		put_utf8(b, 0x10000u + ((unsigned)(hi - 0xd800) << 10) + (unsigned)(lo - 0xdc00));
		return 10;
	}
	put_utf8(b, hi >= 0xd800 && hi < 0xe000 ? 0xfffd : (unsigned)hi);
	return 4;
}

/* The string that starts behind its quote at p. Returns where it ends (behind the closing quote), NULL if
 * malformed. */
static const char *parse_string(const char *p, const char *end, struct sbuf *b)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";

	while (p < end && *p != '"') {
		const char *special = p, *known;

		while (special < end && *special != '"' && *special != '\\')
			special++;
		sbuf_add(b, p, (size_t)(special - p));
		p = special;
		if (p >= end || *p == '"')
			break;
		if (++p >= end)
			return NULL;
		if (*p == 'u') {
			size_t n = unescape_u(p + 1, end, b);

			if (!n)
				return NULL;
			p += 1 + n;
		} else if (*p && (known = strchr(from, *p))) {
			sbuf_putc(b, to[known - from]);
			p++;
		} else {
			return NULL;
		}
	}
	return p < end ? p + 1 : NULL;
}

static const char *expect(const char *p, const char *end, const char *word)
{
	size_t n = strlen(word);

	return p && (size_t)(end - p) >= n && !memcmp(p, word, n) ? p + n : NULL;
}

/* The object of labels and the like that may follow. Within its strings quotes are escaped, so the first
 * unescaped end is its end. */
static const char *parse_attrs(const char *p, const char *end, struct log_entry *e)
{
	static const char after[] = "},\"time\":\"";
	const char *from = expect(p, end, ",\"attrs\":"), *to;

	if (!from)
		return p;
	to = memmem(from, (size_t)(end - from), after, sizeof after - 1);
	if (!to)
		return NULL;
	e->attrs = from;
	e->n_attrs = (size_t)(to + 1 - from);
	return to + 1;
}

int log_line_parse(const char *line, size_t n, struct sbuf *buf, char when[40], struct log_entry *ret)
{
	const char *end = line + n, *p = expect(line, end, "{\"log\":\""), *q;
	struct log_entry e = {0};

	sbuf_reset(buf);
	if (p)
		p = parse_string(p, end, buf);
	p = expect(p, end, ",\"stream\":\"std");
	q = expect(p, end, "out\"");
	if (!q) {
		q = expect(p, end, "err\"");
		e.err = true;
	}
	q = expect(parse_attrs(q, end, &e), end, ",\"time\":\"");
	if (!q || !(p = memchr(q, '"', (size_t)(end - q))) || p - q > 39 || !expect(p, end, "\"}"))
		return -EBADMSG;
	memcpy(when, q, (size_t)(p - q));
	when[p - q] = 0;
	if (time_parse_rfc3339(when, &e.time_ns) < 0)
		return -EBADMSG;
	e.text = sbuf_str(buf);
	e.n = buf->len;
	e.time = when;
	*ret = e;
	return 0;
}

/* ---- the reader ---- */

/* The k-th file before the present one. */
static char *file_name(const struct log_reader *r, unsigned k)
{
	return k ? xasprintf("%s.%u", r->path, k) : xstrdup(r->path);
}

static int open_file(const struct log_reader *r, unsigned k)
{
	_cleanup_free_ char *name = file_name(r, k);
	int fd = *r->path ? open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;

	return fd >= 0 ? fd : *r->path ? -errno : -ENOENT;
}

static bool is_file(const struct log_reader *r, unsigned k, const struct stat *st)
{
	_cleanup_free_ char *name = file_name(r, k);
	struct stat other;

	return lstat(name, &other) == 0 && other.st_ino == st->st_ino && other.st_dev == st->st_dev;
}

static unsigned oldest(const struct log_reader *r)
{
	unsigned k = 0;

	while (k < FILES_MAX) {
		_cleanup_free_ char *name = file_name(r, k + 1);

		if (access(name, F_OK) < 0)
			break;
		k++;
	}
	return k;
}

int log_reader_open(const char *path, int64_t tail, struct log_reader **ret)
{
	struct log_reader *r = new0(struct log_reader);
	struct stat st;

	r->path = xstrdup(path);
	r->fd = open_file(r, tail < 0 && *path ? oldest(r) : 0);
	if (r->fd < 0 && r->fd != -ENOENT) {
		int e = r->fd;

		log_reader_free(r);
		return e;
	}
	if (tail >= 0 && r->fd >= 0 && fstat(r->fd, &st) == 0) {
		r->scanning = true;
		r->want = tail;
		r->scan_at = r->at = r->size = st.st_size;
	}
	*ret = r;
	return 0;
}

void log_reader_free(struct log_reader *r)
{
	if (!r)
		return;
	fd_close(&r->fd);
	sbuf_done(&r->in);
	sbuf_done(&r->text);
	free(r->path);
	free(r);
}

/* Goes back one chunk. The entry before the n-th newline from the end (the last byte is one) is where the
 * tail starts. */
static int scan_chunk(struct log_reader *r)
{
	char buf[CHUNK];
	off_t from = r->scan_at > CHUNK ? r->scan_at - CHUNK : 0;
	ssize_t n = RETRY(pread(r->fd, buf, (size_t)(r->scan_at - from), from));

	if (n < 0)
		return -errno;
	for (ssize_t i = n - 1; i >= 0; i--) {
		if (buf[i] != '\n' || from + i + 1 == r->size)
			continue;
		if (r->want-- <= 1) {
			r->at = from + i + 1;
			r->scanning = false;
			return 0;
		}
	}
	r->scan_at = from;
	return 0;
}

/* The file is read to its beginning and there is not enough in it: goes on at the end of the one before. */
static void scan_older(struct log_reader *r)
{
	struct stat st;
	int fd;

	r->want -= r->size > 0;
	fd = r->want > 0 ? open_file(r, r->scan_file + 1) : -ENOENT;
	if (fd >= 0 && (fstat(fd, &st) < 0 || is_file(r, r->scan_file, &st))) {
		close(fd);
		fd = -ENOENT;
	}
	if (fd < 0) {
		r->at = 0;
		r->scanning = false;
		return;
	}
	fd_close(&r->fd);
	r->fd = fd;
	r->scan_file++;
	r->scan_at = r->at = r->size = st.st_size;
}

static int scan(struct log_reader *r)
{
	if (r->want == 0)
		r->scanning = false;
	for (int i = 0; r->scanning && i < SCAN_CHUNKS; i++) {
		int k = r->scan_at > 0 ? scan_chunk(r) : 0;

		if (k < 0)
			return k;
		if (r->scanning && r->scan_at == 0)
			scan_older(r);
	}
	return r->scanning ? -EAGAIN : 0;
}

/* The file at hand has been read and is not the present one: opens the one that came after it. False if files
 * moved on meanwhile. */
static bool next_file(struct log_reader *r, const struct stat *st)
{
	unsigned last = oldest(r), k = 1;
	int fd;

	while (k <= last && !is_file(r, k, st))
		k++;
	/* if it is gone, so may others be that were never read: goes on with what there is */
	fd = open_file(r, k <= last ? k - 1 : last);
	if (fd < 0)
		return false;
	if (k <= last && !is_file(r, k, st)) {
		close(fd);
		return false;
	}
	fd_close(&r->fd);
	r->fd = fd;
	r->at = 0;
	r->skipping = false;
	sbuf_reset(&r->in);
	r->used = 0;
	return true;
}

/* At the end of the file at hand: whether there is another one, in which case it is opened. What was written
 * before it was moved away has been read (`checked`). */
static bool moved_on(struct log_reader *r, bool *checked)
{
	struct stat st;

	if (fstat(r->fd, &st) < 0 || is_file(r, 0, &st) || access(r->path, F_OK) < 0)
		return false;
	if (*checked)
		(void)next_file(r, &st);
	*checked = true;
	return true;
}

/* More bytes: 1, none: 0, -errno. The file may appear only now. */
static int fill(struct log_reader *r)
{
	bool checked = false;
	ssize_t n = 0;

	if (r->fd < 0)
		r->fd = open_file(r, 0);
	if (r->fd < 0)
		return 0;
	sbuf_consume(&r->in, r->used);
	r->used = 0;
	if (r->in.len > LINE_MAX_BYTES) {
		r->skipping = true;
		sbuf_reset(&r->in);
	}
	for (int i = 0; i < MOVES_MAX; i++) {
		char *to = sbuf_reserve(&r->in, CHUNK);
		int fd = r->fd;

		n = RETRY(pread(r->fd, to, CHUNK, r->at));
		if (n != 0 || !moved_on(r, &checked))
			break;
		checked &= fd == r->fd;
	}
	if (n <= 0)
		return n < 0 ? -errno : 0;
	sbuf_commit(&r->in, (size_t)n);
	r->at += n;
	return 1;
}

int log_reader_next(struct log_reader *r, struct log_entry *ret)
{
	int k = r->scanning ? scan(r) : 0;

	while (k >= 0) {
		const char *line = r->in.buf ? r->in.buf + r->used : NULL;
		const char *nl = line ? memchr(line, '\n', r->in.len - r->used) : NULL;
		bool skip = r->skipping;

		if (!nl) {
			k = fill(r);
			if (k <= 0)
				return k;
			continue;
		}
		r->used += (size_t)(nl - line) + 1;
		r->skipping = false;
		if (!skip && log_line_parse(line, (size_t)(nl - line), &r->text, r->time, ret) == 0)
			return 1;
	}
	return k;
}
