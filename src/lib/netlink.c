/* Theory of operation.
 *
 * One request, one answer: a message is built in a fixed buffer, sent, and the kernel's replies are
 * read until the one that carries our sequence number says done or error. Attributes are nested by
 * remembering where a nest began and writing its length when it ends. Nothing here trusts a length
 * from the kernel beyond what was received. */
#include "lib/netlink.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"
#include "lib/nl_sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

struct nl {
	int fd;
	uint32_t seq;
};

int nl_open(struct nl **ret)
{
	int fd = nl_sock_open(NETLINK_ROUTE, 0, 0);

	if (fd < 0)
		return fd;
	*ret = new0(struct nl);
	(*ret)->fd = fd;
	return 0;
}

void nl_close(struct nl *n)
{
	if (!n)
		return;
	fd_close(&n->fd);
	free(n);
}

/* --- talking --- */

/* What an answer is compared with, and where it goes. */
struct expected { uint32_t seq; void *reply; size_t reply_n; };

static int on_answer(void *userdata, const struct nlmsghdr *h)
{
	struct expected *x = userdata;

	if (h->nlmsg_seq != x->seq)
		return 0;
	if (h->nlmsg_type == NLMSG_ERROR)
		return nl_verdict(h);
	if (x->reply)
		memcpy(x->reply, h, MIN((size_t)h->nlmsg_len, x->reply_n));
	x->reply = NULL;
	return 0;
}

/* Sends and waits for the answer. reply, if given, receives the first message that is not the ack. */
static int talk(struct nl *n, struct req *r, void *reply, size_t reply_n)
{
	struct expected x = { ++n->seq, reply, reply_n };

	r->h.nlmsg_seq = n->seq;
	if (RETRY(send(n->fd, r, r->h.nlmsg_len, 0)) < 0)
		return -errno;
	return nl_sock_answers(n->fd, on_answer, &x);
}

static int name_check(const char *name)
{
	return *name && strlen(name) < IFNAMSIZ ? 0 : -EINVAL;
}

/* --- addresses as text --- */

int nl_addr_parse(const char *s, struct nl_addr *ret)
{
	_cleanup_free_ char *host = xstrndup(s, strcspn(s, "/"));
	struct nl_addr a = { 0 };
	uint64_t prefix;

	if (inet_pton(AF_INET, host, &a.v4) == 1)
		a.family = AF_INET;
	else if (inet_pton(AF_INET6, host, &a.v6) == 1)
		a.family = AF_INET6;
	else
		return -EINVAL;
	a.prefix = a.family == AF_INET ? 32 : 128;
	if (s[strlen(host)] == '/') {
		if (str_to_u64(s + strlen(host) + 1, &prefix) < 0 || prefix > a.prefix)
			return -EINVAL;
		a.prefix = (unsigned)prefix;
	}
	*ret = a;
	return 0;
}

int mac_parse(const char *s, uint8_t ret[6])
{
	unsigned b[6];
	int n = 0;

	if (sscanf(s, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &n) != 6 || s[n])
		return -EINVAL;
	for (int i = 0; i < 6; i++)
		ret[i] = (uint8_t)b[i];
	return 0;
}

size_t nl_addr_bytes(const struct nl_addr *a)
{
	return a->family == AF_INET ? sizeof a->v4 : sizeof a->v6;
}

/* --- links --- */

int nl_link_index(struct nl *n, const char *name, int *ret)
{
	struct { struct nlmsghdr h; struct ifinfomsg ifi; } reply = { 0 };
	struct ifinfomsg *ifi;
	struct req r;
	int rc = name_check(name);

	if (rc < 0)
		return rc;
	ifi = req_init(&r, RTM_GETLINK, 0, sizeof *ifi);
	ifi->ifi_family = AF_UNSPEC;
	attr_str(&r, IFLA_IFNAME, name);
	rc = talk(n, &r, &reply, sizeof reply);
	if (rc < 0)
		return rc;
	if (reply.h.nlmsg_type != RTM_NEWLINK || reply.ifi.ifi_index <= 0)
		return -ENODEV;
	*ret = reply.ifi.ifi_index;
	return 0;
}

static struct ifinfomsg *link_req(struct req *r, int index)
{
	struct ifinfomsg *ifi = req_init(r, RTM_NEWLINK, 0, sizeof *ifi);

	ifi->ifi_family = AF_UNSPEC;
	ifi->ifi_index = index;
	return ifi;
}

static int set_flags(struct nl *n, int index, unsigned change, unsigned flags)
{
	struct req r;
	struct ifinfomsg *ifi = link_req(&r, index);

	ifi->ifi_change = change;
	ifi->ifi_flags = flags;
	return talk(n, &r, NULL, 0);
}

int nl_link_set_up(struct nl *n, int index, bool up)
{
	return set_flags(n, index, IFF_UP, up ? IFF_UP : 0);
}

int nl_link_set_mac(struct nl *n, int index, const uint8_t mac[6])
{
	struct req r;

	link_req(&r, index);
	attr(&r, IFLA_ADDRESS, mac, 6);
	return talk(n, &r, NULL, 0);
}

int nl_link_set_ns(struct nl *n, int index, int ns_fd)
{
	struct req r;

	link_req(&r, index);
	attr(&r, IFLA_NET_NS_FD, &ns_fd, sizeof ns_fd);
	return talk(n, &r, NULL, 0);
}

int nl_link_set_name(struct nl *n, int index, const char *name)
{
	struct req r;
	int rc = name_check(name);

	if (rc < 0)
		return rc;
	link_req(&r, index);
	attr_str(&r, IFLA_IFNAME, name);
	return talk(n, &r, NULL, 0);
}

int nl_link_set_mtu(struct nl *n, int index, unsigned mtu)
{
	struct req r;

	link_req(&r, index);
	attr_u32(&r, IFLA_MTU, mtu);
	return talk(n, &r, NULL, 0);
}

int nl_link_set_master(struct nl *n, int index, int master)
{
	struct req r;

	link_req(&r, index);
	attr_u32(&r, IFLA_MASTER, (uint32_t)master);
	return talk(n, &r, NULL, 0);
}

int nl_link_set_hairpin(struct nl *n, int index, bool on)
{
	struct req r;
	struct ifinfomsg *ifi = req_init(&r, RTM_SETLINK, 0, sizeof *ifi);
	struct rtattr *port;
	uint8_t v = on;

	ifi->ifi_family = AF_BRIDGE;
	ifi->ifi_index = index;
	port = nest(&r, IFLA_PROTINFO | NLA_F_NESTED);
	attr(&r, IFLA_BRPORT_MODE, &v, 1);
	nest_end(&r, port);
	return talk(n, &r, NULL, 0);
}

int nl_link_del(struct nl *n, int index)
{
	struct req r;
	struct ifinfomsg *ifi = req_init(&r, RTM_DELLINK, 0, sizeof *ifi);

	ifi->ifi_index = index;
	return talk(n, &r, NULL, 0);
}

int nl_port_join(struct nl *n, const char *name, const char *bridge, unsigned mtu)
{
	int port, master, r = nl_link_index(n, bridge, &master);

	if (r == 0)
		r = nl_link_index(n, name, &port);
	if (r == 0 && mtu)
		r = nl_link_set_mtu(n, port, mtu);
	if (r == 0)
		r = nl_link_set_master(n, port, master);
	if (r == 0)
		r = nl_link_set_hairpin(n, port, true);
	return r == 0 ? nl_link_set_up(n, port, true) : r;
}

int nl_bridge_add(struct nl *n, const char *name)
{
	struct req r;
	struct rtattr *info;
	int rc = name_check(name);

	if (rc < 0)
		return rc;
	req_init(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	attr_str(&r, IFLA_IFNAME, name);
	info = nest(&r, IFLA_LINKINFO);
	attr_str(&r, IFLA_INFO_KIND, "bridge");
	nest_end(&r, info);
	return talk(n, &r, NULL, 0);
}

int nl_veth_add(struct nl *n, const char *name, const char *peer, int ns_fd, const uint8_t peer_mac[6],
		unsigned mtu)
{
	struct rtattr *info, *data, *other;
	struct req r;
	int rc = name_check(name);

	if (rc == 0)
		rc = name_check(peer);
	if (rc < 0)
		return rc;
	req_init(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	attr_str(&r, IFLA_IFNAME, name);
	if (mtu)
		attr_u32(&r, IFLA_MTU, mtu);
	info = nest(&r, IFLA_LINKINFO);
	attr_str(&r, IFLA_INFO_KIND, "veth");
	data = nest(&r, IFLA_INFO_DATA);
	other = nest(&r, VETH_INFO_PEER);
	put(&r, sizeof(struct ifinfomsg));
	attr_str(&r, IFLA_IFNAME, peer);
	if (mtu)
		attr_u32(&r, IFLA_MTU, mtu);
	if (peer_mac)
		attr(&r, IFLA_ADDRESS, peer_mac, 6);
	attr_u32(&r, IFLA_NET_NS_FD, (uint32_t)ns_fd);
	nest_end(&r, other);
	nest_end(&r, data);
	nest_end(&r, info);
	return talk(n, &r, NULL, 0);
}

/* kind: macvlan, or macvtap. */
static int shared_link_add(struct nl *n, const char *kind, const char *name, const char *parent, int ns_fd,
			   const uint8_t mac[6], unsigned mtu)
{
	struct rtattr *info, *data;
	int index, rc = name_check(name);
	struct req r;

	if (rc == 0)
		rc = nl_link_index(n, parent, &index);
	if (rc < 0)
		return rc;
	req_init(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	attr_str(&r, IFLA_IFNAME, name);
	attr_u32(&r, IFLA_LINK, (uint32_t)index);
	attr(&r, IFLA_ADDRESS, mac, 6);
	if (mtu)
		attr_u32(&r, IFLA_MTU, mtu);
	if (ns_fd >= 0)
		attr_u32(&r, IFLA_NET_NS_FD, (uint32_t)ns_fd);
	info = nest(&r, IFLA_LINKINFO);
	attr_str(&r, IFLA_INFO_KIND, kind);
	data = nest(&r, IFLA_INFO_DATA);
	attr_u32(&r, IFLA_MACVLAN_MODE, MACVLAN_MODE_BRIDGE);
	nest_end(&r, data);
	nest_end(&r, info);
	return talk(n, &r, NULL, 0);
}

int nl_macvlan_add(struct nl *n, const char *name, const char *parent, int ns_fd, const uint8_t mac[6],
		   unsigned mtu)
{
	return shared_link_add(n, "macvlan", name, parent, ns_fd, mac, mtu);
}

/* --- addresses and routes --- */

int nl_addr_add(struct nl *n, int index, const struct nl_addr *a)
{
	struct req r;
	struct ifaddrmsg *ifa = req_init(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, sizeof *ifa);
	int rc;

	ifa->ifa_family = (uint8_t)a->family;
	ifa->ifa_prefixlen = (uint8_t)a->prefix;
	ifa->ifa_index = (uint32_t)index;
	/* who gives addresses here knows that nobody else has them: they work at once */
	if (a->family == AF_INET6)
		ifa->ifa_flags = IFA_F_NODAD;
	attr(&r, IFA_LOCAL, &a->v4, nl_addr_bytes(a));
	attr(&r, IFA_ADDRESS, &a->v4, nl_addr_bytes(a));
	if (a->family == AF_INET && a->prefix < 31) {
		struct in_addr bc = { a->v4.s_addr | htonl(a->prefix ? ~0u >> a->prefix : ~0u) };

		attr(&r, IFA_BROADCAST, &bc, sizeof bc);
	}
	rc = talk(n, &r, NULL, 0);
	return rc == -EEXIST ? 0 : rc;
}

int nl_route_add_default(struct nl *n, const struct nl_addr *gateway, int index)
{
	struct req r;
	struct rtmsg *rt = req_init(&r, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof *rt);

	rt->rtm_family = (uint8_t)gateway->family;
	rt->rtm_table = RT_TABLE_MAIN;
	rt->rtm_protocol = RTPROT_BOOT;
	rt->rtm_scope = RT_SCOPE_UNIVERSE;
	rt->rtm_type = RTN_UNICAST;
	attr(&r, RTA_GATEWAY, &gateway->v4, nl_addr_bytes(gateway));
	attr_u32(&r, RTA_OIF, (uint32_t)index);
	return talk(n, &r, NULL, 0);
}

int nl_tap_open(const char *name, int *ret_fd)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	_cleanup_close_ int fd = -EBADF;
	int rc = name_check(name);

	if (rc < 0)
		return rc;
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	memcpy(ifr.ifr_name, name, strlen(name) + 1);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* The character device of a macvtap. Where nobody keeps /dev filled it is made for a moment. */
static int macvtap_device_open(const char *name, int index)
{
	_cleanup_free_ char *sys = xasprintf("/sys/class/net/%s/tap%d/dev", name, index), *numbers = NULL,
			    *path = xasprintf("/dev/tap%d", index), *own = xasprintf("/dev/.tap%d", index);
	unsigned major, minor;
	struct stat st;
	int fd, r = fs_read_line(AT_FDCWD, sys, &numbers);

	if (r < 0)
		return r;
	if (sscanf(numbers, "%u:%u", &major, &minor) != 2)
		return -EBADMSG;
	if (stat(path, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(major, minor)) {
		fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
		return fd < 0 ? -errno : fd;
	}
	(void)unlink(own);
	if (mknod(own, S_IFCHR | 0600, makedev(major, minor)) < 0)
		return -errno;
	fd = open(own, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	r = fd < 0 ? -errno : fd;
	(void)unlink(own);
	return r;
}

static int macvtap_open(struct nl *n, const char *name, const char *parent, const char *mac, unsigned mtu,
			int *ret_fd)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	const unsigned flags = IFF_UP | IFF_ALLMULTI;
	_cleanup_close_ int fd = -EBADF;
	uint8_t bytes[6];
	int index, r = mac_parse(mac, bytes);

	if (r == 0)
		r = shared_link_add(n, "macvtap", name, parent, -1, bytes, mtu);
	if (r < 0)
		return r;
	r = nl_link_index(n, name, &index);
	if (r < 0)
		return r;
	r = fd = macvtap_device_open(name, index);
	/* which groups the guest listens to (IPv6 does, for neighbours) is not known here */
	if (r >= 0)
		r = ioctl(fd, TUNSETIFF, &ifr) < 0 ? -errno : set_flags(n, index, flags, flags);
	if (r < 0)
		(void)nl_link_del(n, index);
	else
		*ret_fd = TAKE_FD(fd);
	return r;
}

int nl_nic_tap_open(struct nl *n, const char *kind, const char *name, const char *bridge, const char *mac,
		    unsigned mtu, int *ret_fd)
{
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (*kind)
		return macvtap_open(n, name, bridge, mac, mtu, ret_fd);
	r = nl_tap_open(name, &fd);
	if (r == 0)
		r = nl_port_join(n, name, bridge, mtu);
	if (r == 0)
		*ret_fd = TAKE_FD(fd);
	return r;
}
