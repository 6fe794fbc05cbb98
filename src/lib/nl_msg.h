/* Building one netlink message: for the files of lib/ that speak netlink. Attributes are nested by
 * remembering where a nest began and writing its length when it ends. */
#pragma once

#include "base/macro.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>

struct req {
	struct nlmsghdr h;
	char body[2048];
};

static inline void *put(struct req *r, size_t n)
{
	size_t at = NLMSG_ALIGN(r->h.nlmsg_len);
	void *p = (char *)r + at;

	/* Requests are built from bounded parts only: running over is a bug. */
	if (at + NLMSG_ALIGN(n) > sizeof *r)
		abort();
	memset(p, 0, NLMSG_ALIGN(n));
	r->h.nlmsg_len = (uint32_t)(at + n);
	return p;
}

static inline void *req_init(struct req *r, uint16_t type, uint16_t flags, size_t head)
{
	r->h = (struct nlmsghdr){
		.nlmsg_len = NLMSG_HDRLEN,
		.nlmsg_type = type,
		.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags),
	};
	return put(r, head);
}

static inline struct rtattr *attr(struct req *r, uint16_t type, const void *p, size_t n)
{
	struct rtattr *a = put(r, RTA_LENGTH(n));

	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(n);
	if (n)
		memcpy(RTA_DATA(a), p, n);
	return a;
}

static inline void attr_u32(struct req *r, uint16_t type, uint32_t v)
{
	attr(r, type, &v, sizeof v);
}

static inline void attr_str(struct req *r, uint16_t type, const char *s)
{
	attr(r, type, s, strlen(s) + 1);
}

static inline struct rtattr *nest(struct req *r, uint16_t type)
{
	return attr(r, type, NULL, 0);
}

static inline void nest_end(struct req *r, struct rtattr *a)
{
	a->rta_len = (uint16_t)((char *)r + r->h.nlmsg_len - (char *)a);
}
