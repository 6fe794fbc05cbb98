/* The networks of a container: what it asks for (part of its document), its interfaces while it runs, and
 * connect and disconnect, which change both. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/strv.h"
#include "engine/network.h"
#include "engine/publish.h"
#include "lib/netlink.h"

#include <errno.h>
#include <string.h>

const struct json *ctr_attachments(const struct container *c)
{
	return json_get(c->doc, "Networks");
}

char *ctr_main_network(const struct container *c)
{
	const char *name = NULL;

	return network_name(c->engine, ctr_network(c), &name, NULL) < 0 ? NULL : xstrdup(name);
}

/* ---- create ---- */

static int one_network_only(const char *mode, struct err *err)
{
	if (streq(mode, "host"))
		return err_msg(err, ERR_INVALID, 0,
			       "container cannot be disconnected from host network or connected to host "
			       "network");
	return err_msg(err, ERR_INVALID, 0,
		       "container cannot be connected to multiple networks with one of the networks in "
		       "private (none) mode");
}

static bool stands_alone(const char *network)
{
	return streq(network, "host") || streq(network, "none");
}

/* What an inspected endpoint carries too, but nobody asks for. */
static struct json *settings_asked(const struct json *settings)
{
	static const char *const keys[] = { "IPAMConfig", "Aliases", "MacAddress", "GwPriority" };
	struct json *o = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (json_type(json_get(settings, keys[i])) != JSON_NULL)
			json_set(o, keys[i], json_copy(json_get(settings, keys[i])));
	return o;
}

static int add_attachment(struct engine *e, struct json *all, const char *ref, const struct json *settings,
			  struct err *err)
{
	const char *name;
	int r = network_name(e, ref, &name, err);

	if (r == 0)
		r = endpoint_check(e, name, settings, err);
	if (r == 0)
		json_set(all, name, settings_asked(settings));
	return r;
}

int attachments_build(const struct create_ctx *x, const char *mode, struct json **ret, struct err *err)
{
	const struct json *eps = json_get(json_get(x->body, "NetworkingConfig"), "EndpointsConfig");
	const char *mac = json_get_str(x->body, "MacAddress"), *main_name;
	_cleanup_json_ struct json *all = json_object();
	struct json_iter it = { 0 };
	int r = 0;

	if (str_starts(mode, "container:")) {
		*ret = TAKE_PTR(all);
		return 0;
	}
	/* Not 404: that would tell a client of a missing image, which it pulls. */
	if (network_name(x->engine, mode, &main_name, NULL) < 0)
		return err_msg(err, ERR_INVALID, 0, "network %s not found", mode);
	while (r == 0 && json_next(eps, &it))
		r = add_attachment(x->engine, all, streq(it.key, "default") ? mode : it.key, it.value, err);
	if (r < 0)
		return r;
	if (!json_get(all, main_name))
		json_set(all, main_name, json_object());
	/* as clients before API 1.44 say it */
	if (!str_empty(mac) && str_empty(json_get_str(json_get(all, main_name), "MacAddress")))
		json_set_str(json_get(all, main_name), "MacAddress", mac);
	r = endpoint_check(x->engine, main_name, json_get(all, main_name), err);
	it = (struct json_iter){ 0 };
	while (r == 0 && json_len(all) > 1 && json_next(all, &it))
		if (stands_alone(it.key))
			r = one_network_only(it.key, err);
	if (r == 0)
		*ret = TAKE_PTR(all);
	return r;
}

void attachments_load(struct container *c)
{
	_cleanup_free_ char *name = NULL;
	struct json *all;

	if (json_type(ctr_attachments(c)) == JSON_OBJECT)
		return;
	/* It was made when there were no others. */
	name = ctr_main_network(c);
	all = json_set(c->doc, "Networks", json_object());
	if (name)
		json_set(all, name, json_object());
}

/* ---- names ---- */

char **container_dns_names(struct engine *e, const char *ctr, const char *network)
{
	struct container *c;
	_cleanup_free_ char *hostname = NULL;
	_cleanup_strv_ char **aliases = NULL;
	char **v = NULL;

	if (container_find(e, ctr, &c, NULL) < 0)
		return NULL;
	hostname = ctr_hostname(c);
	aliases = json_get_strv(json_get(ctr_attachments(c), network), "Aliases");
	strv_add(&v, c->name);
	strv_addf(&v, "%.12s", c->id);
	if (!strv_has(v, hostname))
		strv_add(&v, hostname);
	for (char **a = aliases; a && *a; a++)
		if (!strv_has(v, *a))
			strv_add(&v, *a);
	return v;
}

char **container_dns_servers(struct engine *e, const char *ctr)
{
	struct container *c;

	return container_find(e, ctr, &c, NULL) < 0 ? NULL : json_get_strv(ctr_host(c), "Dns");
}

/* ---- connect and disconnect ---- */

/* A change of networks on its way; the operation's `change`. */
struct net_change {
	struct op *op;
	char *network;
	bool connect;
	struct json *before;		/* the attachments to return to if it fails */
	struct nics nics;
	int published;			/* whether the ports could follow; why not */
	struct err why;
};

static void change_end(struct net_change *x, int r, const struct err *e)
{
	struct op *op = x->op;
	struct container *c = op->c;
	_cleanup_err_ struct err err = ERR_INIT;

	if (r < 0)
		json_set(c->doc, "Networks", TAKE_PTR(x->before));
	container_save(c);
	if (container_save_doc(c, r < 0 ? NULL : &err) < 0 && r >= 0) {
		r = err.errnum ? -err.errnum : -EIO;
		e = &err;
	}
	if (x->connect ? r < 0 : r >= 0)
		endpoints_release(c->engine, c->id, x->network);
	if (r >= 0 && x->published < 0) {
		r = x->published;
		err_clear(&err);
		err = x->why;
		e = &err;
	}
	nics_done(&x->nics);
	json_free(x->before);
	free(x->network);
	free(x);
	op_finish(op, r, e);
}

/* A port that is not to be had at its new place does not undo the change, but is told. */
static void on_published(void *ud, int r, const struct err *e, void *result)
{
	struct net_change *x = ud;

	x->published = r;
	if (r < 0)
		err_msg(&x->why, e->kind, r, "%s", err_text(e));
	change_end(x, 0, NULL);
}

static void on_changed(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct net_change *x = ud;
	_cleanup_err_ struct err err = ERR_INIT;

	if (r < 0 && (!e || !e->kind)) {
		err_set(&err, ERR_SYSTEM, r, "tell the supervisor of %s", x->op->c->id);
		e = &err;
	}
	if (r >= 0) {
		r = publish_follow(x->op->c, &x->nics, on_published, x, &err);
		if (r == 0)
			return;
		if (r < 0)
			on_published(x, r, &err, NULL);
		else
			change_end(x, 0, NULL);
		return;
	}
	change_end(x, r, e);
}

/* A machine's supervisor has no rights to make a tap: it gets one. */
static int open_tap(struct net_change *x, int *ret, struct err *err)
{
	_cleanup_nl_ struct nl *nl = NULL;
	_cleanup_free_ char *name = NULL;
	_cleanup_close_ int fd = -EBADF;
	struct msg_nic *nic = NULL;
	int r = endpoint_ifname(x->op->c->engine, x->op->c->id, x->network, &name, err);

	for (size_t i = 0; r == 0 && i < x->nics.n; i++)
		if (streq(x->nics.v[i].ifname, name))
			nic = &x->nics.v[i];
	if (r < 0 || !nic)
		return r;
	r = nl_open(&nl);
	if (r == 0)
		r = nl_nic_tap_open(nl, nic->kind, nic->ifname, nic->bridge, nic->mac, nic->mtu, &fd);
	if (r < 0)
		return err_set(err, ERR_SYSTEM, r, "create interface '%s'", nic->ifname);
	*ret = TAKE_FD(fd);
	return 0;
}

/* The supervisor is told what interfaces there are to be. */
static void change_tell(void *ud)
{
	struct net_change *x = ud;
	struct container *c = x->op->c;
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_free_ char *first = ctr_main_network(c);
	_cleanup_close_ int tap = -EBADF;
	int r = endpoints_take(c->engine, c->id, first ?: "", ctr_attachments(c), &x->nics, &err);

	if ((r == -EADDRINUSE || r == -EADDRNOTAVAIL) &&
	    endpoints_await(c->engine, ctr_attachments(c), change_tell, x))
		return;
	if (r == 0 && x->connect && c->isolation == ISOLATION_HYPERV && !stands_alone(x->network))
		r = open_tap(x, &tap, &err);
	if (r == 0 && !sandbox_conn(c->engine, c->id))
		r = err_msg(&err, ERR_SYSTEM, -ECONNRESET, "the supervisor ended");
	if (r < 0) {
		change_end(x, r, &err);
		return;
	}
	struct msg_network m = { .sandbox = c->id, .nics = x->nics };

	CONN_REQUEST(sandbox_conn(c->engine, c->id), NETWORK, network, &m, tap, on_changed, x);
}

static void on_ensured(void *ud, int r, const struct err *e, void *result)
{
	if (r < 0)
		change_end(ud, r, e);
	else
		change_tell(ud);
}

static int check_change(struct container *c, const char *network, bool connect, struct err *err)
{
	const char *mode = ctr_network(c);
	bool has = json_get(ctr_attachments(c), network) != NULL;
	bool others = json_len(ctr_attachments(c)) > 0;

	if (str_starts(mode, "container:"))
		return err_msg(err, ERR_INVALID, 0,
			       "container sharing network namespace with another container or host cannot be "
			       "connected to any other network");
	if (streq(network, "host") || streq(mode, "host"))
		return one_network_only("host", err);
	/* once disconnected from "none" it may have others, as Docker has it */
	if (connect && (json_get(ctr_attachments(c), "none") || (streq(network, "none") && others)))
		return one_network_only("none", err);
	/* its resolv.conf is the host's, as nobody could have been asked */
	if (connect && c->status == CTR_RUNNING && streq(mode, "none") && !stands_alone(network) && !others)
		return err_msg(err, ERR_FORBIDDEN, 0,
			       "container %s was started without a network: stop it to connect it to one",
			       c->name);
	if (connect && has && c->status == CTR_RUNNING)
		return err_msg(err, ERR_FORBIDDEN, 0, "endpoint with name %s already exists in network %s",
			       c->name, network);
	if (!connect && !has)
		return err_msg(err, ERR_FORBIDDEN, 0, "container %s is not connected to the network %s",
			       c->id, network);
	return 0;
}

static void run_change(struct op *op)
{
	struct container *c = op->c;
	_cleanup_err_ struct err err = ERR_INIT;
	const struct json *settings = json_get(op->body, "EndpointConfig");
	bool connect = json_get_bool(op->body, "Connect", false);
	const char *name;
	struct net_change *x;
	int r = network_name(c->engine, json_get_str(op->body, "Network"), &name, &err);

	if (r == 0)
		r = check_change(c, name, connect, &err);
	if (r == 0 && connect)
		r = endpoint_check(c->engine, name, settings, &err);
	if (r < 0) {
		op_finish(op, r, &err);
		return;
	}
	x = new0(struct net_change);
	*x = (struct net_change){ .op = op, .network = xstrdup(name), .connect = connect,
				  .before = json_copy(ctr_attachments(c)) };
	if (connect)
		json_set(json_get(c->doc, "Networks"), name, settings_asked(settings));
	else
		json_del(json_get(c->doc, "Networks"), name);
	/* While it is stopped others may be in its sandbox. */
	if (!sandbox_conn(c->engine, c->id))
		change_end(x, 0, NULL);
	else if (connect)
		networks_ensure(c->engine, ctr_attachments(c), on_ensured, x);
	else
		change_tell(x);
}

static void push_change(struct container *c, const char *network, bool connect, const struct json *settings,
			engine_done_fn done, void *ud)
{
	struct op *op = op_new(c, run_change, done, ud);

	op->body = json_object();
	json_set_str(op->body, "Network", network);
	json_set_bool(op->body, "Connect", connect);
	if (settings)
		json_set(op->body, "EndpointConfig", json_copy(settings));
	op_push(op);
}

void container_connect(struct container *c, const char *network, const struct json *settings,
		       engine_done_fn done, void *ud)
{
	push_change(c, network, true, settings, done, ud);
}

void container_disconnect(struct container *c, const char *network, engine_done_fn done, void *ud)
{
	push_change(c, network, false, NULL, done, ud);
}
