/* Theory of operation.
 *
 * A namespace lives as long as something refers to it. The shim makes the sandbox's net and ipc namespaces by
 * stepping into new ones and back, and keeps a descriptor of each; containers join them. A veth is made
 * from the host's side with its other end born inside, so no interface of a passing name ever shows on the
 * host. */
#include "shim/shim.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/strv.h"
#include "lib/netlink.h"
#include "task/nics.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>

/* The host's half: the veth, whose other end is born inside, in the bridge. */
static int plug(struct nl *nl, const struct msg_nic *m, int ns, struct err *e)
{
	uint8_t mac[6];
	int bridge, r = *m->mac ? mac_parse(m->mac, mac) : 0;

	if (r < 0)
		return err_set(e, ERR_INVALID, 0, "invalid MAC address: %s", m->mac);
	if (*m->kind) {
		r = nl_macvlan_add(nl, m->name, m->bridge, ns, mac, m->mtu);
		return r < 0 ? err_set(e, ERR_SYSTEM, r, "create an interface on '%s'", m->bridge) : 0;
	}
	r = nl_link_index(nl, m->bridge, &bridge);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "find bridge '%s'", m->bridge);
	r = nl_veth_add(nl, m->ifname, m->name, ns, *m->mac ? mac : NULL, m->mtu);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "create interface '%s'", m->ifname);
	r = nl_port_join(nl, m->ifname, m->bridge, 0);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "add interface '%s' to bridge '%s'", m->ifname, m->bridge)
		     : 0;
}

/* nl: of the host; a macvlan is inside alone, and gone from there by unplug_inside(). */
static void unplug(struct nl *nl, const struct msg_nic *m)
{
	const char *ifname = m->ifname;
	int index, r = *m->kind ? -ENODEV : nl_link_index(nl, ifname, &index);

	if (r == 0)
		r = nl_link_del(nl, index);
	/* The namespace takes it along in any case, only later. */
	if (r < 0 && r != -ENODEV)
		log_warn("delete interface '%s': %s", ifname, strerror(-r));
}

/* In the wrong namespace nothing that follows would be right. */
static void return_to(int host, int flag)
{
	if (setns(host, flag) == 0)
		return;
	log_error("return to the host's namespace: %s", strerror(errno));
	abort();
}

/* Steps into a new namespace of this kind and back, keeping a descriptor of it. */
static int make_ns(int flag, const char *path, int *ret_ns,
		   int (*inside)(const struct msg_sandbox *m, int ns, struct nl *host, struct err *e),
		   const struct msg_sandbox *m, struct nl *nl, struct err *e)
{
	_cleanup_close_ int host = open(path, O_RDONLY | O_CLOEXEC), ns = -EBADF;
	int r = 0;

	if (host < 0 || unshare(flag) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "create a namespace for sandbox '%s'", m->sandbox);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0)
		r = err_set(e, ERR_SYSTEM, -errno, "open '%s'", path);
	else if (inside)
		r = inside(m, ns, nl, e);
	return_to(host, flag);
	if (r == 0)
		*ret_ns = TAKE_FD(ns);
	return r;
}

static int net_inside(const struct msg_sandbox *m, int ns, struct nl *host, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->nics.n; i++)
		r = plug(host, &m->nics.v[i], ns, e);
	if (r == 0)
		r = nics_loopback(e);
	return r < 0 ? r : nics_configure(&m->nics, e);
}

int sandbox_make(struct local_hooks *hooks, const struct msg_sandbox *m, struct err *e)
{
	_cleanup_nl_ struct nl *nl = NULL;
	int r;

	if (hooks->ipc_ns_fd >= 0)
		return err_msg(e, ERR_CONFLICT, -EEXIST, "sandbox '%s' is set up already", m->sandbox);
	if (!streq(m->net, "host")) {
		r = nl_open(&nl);	/* stays in the host's namespace */
		if (r < 0)
			return err_set(e, ERR_SYSTEM, r, "open netlink");
		r = make_ns(CLONE_NEWNET, "/proc/self/ns/net", &hooks->net_ns_fd, net_inside, m, nl, e);
		if (r < 0)
			return err_wrap(e, r, "set up the network of sandbox '%s'", m->sandbox);
	}
	r = make_ns(CLONE_NEWIPC, "/proc/self/ns/ipc", &hooks->ipc_ns_fd, NULL, m, NULL, e);
	if (r < 0)
		sandbox_end(hooks, &m->nics);
	return r;
}

/* Those of `gone` that `stay` has not. */
static void unplug_inside(const struct nics *gone, const struct nics *stay)
{
	_cleanup_nl_ struct nl *nl = NULL;
	int index;

	for (size_t i = 0; i < gone->n; i++) {
		const struct msg_nic *m = &gone->v[i];

		if (!*m->kind || nics_find(stay, m->ifname) || (!nl && nl_open(&nl) < 0))
			continue;
		if (nl_link_index(nl, m->name, &index) == 0)
			(void)nl_link_del(nl, index);
	}
}

/* ret_host: for return_to(). */
static int enter(int ns, int *ret_host, struct err *e)
{
	_cleanup_close_ int host = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (host < 0 || setns(ns, CLONE_NEWNET) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "enter the network of the sandbox");
	*ret_host = TAKE_FD(host);
	return 0;
}

static int configure_inside(int ns, const struct nics *have, const struct nics *want, struct err *e)
{
	_cleanup_close_ int host = -EBADF;
	int r = enter(ns, &host, e);

	if (r < 0)
		return r;
	unplug_inside(have, want);
	r = nics_configure(want, e);
	if (r < 0)
		unplug_inside(want, have);
	return_to(host, CLONE_NEWNET);
	return r;
}

int sandbox_network(struct local_hooks *hooks, const struct nics *have, const struct nics *want,
		    struct err *e)
{
	_cleanup_nl_ struct nl *nl = NULL;
	int r;

	if (hooks->net_ns_fd < 0)
		return err_msg(e, ERR_INVALID, -EINVAL, "the sandbox has no network of its own");
	r = nl_open(&nl);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "open netlink");
	for (size_t i = 0; i < have->n; i++)
		if (!nics_find(want, have->v[i].ifname))
			unplug(nl, &have->v[i]);
	for (size_t i = 0; r == 0 && i < want->n; i++)
		if (!nics_find(have, want->v[i].ifname))
			r = plug(nl, &want->v[i], hooks->net_ns_fd, e);
	if (r == 0)
		r = configure_inside(hooks->net_ns_fd, have, want, e);
	/* What was new is none. */
	for (size_t i = 0; r < 0 && i < want->n; i++)
		if (!nics_find(have, want->v[i].ifname))
			unplug(nl, &want->v[i]);
	return r;
}

/* The kernel takes what is left in a namespace some time after its end; until then a macvlan's MAC is in use
 * on the wire of its parent. */
static void empty(int ns, const struct nics *nics)
{
	_cleanup_close_ int host = -EBADF;
	_cleanup_err_ struct err e = { 0 };

	if (enter(ns, &host, &e) < 0) {
		log_warn("%s", err_text(&e));
		return;
	}
	unplug_inside(nics, &(struct nics){ 0 });
	return_to(host, CLONE_NEWNET);
}

void sandbox_end(struct local_hooks *hooks, const struct nics *nics)
{
	_cleanup_nl_ struct nl *nl = NULL;

	if (nics->n && hooks->net_ns_fd >= 0 && nl_open(&nl) == 0) {
		for (size_t i = 0; i < nics->n; i++)
			unplug(nl, &nics->v[i]);
		empty(hooks->net_ns_fd, nics);
	}
	fd_close(&hooks->net_ns_fd);
	fd_close(&hooks->ipc_ns_fd);
}
