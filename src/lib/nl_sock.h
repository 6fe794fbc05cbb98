/* Netlink sockets: for the files of lib/ that speak netlink, beside nl_msg.h. */
#pragma once

#include "lib/nl_msg.h"

#include <stdint.h>

/* A bound socket of this protocol that waits a bounded time for answers; flags: SOCK_NONBLOCK or 0.
 * -errno. */
int nl_sock_open(int protocol, int flags, uint32_t groups);

/* One message of the kernel: 0 = go on, 1 = over, -errno. */
typedef int (*nl_answer_fn)(void *userdata, const struct nlmsghdr *h);
/* Gives what the kernel says to fn until that says it is over. -ETIMEDOUT if the kernel is silent. */
int nl_sock_answers(int fd, nl_answer_fn fn, void *userdata);

/* What a message of the type NLMSG_ERROR means: 1 for success, or -errno. */
int nl_verdict(const struct nlmsghdr *h);
/* Attributes of a message behind a head of this size; NULL if it is too short. */
const struct rtattr *nl_attrs(const struct nlmsghdr *h, size_t head, size_t *ret_n);

#define nl_for_each_attr(a, p, n) for (const struct rtattr *a = (p); RTA_OK(a, n); a = RTA_NEXT(a, n))
#define NL_TYPE(a) ((a)->rta_type & NLA_TYPE_MASK)
