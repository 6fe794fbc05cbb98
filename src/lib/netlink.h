/* A small rtnetlink client: just what insula needs to plug containers in. Synchronous, one socket per
 * call set; every function returns 0 or -errno (the kernel's answer). Works in the caller's current
 * network namespace; ns_fd arguments move an object into another. */
#pragma once

#include "base/macro.h"
#include <netinet/in.h>
#include <stdbool.h>

struct nl;			/* a netlink socket, bound to the namespace it was opened in */
int nl_open(struct nl **ret);
void nl_close(struct nl *n);
DEFINE_CLEANUP(struct nl *, nl_close)
#define _cleanup_nl_ _cleanup_(nl_closep)

struct nl_addr {
	int family; /* AF_INET, AF_INET6 */
	union {
		struct in_addr v4;
		struct in6_addr v6;
	};
	unsigned prefix;
};
int nl_addr_parse(const char *s /* "10.0.0.1/24" or without prefix */, struct nl_addr *ret);

size_t nl_addr_bytes(const struct nl_addr *a);		/* of the address itself */

int nl_link_index(struct nl *n, const char *name, int *ret);		/* -ENODEV */
int nl_link_set_up(struct nl *n, int index, bool up);
int nl_link_set_mac(struct nl *n, int index, const uint8_t mac[6]);
int nl_link_set_name(struct nl *n, int index, const char *name);
int nl_link_set_ns(struct nl *n, int index, int ns_fd);
int nl_link_set_mtu(struct nl *n, int index, unsigned mtu);
int nl_link_set_master(struct nl *n, int index, int master);		/* 0 = none */
int nl_link_set_hairpin(struct nl *n, int index, bool on);
/* Makes name a port of bridge, up, with hairpin: a container may reach itself by its own published port.
 * mtu 0: as it is. */
int nl_port_join(struct nl *n, const char *name, const char *bridge, unsigned mtu);
int nl_link_del(struct nl *n, int index);
int nl_bridge_add(struct nl *n, const char *name);			/* -EEXIST is returned */
/* veth `name` here, peer `peer` created directly inside the namespace ns_fd with that MAC (NULL = random). */
int nl_veth_add(struct nl *n, const char *name, const char *peer, int ns_fd, const uint8_t peer_mac[6],
		unsigned mtu);
/* The interface `name` with this MAC, which shares `parent` with the host and others of this kind (macvlan,
 * mode bridge), inside the namespace ns_fd. mtu 0: the parent's. */
int nl_macvlan_add(struct nl *n, const char *name, const char *parent, int ns_fd, const uint8_t mac[6],
		   unsigned mtu);
int nl_addr_add(struct nl *n, int index, const struct nl_addr *a);	/* -EEXIST is success */
int nl_route_add_default(struct nl *n, const struct nl_addr *gateway, int index);
/* Opens a non-persistent tap (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR) called name; it vanishes with the fd. */
int nl_tap_open(const char *name, int *ret_fd);
/* The tap of a machine's NIC, ready for use. kind "": a port of bridge. kind "macvlan": a macvtap on the
 * interface called bridge, which stays when its descriptor is closed, to be deleted. */
int nl_nic_tap_open(struct nl *n, const char *kind, const char *name, const char *bridge, const char *mac,
		    unsigned mtu, int *ret_fd);
int mac_parse(const char *s, uint8_t ret[6]);
