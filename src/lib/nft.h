/* A small nf_tables client, beside nft(8): what must not cost a fork. Elements of sets and maps that exist
 * already are added and removed in one transaction, and the base chains of all tables are listed.
 * Synchronous, as netlink.h. */
#pragma once

#include "base/macro.h"
#include "base/sbuf.h"
#include <netinet/in.h>
#include <stdbool.h>

struct nft;			/* a socket, bound to the namespace it was opened in */
int nft_open(struct nft **ret);
/* May take a while, if something was removed just now: not for one that must not block, before its end. */
void nft_close(struct nft *n);
DEFINE_CLEANUP(struct nft *, nft_close)
#define _cleanup_nft_ _cleanup_(nft_closep)

/* Where elements are: a set, or a map. */
struct nft_set { uint8_t family /* NFPROTO_IPV4, NFPROTO_BRIDGE... */; const char *table, *name; };

/* An element: key and (of a map) value as the kernel holds them, each part of a concatenation padded to four
 * bytes. */
struct nft_elem {
	uint8_t key[40], value[20];
	uint8_t n_key, n_value;
};
struct nft_elems { struct nft_elem *v; size_t n; };

/* Appends a part of a key or value. Running over the room there is is a bug. */
void nft_key_add(struct nft_elem *e, const void *p, size_t n);
void nft_value_add(struct nft_elem *e, const void *p, size_t n);
/* The name of an interface, as a part of a key. */
void nft_key_add_ifname(struct nft_elem *e, const char *ifname);
void nft_elems_add(struct nft_elems *x, const struct nft_elem *e);
void nft_elems_done(struct nft_elems *x);

/* A transaction: all of it happens, or nothing. */
struct nft_batch { struct sbuf msgs; uint32_t seq; size_t last; };
#define NFT_BATCH_INIT {{0}, 0, 0}
#define _cleanup_nft_batch_ _cleanup_(nft_batch_done)
void nft_batch_done(struct nft_batch *b);
typedef void (*nft_change_fn)(struct nft_batch *b, const struct nft_set *s, const struct nft_elems *x);
/* Removes every element. */
void nft_set_flush(struct nft_batch *b, const struct nft_set *s);
/* Adds elements; if one with the same key is there the batch fails with -EEXIST. As many messages as
 * needed. */
void nft_set_add(struct nft_batch *b, const struct nft_set *s, const struct nft_elems *x);
/* Removes elements; -ENOENT if one is not there, or the table is not. */
void nft_set_del(struct nft_batch *b, const struct nft_set *s, const struct nft_elems *x);
int nft_batch_commit(struct nft *n, struct nft_batch *b);
/* The whole transaction as it would be sent, for tests. */
void nft_batch_bytes(const struct nft_batch *b, struct sbuf *out);

/* A chain of any table of this family. Borrowed strings. */
struct nft_chain {
	const char *table, *name;
	bool base;			/* it hangs on a hook, and the next two hold */
	uint32_t hook, policy;		/* NF_INET_FORWARD..., NF_DROP, NF_ACCEPT */
};
typedef void (*nft_chain_fn)(void *userdata, const struct nft_chain *c);
/* family: NFPROTO_IPV4, NFPROTO_INET... */
int nft_chains(struct nft *n, uint8_t family, nft_chain_fn fn, void *userdata);
/* A socket that is readable when somebody has changed a table; -errno. */
int nft_watch_open(void);
/* Takes what it has to tell: whether a table of this name (family ip, ip6 or bridge) is gone, or may be. */
bool nft_watch_read(int fd, const char *table);
/* Whether a rule of the table (chain NULL = of any of its chains) has these bytes in it: 1, 0 or -errno.
 * n_p = 0: whether there is any rule. */
int nft_rules_mention(struct nft *n, uint8_t family, const char *table, const char *chain, const void *p,
		      size_t n_p);
