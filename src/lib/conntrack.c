/* Entries are listed, and those that were first sent to one of the ports are deleted by what names them:
 * their original tuple, given back as it came. */
#include "lib/conntrack.h"
#include "base/fd.h"
#include "base/sbuf.h"
#include "lib/nl_sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <sys/socket.h>

#define MAX_TUPLE 512

static const struct rtattr *find(const struct rtattr *a, size_t n, uint16_t type)
{
	nl_for_each_attr(one, a, n)
		if (NL_TYPE(one) == type)
			return one;
	return NULL;
}

static const struct rtattr *inside(const struct rtattr *a, uint16_t type)
{
	return a ? find(RTA_DATA(a), RTA_PAYLOAD(a), type) : NULL;
}

static bool to_port(const struct rtattr *tuple, uint8_t proto, const uint16_t *ports, size_t n)
{
	const struct rtattr *p = inside(tuple, CTA_TUPLE_PROTO), *num = inside(p, CTA_PROTO_NUM),
			    *dst = inside(p, CTA_PROTO_DST_PORT);
	uint16_t port;

	if (!num || !dst || RTA_PAYLOAD(num) < 1 || RTA_PAYLOAD(dst) < sizeof port ||
	    *(const uint8_t *)RTA_DATA(num) != proto)
		return false;
	memcpy(&port, RTA_DATA(dst), sizeof port);
	for (size_t i = 0; i < n; i++)
		if (ports[i] == ntohs(port))
			return true;
	return false;
}

static void request(struct req *r, uint8_t family, uint16_t type, uint16_t flags)
{
	struct nfgenmsg *g = req_init(r, (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type), flags, sizeof *g);

	g->nfgen_family = family;
	g->version = NFNETLINK_V0;
}

struct wanted { uint8_t proto; const uint16_t *ports; size_t n; struct sbuf *out; };

/* Appends the original tuple of an entry that is meant. */
static int collect(void *userdata, const struct nlmsghdr *h)
{
	struct wanted *w = userdata;
	const struct rtattr *attrs, *tuple;
	size_t n;

	if (h->nlmsg_type == NLMSG_DONE)
		return 1;
	if (h->nlmsg_type == NLMSG_ERROR)
		return nl_verdict(h);
	attrs = nl_attrs(h, sizeof(struct nfgenmsg), &n);
	tuple = attrs ? find(attrs, n, CTA_TUPLE_ORIG) : NULL;
	if (tuple && tuple->rta_len <= MAX_TUPLE && to_port(tuple, w->proto, w->ports, w->n))
		sbuf_add(w->out, tuple, RTA_ALIGN(tuple->rta_len));
	return 0;
}

static int list(int fd, uint8_t family, struct wanted *w)
{
	struct req r;

	request(&r, family, IPCTNL_MSG_CT_GET, NLM_F_DUMP);
	if (RETRY(send(fd, &r, r.h.nlmsg_len, 0)) < 0)
		return -errno;
	return nl_sock_answers(fd, collect, w);
}

static int forget(int fd, uint8_t family, struct wanted *w)
{
	int r = list(fd, family, w);

	if (r < 0)
		return r == -EINVAL || r == -EOPNOTSUPP ? 0 : r;
	for (size_t at = 0; at < w->out->len;) {
		const struct rtattr *tuple = (const struct rtattr *)(w->out->buf + at);
		struct req d;

		request(&d, family, IPCTNL_MSG_CT_DELETE, 0);
		d.h.nlmsg_flags &= (uint16_t)~NLM_F_ACK;
		attr(&d, CTA_TUPLE_ORIG | NLA_F_NESTED, RTA_DATA(tuple), RTA_PAYLOAD(tuple));
		/* one that is gone already is fine */
		if (RETRY(send(fd, &d, d.h.nlmsg_len, 0)) < 0)
			return -errno;
		at += RTA_ALIGN(tuple->rta_len);
	}
	return 0;
}

int conntrack_forget(uint8_t proto, const uint16_t *ports, size_t n)
{
	static const uint8_t families[] = {AF_INET, AF_INET6};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(families) && r == 0; i++) {
		_cleanup_close_ int fd = nl_sock_open(NETLINK_NETFILTER, 0, 0);
		_cleanup_sbuf_ struct sbuf tuples = SBUF_INIT;

		if (fd < 0)
			return fd == -EPROTONOSUPPORT ? 0 : fd;
		r = forget(fd, families[i], &(struct wanted){proto, ports, n, &tuples});
	}
	return r;
}
