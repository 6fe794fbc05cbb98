/* The host's side of networks: a bridge each, one nft table for what is routed, and one for what is bridged
 * (network_guard.c).
 *
 * The networks that are used are elements of the table's sets, and the rules speak of the sets. The whole is
 * written in one transaction that leaves alone what others keep in the table. One nft runs at a time; what
 * changes meanwhile is written by the next one. */
#include "engine/network_int.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/strv.h"
#include "engine/db.h"
#include "engine/firewall.h"
#include "engine/publish.h"
#include "engine/worker.h"
#include "lib/netlink.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define CONF6 "/proc/sys/net/ipv6/conf"
#define SETTLE_US 10000000
#define CLASHES_MAX 16		/* subnets given up to others, before one is kept in any case */

static bool endpoints_left(struct networks *n)
{
	_cleanup_stmt_ struct stmt *s = NULL;

	return db_query(n->engine->db, &s, NULL, "SELECT 1 FROM endpoints LIMIT 1", "") < 0 ||
	       stmt_step(s, NULL) != 0;
}

/* Those that a daemon before us has made: the table is not to be without them. */
static void find_bridges(struct networks *n)
{
	_cleanup_nl_ struct nl *nl = NULL;
	int index;

	if (nl_open(&nl) < 0)
		return;
	list_for_each(w, &n->all, struct network, link)
		w->wanted = w->bridge && nl_link_index(nl, w->bridge, &index) == 0;
	if (endpoints_left(n))
		names_want(n);
}

int networks_open(struct engine *e, struct err *err)
{
	struct networks *n = new0(struct networks);
	int r;

	n->engine = e;
	list_init(&n->all);
	e->networks = n;
	r = networks_load(n, err);
	if (r == 0)
		r = db_run(e->db, err,
			   "DELETE FROM endpoints WHERE ctr NOT IN (SELECT id FROM containers)", "");
	if (r == 0)
		r = names_open(n, err);
	if (r == 0)
		find_bridges(n);
	return r;
}

int network_name(struct engine *e, const char *ref, const char **ret, struct err *err)
{
	struct network *w;
	int r = network_find(e->networks, ref, &w, err);

	if (r == 0)
		*ret = w->name;
	return r;
}

const char *network_driver(struct engine *e, const char *ref)
{
	struct network *w;

	return network_find(e->networks, ref, &w, NULL) < 0 ? NULL : net_driver_name(w->driver);
}

const char *network_bridge(struct engine *e, const char *ref, bool *ret_ipv6)
{
	struct network *w;

	if (network_find(e->networks, ref, &w, NULL) < 0)
		return NULL;
	*ret_ipv6 = w->subnet6.prefix != 0;
	return w->bridge;
}

/* --- the bridge --- */

/* No container tells the host where to go; and without IPv6 in the network there is none on the bridge. */
static void bridge_ipv6(const struct network *w)
{
	_cleanup_free_ char *ra = xasprintf(CONF6 "/%s/accept_ra", w->bridge),
			    *off = xasprintf(CONF6 "/%s/disable_ipv6", w->bridge);

	(void)fs_write(AT_FDCWD, ra, "0");
	(void)fs_write(AT_FDCWD, off, w->subnet6.prefix ? "0" : "1");
}

static void bridge_delete(const struct network *w)
{
	_cleanup_nl_ struct nl *nl = NULL;
	int index;

	if (nl_open(&nl) == 0 && nl_link_index(nl, w->bridge, &index) == 0)
		(void)nl_link_del(nl, index);
}

/* The interface with its addresses, up; -EEXIST if there is one. */
static int bridge_add(struct nl *nl, const struct network *w)
{
	struct nl_addr gw = { .family = AF_INET, .v4 = { htonl(w->gateway) }, .prefix = w->subnet.prefix };
	struct nl_addr gw6 = { .family = AF_INET6, .v6 = w->gateway6, .prefix = w->subnet6.prefix };
	/* One of its own: else it changes with the ports, and who knows the old one is cut off. */
	uint8_t mac[6] = { 2, 0x42, (uint8_t)(w->gateway >> 24), (uint8_t)(w->gateway >> 16),
			   (uint8_t)(w->gateway >> 8), (uint8_t)w->gateway };
	int index, r = nl_bridge_add(nl, w->bridge);

	if (r == 0 || r == -EEXIST)
		r = nl_link_index(nl, w->bridge, &index);
	if (r == 0)
		r = nl_link_set_mac(nl, index, mac);
	if (r == 0)
		r = nl_addr_add(nl, index, &gw);
	if (r == 0) {
		bridge_ipv6(w);
		r = w->subnet6.prefix ? nl_addr_add(nl, index, &gw6) : 0;
	}
	return r == 0 ? nl_link_set_up(nl, index, true) : r;
}

/* Nobody asked for this subnet, and no container has an address of it. */
static bool can_yield(struct networks *n, const struct network *w)
{
	_cleanup_stmt_ struct stmt *s = NULL;

	return !json_len(json_get(w->ipam, "Config")) &&
	       db_query(n->engine->db, &s, NULL, "SELECT 1 FROM endpoints WHERE network = ? LIMIT 1", "s",
			w->id) == 0 &&
	       stmt_step(s, NULL) == 0;
}

/* The bridge's address is what reserves a subnet. Another daemon may have taken it since it was chosen, or at
 * the same moment: who then sees two takes another, passing over some, lest both go on choosing the same. */
static int bridge_make(struct networks *n, struct network *w, bool *ret_made, struct err *err)
{
	_cleanup_nl_ struct nl *nl = NULL;
	int index, r = nl_open(&nl);

	if (r == 0)
		r = nl_link_index(nl, w->bridge, &index);
	*ret_made = r == -ENODEV;
	for (unsigned i = 0; r == -ENODEV; i++) {
		bool yields = i < CLASHES_MAX && can_yield(n, w);
		uint8_t skip = 0;

		if (i)
			random_bytes(&skip, sizeof skip);
		if (yields && subnet_clashes(n, w) && network_resubnet(n, w, skip % 4, err) < 0)
			return -EADDRNOTAVAIL;
		r = bridge_add(nl, w);
		if (r == 0 && yields && subnet_clashes(n, w)) {
			bridge_delete(w);
			r = -ENODEV;
		}
	}
	return r < 0 ? err_set(err, ERR_SYSTEM, r, "create bridge '%s'", w->bridge) : 0;
}

/* --- rules --- */

char *network_table(const struct engine *e)
{
	const char *inst = e->cfg.instance;

	return xasprintf("insula%s%s", *inst ? "_" : "", inst);
}

struct rules_job { const char *text; bool ipv6; char *const *commands; };

/* A host that routes takes router advertisements no more, unless it is told to: one that has its default
 * route by them is to keep it. */
static void forward_ipv6(void)
{
	_cleanup_free_ char *now = NULL;
	DIR *d;
	struct dirent *de;

	if (fs_read_line(AT_FDCWD, CONF6 "/all/forwarding", &now) >= 0 && streq(now, "1"))
		return;
	d = opendir(CONF6);
	while (d && (de = readdir(d))) {
		_cleanup_free_ char *path = xasprintf(CONF6 "/%s/accept_ra", de->d_name), *ra = NULL;

		if (de->d_name[0] != '.' && fs_read_line(AT_FDCWD, path, &ra) >= 0 && streq(ra, "1"))
			(void)fs_write(AT_FDCWD, path, "2");
	}
	if (d)
		(void)closedir(d);
	(void)fs_write(AT_FDCWD, CONF6 "/all/forwarding", "1");
}

/* Runs in a worker: forwarding on, and one atomic nft transaction. */
static int load_rules(void *arg, struct sbuf *out, struct err *err)
{
	static const char *const places[] = { "/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft" };
	const struct rules_job *job = arg;
	const char *nft = NULL;
	_cleanup_close_ int fd = -EBADF;
	_cleanup_proc_ struct proc p = PROC_INIT;
	int r, code = 0;

	(void)fs_write(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", "1");
	if (job->ipv6)
		forward_ipv6();
	firewall_run(job->commands);
	for (size_t i = 0; i < ARRAY_SIZE(places) && !nft; i++)
		if (fs_exists(places[i]))
			nft = places[i];
	if (!nft)
		return err_msg(err, ERR_SYSTEM, -ENOENT, "set up the bridge network: nft is not installed "
			       "(install nftables, or run with --network none)");
	fd = fd_from_bytes("nft", job->text, strlen(job->text));
	if (fd < 0)
		return fd;
	char *argv[] = { (char *)"nft", (char *)"-f", (char *)"-", NULL };
	struct fd_map map[] = { { fd, 0 } };
	struct spawn_args a = { .path = nft, .argv = argv, .fds = map, .n_fds = 1, .keep_stderr = true };

	r = proc_spawn(&a, &p);
	if (r == 0)
		r = proc_wait(&p, &code);
	if (r < 0)
		return err_set(err, ERR_SYSTEM, r, "run nft");
	return code ? err_msg(err, ERR_SYSTEM, -EIO,
			      "set up the bridge network: nft failed with exit code %d "
			      "(see the daemon's log)",
			      code)
		    : 0;
}

static void rules_run(struct networks *n);

static void waiters_tell(struct networks *n, int r, const struct err *e)
{
	struct network_wait *w = TAKE_PTR(n->waiting), *next;

	for (; w; w = next) {
		next = w->next;
		w->done(w->userdata, r, e, NULL);
		free(w);
	}
}

static void rules_loaded(void *userdata, int r, const struct err *e, const struct sbuf *out)
{
	struct networks *n = userdata;

	n->nft_busy = false;
	list_for_each(w, &n->all, struct network, link) {
		w->loaded = w->loading && r == 0;
		w->loading = false;
		if (w->loaded)
			publish_bridge_open(w->bridge);
	}
	if (r == 0 && n->stale) {
		rules_run(n);
		return;
	}
	n->stale = r < 0;
	n->tables |= r == 0;
	if (r == 0)
		publish_sync(n->engine);
	if (r == 0 && guard_sync(n) < 0)
		log_error("guard the networks against forged frames: the rules are not complete");
	waiters_tell(n, r, e);
}

static bool ipv6_wanted(const struct networks *n)
{
	list_for_each(w, &n->all, struct network, link)
		if (w->wanted && w->subnet6.prefix)
			return true;
	return false;
}

static void rules_run(struct networks *n)
{
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	int r;

	n->stale = true;
	if (n->nft_busy)
		return;
	network_rules_text(n, &b);
	list_for_each(w, &n->all, struct network, link)
		w->loading = w->wanted;
	n->nft_busy = true;
	n->stale = false;
	list_for_each(w, &n->all, struct network, link)
		if (w->wanted && !w->loaded)
			firewall_commands(n->engine, w->bridge, w->subnet6.prefix, true, &n->commands);
	_cleanup_strv_ char **commands = TAKE_PTR(n->commands);
	struct rules_job job = { sbuf_str(&b), ipv6_wanted(n), commands };

	r = worker_run(n->engine->loop, load_rules, &job, rules_loaded, n);
	if (r < 0) {
		err_set(&err, ERR_SYSTEM, r, "set up the bridge network");
		rules_loaded(n, r, &err, NULL);
	}
}

static void wait_for_rules(struct networks *n, engine_done_fn done, void *ud)
{
	struct network_wait *w = new0(struct network_wait);

	*w = (struct network_wait){ done, ud, n->waiting };
	n->waiting = w;
	rules_run(n);
}

/* The bridge is there, and the table is to know it. *ret_ready: it does. */
static int prepare(struct networks *n, struct network *w, bool *ret_ready, struct err *err)
{
	bool made;
	int r;

	names_want(n);
	r = bridge_make(n, w, &made, err);
	w->wanted = true;
	*ret_ready = w->loaded && !made;
	return r;
}

int parent_check(const char *name, struct err *err)
{
	_cleanup_nl_ struct nl *nl = NULL;
	int index, r = nl_open(&nl);

	if (r == 0)
		r = nl_link_index(nl, name, &index);
	return r < 0 ? err_msg(err, ERR_INVALID, r,
			       "the host has no interface %s, the parent of a macvlan network", name)
		     : 0;
}

void networks_ensure(struct engine *e, const struct json *attachments, engine_done_fn done, void *ud)
{
	struct networks *n = e->networks;
	_cleanup_err_ struct err err = ERR_INIT;
	struct json_iter it = { 0 };
	bool ready = true;
	int r = 0;

	while (r == 0 && json_next(attachments, &it)) {
		struct network *w;
		bool one = true;

		r = network_find(n, it.key, &w, &err);
		if (r == 0 && w->driver == NET_BRIDGE)
			r = prepare(n, w, &one, &err);
		else if (r == 0 && w->driver == NET_MACVLAN)
			r = parent_check(w->parent, &err);
		ready &= one;
	}
	if (r < 0 || ready)
		done(ud, r, &err, NULL);
	else
		wait_for_rules(n, done, ud);
}

bool networks_used(const struct engine *e)
{
	list_for_each(w, &e->networks->all, struct network, link)
		if (w->wanted)
			return true;
	return false;
}

void network_rules_renew(struct engine *e, engine_done_fn done, void *ud)
{
	names_want(e->networks);
	wait_for_rules(e->networks, done, ud);
}

void network_host_remove(struct networks *n, struct network *w)
{
	bool known = w->wanted;

	if (w->driver != NET_BRIDGE)
		return;
	bridge_delete(w);
	if (known)
		firewall_commands(n->engine, w->bridge, w->subnet6.prefix, false, &n->commands);
	w->wanted = false;
	if (known)
		rules_run(n);
}

/* --- the end --- */

/* A daemon that ends and leaves no container running takes bridges and table along. */
static void host_clean(struct networks *n)
{
	_cleanup_free_ char *table = network_table(n->engine);
	_cleanup_sbuf_ struct sbuf gone = SBUF_INIT;
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_nl_ struct nl *nl = NULL;
	bool any = n->tables;
	int index;

	if (nl_open(&nl) < 0)
		return;
	list_for_each(w, &n->all, struct network, link)
		if (w->bridge && nl_link_index(nl, w->bridge, &index) == 0) {
			(void)nl_link_del(nl, index);
			any = true;
			firewall_commands(n->engine, w->bridge, w->subnet6.prefix, false, &n->commands);
		}
	firewall_run(n->commands);
	network_rules_gone(n->engine, &gone);
	if (any && !firewall_user_rules(table) &&
	    load_rules(&(struct rules_job){ sbuf_str(&gone) }, NULL, &err) < 0)
		log_warn("%s", err_text(&err));
}

void networks_settle(struct engine *e)
{
	uint64_t end = now_mono_us() + SETTLE_US;

	while (e->networks->nft_busy && now_mono_us() < end)
		(void)loop_run_once(e->loop, 100);
}

void networks_close(struct engine *e)
{
	struct networks *n = e->networks;
	bool keep;

	if (!n)
		return;
	keep = list_empty(&n->all) || endpoints_left(n);
	if (!keep)
		host_clean(n);
	names_close(n, keep);
	endpoints_await_end(n);
	strv_free(n->commands);
	list_for_each(w, &n->all, struct network, link) {
		list_remove(&w->link);
		network_free(w);
	}
	free(n);
	e->networks = NULL;
}
