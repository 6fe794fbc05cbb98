/* Names of containers: who asks decides what is answered.
 *
 * The daemon writes a file that this process reads again whenever it has changed: lines of words.
 *
 *   net NAME SUBNET open|internal	a network; what follows up to the next one is on it
 *   at ADDRESS[,IPV6-ADDRESS] CONTAINER NAME...
 *					a container's place there, and what it is called there
 *   via CONTAINER SERVER...		the servers that this container wants to be asked
 *
 * An asker is known by its source address: that makes it a container, and the container has places on some
 * networks. A name is looked for on these alone. What none of them knows is forwarded; not for an asker that
 * is on internal networks only, and not at all for an address of no network. */
#include "resolver/resolver.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define NAMES_MAX (16u << 20)
#define TYPE_A 1
#define TYPE_PTR 12
#define TYPE_AAAA 28
#define TYPE_ANY 255
#define ANSWERS_MAX 24

struct place { char *ctr, **names; uint32_t ip; bool has_ip6; struct in6_addr ip6; };
struct net {
	char *name;
	uint32_t net, mask;
	bool internal;
	struct place *v;
	size_t n;
};
struct via { char *ctr; struct addr servers[SERVERS_MAX]; size_t n; };

struct names {
	int dirfd;
	struct net *nets;
	size_t n_nets;
	struct via *vias;
	size_t n_vias;
	unsigned turn;		/* of several addresses each is the first in turn */
	struct stat st;		/* of the file as it was read */
};

/* --- the file --- */

static void clear(struct names *m)
{
	for (size_t i = 0; i < m->n_nets; i++) {
		for (size_t k = 0; k < m->nets[i].n; k++) {
			free(m->nets[i].v[k].ctr);
			strv_free(m->nets[i].v[k].names);
		}
		free(m->nets[i].v);
		free(m->nets[i].name);
	}
	for (size_t i = 0; i < m->n_vias; i++)
		free(m->vias[i].ctr);
	freep(&m->nets);
	freep(&m->vias);
	m->n_nets = m->n_vias = 0;
}

static bool parse_ip(const char *s, uint32_t *ret)
{
	struct in_addr a;

	if (inet_pton(AF_INET, s, &a) != 1)
		return false;
	*ret = ntohl(a.s_addr);
	return true;
}

static void add_net(struct names *m, char *const *w)
{
	struct net n = { 0 };
	char *slash = strchr(w[2], '/');
	uint64_t prefix = 0;

	if (!slash || str_to_u64(slash + 1, &prefix) < 0 || prefix < 1 || prefix > 32)
		return;
	*slash = 0;
	if (!parse_ip(w[2], &n.net))
		return;
	n.mask = ~0u << (32 - prefix);
	n.name = xstrdup(w[1]);
	n.internal = streq(w[3], "internal");
	m->nets = xrealloc(m->nets, m->n_nets + 1, sizeof *m->nets);
	m->nets[m->n_nets++] = n;
}

static void add_place(struct names *m, char *const *w)
{
	struct net *n = m->n_nets ? &m->nets[m->n_nets - 1] : NULL;
	char *comma = strchr(w[1], ',');
	struct place p = { 0 };

	if (comma) {
		*comma = 0;
		p.has_ip6 = inet_pton(AF_INET6, comma + 1, &p.ip6) == 1;
	}
	if (!n || !parse_ip(w[1], &p.ip))
		return;
	p.ctr = xstrdup(w[2]);
	p.names = strv_copy(w + 3);
	n->v = xrealloc(n->v, n->n + 1, sizeof *n->v);
	n->v[n->n++] = p;
}

static void add_via(struct names *m, char *const *w)
{
	struct via v = { .ctr = xstrdup(w[1]) };

	for (w += 2; *w && v.n < SERVERS_MAX; w++)
		if (addr_server(*w, &v.servers[v.n]) == 0)
			v.n++;
	m->vias = xrealloc(m->vias, m->n_vias + 1, sizeof *m->vias);
	m->vias[m->n_vias++] = v;
}

void names_parse(struct names *m, char *text)
{
	static const struct {
		const char *word;
		size_t min;
		void (*add)(struct names *m, char *const *words);
	} kinds[] = {
		{ "net", 4, add_net }, { "at", 3, add_place }, { "via", 3, add_via },
	};
	char *save = NULL;

	clear(m);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		_cleanup_strv_ char **words = strv_split(line, " ");

		for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
			if (strv_len(words) >= kinds[i].min && streq(words[0], kinds[i].word))
				kinds[i].add(m, words);
	}
}

void names_refresh(struct names *m)
{
	_cleanup_free_ char *text = NULL;
	struct stat st;

	/* Between two versions of the file the old one stands. */
	if (fstatat(m->dirfd, "names", &st, 0) < 0 ||
	    (st.st_ino == m->st.st_ino && st.st_size == m->st.st_size &&
	     st.st_mtim.tv_sec == m->st.st_mtim.tv_sec && st.st_mtim.tv_nsec == m->st.st_mtim.tv_nsec) ||
	    fs_read(m->dirfd, "names", NAMES_MAX, &text, NULL) < 0)
		return;
	m->st = st;
	names_parse(m, text);
	log_debug("names: %zu networks", m->n_nets);
}

struct names *names_new(int dirfd)
{
	struct names *m = new0(struct names);

	m->dirfd = dirfd;
	return m;
}

void names_free(struct names *m)
{
	if (!m)
		return;
	clear(m);
	free(m);
}

/* --- the asker --- */

static bool client_ip(const struct addr *client, uint32_t *ret)
{
	if (client->ss.ss_family != AF_INET)
		return false;
	*ret = ntohl(((const struct sockaddr_in *)&client->ss)->sin_addr.s_addr);
	return true;
}

static const struct place *place_of_ip(const struct net *n, uint32_t ip)
{
	for (size_t i = 0; i < n->n; i++)
		if (n->v[i].ip == ip)
			return &n->v[i];
	return NULL;
}

static const struct place *place_of_ctr(const struct net *n, const char *ctr)
{
	for (size_t i = 0; i < n->n; i++)
		if (streq(n->v[i].ctr, ctr))
			return &n->v[i];
	return NULL;
}

static const struct place *asker(const struct names *m, uint32_t ip)
{
	const struct place *p = NULL;

	for (size_t i = 0; i < m->n_nets && !p; i++)
		p = place_of_ip(&m->nets[i], ip);
	return p;
}

bool names_serves(const struct names *m, const struct addr *client)
{
	uint32_t ip;

	if (!client_ip(client, &ip))
		return false;
	for (size_t i = 0; i < m->n_nets; i++)
		if ((ip & m->nets[i].mask) == m->nets[i].net)
			return true;
	return false;
}

static bool leads_out(const struct names *m, const struct place *who)
{
	for (size_t i = 0; i < m->n_nets; i++)
		if (!m->nets[i].internal && place_of_ctr(&m->nets[i], who->ctr))
			return true;
	return false;
}

size_t names_servers(const struct names *m, const struct addr *client, struct addr *ret)
{
	const struct place *who;
	uint32_t ip;

	who = client_ip(client, &ip) ? asker(m, ip) : NULL;
	for (size_t i = 0; who && i < m->n_vias; i++)
		if (streq(m->vias[i].ctr, who->ctr)) {
			memcpy(ret, m->vias[i].servers, sizeof m->vias[i].servers);
			return m->vias[i].n;
		}
	return 0;
}

/* --- looking up --- */

/* "web", and "web.frontend" on the network frontend. */
static bool is_called(const struct net *n, const struct place *p, const char *name)
{
	for (char **v = p->names; v && *v; v++) {
		size_t len = strlen(*v);

		if (strncasecmp(*v, name, len))
			continue;
		if (!name[len] || (name[len] == '.' && !strcasecmp(name + len + 1, n->name)))
			return true;
	}
	return false;
}

/* All that have the name on the first of the asker's networks where somebody has it. */
static size_t look_up(const struct names *m, const struct place *who, const char *name,
		      const struct place **ret)
{
	size_t found = 0;

	for (size_t i = 0; i < m->n_nets && !found; i++) {
		const struct net *n = &m->nets[i];

		if (!place_of_ctr(n, who->ctr))
			continue;
		for (size_t k = 0; k < n->n && found < ANSWERS_MAX; k++)
			if (is_called(n, &n->v[k], name))
				ret[found++] = &n->v[k];
	}
	return found;
}

/* "4.3.2.1.in-addr.arpa" */
static bool parse_reverse(const char *name, uint32_t *ret)
{
	unsigned b[4];
	int end = 0;

	if (sscanf(name, "%3u.%3u.%3u.%3u.%n", &b[0], &b[1], &b[2], &b[3], &end) != 4 || !end ||
	    strcasecmp(name + end, "in-addr.arpa") || b[0] > 255 || b[1] > 255 || b[2] > 255 || b[3] > 255)
		return false;
	*ret = b[3] << 24 | b[2] << 16 | b[1] << 8 | b[0];
	return true;
}

/* "2.0.0.0. ... .d.f.ip6.arpa": 32 digits, the last of the address first. */
static bool parse_reverse6(const char *name, struct in6_addr *ret)
{
	static const char digits[] = "0123456789abcdef";

	*ret = (struct in6_addr){ 0 };
	for (unsigned i = 0; i < 32; i++, name += 2) {
		const char *d = *name ? strchr(digits, tolower((unsigned char)*name)) : NULL;

		if (!d || name[1] != '.')
			return false;
		ret->s6_addr[15 - i / 2] |= (uint8_t)((d - digits) << (i % 2 * 4));
	}
	return !strcasecmp(name, "ip6.arpa");
}

static const struct place *place_of_ip6(const struct net *n, const struct in6_addr *ip)
{
	for (size_t i = 0; i < n->n; i++)
		if (n->v[i].has_ip6 && !memcmp(&n->v[i].ip6, ip, sizeof *ip))
			return &n->v[i];
	return NULL;
}

/* The name of an address -> "name.network", heap; NULL if it is nobody that the asker knows. */
static char *look_up_address(const struct names *m, const struct place *who, const char *name)
{
	struct in6_addr ip6;
	uint32_t ip;
	bool v6 = parse_reverse6(name, &ip6);

	if (!v6 && !parse_reverse(name, &ip))
		return NULL;
	for (size_t i = 0; i < m->n_nets; i++) {
		const struct net *n = &m->nets[i];
		const struct place *p = !place_of_ctr(n, who->ctr) ? NULL
					: v6			   ? place_of_ip6(n, &ip6)
								   : place_of_ip(n, ip);

		if (p && p->names)
			return xasprintf("%s.%s", p->names[0], n->name);
	}
	return NULL;
}

static void add_addresses(struct dns_out *o, const struct place *p, unsigned type)
{
	struct in_addr ip = { htonl(p->ip) };

	if (type == TYPE_A || type == TYPE_ANY)
		dns_add_address(o, TYPE_A, &ip, sizeof ip);
	if (p->has_ip6 && (type == TYPE_AAAA || type == TYPE_ANY))
		dns_add_address(o, TYPE_AAAA, &p->ip6, sizeof p->ip6);
}

enum names_verdict names_answer(struct names *m, const struct addr *client, const uint8_t *q,
				size_t question_end, uint8_t *out, size_t *ret_n)
{
	char name[DNS_NAME_MAX];
	unsigned type = dns_question(q, question_end, name);
	_cleanup_free_ char *host = NULL;
	const struct place *found[ANSWERS_MAX], *who;
	uint32_t ip;
	struct dns_out o;
	size_t n;

	names_refresh(m);
	if (!names_serves(m, client))
		return NAMES_DROP;
	who = client_ip(client, &ip) ? asker(m, ip) : NULL;
	if (!who)
		return NAMES_FORWARD;
	n = look_up(m, who, name, found);
	host = n || type != TYPE_PTR ? NULL : look_up_address(m, who, name);
	if (!n && !host && leads_out(m, who))
		return NAMES_FORWARD;
	dns_begin(&o, out, q, question_end, n || host ? 0 : DNS_NXDOMAIN);
	/* A name that is known, and has no address of the kind that was asked for, is no error. */
	for (size_t i = 0; i < n; i++)
		add_addresses(&o, found[(i + m->turn) % n], type);
	if (host)
		dns_add_pointer(&o, host);
	m->turn++;
	*ret_n = o.n;
	return NAMES_ANSWER;
}
