/* needs: src/resolver/packet.c src/resolver/names.c src/resolver/conf.c src/base/alloc.c src/base/sbuf.c
 * src/base/strv.c src/base/err.c src/base/fd.c src/base/fs.c src/base/hash.c src/base/log.c
 * src/base/timefmt.c src/base/path.c src/base/id.c src/base/proc.c src/base/loop.c -lm */
/* A datagram from a container: the first byte chooses who asks. Whatever it is, it is answered with its own
 * id and question, in the room there is, or forwarded, or nobody's. What is no question may be what a
 * server answers. */
#include "resolver/resolver.h"
#include "base/macro.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static const char file[] = "net front 10.0.1.0/24 open\n"
			   "at 10.0.1.2,fd00::2 one web one.front a-name-that-is-longer-than-one-"
			   "label-may-be-which-is-sixty-three-characters\n"
			   "at 10.0.1.3 two web two\nnet back 10.0.2.0/24 internal\nat 10.0.2.2 one db\n"
			   "at 10.0.2.3 three db\nvia two 9.9.9.9 [fd00::1]:53\n";
static const char *const clients[] = {"10.0.1.2:5", "10.0.1.3:5", "10.0.2.3:5", "10.0.2.9:5", "192.0.2.1:5",
				      "[fd00::2]:5"};

static struct names *names_of_containers(void)
{
	static struct names *m;
	char text[sizeof file];

	if (!m) {
		m = names_new(-1);
		memcpy(text, file, sizeof file);
		names_parse(m, text);
	}
	return m;
}

static void check_answer(const uint8_t *q, size_t end, const uint8_t *out, size_t n)
{
	if (n < end || n > DNS_OUT_MAX || !dns_answers(out, n, q, end))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct addr client, servers[SERVERS_MAX];
	struct names *m = names_of_containers();
	uint8_t out[DNS_OUT_MAX], *q;
	char name[DNS_NAME_MAX];
	size_t end, len = 0;

	if (n < 2 || addr_parse(clients[p[0] % ARRAY_SIZE(clients)], &client) < 0)
		return 0;
	n--;
	q = malloc(n);			/* of its very size: what reads beyond it is found */
	memcpy(q, p + 1, n);
	end = dns_question_end(q, n);
	if (end > n)
		abort();
	if (dns_is_query(q, n)) {
		(void)dns_question(q, end, name);
		if (strlen(name) >= DNS_NAME_MAX)
			abort();
		if (names_answer(m, &client, q, end, out, &len) == NAMES_ANSWER)
			check_answer(q, end, out, len);
		if (names_servers(m, &client, servers) > SERVERS_MAX)
			abort();
		if (dns_make_servfail(q, end) != end || !dns_answers(q, end, q, end))
			abort();
	} else if (n >= DNS_HDR) {
		/* A server's: to a question that has the same beginning. */
		static const uint8_t asked[] = {0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0, 0, 1, 0, 1};

		if (dns_answers(q, n, asked, sizeof asked) && memcmp(q, asked, 2))
			abort();
	}
	free(q);
	return 0;
}
