/* needs: src/engine/network_create.c src/engine/network_store.c src/engine/network_inspect.c
 * src/engine/network_ipam.c src/engine/network_ipam6.c src/engine/db.c src/engine/schema.c
 * src/lib/netlink.c src/lib/nl_sock.c src/lib/sqlite.c src/lib/json.c src/lib/json_write.c src/base/alloc.c
 * src/base/sbuf.c src/base/strv.c src/base/err.c src/base/fd.c src/base/fs.c src/base/hash.c src/base/id.c
 * src/base/path.c src/base/timefmt.c src/base/loop.c src/base/log.c src/base/proc.c
 * -ljson-c -lsqlite3 -lm -no-pie -Wl,--unresolved-symbols=ignore-all */
/* The rest of the engine is not there: whoever calls it from here crashes. */
/* The body of POST /networks/create: what is refused says why in one line, and what is accepted has addresses
 * that fit together, can be shown, and is the same network to the next daemon. */
#include "engine/network_int.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "engine/db.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/no_events.h"

#include <errno.h>
#include <string.h>

/* ---- what is asked of the rest of the engine, and of the host ---- */

bool network_host_ipv6(void)
{
	return true;
}

int parent_check(const char *name, struct err *err)
{
	return streq(name, "eth0") ? 0 : err_msg(err, ERR_INVALID, 0, "no such interface");
}

void network_host_remove(struct networks *n, struct network *w)
{
}

bool sandbox_occupied(const struct engine *e, const char *ctr)
{
	return false;
}

/* ---- the target ---- */

static struct networks *open_networks(struct engine *e)
{
	struct networks *n = new0(struct networks);

	n->engine = e;
	list_init(&n->all);
	must(networks_load(n, NULL) == 0);
	return n;
}

static void close_networks(struct networks *n)
{
	list_for_each(w, &n->all, struct network, link) {
		list_remove(&w->link);
		network_free(w);
	}
	free(n);
}

static void check_addresses(const struct network *w)
{
	must(w->subnet.mask && subnet_has(&w->subnet, w->gateway));
	must(w->range.prefix >= w->subnet.prefix && subnet_has(&w->subnet, w->range.net));
	must(!w->subnet6.prefix || subnet6_has(&w->subnet6, &w->gateway6));
	must(w->mtu <= 65535 && (w->driver == NET_BRIDGE ? w->bridge != NULL : w->parent != NULL));
}

static void check_shown(struct engine *e, const char *id)
{
	static const char *const objects[] = {"IPAM", "Containers", "Options", "Labels"};
	_cleanup_json_ struct json *j = network_get(e, id, NULL);
	_cleanup_free_ char *text = NULL;

	must(j != NULL);
	for (size_t i = 0; i < ARRAY_SIZE(objects); i++)
		must(json_type(json_get(j, objects[i])) == JSON_OBJECT);
	text = json_dump(j);
	must(strlen(text) > 0);
}

static void check_same(const struct network *a, const struct network *b)
{
	_cleanup_free_ char *labels = json_dump(a->labels), *again = json_dump(b->labels);

	must(streq(a->name, b->name) && a->driver == b->driver && a->mtu == b->mtu);
	must(a->internal == b->internal && a->attachable == b->attachable && streq(labels, again));
	must(!memcmp(&a->subnet, &b->subnet, sizeof a->subnet) && a->gateway == b->gateway);
	must(!memcmp(&a->range, &b->range, sizeof a->range));
	must(!memcmp(&a->subnet6, &b->subnet6, sizeof a->subnet6));
	must(!memcmp(&a->range6, &b->range6, sizeof a->range6));
	must(!memcmp(&a->gateway6, &b->gateway6, sizeof a->gateway6));
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct engine engine;
	_cleanup_json_ struct json *body = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	struct network *made, *again;
	struct networks *next;
	const char *id;

	if (!engine.db) {
		engine.id = xstrdup("01234567-89ab-cdef-0123-456789abcdef");
		engine.cfg.bridge = xstrdup("insula0");
		must(db_open(":memory:", &engine.db, NULL) == 0);
		engine.networks = open_networks(&engine);
	}
	if (json_parse((const char *)p, n, &body, NULL) < 0 || json_type(body) != JSON_OBJECT)
		return 0;
	if (network_create(&engine, body, &id, &e) < 0) {
		must(!str_empty(err_text(&e)));
		return 0;
	}
	must(network_find(engine.networks, id, &made, NULL) == 0);
	check_addresses(made);
	check_shown(&engine, id);
	next = open_networks(&engine);
	must(network_find(next, id, &again, NULL) == 0);
	check_same(made, again);
	close_networks(next);
	must(network_remove(&engine, made->name, NULL) == 0);
	return 0;
}
