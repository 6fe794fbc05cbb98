#include "base/sbuf.h"
#include "base/alloc.h"

#include <stdio.h>
#include <string.h>

void sbuf_done(struct sbuf *s)
{
	free(s->buf);
	s->buf = NULL;
	s->len = s->cap = 0;
}

void sbuf_reset(struct sbuf *s)
{
	s->len = 0;
	s->full = false;
	if (s->buf)
		s->buf[0] = 0;
}

char *sbuf_reserve(struct sbuf *s, size_t n)
{
	size_t max = s->max ? s->max : SBUF_MAX_DEFAULT, want;

	if (n > max || s->len > max - n) {
		s->full = true;
		return NULL;
	}
	want = s->len + n + 1;
	if (want > s->cap) {
		size_t cap = MIN(s->cap * 2, max + 1);

		cap = MAX(cap, want);
		cap = MAX(cap, (size_t)64);
		s->buf = xrealloc(s->buf, cap, 1);
		s->cap = cap;
	}
	return s->buf + s->len;
}

void sbuf_commit(struct sbuf *s, size_t n)
{
	s->len += n;
	s->buf[s->len] = 0;
}

void sbuf_add(struct sbuf *s, const void *p, size_t n)
{
	char *to = sbuf_reserve(s, n);

	if (!to)
		return;
	if (n)
		memcpy(to, p, n);
	sbuf_commit(s, n);
}

void sbuf_puts(struct sbuf *s, const char *str)
{
	if (str)
		sbuf_add(s, str, strlen(str));
}

void sbuf_putc(struct sbuf *s, char c)
{
	sbuf_add(s, &c, 1);
}

void sbuf_vprintf(struct sbuf *s, const char *fmt, va_list ap)
{
	va_list again;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	if (n >= 0 && sbuf_reserve(s, (size_t)n)) {
		vsnprintf(s->buf + s->len, (size_t)n + 1, fmt, again);
		sbuf_commit(s, (size_t)n);
	}
	va_end(again);
}

void sbuf_printf(struct sbuf *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	sbuf_vprintf(s, fmt, ap);
	va_end(ap);
}

void sbuf_consume(struct sbuf *s, size_t n)
{
	if (n >= s->len) {
		sbuf_reset(s);
		return;
	}
	memmove(s->buf, s->buf + n, s->len - n + 1);
	s->len -= n;
}

const char *sbuf_str(const struct sbuf *s)
{
	return s->buf ? s->buf : "";
}

char *sbuf_steal(struct sbuf *s)
{
	char *p = s->buf ? s->buf : xstrdup("");

	s->buf = NULL;
	s->len = s->cap = 0;
	s->full = false;
	return p;
}
