/* Theory of operation.
 *
 * nf_tables takes changes as a transaction: BATCH_BEGIN, messages, BATCH_END, all in one send. The kernel
 * has carried it out, or refused it, when send() returns. Errors are told for each message that is at
 * fault; success only to a message that asks for it, so the last one does: the first answer is the verdict.
 *
 * The socket is kept: closing one waits for the kernel to forget what was removed last, a matter of tens of
 * milliseconds.
 *
 * A set and a map are the same to the kernel. Element lists are bounded by the size of a request; longer
 * ones become several messages of the same transaction. */
#include "lib/nft.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "lib/nl_sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#define ELEMS_PER_MSG 24	/* of at most 80 bytes each, in a request of 2 KiB */

struct nft { int fd; };

/* --- elements --- */

static void part_add(uint8_t *to, size_t room, uint8_t *len, const void *p, size_t n)
{
	if (*len + NLMSG_ALIGN(n) > room)
		abort();
	memset(to + *len, 0, NLMSG_ALIGN(n));
	memcpy(to + *len, p, n);
	*len = (uint8_t)(*len + NLMSG_ALIGN(n));
}

void nft_key_add(struct nft_elem *e, const void *p, size_t n)
{
	part_add(e->key, sizeof e->key, &e->n_key, p, n);
}

void nft_value_add(struct nft_elem *e, const void *p, size_t n)
{
	part_add(e->value, sizeof e->value, &e->n_value, p, n);
}

void nft_key_add_ifname(struct nft_elem *e, const char *ifname)
{
	char name[IFNAMSIZ] = "";

	memcpy(name, ifname, MIN(strlen(ifname), sizeof name - 1));
	nft_key_add(e, name, sizeof name);
}

void nft_elems_add(struct nft_elems *x, const struct nft_elem *e)
{
	x->v = xrealloc(x->v, x->n + 1, sizeof *x->v);
	x->v[x->n++] = *e;
}

void nft_elems_done(struct nft_elems *x)
{
	freep(&x->v);
	x->n = 0;
}

/* --- building --- */

static void nft_req(struct req *r, uint16_t type, uint16_t flags, uint8_t family)
{
	struct nfgenmsg *g = req_init(r, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags, sizeof *g);

	g->nfgen_family = family;
	g->version = NFNETLINK_V0;
	r->h.nlmsg_flags &= (uint16_t)~NLM_F_ACK;
}

static void batch_add(struct nft_batch *b, struct req *r)
{
	r->h.nlmsg_seq = ++b->seq;
	b->last = b->msgs.len;
	sbuf_add(&b->msgs, r, NLMSG_ALIGN(r->h.nlmsg_len));
}

static void elem_req(struct req *r, uint16_t type, uint16_t flags, const struct nft_set *s)
{
	nft_req(r, type, flags, s->family);
	attr_str(r, NFTA_SET_ELEM_LIST_TABLE, s->table);
	attr_str(r, NFTA_SET_ELEM_LIST_SET, s->name);
}

static void data_attr(struct req *r, uint16_t type, const uint8_t *p, size_t n)
{
	struct rtattr *a = nest(r, (uint16_t)(type | NLA_F_NESTED));

	attr(r, NFTA_DATA_VALUE, p, n);
	nest_end(r, a);
}

static void elems(struct nft_batch *b, uint16_t type, uint16_t flags, const struct nft_set *s,
		  const struct nft_elems *x)
{
	for (size_t i = 0; i < x->n;) {
		struct rtattr *list;
		struct req r;

		elem_req(&r, type, flags, s);
		list = nest(&r, NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED);
		for (size_t end = MIN(x->n, i + ELEMS_PER_MSG); i < end; i++) {
			const struct nft_elem *e = &x->v[i];
			struct rtattr *one = nest(&r, NFTA_LIST_ELEM | NLA_F_NESTED);

			data_attr(&r, NFTA_SET_ELEM_KEY, e->key, e->n_key);
			if (type == NFT_MSG_NEWSETELEM && e->n_value)
				data_attr(&r, NFTA_SET_ELEM_DATA, e->value, e->n_value);
			nest_end(&r, one);
		}
		nest_end(&r, list);
		batch_add(b, &r);
	}
}

void nft_batch_done(struct nft_batch *b)
{
	sbuf_done(&b->msgs);
}

void nft_set_flush(struct nft_batch *b, const struct nft_set *s)
{
	struct req r;

	elem_req(&r, NFT_MSG_DELSETELEM, 0, s);
	batch_add(b, &r);
}

void nft_set_add(struct nft_batch *b, const struct nft_set *s, const struct nft_elems *x)
{
	elems(b, NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, s, x);
}

void nft_set_del(struct nft_batch *b, const struct nft_set *s, const struct nft_elems *x)
{
	elems(b, NFT_MSG_DELSETELEM, 0, s, x);
}

/* --- sending --- */

static void frame_add(struct sbuf *out, uint16_t type, uint32_t seq)
{
	struct req r;
	struct nfgenmsg *g = req_init(&r, type, 0, sizeof *g);

	g->version = NFNETLINK_V0;
	g->res_id = htons(NFNL_SUBSYS_NFTABLES);
	r.h.nlmsg_flags = NLM_F_REQUEST;
	r.h.nlmsg_seq = seq;
	sbuf_add(out, &r, NLMSG_ALIGN(r.h.nlmsg_len));
}

void nft_batch_bytes(const struct nft_batch *b, struct sbuf *out)
{
	size_t first;

	frame_add(out, NFNL_MSG_BATCH_BEGIN, 0);
	first = out->len;
	sbuf_add(out, b->msgs.buf, b->msgs.len);
	((struct nlmsghdr *)(out->buf + first + b->last))->nlmsg_flags |= NLM_F_ACK;
	frame_add(out, NFNL_MSG_BATCH_END, b->seq + 1);
}

int nft_open(struct nft **ret)
{
	int fd = nl_sock_open(NETLINK_NETFILTER, 0, 0);

	if (fd < 0)
		return fd;
	*ret = new0(struct nft);
	(*ret)->fd = fd;
	return 0;
}

void nft_close(struct nft *n)
{
	if (!n)
		return;
	fd_close(&n->fd);
	free(n);
}

static int request(struct nft *n, const void *p, size_t len)
{
	char rest[64];
	int size = (int)MIN(len, (size_t)INT32_MAX / 4) + 4096;

	/* What a failed transaction had to say beyond its first error. */
	while (recv(n->fd, rest, sizeof rest, MSG_DONTWAIT) >= 0)
		;
	if (size > 100000)	/* the whole transaction is one message to the socket */
		(void)setsockopt(n->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
	return RETRY(send(n->fd, p, len, 0)) < 0 ? -errno : 0;
}

static int commit_answer(void *userdata, const struct nlmsghdr *h)
{
	return h->nlmsg_type == NLMSG_ERROR ? nl_verdict(h) : 0;
}

int nft_batch_commit(struct nft *n, struct nft_batch *b)
{
	_cleanup_sbuf_ struct sbuf all = SBUF_INIT;
	int r;

	if (!b->msgs.len)
		return 0;
	nft_batch_bytes(b, &all);
	if (!sbuf_ok(&all) || !sbuf_ok(&b->msgs))
		return -E2BIG;
	r = request(n, all.buf, all.len);
	return r < 0 ? r : nl_sock_answers(n->fd, commit_answer, NULL);
}

/* --- looking --- */

struct look {
	uint16_t type;
	int (*fn)(struct look *l, const struct rtattr *attrs, size_t n);
	nft_chain_fn chain;
	void *userdata;
	const void *bytes;
	size_t n_bytes;
	const char *in_table, *in_chain;
	bool found;
};

static int dump_answer(void *userdata, const struct nlmsghdr *h)
{
	struct look *l = userdata;
	const struct rtattr *attrs;
	size_t n;

	if (h->nlmsg_type == NLMSG_DONE)
		return 1;
	if (h->nlmsg_type == NLMSG_ERROR)
		return nl_verdict(h);
	if (h->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | l->type))
		return 0;
	attrs = nl_attrs(h, sizeof(struct nfgenmsg), &n);
	return attrs ? l->fn(l, attrs, n) : 0;
}

/* A NUL-terminated string attribute, else NULL. */
static const char *text_of(const struct rtattr *a)
{
	size_t n = RTA_PAYLOAD(a);

	return n && memchr(RTA_DATA(a), 0, n) ? RTA_DATA(a) : NULL;
}

static uint32_t u32_of(const struct rtattr *a)
{
	uint32_t v = 0;

	memcpy(&v, RTA_DATA(a), MIN((size_t)RTA_PAYLOAD(a), sizeof v));
	return ntohl(v);
}

static int chain_answer(struct look *l, const struct rtattr *attrs, size_t n)
{
	struct nft_chain c = {0};

	nl_for_each_attr(a, attrs, n) {
		const struct rtattr *in = RTA_DATA(a);
		size_t n_in = RTA_PAYLOAD(a);

		if (NL_TYPE(a) == NFTA_CHAIN_TABLE)
			c.table = text_of(a);
		else if (NL_TYPE(a) == NFTA_CHAIN_NAME)
			c.name = text_of(a);
		else if (NL_TYPE(a) == NFTA_CHAIN_POLICY)
			c.policy = u32_of(a);
		else if (NL_TYPE(a) == NFTA_CHAIN_HOOK)
			nl_for_each_attr(h, in, n_in)
				if (NL_TYPE(h) == NFTA_HOOK_HOOKNUM) {
					c.base = true;
					c.hook = u32_of(h);
				}
	}
	if (c.table && c.name)
		l->chain(l->userdata, &c);
	return 0;
}

static int rule_answer(struct look *l, const struct rtattr *attrs, size_t n)
{
	bool ours = true, bytes = !l->n_bytes;

	nl_for_each_attr(a, attrs, n) {
		const char *t = text_of(a);

		/* not every kernel filters for us */
		if (NL_TYPE(a) == NFTA_RULE_TABLE)
			ours &= t && !strcmp(t, l->in_table);
		else if (NL_TYPE(a) == NFTA_RULE_CHAIN && l->in_chain)
			ours &= t && !strcmp(t, l->in_chain);
		else if (NL_TYPE(a) == NFTA_RULE_EXPRESSIONS)
			bytes = bytes || memmem(RTA_DATA(a), RTA_PAYLOAD(a), l->bytes, l->n_bytes);
	}
	l->found |= ours && bytes;
	return 0;
}

static int dump(struct nft *n, struct req *r, struct look *l)
{
	int rc = request(n, r, r->h.nlmsg_len);

	return rc < 0 ? rc : nl_sock_answers(n->fd, dump_answer, l);
}

int nft_chains(struct nft *n, uint8_t family, nft_chain_fn fn, void *userdata)
{
	struct look l = {.type = NFT_MSG_NEWCHAIN, .fn = chain_answer, .chain = fn, .userdata = userdata};
	struct req r;

	nft_req(&r, NFT_MSG_GETCHAIN, NLM_F_DUMP, family);
	return dump(n, &r, &l);
}

int nft_rules_mention(struct nft *n, uint8_t family, const char *table, const char *chain, const void *p,
		      size_t n_p)
{
	struct look l = {.type = NFT_MSG_NEWRULE, .fn = rule_answer, .bytes = p, .n_bytes = n_p,
			 .in_table = table, .in_chain = chain};
	struct req r;
	int rc;

	nft_req(&r, NFT_MSG_GETRULE, NLM_F_DUMP, family);
	attr_str(&r, NFTA_RULE_TABLE, table);
	if (chain)
		attr_str(&r, NFTA_RULE_CHAIN, chain);
	rc = dump(n, &r, &l);
	return rc < 0 ? rc : l.found;
}

/* --- watching --- */

int nft_watch_open(void)
{
	return nl_sock_open(NETLINK_NETFILTER, SOCK_NONBLOCK, 1u << (NFNLGRP_NFTABLES - 1));
}

static bool is_end_of(const struct nlmsghdr *h, const char *table)
{
	const struct nfgenmsg *g = NLMSG_DATA(h);
	const struct rtattr *attrs;
	size_t n;

	if (h->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE))
		return false;
	attrs = nl_attrs(h, sizeof *g, &n);
	if (!attrs || (g->nfgen_family != NFPROTO_IPV4 && g->nfgen_family != NFPROTO_IPV6 &&
		       g->nfgen_family != NFPROTO_BRIDGE))
		return false;
	nl_for_each_attr(a, attrs, n)
		if (NL_TYPE(a) == NFTA_TABLE_NAME && text_of(a) && !strcmp(text_of(a), table))
			return true;
	return false;
}

bool nft_watch_read(int fd, const char *table)
{
	char buf[32768] __attribute__((aligned(NLMSG_ALIGNTO)));
	bool gone = false;

	for (;;) {
		ssize_t got = RETRY(recv(fd, buf, sizeof buf, MSG_TRUNC));
		size_t left;

		if (got < 0 && errno == ENOBUFS)	/* more than we were told */
			gone = true;
		else if (got < 0)
			return gone;
		left = got < 0 ? 0 : MIN((size_t)got, sizeof buf);
		for (const struct nlmsghdr *h = (struct nlmsghdr *)buf; NLMSG_OK(h, left);
		     h = NLMSG_NEXT(h, left))
			gone |= is_end_of(h, table);
	}
}
