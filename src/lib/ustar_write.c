#include "lib/ustar.h"
#include "base/alloc.h"
#include "base/fd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BLOCK 512
#define FLUSH (64u << 10)

struct header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100], magic[8];
	char uname[32], gname[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a tar header is one block");

static int flush(struct ustar_writer *w, size_t keep)
{
	int r = w->buf.len > keep ? fd_write_full(w->fd, w->buf.buf, w->buf.len) : 0;

	if (w->buf.len > keep)
		sbuf_reset(&w->buf);
	return r;
}

static void pad_block(struct ustar_writer *w, size_t n)
{
	static const char zeros[BLOCK];

	if (n % BLOCK)
		sbuf_add(&w->buf, zeros, BLOCK - n % BLOCK);
}

/* Octal with a NUL at the end; false if the number needs more digits than there are. */
static bool octal(char *to, size_t n, uint64_t v)
{
	char text[32];
	int len = snprintf(text, sizeof text, "%0*" PRIo64, (int)n - 1, v);

	if ((size_t)len != n - 1)
		return false;
	memcpy(to, text, n);
	return true;
}

static bool plain(const char *s, size_t max)
{
	size_t n = strlen(s);

	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] >= 0x80)
			return false;
	return n <= max;
}

/* "LEN KEY=VALUE\n", where LEN counts itself. */
static void pax_record(struct sbuf *b, const char *key, const void *value, size_t n)
{
	size_t body = 1 + strlen(key) + 1 + n + 1, total = body + 1, digits;

	do {
		digits = (size_t)snprintf(NULL, 0, "%zu", total);
		if (total == body + digits)
			break;
		total = body + digits;
	} while (true);
	sbuf_printf(b, "%zu %s=", total, key);
	sbuf_add(b, value, n);
	sbuf_putc(b, '\n');
}

static void pax_number(struct sbuf *b, const char *key, uint64_t v)
{
	char text[24];

	pax_record(b, key, text, (size_t)snprintf(text, sizeof text, "%" PRIu64, v));
}

static void put_header(struct ustar_writer *w, struct header *h)
{
	unsigned sum = 0;

	memcpy(h->magic, "ustar\00000", sizeof h->magic);
	memset(h->sum, ' ', sizeof h->sum);
	for (size_t i = 0; i < sizeof *h; i++)
		sum += ((unsigned char *)h)[i];
	snprintf(h->sum, sizeof h->sum, "%06o", sum);
	h->sum[7] = ' ';
	sbuf_add(&w->buf, h, sizeof *h);
}

static void put_pax(struct ustar_writer *w, const struct sbuf *records)
{
	struct header h = { .name = "PaxHeaders.0/entry", .type = 'x' };

	octal(h.mode, sizeof h.mode, 0644);
	octal(h.uid, sizeof h.uid, 0);
	octal(h.gid, sizeof h.gid, 0);
	octal(h.mtime, sizeof h.mtime, 0);
	octal(h.size, sizeof h.size, records->len);
	put_header(w, &h);
	sbuf_add(&w->buf, records->buf, records->len);
	pad_block(w, records->len);
}

static char type_of(const struct ustar_entry *t)
{
	static const struct { mode_t mode; char type; } types[] = {
		{ S_IFREG, '0' }, { S_IFLNK, '2' }, { S_IFCHR, '3' }, { S_IFBLK, '4' }, { S_IFDIR, '5' },
		{ S_IFIFO, '6' },
	};

	if (t->hardlink)
		return '1';
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i].mode == (t->mode & S_IFMT))
			return types[i].type;
	return 0;
}

/* Into the field if it fits, else into the pax header (the field keeps what fits of it). */
static void put_text(char *to, size_t n, const char *s, const char *key, struct sbuf *pax)
{
	if (!plain(s, n))
		pax_record(pax, key, s, strlen(s));
	memcpy(to, s, MIN(strlen(s), n));
}

static void put_number(char *to, size_t n, uint64_t v, const char *key, struct sbuf *pax)
{
	if (!octal(to, n, v)) {
		pax_number(pax, key, v);
		octal(to, n, 0);
	}
}

int ustar_put(struct ustar_writer *w, const struct ustar_entry *t)
{
	_cleanup_sbuf_ struct sbuf pax = SBUF_INIT;
	struct header h = { .type = type_of(t) };

	if (!h.type || w->left)
		return -EINVAL;
	put_text(h.name, sizeof h.name, t->path, "path", &pax);
	if (t->link)
		put_text(h.link, sizeof h.link, t->link, "linkpath", &pax);
	octal(h.mode, sizeof h.mode, t->mode & 07777);
	put_number(h.uid, sizeof h.uid, t->uid, "uid", &pax);
	put_number(h.gid, sizeof h.gid, t->gid, "gid", &pax);
	put_number(h.size, sizeof h.size, t->size, "size", &pax);
	octal(h.mtime, sizeof h.mtime, t->mtime.tv_sec > 0 ? (uint64_t)t->mtime.tv_sec : 0);
	octal(h.major, sizeof h.major, t->major);
	octal(h.minor, sizeof h.minor, t->minor);
	for (size_t i = 0; i < t->n_xattrs; i++) {
		_cleanup_free_ char *key = xasprintf("SCHILY.xattr.%s", t->xattrs[i].name);

		pax_record(&pax, key, t->xattrs[i].value, t->xattrs[i].n);
	}
	if (pax.len)
		put_pax(w, &pax);
	put_header(w, &h);
	w->left = t->size;
	w->pad = (unsigned)((BLOCK - t->size % BLOCK) % BLOCK);
	return flush(w, FLUSH);
}

int ustar_put_data(struct ustar_writer *w, const void *p, size_t n)
{
	static const char zeros[BLOCK];

	if (n > w->left)
		return -EINVAL;
	sbuf_add(&w->buf, p, n);
	w->left -= n;
	if (!w->left)
		sbuf_add(&w->buf, zeros, w->pad);
	return flush(w, FLUSH);
}

int ustar_put_end(struct ustar_writer *w)
{
	static const char zeros[2 * BLOCK];

	sbuf_add(&w->buf, zeros, sizeof zeros);
	return flush(w, 0);
}

void ustar_writer_done(struct ustar_writer *w)
{
	sbuf_done(&w->buf);
}
