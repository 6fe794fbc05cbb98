/* Elements of maps and the list of chains, in a network namespace of the test's own, with nft(8) as the
 * judge. Needs root and nft, as insula does. */
#include "tests/unit/test.h"

#include "base/fd.h"
#include "lib/nft.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netlink.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define TABLE "add table ip t\n" \
	"add map ip t m { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service ; }\n"

static void nft(const char *script)
{
	FILE *f = popen("nft -f -", "w");

	assert_non_null(f);
	fputs(script, f);
	assert_int_equal(pclose(f), 0);
}

static struct nft *kernel;
static const struct nft_set map = {NFPROTO_IPV4, "t", "m"};

static int fresh(void **state)
{
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	nft(TABLE);
	return nft_open(&kernel);
}

static int done(void **state)
{
	nft_close(kernel);
	return 0;
}

static void the_end_of_a_table_is_seen(void **state)
{
	_cleanup_close_ int fd = nft_watch_open();

	assert_true(fd >= 0);
	nft("add table ip other\nadd table inet t\ndelete table ip other\ndelete table inet t\n");
	assert_false(nft_watch_read(fd, "t"));
	nft("flush ruleset\n");
	assert_true(nft_watch_read(fd, "t"));
	assert_false(nft_watch_read(fd, "t"));
}

static char *listing(void)
{
	static char buf[1 << 20];
	FILE *f = popen("nft list map ip t m", "r");
	size_t n = fread(buf, 1, sizeof buf - 1, f);

	buf[n] = 0;
	pclose(f);
	return buf;
}

static struct nft_elem elem(uint8_t proto, const char *host, uint16_t port)
{
	struct nft_elem e = {0};
	in_addr_t h = inet_addr(host), t = inet_addr("172.30.0.2");
	uint16_t p = htons(port), tp = htons(80);

	nft_key_add(&e, &proto, sizeof proto);
	nft_key_add(&e, &h, sizeof h);
	nft_key_add(&e, &p, sizeof p);
	nft_value_add(&e, &t, sizeof t);
	nft_value_add(&e, &tp, sizeof tp);
	return e;
}

static int add(struct nft_elem *e, size_t n)
{
	_cleanup_nft_batch_ struct nft_batch b = NFT_BATCH_INIT;

	nft_set_add(&b, &map, &(struct nft_elems){e, n});
	return nft_batch_commit(kernel, &b);
}

static void parts_are_padded(void **state)
{
	struct nft_elem e = elem(6, "1.2.3.4", 0x1234);

	assert_int_equal(e.n_key, 12);
	assert_memory_equal(e.key, "\6\0\0\0\1\2\3\4\x12\x34\0\0", 12);
	assert_int_equal(e.n_value, 8);
	assert_memory_equal(e.value, "\254\36\0\2\0\120\0\0", 8);
}

static void the_last_message_alone_asks_for_an_answer(void **state)
{
	_cleanup_nft_batch_ struct nft_batch b = NFT_BATCH_INIT;
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT;
	struct nft_elem e = elem(6, "1.2.3.4", 80);
	unsigned n = 0, acks = 0;
	size_t left;

	nft_set_flush(&b, &map);
	nft_set_add(&b, &map, &(struct nft_elems){&e, 1});
	nft_batch_bytes(&b, &out);
	left = out.len;
	for (struct nlmsghdr *h = (struct nlmsghdr *)out.buf; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left), n++)
		if (h->nlmsg_flags & NLM_F_ACK)
			acks += n;
	assert_int_equal(left, 0);
	assert_int_equal(n, 4);		/* begin, flush, add, end */
	assert_int_equal(acks, 2);
}

static void nft_reads_what_was_added(void **state)
{
	struct nft_elem e[] = {elem(6, "10.0.0.1", 8080), elem(17, "0.0.0.0", 53),
			       elem(132, "127.0.0.1", 99)};
	_cleanup_nft_batch_ struct nft_batch b = NFT_BATCH_INIT, c = NFT_BATCH_INIT;

	assert_int_equal(add(e, 3), 0);
	assert_non_null(strstr(listing(), "tcp . 10.0.0.1 . 8080 : 172.30.0.2 . 80"));
	assert_non_null(strstr(listing(), "udp . 0.0.0.0 . 53 : 172.30.0.2 . 80"));
	assert_non_null(strstr(listing(), "sctp . 127.0.0.1 . 99 : 172.30.0.2 . 80"));
	assert_int_equal(add(e, 1), -EEXIST);
	nft_set_del(&b, &map, &(struct nft_elems){e, 2});
	assert_int_equal(nft_batch_commit(kernel, &b), 0);
	assert_null(strstr(listing(), "tcp . 10"));
	assert_non_null(strstr(listing(), "sctp"));
	nft_set_del(&c, &map, &(struct nft_elems){e, 1});
	assert_int_equal(nft_batch_commit(kernel, &c), -ENOENT);
}

/* One fault, and nothing of the transaction happens. */
static void a_transaction_is_whole(void **state)
{
	struct nft_elem e[] = {elem(6, "10.0.0.1", 1), elem(6, "10.0.0.1", 2)};
	_cleanup_nft_batch_ struct nft_batch b = NFT_BATCH_INIT, missing = NFT_BATCH_INIT;

	assert_int_equal(add(e, 1), 0);
	nft_set_add(&b, &map, &(struct nft_elems){e + 1, 1});
	nft_set_add(&b, &map, &(struct nft_elems){e, 1});
	assert_int_equal(nft_batch_commit(kernel, &b), -EEXIST);
	assert_null(strstr(listing(), "10.0.0.1 . 2 :"));
	nft_set_flush(&missing, &(struct nft_set){NFPROTO_IPV4, "nobody", "m"});
	assert_int_equal(nft_batch_commit(kernel, &missing), -ENOENT);
}

static void many_elements_are_one_transaction(void **state)
{
	static struct nft_elem e[20000];
	_cleanup_nft_batch_ struct nft_batch b = NFT_BATCH_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(e); i++)
		e[i] = elem(6, "10.0.0.1", (uint16_t)(i + 1));
	nft_set_flush(&b, &map);
	nft_set_add(&b, &map, &(struct nft_elems){e, ARRAY_SIZE(e)});
	assert_int_equal(nft_batch_commit(kernel, &b), 0);
	assert_non_null(strstr(listing(), "10.0.0.1 . 20000 :"));
	assert_non_null(strstr(listing(), "10.0.0.1 . 1 :"));
}

static void flush_and_add_replace_all(void **state)
{
	struct nft_elem e[] = {elem(6, "10.0.0.1", 1), elem(6, "10.0.0.1", 2)};
	_cleanup_nft_batch_ struct nft_batch b = NFT_BATCH_INIT;

	assert_int_equal(add(e, 1), 0);
	nft_set_flush(&b, &map);
	nft_set_add(&b, &map, &(struct nft_elems){e, 2});
	assert_int_equal(nft_batch_commit(kernel, &b), 0);
	assert_non_null(strstr(listing(), "10.0.0.1 . 1 :"));
	assert_non_null(strstr(listing(), "10.0.0.1 . 2 :"));
}

static void note_chain(void *ud, const struct nft_chain *c)
{
	char *out = ud;

	sprintf(out + strlen(out), "%s/%s/%d/%u/%u ", c->table, c->name, c->base, c->hook, c->policy);
}

static void chains_of_others_are_seen(void **state)
{
	char text[4096] = "";

	nft("add table inet fw\nadd chain inet fw f { type filter hook forward priority 0 ; policy drop ; }\n"
	    "add chain inet fw plain\nadd rule inet fw plain oifname \"insula0\" accept\n");
	assert_int_equal(nft_chains(kernel, NFPROTO_INET, note_chain, text), 0);
	assert_non_null(strstr(text, "fw/f/1/2/0 "));
	assert_non_null(strstr(text, "fw/plain/0/0/0 "));
	assert_int_equal(nft_rules_mention(kernel, NFPROTO_INET, "fw", NULL, "insula0", 7), 1);
	assert_int_equal(nft_rules_mention(kernel, NFPROTO_INET, "fw", "f", "insula0", 7), 0);
	assert_int_equal(nft_rules_mention(kernel, NFPROTO_INET, "fw", NULL, "docker0", 7), 0);
	assert_int_equal(nft_rules_mention(kernel, NFPROTO_INET, "fw", "plain", NULL, 0), 1);
	assert_int_equal(nft_rules_mention(kernel, NFPROTO_INET, "fw", "f", NULL, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts_are_padded),
		cmocka_unit_test(the_last_message_alone_asks_for_an_answer),
		cmocka_unit_test_setup_teardown(nft_reads_what_was_added, fresh, done),
		cmocka_unit_test_setup_teardown(a_transaction_is_whole, fresh, done),
		cmocka_unit_test_setup_teardown(many_elements_are_one_transaction, fresh, done),
		cmocka_unit_test_setup_teardown(flush_and_add_replace_all, fresh, done),
		cmocka_unit_test_setup_teardown(the_end_of_a_table_is_seen, fresh, done),
		cmocka_unit_test_setup_teardown(chains_of_others_are_seen, fresh, done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
