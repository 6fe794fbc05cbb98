#include "shim/shim.h"
#include "base/fd.h"
#include "base/strv.h"
#include "lib/netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>

/* lo and, with an address, eth0: in the namespace the caller has entered. */
static int configure_inside(const struct msg_sandbox *m)
{
	_cleanup_nl_ struct nl *nl = NULL;
	struct nl_addr a;
	int index, r;

	r = nl_open(&nl);
	if (r == 0)
		r = nl_link_index(nl, "lo", &index);
	if (r == 0)
		r = nl_link_set_up(nl, index, true);
	if (r < 0 || !streq(m->net, "bridge"))
		return r;
	r = nl_link_index(nl, "eth0", &index);
	if (r == 0)
		r = nl_addr_parse(m->address, &a);
	if (r < 0)
		return r;
	a.prefix = m->prefix;
	r = nl_addr_add(nl, index, &a);
	if (r == 0)
		r = nl_link_set_up(nl, index, true);
	if (r == 0)
		r = nl_addr_parse(m->gateway, &a);
	return r == 0 ? nl_route_add_default(nl, &a, index) : r;
}

/* The host's half: the veth, whose other end is born inside, in the bridge. */
static int plug(struct nl *nl, const struct msg_sandbox *m, int ns)
{
	uint8_t mac[6];
	int bridge, index, r;

	r = mac_parse(m->mac, mac);
	if (r == 0)
		r = nl_link_index(nl, m->bridge, &bridge);
	if (r == 0)
		r = nl_veth_add(nl, m->ifname, "eth0", ns, mac, m->mtu);
	if (r == 0)
		r = nl_link_index(nl, m->ifname, &index);
	if (r == 0)
		r = nl_link_set_master(nl, index, bridge);
	if (r == 0)
		r = nl_link_set_hairpin(nl, index, true);
	return r == 0 ? nl_link_set_up(nl, index, true) : r;
}

static int make_net(struct sandbox *s, const struct msg_sandbox *m)
{
	_cleanup_close_ int host = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	_cleanup_nl_ struct nl *nl = NULL;
	int r;

	if (host < 0)
		return -errno;
	r = nl_open(&nl);	/* stays in the host's namespace */
	if (r < 0)
		return r;
	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	s->net_ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	r = s->net_ns < 0 ? -errno : 0;
	if (r == 0 && streq(m->net, "bridge"))
		r = plug(nl, m, s->net_ns);
	if (r == 0)
		r = configure_inside(m);
	if (setns(host, CLONE_NEWNET) < 0)
		return -errno;
	return r;
}

static int make_ipc(struct sandbox *s)
{
	_cleanup_close_ int host = open("/proc/self/ns/ipc", O_RDONLY | O_CLOEXEC);

	if (host < 0 || unshare(CLONE_NEWIPC) < 0)
		return -errno;
	s->ipc_ns = open("/proc/self/ns/ipc", O_RDONLY | O_CLOEXEC);
	if (s->ipc_ns < 0 || setns(host, CLONE_NEWIPC) < 0)
		return -errno;
	return 0;
}

int sandbox_make(struct sandbox *s, const struct msg_sandbox *m, struct err *e)
{
	int r;

	if (!streq(m->net, "host")) {
		r = make_net(s, m);
		if (r < 0)
			return err_set(e, ERR_SYSTEM, r, "set up the network of sandbox '%s'", m->sandbox);
	}
	r = make_ipc(s);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "set up the ipc namespace of sandbox '%s'", m->sandbox) : 0;
}
