/* The request GUEST: makes this machine a particular one. After a template's restore it is the first
 * that happens; nothing may draw random numbers, look at the clock or touch a device before it.
 * Devices that were added while the machine stood still are found by a PCI rescan. */
#include "agent/agent.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"
#include "lib/netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define DEVICE_DEADLINE_US (10 * 1000000ull)
#define ENTROPY_MAX 4096

struct guest_wait {
	struct pending *p;
	struct msg_guest m;
	struct loop_source *deadline;
};

/* Clones of a template share the state of the random number generator: writing to /dev/random alone
 * would leave it as it is until the next reseed, minutes later. */
static int set_entropy(struct bytes *b)
{
	_cleanup_close_ int fd = -EBADF;
	struct rand_pool_info *info;
	int r = 0;

	if (!b->n)
		return 0;
	if (b->n > ENTROPY_MAX)
		return -EINVAL;
	fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	info = xmalloc(sizeof(*info) + b->n);
	info->entropy_count = (int)b->n * 8;
	info->buf_size = (int)b->n;
	memcpy(info->buf, b->p, b->n);
	if (ioctl(fd, RNDADDENTROPY, info) < 0 || ioctl(fd, RNDRESEEDCRNG, 0) < 0)
		r = -errno;
	explicit_bzero(info, sizeof(*info) + b->n);
	explicit_bzero(b->p, b->n);
	free(info);
	return r;
}

static int set_clock(uint64_t ns)
{
	struct timespec ts = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};

	return ns && clock_settime(CLOCK_REALTIME, &ts) < 0 ? -errno : 0;
}

static int set_identity(struct msg_guest *m, struct err *e)
{
	int r;

	r = set_entropy(&m->entropy);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "seed the guest's random number generator");
	r = set_clock(m->time_ns);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "set the guest's clock");
	if (!str_empty(m->hostname) && sethostname(m->hostname, strlen(m->hostname)) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "set the guest's host name '%s'", m->hostname);
	return 0;
}

static bool wants_net(const struct msg_guest *m)
{
	return !str_empty(m->mac) || !str_empty(m->address);
}

/* What is still missing, for the message; NULL if all is there. */
static char *missing(struct agent *a, const struct msg_guest *m)
{
	for (size_t i = 0; i < strv_len(m->disks); i++) {
		_cleanup_free_ char *dev = NULL;

		if (disk_find(a, m->disks[i], &dev) < 0 || !fs_exists(dev))
			return xasprintf("disk '%s'", m->disks[i]);
	}
	for (size_t i = 0; i < strv_len(m->tags); i++)
		if (share_mount(a, m->tags[i]) < 0)
			return xasprintf("share '%s'", m->tags[i]);
	if (wants_net(m) && !fs_exists("/sys/class/net/eth0"))
		return xstrdup("network interface 'eth0'");
	return NULL;
}

static int net_mac(struct nl *n, int index, const char *text)
{
	_cleanup_free_ char *now = NULL;
	uint8_t mac[6];
	int r;

	if (str_empty(text))
		return 0;
	r = mac_parse(text, mac);
	if (r < 0)
		return r;
	if (fs_read_line(AT_FDCWD, "/sys/class/net/eth0/address", &now) >= 0 && !strcasecmp(now, text))
		return 0;
	return nl_link_set_mac(n, index, mac);
}

static int net_configure(const struct msg_guest *m)
{
	_cleanup_nl_ struct nl *n = NULL;
	struct nl_addr addr, gateway;
	int index, r;

	r = nl_open(&n);
	if (r >= 0)
		r = nl_link_index(n, "eth0", &index);
	if (r >= 0)
		r = net_mac(n, index, m->mac);
	if (r >= 0 && m->mtu)
		r = nl_link_set_mtu(n, index, m->mtu);
	if (r < 0)
		return r;
	/* As on the host's side: no IPv6 on an interface that was given no such address. */
	if (!strchr(m->address ? m->address : "", ':'))
		(void)fs_write(AT_FDCWD, "/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1");
	r = nl_link_set_up(n, index, true);
	if (r < 0 || str_empty(m->address))
		return r;
	r = nl_addr_parse(m->address, &addr);
	if (r < 0)
		return r;
	if (m->prefix)
		addr.prefix = m->prefix;
	r = nl_addr_add(n, index, &addr);
	if (r < 0 || str_empty(m->gateway))
		return r;
	r = nl_addr_parse(m->gateway, &gateway);
	if (r < 0)
		return r;
	r = nl_route_add_default(n, &gateway, index);
	return r == -EEXIST ? 0 : r;
}

static void wait_end(struct agent *a, int r, struct err *e)
{
	struct guest_wait *w = TAKE_PTR(a->wait);

	loop_source_free(w->deadline);
	pending_reply(w->p, r, e, NULL, 0);
	msg_guest_done(&w->m);
	free(w);
}

void guest_poke(struct agent *a)
{
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_free_ char *what = NULL;
	int r = 0;

	if (!a->wait)
		return;
	what = missing(a, &a->wait->m);
	if (what)
		return;
	if (wants_net(&a->wait->m)) {
		r = net_configure(&a->wait->m);
		if (r < 0)
			err_set(&e, ERR_SYSTEM, r, "configure the guest's network interface with address '%s'",
				a->wait->m.address);
	}
	wait_end(a, r, &e);
}

static void on_deadline(struct loop_source *s, void *userdata)
{
	struct agent *a = userdata;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_free_ char *what = missing(a, &a->wait->m);
	int r;

	if (!what) {
		guest_poke(a);
		return;
	}
	r = err_set(&e, ERR_SYSTEM, -ETIMEDOUT, "%s did not appear in the guest", what);
	wait_end(a, r, &e);
}

void guest_request(struct agent *a, uint32_t seq, const struct frame *f)
{
	_cleanup_err_ struct err e = ERR_INIT;
	struct guest_wait *w;
	struct msg_guest m;
	int r;

	r = msg_guest_decode(f->payload, f->len, &m);
	if (r < 0) {
		conn_reply(a->conn, seq, r, NULL, NULL, 0);
		return;
	}
	if (a->wait)
		r = err_msg(&e, ERR_CONFLICT, -EBUSY, "another request of this kind is still waiting for devices");
	if (r >= 0)
		r = set_identity(&m, &e);
	if (r < 0) {
		conn_reply(a->conn, seq, r, &e, NULL, 0);
		msg_guest_done(&m);
		return;
	}
	w = new0(struct guest_wait);
	*w = (struct guest_wait){.p = pending_new(a, seq, MSG_GUEST, "", ""), .m = m};
	a->wait = w;
	r = loop_add_timer(a->loop, DEVICE_DEADLINE_US, 0, on_deadline, a, &w->deadline);
	if (r < 0) {
		wait_end(a, r, NULL);
		return;
	}
	/* Synchronous: when it returns, the drivers of all devices it found are bound. */
	if (strv_len(m.disks) || strv_len(m.tags) || wants_net(&m))
		(void)fs_write(AT_FDCWD, "/sys/bus/pci/rescan", "1");
	guest_poke(a);
}
