/* Links, addresses and routes, in network namespaces of the test's own. Needs root, as insula does. */
#include "tests/unit/test.h"

#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"
#include "lib/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static int outer_ns, inner_ns;	/* the test runs in outer */

static int fresh_namespaces(void **state)
{
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	inner_ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	outer_ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	return inner_ns >= 0 && outer_ns >= 0 ? 0 : -1;
}

/* An ioctl that reads one fact of an interface of the current namespace. */
static struct ifreq fact(const char *name, unsigned long request)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { 0 };

	snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", name);
	assert_int_equal(ioctl(fd, request, &ifr), 0);
	return ifr;
}

static void addresses_are_parsed_strictly(void **state)
{
	static const char *const bad[] = {"",       "1.2.3",    "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/x",
					  "::/129", "1.2.3.4 ", "/8",         "::1/-1"};
	struct nl_addr a;

	assert_int_equal(nl_addr_parse("172.17.0.2/16", &a), 0);
	assert_int_equal(a.family, AF_INET);
	assert_int_equal(a.prefix, 16);
	assert_int_equal(a.v4.s_addr, inet_addr("172.17.0.2"));
	assert_int_equal(nl_addr_parse("10.0.0.1", &a), 0);
	assert_int_equal(a.prefix, 32);
	assert_int_equal(nl_addr_parse("fd00::1/64", &a), 0);
	assert_int_equal(a.family, AF_INET6);
	assert_int_equal(a.prefix, 64);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(nl_addr_parse(bad[i], &a), -EINVAL);
}

static void mac_addresses_are_parsed_strictly(void **state)
{
	static const char *const bad[] = {"", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "02:42:ac:11:00:0g",
					  "02-42-ac-11-00-02"};
	uint8_t mac[6];

	assert_int_equal(mac_parse("02:42:ac:11:00:02", mac), 0);
	assert_memory_equal(mac, "\x02\x42\xac\x11\x00\x02", 6);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(mac_parse(bad[i], mac), -EINVAL);
}

static void links_are_found_by_name(void **state)
{
	_cleanup_nl_ struct nl *n = NULL;
	int index = 0;

	assert_int_equal(nl_open(&n), 0);
	assert_int_equal(nl_link_index(n, "lo", &index), 0);
	assert_int_equal(index, (int)if_nametoindex("lo"));
	assert_int_equal(nl_link_index(n, "nonesuch", &index), -ENODEV);
	assert_int_equal(nl_link_index(n, "", &index), -EINVAL);
	assert_int_equal(nl_link_index(n, "a-name-that-is-too-long", &index), -EINVAL);
	assert_int_equal(nl_link_set_up(n, 12345, true), -ENODEV);
}

static void a_bridge_is_made_once(void **state)
{
	_cleanup_nl_ struct nl *n = NULL;
	int index;

	assert_int_equal(nl_open(&n), 0);
	assert_int_equal(nl_bridge_add(n, "br0"), 0);
	assert_int_equal(nl_bridge_add(n, "br0"), -EEXIST);
	assert_int_equal(nl_link_index(n, "br0", &index), 0);
	assert_int_equal(nl_link_set_mtu(n, index, 1400), 0);
	assert_int_equal(fact("br0", SIOCGIFMTU).ifr_mtu, 1400);
	assert_int_equal(nl_link_set_mac(n, index, (const uint8_t *)"\x02\x42\x01\x02\x03\x04"), 0);
	assert_memory_equal(fact("br0", SIOCGIFHWADDR).ifr_hwaddr.sa_data, "\x02\x42\x01\x02\x03\x04", 6);
	assert_int_equal(nl_link_set_name(n, index, "br1"), 0);
	assert_int_equal(if_nametoindex("br1"), index);
	assert_int_equal(nl_link_del(n, index), 0);
	assert_int_equal(nl_link_del(n, index), -ENODEV);
}

/* Everything a container needs, and one packet through it. */
static void a_namespace_is_plugged_in(void **state)
{
	_cleanup_nl_ struct nl *out = NULL, *in = NULL;
	_cleanup_close_ int rx = -EBADF, tx = -EBADF;
	_cleanup_free_ char *hairpin = NULL;
	struct sockaddr_in to = {
	    .sin_family = AF_INET, .sin_port = htons(7), .sin_addr.s_addr = inet_addr("10.9.0.1")};
	struct pollfd pfd = { .events = POLLIN };
	struct nl_addr a;
	uint8_t mac[6];
	int bridge, veth, eth;

	assert_int_equal(nl_open(&out), 0);
	assert_int_equal(nl_bridge_add(out, "br0"), 0);
	assert_int_equal(nl_link_index(out, "br0", &bridge), 0);
	assert_int_equal(nl_addr_parse("10.9.0.1/16", &a), 0);
	assert_int_equal(nl_addr_add(out, bridge, &a), 0);
	assert_int_equal(nl_addr_add(out, bridge, &a), 0);	/* once more is no error */
	assert_int_equal(nl_link_set_up(out, bridge, true), 0);
	assert_int_equal(mac_parse("02:42:0a:09:00:02", mac), 0);
	assert_int_equal(nl_veth_add(out, "v0", "eth0", inner_ns, mac, 1450), 0);
	assert_int_equal(if_nametoindex("eth0"), 0);		/* it never was here */
	assert_int_equal(nl_veth_add(out, "v0", "eth1", inner_ns, NULL, 0), -EEXIST);
	assert_int_equal(nl_link_index(out, "v0", &veth), 0);
	assert_int_equal(nl_link_set_master(out, veth, bridge), 0);
	assert_int_equal(nl_link_set_hairpin(out, veth, true), 0);
	assert_int_equal(nl_link_set_up(out, veth, true), 0);

	assert_int_equal(setns(inner_ns, CLONE_NEWNET), 0);
	assert_int_equal(nl_open(&in), 0);
	assert_int_equal(nl_link_index(in, "eth0", &eth), 0);
	assert_memory_equal(fact("eth0", SIOCGIFHWADDR).ifr_hwaddr.sa_data, mac, 6);
	assert_int_equal(fact("eth0", SIOCGIFMTU).ifr_mtu, 1450);
	assert_int_equal(nl_addr_parse("10.9.0.2/16", &a), 0);
	assert_int_equal(nl_addr_add(in, eth, &a), 0);
	assert_int_equal(nl_link_set_up(in, eth, true), 0);
	assert_int_equal(nl_addr_parse("10.9.0.1", &a), 0);
	assert_int_equal(nl_route_add_default(in, &a, eth), 0);
	assert_int_equal(nl_route_add_default(in, &a, eth), 0);
	tx = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(setns(outer_ns, CLONE_NEWNET), 0);

	rx = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(rx, (struct sockaddr *)&to, sizeof to), 0);
	pfd.fd = rx;
	assert_int_equal(sendto(tx, "x", 1, 0, (struct sockaddr *)&to, sizeof to), 1);
	assert_int_equal(poll(&pfd, 1, 5000), 1);

	/* One end takes the other along, and the descriptor of the namespace is all that kept it. */
	assert_int_equal(nl_link_del(out, veth), 0);
	assert_int_equal(nl_link_set_up(in, eth, true), -ENODEV);
	assert_int_equal(nl_link_del(out, bridge), 0);
}

static void a_tap_lives_as_long_as_its_descriptor(void **state)
{
	int fd = -EBADF;

	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		skip();
	assert_int_equal(nl_tap_open("tap-with-a-long-name", &fd), -EINVAL);
	assert_int_equal(nl_tap_open("tap0", &fd), 0);
	assert_true(if_nametoindex("tap0") > 0);
	fd_close(&fd);
	assert_int_equal(if_nametoindex("tap0"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_parsed_strictly),
		cmocka_unit_test(mac_addresses_are_parsed_strictly),
		cmocka_unit_test(links_are_found_by_name),
		cmocka_unit_test(a_bridge_is_made_once),
		cmocka_unit_test(a_namespace_is_plugged_in),
		cmocka_unit_test(a_tap_lives_as_long_as_its_descriptor),
	};

	return cmocka_run_group_tests(tests, fresh_namespaces, NULL);
}
