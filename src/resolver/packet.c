/* What must be known of RFC 1035: the header, the question, and answers of two kinds. */
#include "resolver/resolver.h"

#include <ctype.h>
#include <string.h>

static unsigned get16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

size_t dns_question_end(const uint8_t *p, size_t n)
{
	size_t at = DNS_HDR;

	if (n < DNS_HDR || get16(p + 4) != 1)
		return 0;
	while (at < n && p[at]) {
		if (p[at] > 63)		/* no compression in the first name */
			return 0;
		at += 1 + (size_t)p[at];
		if (at - DNS_HDR > 254)
			return 0;
	}
	at += 5;			/* root label, type, class */
	return at <= n ? at : 0;
}

bool dns_is_query(const uint8_t *p, size_t n)
{
	return n >= DNS_HDR && !(p[2] & 0x80) && dns_question_end(p, n);
}

bool dns_answers(const uint8_t *p, size_t n, const uint8_t *q, size_t q_question_end)
{
	size_t end;

	if (n < DNS_HDR || !(p[2] & 0x80) || memcmp(p, q, 2))
		return false;
	/* Servers that do not understand a query may leave the question out. */
	if (get16(p + 4) == 0)
		return dns_rcode(p) != 0;
	end = dns_question_end(p, n);
	return end == q_question_end && !memcmp(p + DNS_HDR, q + DNS_HDR, end - DNS_HDR);
}

size_t dns_make_servfail(uint8_t *p, size_t question_end)
{
	p[2] |= 0x80;
	p[3] = 0x82;			/* recursion available, SERVFAIL */
	memset(p + 6, 0, 6);		/* no records */
	return question_end;
}

/* --- answers --- */

unsigned dns_question(const uint8_t *q, size_t question_end, char *ret)
{
	size_t at = DNS_HDR, n = 0;

	while (q[at]) {
		size_t len = q[at++];

		if (n)
			ret[n++] = '.';
		for (; len; len--, at++) {
			if (!isprint(q[at]) || q[at] == '.' || q[at] == ' ') {
				*ret = 0;
				return get16(q + question_end - 4);
			}
			ret[n++] = (char)tolower(q[at]);
		}
	}
	ret[n] = 0;
	return get16(q + question_end - 4);
}

static void put16(struct dns_out *o, unsigned v)
{
	o->p[o->n++] = (uint8_t)(v >> 8);
	o->p[o->n++] = (uint8_t)v;
}

void dns_begin(struct dns_out *o, uint8_t *p, const uint8_t *q, size_t question_end, unsigned rcode)
{
	memcpy(p, q, question_end);
	p[2] = (uint8_t)(0x84 | (q[2] & 0x79));	/* an answer, from who should know */
	p[3] = (uint8_t)(0x80 | rcode);
	memset(p + 6, 0, 6);
	*o = (struct dns_out){ p, question_end };
}

/* Nobody may keep it: the next moment it can be another's. */
static void record(struct dns_out *o, unsigned type, size_t len)
{
	o->p[7]++;
	put16(o, 0xc000 | DNS_HDR);
	put16(o, type);
	put16(o, 1);
	put16(o, 0);
	put16(o, 0);
	put16(o, (unsigned)len);
}

void dns_add_address(struct dns_out *o, unsigned type, const void *ip, size_t n)
{
	if (o->n + 12 + n > DNS_OUT_MAX)
		return;
	record(o, type, n);
	memcpy(o->p + o->n, ip, n);
	o->n += n;
}

void dns_add_pointer(struct dns_out *o, const char *name)
{
	size_t len = strlen(name);

	if (len > 253 || o->n + 12 + len + 2 > DNS_OUT_MAX)
		return;
	/* A container's name can be longer than a label may be. */
	for (const char *p = name; *p; p += strcspn(p, ".") + (p[strcspn(p, ".")] == '.'))
		if (strcspn(p, ".") > 63)
			return;
	record(o, 12, len + 2);
	while (*name) {
		size_t label = strcspn(name, ".");

		o->p[o->n++] = (uint8_t)label;
		memcpy(o->p + o->n, name, label);
		o->n += label;
		name += label + (name[label] == '.');
	}
	o->p[o->n++] = 0;
}
