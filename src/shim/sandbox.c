/* Theory of operation.
 *
 * A namespace lives as long as something refers to it. The shim makes the sandbox's net and ipc namespaces by
 * stepping into new ones and back, and keeps a descriptor of each; containers join them. The veth is made
 * from the host's side with its other end born inside, so no interface of a passing name ever shows on the
 * host. */
#include "shim/shim.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/strv.h"
#include "lib/netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>

/* lo and, with an address, eth0: in the namespace the caller has entered. */
static int configure_inside(const struct msg_sandbox *m, struct err *e)
{
	_cleanup_nl_ struct nl *nl = NULL;
	struct nl_addr a;
	int index, r;

	r = nl_open(&nl);
	if (r == 0)
		r = nl_link_index(nl, "lo", &index);
	if (r == 0)
		r = nl_link_set_up(nl, index, true);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "set up the loopback interface");
	if (!streq(m->net, "bridge"))
		return 0;
	r = nl_link_index(nl, "eth0", &index);
	if (r == 0 && *m->address) {
		r = nl_addr_parse(m->address, &a);
		if (r == 0) {
			a.prefix = m->prefix;
			r = nl_addr_add(nl, index, &a);
		}
	}
	if (r == 0)
		r = nl_link_set_up(nl, index, true);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "give eth0 the address '%s/%u'", m->address, m->prefix);
	if (!*m->gateway)
		return 0;
	r = nl_addr_parse(m->gateway, &a);
	if (r == 0)
		r = nl_route_add_default(nl, &a, index);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "set the default gateway '%s'", m->gateway) : 0;
}

static int join_bridge(struct nl *nl, const char *ifname, int bridge)
{
	int index, r = nl_link_index(nl, ifname, &index);

	if (r == 0)
		r = nl_link_set_master(nl, index, bridge);
	/* A container may reach itself through its own published port. */
	if (r == 0)
		r = nl_link_set_hairpin(nl, index, true);
	return r == 0 ? nl_link_set_up(nl, index, true) : r;
}

/* The host's half: the veth, whose other end is born inside, in the bridge. */
static int plug(struct nl *nl, const struct msg_sandbox *m, int ns, struct err *e)
{
	uint8_t mac[6];
	int bridge, r = *m->mac ? mac_parse(m->mac, mac) : 0;

	if (r < 0)
		return err_set(e, ERR_INVALID, 0, "invalid MAC address: %s", m->mac);
	r = nl_link_index(nl, m->bridge, &bridge);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "find bridge '%s'", m->bridge);
	r = nl_veth_add(nl, m->ifname, "eth0", ns, *m->mac ? mac : NULL, m->mtu);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "create interface '%s'", m->ifname);
	r = join_bridge(nl, m->ifname, bridge);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "add interface '%s' to bridge '%s'", m->ifname, m->bridge)
		     : 0;
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
	if (setns(host, flag) < 0) {
		/* In the wrong namespace nothing that follows would be right. */
		log_error("return to the host's namespace: %s", strerror(errno));
		abort();
	}
	if (r == 0)
		*ret_ns = TAKE_FD(ns);
	return r;
}

static int net_inside(const struct msg_sandbox *m, int ns, struct nl *host, struct err *e)
{
	int r = streq(m->net, "bridge") ? plug(host, m, ns, e) : 0;

	return r < 0 ? r : configure_inside(m, e);
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
		sandbox_end(hooks, streq(m->net, "bridge") ? m->ifname : NULL);
	return r;
}

void sandbox_end(struct local_hooks *hooks, const char *ifname)
{
	_cleanup_nl_ struct nl *nl = NULL;
	int index, r;

	if (ifname && hooks->net_ns_fd >= 0) {
		r = nl_open(&nl);
		if (r == 0)
			r = nl_link_index(nl, ifname, &index);
		if (r == 0)
			r = nl_link_del(nl, index);
		/* The namespace takes it along in any case, only later. */
		if (r < 0 && r != -ENODEV)
			log_warn("delete interface '%s': %s", ifname, strerror(-r));
	}
	fd_close(&hooks->net_ns_fd);
	fd_close(&hooks->ipc_ns_fd);
}
