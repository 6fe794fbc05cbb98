#include "proto/msg.h"
#include "base/alloc.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

/* A vector's count is bounded by the payload: every string needs at least its length word. */

struct reader { const uint8_t *p; size_t n; bool bad, begun; };

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

/* Each as the bytes of a message of its own: it may grow fields. */
static void put_NICS(struct sbuf *b, const struct nics *v)
{
	uint32_t n = (uint32_t)v->n;

	put_U32(b, &n);
	for (uint32_t i = 0; i < n; i++) {
		_cleanup_sbuf_ struct sbuf one = SBUF_INIT;
		struct bytes raw;

		msg_nic_encode(&v->v[i], &one);
		raw = (struct bytes){ (uint8_t *)one.buf, one.len };
		put_BYTES(b, &raw);
	}
}

static void get_NICS(struct reader *r, struct nics *v)
{
	uint32_t n;

	*v = (struct nics){ 0 };
	get_U32(r, &n);
	if (n > MSG_NICS_MAX)
		r->bad = true;
	for (uint32_t i = 0; i < n && !r->bad; i++) {
		struct msg_nic one;
		struct bytes raw;

		get_BYTES(r, &raw);
		if (!r->bad && msg_nic_decode(raw.p, raw.n, &one) == 0)
			*nics_add(v) = one;
		else
			r->bad = true;
		free(raw.p);
	}
}

struct msg_nic *nics_add(struct nics *v)
{
	v->v = xrealloc(v->v, v->n + 1, sizeof *v->v);
	v->v[v->n] = (struct msg_nic){ 0 };
	return &v->v[v->n++];
}

void nics_done(struct nics *v)
{
	for (size_t i = 0; i < v->n; i++)
		msg_nic_done(&v->v[i]);
	free(v->v);
	*v = (struct nics){ 0 };
}

void nics_copy(const struct nics *from, struct nics *ret)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	struct reader r;

	put_NICS(&b, from);
	r = (struct reader){ .p = (const uint8_t *)b.buf, .n = b.len };
	get_NICS(&r, ret);
}

const struct msg_nic *nics_find(const struct nics *nics, const char *ifname)
{
	for (size_t i = 0; i < nics->n; i++)
		if (streq(nics->v[i].ifname, ifname))
			return &nics->v[i];
	return NULL;
}

static void done_U8(uint8_t *v) { *v = 0; }
static void done_U32(uint32_t *v) { *v = 0; }
static void done_U64(uint64_t *v) { *v = 0; }
static void done_STR(char **v) { freep(v); }
static void done_BYTES(struct bytes *v) { free(v->p); *v = (struct bytes){ 0 }; }
static void done_STRV(char ***v) { strv_freep(v); }
static void done_NICS(struct nics *v) { nics_done(v); }

#define PUT(kind, n) put_##kind(out, &m->n);
/* A peer of an older version sends the fields that it knows: what was appended since is zero or empty. */
static bool left_out(struct reader *r)
{
	bool out = r->begun && !r->bad && !r->n;

	r->begun = true;
	return out;
}

static void none_U8(uint8_t *v) { *v = 0; }
static void none_U32(uint32_t *v) { *v = 0; }
static void none_U64(uint64_t *v) { *v = 0; }
static void none_STR(char **v) { *v = xstrdup(""); }
static void none_BYTES(struct bytes *v) { v->p = (uint8_t *)xstrdup(""); }
static void none_STRV(char ***v) { *v = NULL; }
static void none_NICS(struct nics *v) { *v = (struct nics){ 0 }; }

#define GET(kind, n) if (left_out(&r)) none_##kind(&ret->n); else get_##kind(&r, &ret->n);
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
		struct reader r = { .p = p, .n = n }; \
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
