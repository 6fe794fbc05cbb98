/* What a forwarder must know of RFC 1035: the header, and where the question ends. */
#include "resolver/resolver.h"

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
