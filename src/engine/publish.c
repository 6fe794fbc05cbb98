/* Theory of operation.
 *
 * Our nft table has two maps, of ports at one address of the host and of ports at all; a chain sends what
 * comes for the host's own addresses through both and rewrites the destination by what it finds. So a
 * published port is one element, added and removed by one netlink message, whatever else is published.
 *
 *   prerouting  packets from outside, and from containers (hairpin). Not for 127/8: that is never routed
 *               here, and must not become so by being rewritten.
 *   output      packets of the host's own programs, 127/8 among them.
 *   postrouting what would be answered past us (from 127/8; from the same bridge) comes from the bridge's
 *               address.
 *   guard       127.0.0.1 works because the bridge takes such addresses (route_localnet). So that a container
 *               does not get at the host's own services by this, its packets to 127/8 end before routing.
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
#include "lib/nft.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <string.h>
#include <sys/epoll.h>

#define MAP_AT "ports_at"		/* protocol . address . port */
#define MAP_ANY "ports_any"		/* protocol . port */

struct publishing {
	struct nft *nft;
	int watch;		/* tells of changes of the rules */
	struct loop_source *io;
};

/* ---- rules ---- */

void publish_rules(const char *table, struct sbuf *out)
{
	static const char *const chains[][2] = {
		{"insula-user", ""},
		{"publish", ""},
		{"prerouting", "{ type nat hook prerouting priority dstnat; policy accept; }"},
		{"output", "{ type nat hook output priority -100; policy accept; }"},
		{"guard", "{ type filter hook prerouting priority raw; policy accept; }"},
	};

	sbuf_printf(out,
		    "add map ip %s " MAP_AT " { type inet_proto . ipv4_addr . inet_service : "
		    "ipv4_addr . inet_service; }\n"
		    "add map ip %s " MAP_ANY " { type inet_proto . inet_service : "
		    "ipv4_addr . inet_service; }\n",
		    table, table);
	for (size_t i = 0; i < ARRAY_SIZE(chains); i++) {
		sbuf_printf(out, "add chain ip %s %s %s\n", table, chains[i][0], chains[i][1]);
		if (i > 0)	/* the first is not ours to empty */
			sbuf_printf(out, "flush chain ip %s %s\n", table, chains[i][0]);
	}
	sbuf_printf(out,
		    "add rule ip %s publish dnat ip to meta l4proto . ip daddr . th dport map @" MAP_AT "\n"
		    "add rule ip %s publish dnat ip to meta l4proto . th dport map @" MAP_ANY "\n"
		    "add rule ip %s prerouting ip daddr != 127.0.0.0/8 fib daddr type local goto publish\n"
		    "add rule ip %s output fib daddr type local goto publish\n"
		    "add rule ip %s guard iifname @bridges ip daddr 127.0.0.0/8 drop\n"
		    "add rule ip %s postrouting oifname @bridges ip saddr 127.0.0.0/8 masquerade\n"
		    "add rule ip %s postrouting oifname @bridges ip saddr @subnets ct status dnat "
		    "masquerade\n",
		    table, table, table, table, table, table, table);
}

void publish_bridge_open(const char *bridge)
{
	_cleanup_free_ char *path = xasprintf("/proc/sys/net/ipv4/conf/%s/route_localnet", bridge);

	(void)fs_write(AT_FDCWD, path, "1");
}

/* ---- elements ---- */

struct elements { struct nft_elems at, any; };

static void elements_done(struct elements *x)
{
	nft_elems_done(&x->at);
	nft_elems_done(&x->any);
}

static uint8_t proto_number(const char *name)
{
	return streq(name, "udp") ? IPPROTO_UDP : streq(name, "sctp") ? IPPROTO_SCTP : IPPROTO_TCP;
}

struct place { uint8_t proto; uint16_t port; struct in_addr target; };

static void elements_add_one(struct elements *x, const struct place *p, const struct json *binding)
{
	struct in_addr host;
	uint64_t number;
	struct nft_elem e = {0};
	uint16_t port, target = htons(p->port);

	/* what is not IPv4 is the supervisor's */
	if (inet_pton(AF_INET, json_get_str(binding, "HostIp") ?: "", &host) != 1 ||
	    str_to_u64(json_get_str(binding, "HostPort") ?: "", &number) < 0)
		return;
	port = htons((uint16_t)number);
	nft_key_add(&e, &p->proto, sizeof p->proto);
	if (host.s_addr)
		nft_key_add(&e, &host, sizeof host);
	nft_key_add(&e, &port, sizeof port);
	nft_value_add(&e, &p->target, sizeof p->target);
	nft_value_add(&e, &target, sizeof target);
	nft_elems_add(host.s_addr ? &x->at : &x->any, &e);
}

static void elements_add(struct elements *x, const struct container *c)
{
	struct place p = {0};
	struct json_iter it = {0};

	if (!c->ports || inet_pton(AF_INET, c->ports_target ?: "", &p.target) != 1)
		return;
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
	const struct nft_set at = {NFPROTO_IPV4, table, MAP_AT}, any = {NFPROTO_IPV4, table, MAP_ANY};

	if (!e->publishing->nft)
		return -EPROTONOSUPPORT;
	if (flush) {
		nft_set_flush(&b, &at);
		nft_set_flush(&b, &any);
	}
	change(&b, &at, &x->at);
	change(&b, &any, &x->any);
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
	struct msg_publish m = {.sandbox = p->c->id, .address = p->address};

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

/* What the container answers goes out there. Heap. */
static char *published_address(const struct nics *nics)
{
	for (size_t i = 0; i < nics->n; i++)
		if (nics->v[i].gateways && nics->v[i].addresses)
			return xstrndup(nics->v[i].addresses[0], strcspn(nics->v[i].addresses[0], "/"));
	return xstrdup("");
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
