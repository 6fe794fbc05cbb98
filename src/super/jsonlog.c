#include "super/jsonlog.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "super/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define NEW_SUFFIX ".new"

static int set_number(const char *value, uint64_t *ret)
{
	return str_to_u64(value, ret) < 0 ? -EINVAL : 0;
}

static int set_option(struct jsonlog *l, const char *name, const char *value)
{
	uint64_t n = 0;
	int r = 0;

	if (streq(name, "max-size")) {
		r = set_number(value, &l->max_size);
	} else if (streq(name, "max-file")) {
		r = set_number(value, &n);
		l->max_file = (unsigned)MIN(n, (uint64_t)UINT16_MAX);
	} else if (streq(name, "attrs")) {
		str_replace(&l->attrs, value);
	} else if (streq(name, "journal")) {
		r = journal_open(JOURNAL_SOCKET, value, &l->journal);
	} else {
		r = -EINVAL;
	}
	return r;
}

static int open_file(struct jsonlog *l, const char *name, int flags)
{
	int fd = openat(l->dir, name,
			O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | flags, 0640);

	return fd < 0 ? -errno : fd;
}

int jsonlog_open(struct jsonlog *l, const char *path, char *const *opts)
{
	const char *slash = path ? strrchr(path, '/') : NULL;
	_cleanup_free_ char *dir = slash ? xstrndup(path, (size_t)(slash - path) + 1) : xstrdup(".");
	struct stat st;

	*l = (struct jsonlog){ .fd = -EBADF, .dir = -EBADF, .max_file = 1 };
	if (str_empty(path))
		return 0;
	for (; opts && opts[0] && opts[1]; opts += 2) {
		int r = set_option(l, opts[0], opts[1]);

		if (r < 0)
			return r;
	}
	l->name = xstrdup(slash ? slash + 1 : path);
	l->dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (l->dir < 0)
		return -errno;
	l->fd = open_file(l, l->name, 0);
	if (l->fd < 0)
		return l->fd;
	if (fstat(l->fd, &st) == 0)
		l->size = (uint64_t)st.st_size;
	return 0;
}

/* Length of the UTF-8 sequence at s (RFC 3629: no overlong forms, no surrogates), 0 if it is none. */
static size_t utf8_len(const unsigned char *s, size_t n)
{
	static const struct { unsigned char from, to, low, high; size_t len; } forms[] = {
		{ 0x00, 0x7f, 0, 0, 1 }, { 0xc2, 0xdf, 0x80, 0xbf, 2 }, { 0xe0, 0xe0, 0xa0, 0xbf, 3 },
		{ 0xe1, 0xec, 0x80, 0xbf, 3 }, { 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 }, { 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	for (size_t f = 0; f < ARRAY_SIZE(forms); f++) {
		if (s[0] < forms[f].from || s[0] > forms[f].to)
			continue;
		if (n < forms[f].len || (forms[f].len > 1 && (s[1] < forms[f].low || s[1] > forms[f].high)))
			return 0;
		for (size_t k = 2; k < forms[f].len; k++)
			if ((s[k] & 0xc0) != 0x80)
				return 0;
		return forms[f].len;
	}
	return 0;
}

/* How much of a full part to write, so that no character is cut in two. */
static size_t whole_chars(const unsigned char *s, size_t n)
{
	for (size_t back = 1; back <= 3 && back < n; back++) {
		unsigned char c = s[n - back];

		if ((c & 0xc0) == 0x80)
			continue;
		/* A head that wants more bytes than there are. */
		if ((c >= 0xc2 && back < 2) || (c >= 0xe0 && c < 0xf5 && back < 3) ||
		    (c >= 0xf0 && c < 0xf5 && back < 4))
			return n - back;
		break;
	}
	return n;
}

static void put_escaped(struct sbuf *b, unsigned char c)
{
	static const char plain[] = "\"\\\n\r\t", letter[] = "\"\\nrt";
	const char *at = c ? strchr(plain, c) : NULL;

	if (at)
		sbuf_printf(b, "\\%c", letter[at - plain]);
	else
		sbuf_printf(b, "\\u%04x", c);
}

/* The inside of a JSON string; bytes that are no UTF-8 become U+FFFD, as Go's encoder does it. */
static void put_string(struct sbuf *b, const unsigned char *s, size_t n)
{
	size_t done = 0, i = 0;

	while (i < n) {
		size_t len = s[i] < 0x80 ? 1 : utf8_len(s + i, n - i);

		if (len && s[i] >= 0x20 && s[i] != '"' && s[i] != '\\') {
			i += len;
			continue;
		}
		sbuf_add(b, s + done, i - done);
		if (len)
			put_escaped(b, s[i]);
		else
			sbuf_puts(b, "\\ufffd");
		done = ++i;
	}
	sbuf_add(b, s + done, n - done);
}

static void put_line(struct jsonlog *l, struct sbuf *b, int stream, const void *p, size_t n, const char *when)
{
	sbuf_puts(b, "{\"log\":\"");
	put_string(b, p, n);
	sbuf_printf(b, "\",\"stream\":\"%s\"", stream == 2 ? "stderr" : "stdout");
	if (l->attrs)
		sbuf_printf(b, ",\"attrs\":%s", l->attrs);
	sbuf_printf(b, ",\"time\":\"%s\"}\n", when);
	if (l->journal)
		journal_send(l->journal, stream == 2, p, n);
}

/* NAME.1 becomes NAME.2, and so on; what is too many goes. */
static int shift(struct jsonlog *l)
{
	char from[NAME_MAX + 1], to[NAME_MAX + 1];
	struct stat st, current;

	snprintf(from, sizeof from, "%s.1", l->name);
	/* a rotation that a crash cut short: it is the same file */
	if (fstatat(l->dir, from, &st, AT_SYMLINK_NOFOLLOW) == 0 && fstat(l->fd, &current) == 0 &&
	    st.st_ino == current.st_ino)
		(void)unlinkat(l->dir, from, 0);
	for (unsigned i = l->max_file - 1; i > 1; i--) {
		snprintf(from, sizeof from, "%s.%u", l->name, i - 1);
		snprintf(to, sizeof to, "%s.%u", l->name, i);
		if (renameat(l->dir, from, l->dir, to) < 0 && errno != ENOENT)
			return -errno;
	}
	snprintf(to, sizeof to, "%s.1", l->name);
	if (unlinkat(l->dir, to, 0) < 0 && errno != ENOENT)
		return -errno;
	return linkat(l->dir, l->name, l->dir, to, 0) < 0 ? -errno : 0;
}

/* Begins a new file. If that fails the old one grows on: no line is lost for it. */
static void rotate(struct jsonlog *l)
{
	_cleanup_free_ char *fresh = xasprintf("%s" NEW_SUFFIX, l->name);
	_cleanup_close_ int fd = open_file(l, fresh, O_TRUNC);
	int r = fd < 0 ? fd : l->max_file > 1 ? shift(l) : 0;

	if (r == 0 && renameat(l->dir, fresh, l->dir, l->name) < 0)
		r = -errno;
	if (r == 0) {
		fd_close(&l->fd);
		l->fd = TAKE_FD(fd);
		l->size = 0;
		return;
	}
	log_warn("begin a new file of container log '%s': %s", l->name, strerror(-r));
	l->max_size *= 2;		/* and not again at every line */
	(void)unlinkat(l->dir, fresh, 0);
}

/* Whole lines or nothing: what a full disk cut off would make the next line unreadable too. */
static bool write_whole(struct jsonlog *l, const char *p, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = RETRY(write(l->fd, p + done, len - done));

		if (n <= 0) {
			int e = n < 0 ? errno : ENOSPC;
			off_t end = done ? lseek(l->fd, 0, SEEK_END) : -1;

			if (end >= (off_t)done)
				(void)!ftruncate(l->fd, end - (off_t)done);
			if (!l->lost)
				log_warn("write container log: %s: lines are lost", strerror(e));
			l->lost = true;
			return false;
		}
		done += (size_t)n;
	}
	l->size += done;
	return true;
}

/* How much of these lines the present file has room for; an empty one has it for any line. */
static size_t fitting(const struct jsonlog *l, const char *p, size_t n)
{
	size_t room = !l->max_size ? n : l->max_size > l->size ? l->max_size - l->size : 0;
	const char *end = room < n ? memrchr(p, '\n', room) : p + n - 1;

	if (!end && !l->size)
		end = memchr(p, '\n', n) ?: p + n - 1;
	return end ? (size_t)(end - p) + 1 : 0;
}

static void write_lines(struct jsonlog *l, const struct sbuf *b)
{
	for (size_t at = 0, n; at < b->len; at += n) {
		n = fitting(l, b->buf + at, b->len - at);
		if (!n)
			rotate(l);
		else if (!write_whole(l, b->buf + at, n))
			return;
	}
}

/* The unfinished line is full: all but a cut character is written. */
static void put_part(struct jsonlog *l, struct sbuf *out, struct sbuf *part, int stream, const char *when)
{
	size_t n = whole_chars((unsigned char *)part->buf, part->len);

	put_line(l, out, stream, part->buf, n, when);
	sbuf_consume(part, n);
}

void jsonlog_write(struct jsonlog *l, int stream, const void *p, size_t n)
{
	struct sbuf *part = &l->partial[stream == 2];
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT;
	const char *s = p;
	char when[40];

	if (l->fd < 0 || !n)
		return;
	time_rfc3339_fixed(now_real_ns(), when);
	while (n) {
		size_t take = MIN(n, JSONLOG_LINE_MAX - part->len);
		const char *nl = memchr(s, '\n', take);

		if (nl)
			take = (size_t)(nl - s) + 1;
		if (nl && !part->len) {
			put_line(l, &out, stream, s, take, when);
		} else {
			sbuf_add(part, s, take);
			if (nl) {
				put_line(l, &out, stream, part->buf, part->len, when);
				sbuf_done(part);
			} else if (part->len == JSONLOG_LINE_MAX) {
				put_part(l, &out, part, stream, when);
			}
		}
		s += take;
		n -= take;
	}
	write_lines(l, &out);
}

void jsonlog_close(struct jsonlog *l)
{
	for (int i = 0; i < 2; i++) {
		if (l->fd >= 0 && l->partial[i].len) {
			_cleanup_sbuf_ struct sbuf out = SBUF_INIT;
			char when[40];

			time_rfc3339_fixed(now_real_ns(), when);
			put_line(l, &out, i + 1, l->partial[i].buf, l->partial[i].len, when);
			write_lines(l, &out);
		}
		sbuf_done(&l->partial[i]);
	}
	fd_close(&l->fd);
	fd_close(&l->dir);
	journal_free(l->journal);
	free(l->name);
	free(l->attrs);
	l->journal = NULL;
	l->name = l->attrs = NULL;
}
