#include "super/jsonlog.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/timefmt.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

int jsonlog_open(struct jsonlog *l, const char *path)
{
	*l = (struct jsonlog){ .fd = -EBADF, .partial = { SBUF_INIT_MAX(JSONLOG_LINE_MAX), SBUF_INIT_MAX(JSONLOG_LINE_MAX) } };
	if (!path || !*path)
		return 0;
	l->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	return l->fd < 0 ? -errno : 0;
}

/* A JSON string with what Go's encoder escapes; bytes that are no UTF-8 become U+FFFD. */
static void put_string(struct sbuf *b, const unsigned char *s, size_t n)
{
	for (size_t i = 0; i < n;) {
		size_t len = 1;

		if (s[i] == '"' || s[i] == '\\') {
			sbuf_putc(b, '\\');
			sbuf_putc(b, (char)s[i]);
		} else if (s[i] == '\n') {
			sbuf_puts(b, "\\n");
		} else if (s[i] == '\r') {
			sbuf_puts(b, "\\r");
		} else if (s[i] == '\t') {
			sbuf_puts(b, "\\t");
		} else if (s[i] < 0x20) {
			sbuf_printf(b, "\\u%04x", s[i]);
		} else if (s[i] < 0x80) {
			sbuf_putc(b, (char)s[i]);
		} else {
			len = s[i] >= 0xc2 && s[i] < 0xe0 ? 2 : (s[i] & 0xf0) == 0xe0 ? 3 : s[i] >= 0xf0 && s[i] < 0xf5 ? 4 : 0;
			for (size_t k = 1; k < len; k++)
				if (i + k >= n || (s[i + k] & 0xc0) != 0x80)
					len = 0;
			if (len)
				sbuf_add(b, s + i, len);
			else
				sbuf_puts(b, "\\ufffd");
			len = len ? len : 1;
		}
		i += len;
	}
}

static void emit(struct jsonlog *l, int stream, const void *p, size_t n)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	char when[40];
	int r;

	time_rfc3339_fixed(now_real_ns(), when);
	sbuf_puts(&b, "{\"log\":\"");
	put_string(&b, p, n);
	sbuf_printf(&b, "\",\"stream\":\"%s\",\"time\":\"%s\"}\n", stream == 2 ? "stderr" : "stdout", when);
	r = fd_write_full(l->fd, b.buf, b.len);
	if (r < 0 && !l->lost) {
		l->lost = true;
		log_warn("write log: %s: lines are lost", strerror(-r));
	}
}

void jsonlog_write(struct jsonlog *l, int stream, const void *p, size_t n)
{
	struct sbuf *part = &l->partial[stream == 2];
	const char *s = p;

	if (l->fd < 0)
		return;
	while (n) {
		const char *nl = memchr(s, '\n', n);
		size_t take = nl ? (size_t)(nl - s) + 1 : n;

		take = MIN(take, JSONLOG_LINE_MAX - part->len);
		if (!part->len && nl && s + take == nl + 1) {
			emit(l, stream, s, take);
		} else {
			sbuf_add(part, s, take);
			if (part->len == JSONLOG_LINE_MAX || s[take - 1] == '\n') {
				emit(l, stream, part->buf, part->len);
				sbuf_done(part);
			}
		}
		s += take;
		n -= take;
	}
}

void jsonlog_close(struct jsonlog *l)
{
	for (int i = 0; i < 2; i++) {
		if (l->fd >= 0 && l->partial[i].len)
			emit(l, i + 1, l->partial[i].buf, l->partial[i].len);
		sbuf_done(&l->partial[i]);
	}
	fd_close(&l->fd);
}
