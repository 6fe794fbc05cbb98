/* Theory of operation.
 *
 * Our nft table (of each family, network_rules.c) has two maps, of ports at one address of the host and of
 * ports at all; a chain sends what comes for the host's own addresses through both and rewrites the
 * destination by what it finds. So a
 * published port is one element, added and removed by one netlink message, whatever else is published.
 *
 *   prerouting  packets from outside, and from containers (hairpin). Not for 127/8: that is never routed
 *               here, and must not become so by being rewritten.
 *   output      packets of the host's own programs, 127/8 among them.
 *   postrouting what would be answered past us (from 127/8; from the same bridge) comes from the bridge's
 *               address.
 *
 * 127.0.0.1 works because the bridge takes such addresses (route_localnet). So that a container does not get
 * at the host's own services by this, its packets to 127/8 end before the bridge (network_guard.c).
 *
 * Who may have a port is decided by the kernel: the supervisor binds it (super/ports.c) and tells which it
 * got. The elements are in the kernel and outlive the daemon; what they should be is recorded with the
 * containers' state. At a start, and when the table was made anew, one transaction replaces all elements by
 * that. */
#include "engine/publish.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"
#include "engine/container_int.h"
#include "engine/network.h"
#include "engine/ports.h"
#include "engine/worker.h"
#include "lib/conntrack.h"
#include "lib/netlink.h"
#include "lib/nft.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define ON_THE_WAY_US 100000	/* longer than one is between the rules and being remembered */

struct publishing {
	struct nft *nft;
	int watch;		/* tells of changes of the rules */
	struct loop_source *io;
};

void publish_bridge_open(const char *bridge)
{
	_cleanup_free_ char *path = xasprintf("/proc/sys/net/ipv4/conf/%s/route_localnet", bridge);

	(void)fs_write(AT_FDCWD, path, "1");
}

/* ---- elements ---- */

/* Of each family: ports at one address, and at all. */
struct elements { struct nft_elems at[2], any[2]; };
static const uint8_t families[] = {NFPROTO_IPV4, NFPROTO_IPV6};

static void elements_done(struct elements *x)
{
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		nft_elems_done(&x->at[i]);
		nft_elems_done(&x->any[i]);
	}
}

static uint8_t proto_number(const char *name)
{
	return streq(name, "udp") ? IPPROTO_UDP : streq(name, "sctp") ? IPPROTO_SCTP : IPPROTO_TCP;
}

/* Where a port leads to: the container's addresses of both families. */
struct place { uint8_t proto; uint16_t port; struct nl_addr target[2]; };

static void elements_add_one(struct elements *x, const struct place *p, const struct json *binding)
{
	struct nl_addr host;
	uint64_t number;
	struct nft_elem e = {0};
	uint16_t port, target = htons(p->port);

	if (nl_addr_parse(json_get_str(binding, "HostIp") ?: "", &host) < 0 ||
	    str_to_u64(json_get_str(binding, "HostPort") ?: "", &number) < 0)
		return;
	size_t family = host.family == AF_INET6, n = nl_addr_bytes(&host);
	static const struct in6_addr all;

	/* a container without IPv6 is reached by it through its supervisor */
	if (!p->target[family].family)
		return;
	port = htons((uint16_t)number);
	nft_key_add(&e, &p->proto, sizeof p->proto);
	if (memcmp(&host.v6, &all, n))
		nft_key_add(&e, &host.v6, n);
	nft_key_add(&e, &port, sizeof port);
	nft_value_add(&e, &p->target[family].v6, n);
	nft_value_add(&e, &target, sizeof target);
	nft_elems_add(memcmp(&host.v6, &all, n) ? &x->at[family] : &x->any[family], &e);
}

static void place_targets(struct place *p, const char *target)
{
	_cleanup_strv_ char **v = strv_split(target, " ");

	for (char **t = v; t && *t; t++) {
		struct nl_addr a;

		if (nl_addr_parse(*t, &a) == 0)
			p->target[a.family == AF_INET6] = a;
	}
}

static void elements_add(struct elements *x, const struct container *c)
{
	struct place p = {0};
	struct json_iter it = {0};

	if (!c->ports)
		return;
	place_targets(&p, c->ports_target ?: "");
	while (json_next(c->ports, &it)) {
		size_t n = strcspn(it.key, "/");
		_cleanup_free_ char *number = xstrndup(it.key, n);
		uint64_t port;

		if (!it.key[n] || str_to_u64(number, &port) < 0)
			continue;
		p.proto = proto_number(it.key + n + 1);
		p.port = (uint16_t)port;
		for (size_t i = 0; i < json_len(it.value); i++)
			elements_add_one(x, &p, json_at(it.value, i));
	}
}

static int elements_commit(struct engine *e, const struct elements *x, nft_change_fn change, bool flush)
{
	_cleanup_nft_batch_ struct nft_batch b = NFT_BATCH_INIT;
	_cleanup_free_ char *table = network_table(e);

	if (!e->publishing->nft)
		return -EPROTONOSUPPORT;
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		const struct nft_set at = {families[i], table, PUBLISH_MAP_AT},
				     any = {families[i], table, PUBLISH_MAP_ANY};

		if (flush && (families[i] == NFPROTO_IPV4 || network_host_ipv6())) {
			nft_set_flush(&b, &at);
			nft_set_flush(&b, &any);
		}
		change(&b, &at, &x->at[i]);
		change(&b, &any, &x->any[i]);
	}
	return nft_batch_commit(e->publishing->nft, &b);
}

static int sync_all(struct engine *e)
{
	_cleanup_(elements_done) struct elements x = {0};

	list_for_each(c, &e->containers->all, struct container, link)
		elements_add(&x, c);
	return elements_commit(e, &x, nft_set_add, true);
}

struct nft *publish_nft(struct engine *e)
{
	return e->publishing ? e->publishing->nft : NULL;
}

void publish_sync(struct engine *e)
{
	int r = e->containers && e->publishing ? sync_all(e) : 0;

	if (r < 0 && (r != -ENOENT || publish_any(e)))
		log_error("publish the ports of running containers: %s", strerror(-r));
}

bool publish_any(const struct engine *e)
{
	list_for_each(c, &e->containers->all, struct container, link)
		if (c->ports)
			return true;
	return false;
}

/* ---- keeping the table ---- */

static void renewed(void *ud, int r, const struct err *e, void *result)
{
	if (r < 0)
		log_error("%s", err_text(e));
}

static void on_change(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct engine *e = ud;
	_cleanup_free_ char *table = network_table(e);

	if (!nft_watch_read(fd, table) || !e->containers || !networks_used(e))
		return;
	log_warn("the nft table '%s' was removed by another program: it is made again", table);
	network_rules_renew(e, renewed, NULL);
}

int publish_open(struct engine *e, struct err *err)
{
	struct publishing *p = e->publishing = new0(struct publishing);
	int r = p->watch = nft_watch_open();

	if (r >= 0)
		r = nft_open(&p->nft);
	if (r >= 0)
		r = loop_add_io(e->loop, p->watch, EPOLLIN, on_change, e, &p->io);
	/* a kernel without nf_tables can still run containers without a bridge */
	return r < 0 && r != -EPROTONOSUPPORT ? err_set(err, ERR_SYSTEM, r, "watch the host's rules") : 0;
}

void publish_close(struct engine *e)
{
	struct publishing *p = TAKE_PTR(e->publishing);

	if (!p)
		return;
	loop_source_free(p->io);
	fd_close(&p->watch);
	nft_close(p->nft);
	free(p);
}

/* What runs may need rules that this version of the daemon has and the last had not. */
void publish_adopt(struct engine *e)
{
	if (networks_used(e))
		network_rules_renew(e, renewed, NULL);
	else
		publish_sync(e);
}

/* ---- datagrams ---- */

/* A client of a datagram port keeps sending as if nothing had happened, and the kernel goes on leading it to
 * where it led it first: past a port that is published only now, or to an address that another container may
 * have. So what it remembers of such ports is forgotten, in a worker, once elements have come or gone. */
struct forget { size_t n; uint16_t ports[]; };

static int forget_run(void *arg, struct sbuf *out, struct err *err)
{
	const struct forget *f = arg;
	int r = conntrack_forget(IPPROTO_UDP, f->ports, f->n);

	/* A datagram that was on its way past the rules when they changed is remembered only behind them. */
	usleep(ON_THE_WAY_US);
	if (r == 0)
		r = conntrack_forget(IPPROTO_UDP, f->ports, f->n);
	return r < 0 ? err_set(err, ERR_SYSTEM, r, "forget datagrams to published ports") : 0;
}

static void forget_done(void *ud, int r, const struct err *e, const struct sbuf *out)
{
	if (r < 0)
		log_warn("%s", err_text(e));
	free(ud);
}

static void forget_datagrams(struct engine *e, const struct json *ports)
{
	struct forget *f = xmalloc(sizeof *f);
	struct json_iter it = {0};

	f->n = 0;
	while (json_next(ports, &it))
		for (size_t i = 0; str_ends(it.key, "/udp") && i < json_len(it.value); i++) {
			const char *port = json_get_str(json_at(it.value, i), "HostPort");
			uint64_t number;

			if (str_to_u64(port ?: "", &number) < 0)
				continue;
			f = xrealloc(f, 1, sizeof *f + (f->n + 1) * sizeof f->ports[0]);
			f->ports[f->n++] = (uint16_t)number;
		}
	if (!f->n || worker_run(e->loop, forget_run, f, forget_done, f) < 0)
		free(f);
}

/* ---- taking back ---- */

void publish_stop(struct container *c)
{
	struct json *ports = c->ports;
	_cleanup_(elements_done) struct elements x = {0};

	if (!ports)
		return;
	elements_add(&x, c);
	c->ports = NULL;
	free(TAKE_PTR(c->ports_target));
	/* somebody has changed our table: all that is left is put right */
	if (elements_commit(c->engine, &x, nft_set_del, false) < 0)
		publish_sync(c->engine);
	forget_datagrams(c->engine, ports);
	json_free(ports);
}

/* ---- publishing ---- */

struct publish {
	struct container *c;		/* referenced */
	char *address;
	struct port_maps maps;
	engine_done_fn done;
	void *userdata;
};

static void publish_free(struct publish *p)
{
	container_unref(p->c);
	free(p->address);
	port_maps_done(&p->maps);
	free(p);
}

static void finish(struct publish *p, int r, const struct err *e)
{
	_cleanup_err_ struct err err = ERR_INIT;
	engine_done_fn done = p->done;
	void *ud = p->userdata;

	if (r < 0) {
		publish_stop(p->c);
		err_msg(&err, ERR_SYSTEM, r,
			"driver failed programming external connectivity on endpoint %s (%s): %s", p->c->name,
			p->c->id, e && e->kind ? err_text(e) : strerror(-r));
	}
	publish_free(p);
	done(ud, r, r < 0 ? &err : NULL, NULL);
}

static bool same_address(const char *a, const char *b)
{
	static const char *const all[] = {"", "0.0.0.0", "::"};
	bool v6_a = strchr(a, ':') != NULL, v6_b = strchr(b, ':') != NULL;

	if (*a && *b && v6_a != v6_b)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (streq(a, all[i]) || streq(b, all[i]))
			return true;
	return streq(a, b);
}

static bool has_port(const struct container *c, const struct port_map *m)
{
	struct json_iter it = {0};

	while (json_next(c->ports, &it))
		for (size_t i = 0; i < json_len(it.value); i++) {
			const struct json *b = json_at(it.value, i);
			const char *port = json_get_str(b, "HostPort") ?: "";
			uint64_t number;

			if (streq(it.key + strcspn(it.key, "/") + 1, m->proto) &&
			    str_to_u64(port, &number) == 0 && number == m->first &&
			    same_address(json_get_str(b, "HostIp") ?: "", m->host))
				return true;
		}
	return false;
}

static bool taken_by_ours(const struct container *by, const struct port_map *m)
{
	list_for_each(c, &by->engine->containers->all, struct container, link)
		if (c != by && has_port(c, m))
			return true;
	return false;
}

/* A port is taken: by one of our containers, or (the supervisor's words) by another program. */
static int taken(const struct publish *p, const struct err *e, struct err *err)
{
	for (size_t i = 0; i < p->maps.n; i++) {
		const struct port_map *m = &p->maps.v[i];
		const char *host = *m->host ? m->host : "0.0.0.0";
		bool v6 = strchr(host, ':') != NULL;

		if (m->first && m->first == m->last && taken_by_ours(p->c, m))
			return err_msg(err, ERR_SYSTEM, -EADDRINUSE,
				       "Bind for %s%s%s:%u failed: port is already allocated", v6 ? "[" : "",
				       host, v6 ? "]" : "", m->first);
	}
	return err_msg(err, ERR_SYSTEM, -EADDRINUSE, "%s", err_text(e));
}

static void remember(struct container *c, const char *address, char *const *cells)
{
	c->ports = json_object();
	c->ports_target = xstrdup(address);
	for (size_t i = 0; cells && cells[i]; i += 4) {
		_cleanup_free_ char *key = xasprintf("%s/%s", cells[i + 3], cells[i]);
		struct json *list = json_get(c->ports, key), *b;

		if (!list)
			list = json_set(c->ports, key, json_array());
		b = json_add(list, json_object());
		json_set_str(b, "HostIp", cells[i + 1]);
		json_set_str(b, "HostPort", cells[i + 2]);
	}
}

/* The table is there again, with all elements. */
static void rules_renewed(void *ud, int r, const struct err *e, void *result)
{
	finish(ud, r, e);
}

static void bound(void *ud, int r, const struct err *e, const void *payload, size_t n)
{
	struct publish *p = ud;
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_(elements_done) struct elements x = {0};
	struct msg_ports_table table = {0};

	if (r == -EADDRINUSE) {
		r = taken(p, e, &err);
		e = &err;
	} else if (r >= 0) {
		r = msg_ports_table_decode(payload, n, &table);
	}
	if (r >= 0 && strv_len(table.cells) % 4)
		r = -EPROTO;
	if (r < 0) {
		msg_ports_table_done(&table);
		finish(p, r, e);
		return;
	}
	if (*p->address)	/* else they were given up */
		remember(p->c, p->address, table.cells);
	msg_ports_table_done(&table);
	elements_add(&x, p->c);
	r = elements_commit(p->c->engine, &x, nft_set_add, false);
	/* an element that nobody owns, or no table: somebody was there */
	if (r == -EEXIST)
		r = sync_all(p->c->engine);
	if (r == 0)
		forget_datagrams(p->c->engine, p->c->ports);
	if (r == -ENOENT)
		network_rules_renew(p->c->engine, rules_renewed, p);
	else
		finish(p, r, NULL);
}

static void ask(struct publish *p)
{
	/* IPv4 comes first, and each container has it */
	_cleanup_free_ char *address = xstrndup(p->address, strcspn(p->address, " "));
	struct msg_publish m = {.sandbox = p->c->id, .address = address};

	for (size_t i = 0; i < p->maps.n; i++) {
		const struct port_map *v = &p->maps.v[i];

		strv_adds(&m.ports, v->proto, v->host, NULL);
		if (!v->first)
			strv_add(&m.ports, "");
		else if (v->first == v->last)
			strv_addf(&m.ports, "%u", v->first);
		else
			strv_addf(&m.ports, "%u-%u", v->first, v->last);
		strv_addf(&m.ports, "%u", v->port);
	}
	CONN_REQUEST(ctr_conn(p->c), PUBLISH, publish, &m, -1, bound, p);
	strv_free(m.ports);
}

static const char *of_family(char *const *v, bool ipv6)
{
	for (; v && *v; v++)
		if ((strchr(*v, ':') != NULL) == ipv6)
			return *v;
	return NULL;
}

/* What the container answers goes out there: its address there, and its IPv6 address where that has a way
 * out. Heap; "" = it has neither, "10.0.0.2", "10.0.0.2 fd00::2". */
static char *published_address(const struct nics *nics)
{
	_cleanup_strv_ char **both = NULL;

	for (int ipv6 = 0; ipv6 < 2; ipv6++)
		for (size_t i = 0; i < nics->n; i++) {
			const char *gateway = of_family(nics->v[i].gateways, ipv6),
				   *address = of_family(nics->v[i].addresses, ipv6);

			/* a macvlan is a neighbour of the host's neighbours: nothing is led there */
			if (gateway && address && !*nics->v[i].kind)
				strv_addf(&both, "%.*s", (int)strcspn(address, "/"), address);
		}
	return both ? strv_join(both, " ") : xstrdup("");
}

static int publish_at(struct container *c, const char *address, engine_done_fn done, void *ud,
		      struct err *err)
{
	struct port_maps maps;
	struct publish *p;
	int r;

	publish_stop(c);
	r = ports_parse(ctr_config(c), ctr_host(c), c->engine->cfg.publish_ip, &maps, err);
	if (r < 0)
		return r;
	if (!maps.n)
		return 1;
	if (!ctr_conn(c)) {
		port_maps_done(&maps);
		return err_msg(err, ERR_SYSTEM, -ECONNRESET, "the supervisor ended at once");
	}
	p = new0(struct publish);
	*p = (struct publish){container_ref(c), xstrdup(address), maps, done, ud};
	ask(p);
	return 0;
}

int publish_start(struct container *c, const struct nics *nics, engine_done_fn done, void *ud,
		  struct err *err)
{
	_cleanup_free_ char *address = published_address(nics);

	return *address ? publish_at(c, address, done, ud, err) : 1;
}

int publish_follow(struct container *c, const struct nics *nics, engine_done_fn done, void *ud,
		   struct err *err)
{
	_cleanup_free_ char *address = published_address(nics);

	return streq(address, c->ports_target ?: "") ? 1 : publish_at(c, address, done, ud, err);
}
