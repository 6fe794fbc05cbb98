#include "proto/msg.h"
#include "base/alloc.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

/* A vector's count is bounded by the payload: every string needs at least its length word. */

struct reader { const uint8_t *p; size_t n; bool bad; };

static void get(struct reader *r, void *to, size_t n)
{
	if (r->bad || r->n < n) {
		r->bad = true;
		memset(to, 0, n);
		return;
	}
	memcpy(to, r->p, n);
	r->p += n;
	r->n -= n;
}

static void put_U8(struct sbuf *b, const uint8_t *v) { sbuf_add(b, v, 1); }
static void put_U32(struct sbuf *b, const uint32_t *v) { uint32_t x = htole32(*v); sbuf_add(b, &x, 4); }
static void put_U64(struct sbuf *b, const uint64_t *v) { uint64_t x = htole64(*v); sbuf_add(b, &x, 8); }
static void get_U8(struct reader *r, uint8_t *v) { get(r, v, 1); }
static void get_U32(struct reader *r, uint32_t *v) { get(r, v, 4); *v = le32toh(*v); }
static void get_U64(struct reader *r, uint64_t *v) { get(r, v, 8); *v = le64toh(*v); }

static void put_BYTES(struct sbuf *b, const struct bytes *v)
{
	uint32_t n = (uint32_t)v->n;

	put_U32(b, &n);
	sbuf_add(b, v->p, v->n);
}

static void get_BYTES(struct reader *r, struct bytes *v)
{
	uint32_t n;

	*v = (struct bytes){ 0 };
	get_U32(r, &n);
	if (r->bad || n > r->n) {
		r->bad = true;
		return;
	}
	v->p = xmalloc((size_t)n + 1);
	get(r, v->p, n);
	v->p[n] = 0;
	v->n = n;
}

static void put_STR(struct sbuf *b, char *const *v)
{
	struct bytes raw = { (uint8_t *)*v, *v ? strlen(*v) : 0 };

	put_BYTES(b, &raw);
}

static void get_STR(struct reader *r, char **v)
{
	struct bytes raw;

	get_BYTES(r, &raw);
	/* A NUL inside would make two readers see two different strings. */
	if (raw.p && memchr(raw.p, 0, raw.n)) {
		r->bad = true;
		free(raw.p);
		raw.p = NULL;
	}
	*v = raw.p ? (char *)raw.p : xstrdup("");
}

static void put_STRV(struct sbuf *b, char **const *v)
{
	uint32_t n = (uint32_t)strv_len(*v);

	put_U32(b, &n);
	for (uint32_t i = 0; i < n; i++)
		put_STR(b, &(*v)[i]);
}

static void get_STRV(struct reader *r, char ***v)
{
	uint32_t n;

	*v = NULL;
	get_U32(r, &n);
	if (n > r->n / 4)
		r->bad = true;
	for (uint32_t i = 0; i < n && !r->bad; i++) {
		char *s;

		get_STR(r, &s);
		strv_take(v, s);
	}
}

static void done_U8(uint8_t *v) { *v = 0; }
static void done_U32(uint32_t *v) { *v = 0; }
static void done_U64(uint64_t *v) { *v = 0; }
static void done_STR(char **v) { freep(v); }
static void done_BYTES(struct bytes *v) { free(v->p); *v = (struct bytes){ 0 }; }
static void done_STRV(char ***v) { strv_freep(v); }

#define PUT(kind, n) put_##kind(out, &m->n);
#define GET(kind, n) get_##kind(&r, &ret->n);
#define DONE(kind, n) done_##kind(&m->n);

#define M(num, NAME, name) \
	void msg_##name##_encode(const struct msg_##name *m _unused_, struct sbuf *out _unused_) \
	{ \
		MSG_FIELDS_##NAME(PUT) \
	} \
	void msg_##name##_done(struct msg_##name *m _unused_) \
	{ \
		MSG_FIELDS_##NAME(DONE) \
	} \
	int msg_##name##_decode(const void *p, size_t n, struct msg_##name *ret) \
	{ \
		struct reader r = { p, n, false }; \
		\
		memset(ret, 0, sizeof *ret); \
		MSG_FIELDS_##NAME(GET) \
		if (!r.bad) \
			return 0; \
		msg_##name##_done(ret); \
		return -EPROTO; \
	}
MSG_TABLE(M)
#undef M

const char *msg_type_name(uint16_t type)
{
	switch (type) {
#define M(num, NAME, name) case num: return #NAME;
	MSG_TABLE(M)
#undef M
	}
	return "?";
}
