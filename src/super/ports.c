#include "super/ports.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/strv.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define CELLS 4			/* of a request, and of an answer */
#define ANY_TRIES 64		/* for a free port that is free in both families */
#define BACKLOG 512

static const struct proto { const char *name; int type, number; } protos[] = {
	{"tcp", SOCK_STREAM, IPPROTO_TCP}, {"udp", SOCK_DGRAM, IPPROTO_UDP},
	{"sctp", SOCK_STREAM, IPPROTO_SCTP},
};

/* A bound socket. fd is -EBADF for SCTP on a kernel that has none: nobody else can take the port then. */
struct held {
	int fd;
	const struct proto *proto;
	char host[INET6_ADDRSTRLEN];
	uint16_t port;
	struct sockaddr_in target;
	struct port_relay *relay;
};

struct ports {
	struct held **held;
	size_t n;
};

/* What is asked for: ports first..last of the host, or (0) any, at one address or ("") at all. */
struct want {
	const struct proto *proto;
	const char *host;
	uint16_t first, last, target;
};

static void held_free(struct held *h)
{
	if (!h)
		return;
	port_relay_free(h->relay);
	fd_close(&h->fd);
	free(h);
}
DEFINE_CLEANUP(struct held *, held_free)

void ports_free(struct ports *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->n; i++)
		held_free(p->held[i]);
	free(p->held);
	free(p);
}
DEFINE_CLEANUP(struct ports *, ports_free)

/* --- reading the request --- */

static int port_read(const char *s, uint16_t *ret)
{
	uint64_t v;

	if (str_to_u64(s, &v) < 0 || v > 65535)
		return -EPROTO;
	*ret = (uint16_t)v;
	return 0;
}

static int want_read(char *const *cells, struct want *ret)
{
	_cleanup_free_ char *first = xstrndup(cells[2], strcspn(cells[2], "-"));
	const char *dash = strchr(cells[2], '-');
	struct want w = {.host = cells[1]};
	struct in6_addr a;

	for (size_t i = 0; i < ARRAY_SIZE(protos); i++)
		if (streq(cells[0], protos[i].name))
			w.proto = &protos[i];
	if (!w.proto)
		return -EPROTO;
	if (*w.host && inet_pton(AF_INET, w.host, &a) != 1 && inet_pton(AF_INET6, w.host, &a) != 1)
		return -EPROTO;
	if ((*first && port_read(first, &w.first) < 0) || port_read(cells[3], &w.target) < 0)
		return -EPROTO;
	w.last = w.first;
	if (dash && port_read(dash + 1, &w.last) < 0)
		return -EPROTO;
	*ret = w;
	return w.last < w.first || !w.target ? -EPROTO : 0;
}

/* --- binding --- */

static socklen_t address_fill(struct sockaddr_storage *ss, const char *host, uint16_t port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ss;

	*ss = (struct sockaddr_storage){0};
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof *v4;
	}
	(void)inet_pton(AF_INET6, host, &v6->sin6_addr);
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	return sizeof *v6;
}

static int options_set(int fd, int family, const struct proto *p)
{
	int one = 1;

	/* A connection that is being forgotten does not hold the port; a listener does. */
	if (p->type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0)
		return -errno;
	if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) < 0)
		return -errno;
	if (p->type != SOCK_DGRAM)
		return 0;
	/* Answers must come from the address that was asked. */
	if (family == AF_INET6)
		return setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof one) < 0 ? -errno : 0;
	return setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof one) < 0 ? -errno : 0;
}

static int socket_bind(int fd, const struct proto *p, const char *host, uint16_t *port)
{
	struct sockaddr_storage ss;
	socklen_t n = address_fill(&ss, host, *port);
	int r = options_set(fd, ss.ss_family, p);

	if (r < 0)
		return r;
	if (bind(fd, (struct sockaddr *)&ss, n) < 0 || (p->type == SOCK_STREAM && listen(fd, BACKLOG) < 0) ||
	    getsockname(fd, (struct sockaddr *)&ss, &n) < 0)
		return -errno;
	*port = ntohs(ss.ss_family == AF_INET ? ((struct sockaddr_in *)&ss)->sin_port
					      : ((struct sockaddr_in6 *)&ss)->sin6_port);
	return 0;
}

/* A free port of a protocol that the kernel lacks: one that nobody uses for TCP either. */
static int any_port(uint16_t *ret)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint16_t port = 0;
	int r = fd < 0 ? -errno : socket_bind(fd, &protos[0], "0.0.0.0", &port);

	if (r == 0)
		*ret = port;
	return r;
}

/* port 0: any; then told. */
static int hold(const struct want *w, const char *host, uint16_t *port, struct held **ret)
{
	int family = strchr(host, ':') ? AF_INET6 : AF_INET, r;
	_cleanup_(held_freep) struct held *h = new0(struct held);
	const struct proto *p = w->proto;

	h->proto = p;
	snprintf(h->host, sizeof h->host, "%s", host);
	h->fd = socket(family, p->type | SOCK_CLOEXEC | SOCK_NONBLOCK, p->number);
	if (h->fd < 0 && errno == EPROTONOSUPPORT && p->number == IPPROTO_SCTP) {
		r = *port ? 0 : any_port(port);
	} else {
		r = h->fd < 0 ? -errno : socket_bind(h->fd, p, host, port);
	}
	if (r < 0)
		return r;
	h->port = *port;
	*ret = TAKE_PTR(h);
	return 0;
}

/* Docker's words are Go's. */
static int bind_error(const struct want *w, const char *host, uint16_t port, int r, struct err *e)
{
	bool v6 = strchr(host, ':') != NULL;
	const char *name = w->proto->name;
	bool foreign = r == -EADDRNOTAVAIL;
	_cleanup_free_ char *why = xstrdup(foreign ? "cannot assign requested address" : strerror(-r));

	*why = (char)tolower((unsigned char)*why);
	return err_msg(e, ERR_SYSTEM, r, v6 ? "listen %s6 [%s]:%u: bind: %s" : "listen %s4 %s:%u: bind: %s",
		       name, host, port, why);
}

/* A host without IPv6 publishes at IPv4 alone, unless an IPv6 address was named. */
static bool no_ipv6(int r)
{
	return r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL;
}

/* One port, at one address or at all. */
static int hold_port(const struct want *w, uint16_t port, struct held *ret[2], struct err *e)
{
	const char *host = *w->host ? w->host : "0.0.0.0";
	_cleanup_(held_freep) struct held *first = NULL;
	uint16_t wanted = port;
	int r = hold(w, host, &port, &first);

	ret[1] = NULL;
	if (r == 0 && !*w->host && w->proto->number != IPPROTO_SCTP) {
		host = "::";
		r = hold(w, host, &port, &ret[1]);
		if (no_ipv6(r))
			r = 0;
	}
	if (r < 0)
		return bind_error(w, host, wanted, r, e);
	ret[0] = TAKE_PTR(first);
	return 0;
}

static int hold_one_of(const struct want *w, struct held *ret[2], struct err *e)
{
	unsigned last = w->first ? w->last : ANY_TRIES;
	int r = 0;

	for (unsigned p = w->first; p <= last; p++) {
		err_clear(e);
		r = hold_port(w, w->first ? (uint16_t)p : 0, ret, e);
		if (r != -EADDRINUSE)
			return r;
	}
	if (w->first == w->last && w->first)
		return r;
	err_clear(e);
	return err_msg(e, ERR_SYSTEM, -EADDRINUSE, "all ports are allocated");
}

/* --- all of them --- */

static int serve(struct loop *l, struct held *h)
{
	if (h->fd < 0 || h->proto->number == IPPROTO_SCTP)
		return 0;
	return port_relay_new(l, h->fd, h->proto->type == SOCK_STREAM, &h->target, &h->relay);
}

static int add_want(struct loop *l, struct ports *p, const struct want *w, struct err *e)
{
	struct held *both[2] = {NULL};
	int r = hold_one_of(w, both, e);

	for (size_t i = 0; i < 2 && r == 0 && both[i]; i++) {
		p->held = xrealloc(p->held, p->n + 1, sizeof *p->held);
		p->held[p->n++] = both[i];
		both[i]->target = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(w->target)};
	}
	for (size_t i = 0; i < 2 && r == 0 && both[i]; i++) {
		r = serve(l, both[i]);
		if (r < 0)
			err_set(e, ERR_SYSTEM, r, "serve port %u", both[i]->port);
	}
	return r;
}

static void told(const struct ports *p, char ***ret_cells)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct held *h = p->held[i];

		strv_addf(ret_cells, "%s", h->proto->name);
		strv_addf(ret_cells, "%s", h->host);
		strv_addf(ret_cells, "%u", h->port);
		strv_addf(ret_cells, "%u", ntohs(h->target.sin_port));
	}
}

int ports_publish(struct loop *l, struct ports **p, const struct msg_publish *m, char ***ret_cells,
		  struct err *e)
{
	_cleanup_(ports_freep) struct ports *fresh = NULL;
	size_t n = strv_len(m->ports);
	struct in_addr target;
	int r = 0;

	if (!*m->address) {
		ports_free(TAKE_PTR(*p));
		return 0;
	}
	if (n % CELLS || inet_pton(AF_INET, m->address, &target) != 1)
		return err_set(e, ERR_INVALID, -EPROTO, "publish ports of '%s'", m->sandbox);
	if (!*p)
		fresh = new0(struct ports);
	for (size_t i = 0; fresh && i < n && r == 0; i += CELLS) {
		struct want w;

		r = want_read(m->ports + i, &w);
		r = r < 0 ? err_set(e, ERR_INVALID, r, "publish port '%s'", m->ports[i + 2])
			  : add_want(l, fresh, &w, e);
	}
	if (r < 0)
		return r;
	if (fresh)
		*p = TAKE_PTR(fresh);
	for (size_t i = 0; i < (*p)->n; i++)
		(*p)->held[i]->target.sin_addr = target;
	told(*p, ret_cells);
	return 0;
}
