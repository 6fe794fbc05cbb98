/* Theory of operation. The supervisor appends whole lines; a reader keeps an offset and a buffer of what lies
 * behind it, so it can go on when the file has grown. For a tail the file is searched backwards for newlines
 * first, a chunk at a time. Lines that do not parse (a full disk cuts them) are skipped. */
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
	off_t scan_at;
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

int log_line_parse(const char *line, size_t n, struct sbuf *buf, char when[40], struct log_entry *ret)
{
	const char *end = line + n, *p = expect(line, end, "{\"log\":\""), *q;
	struct log_entry e = {0};

	sbuf_reset(buf);
	if (p)
		p = parse_string(p, end, buf);
	p = expect(p, end, ",\"stream\":\"std");
	q = expect(p, end, "out\",\"time\":\"");
	if (!q) {
		q = expect(p, end, "err\",\"time\":\"");
		e.err = true;
	}
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

int log_reader_open(const char *path, int64_t tail, struct log_reader **ret)
{
	struct log_reader *r = new0(struct log_reader);
	struct stat st;

	r->path = xstrdup(path);
	r->fd = *path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
	if (r->fd < 0 && *path && errno != ENOENT) {
		int e = -errno;

		r->fd = -EBADF;
		log_reader_free(r);
		return e;
	}
	if (tail >= 0 && r->fd >= 0 && fstat(r->fd, &st) == 0) {
		r->scanning = true;
		r->want = tail;
		r->scan_at = r->at = st.st_size;
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
static int scan_chunk(struct log_reader *r, off_t size)
{
	char buf[CHUNK];
	off_t from = r->scan_at > CHUNK ? r->scan_at - CHUNK : 0;
	ssize_t n = RETRY(pread(r->fd, buf, (size_t)(r->scan_at - from), from));

	if (n < 0)
		return -errno;
	for (ssize_t i = n - 1; i >= 0; i--) {
		if (buf[i] != '\n' || from + i + 1 == size)
			continue;
		if (r->want-- <= 1) {
			r->at = from + i + 1;
			r->scanning = false;
			return 0;
		}
	}
	r->scan_at = from;
	if (from == 0) {
		r->at = 0;
		r->scanning = false;
	}
	return 0;
}

static int scan(struct log_reader *r)
{
	off_t size = r->at;

	if (r->want == 0 || size == 0) {
		r->scanning = false;
		return 0;
	}
	for (int i = 0; r->scanning && i < SCAN_CHUNKS; i++) {
		int k = scan_chunk(r, size);

		if (k < 0)
			return k;
	}
	return r->scanning ? -EAGAIN : 0;
}

/* More bytes: 1, none: 0, -errno. The file may appear only now. */
static int fill(struct log_reader *r)
{
	char *to;
	ssize_t n;

	if (r->fd < 0)
		r->fd = *r->path ? open(r->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
	if (r->fd < 0)
		return 0;
	sbuf_consume(&r->in, r->used);
	r->used = 0;
	if (r->in.len > LINE_MAX_BYTES) {
		r->skipping = true;
		sbuf_reset(&r->in);
	}
	to = sbuf_reserve(&r->in, CHUNK);
	n = RETRY(pread(r->fd, to, CHUNK, r->at));
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
