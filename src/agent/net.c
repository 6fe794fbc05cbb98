/* The machine's interfaces, as the request GUEST names them. A NIC is known by its MAC: the order in which
 * the kernel found them, and so the names it gave them, means nothing. In a clone one NIC has its template's
 * MAC still: it is the first of those that are missing. */
#include "agent/agent.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"
#include "lib/netlink.h"
#include "task/nics.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <strings.h>

#define CLASS_NET "/sys/class/net"
#define NET_NS "/proc/self/ns/net"

static bool has_mac(const char *name, const char *mac)
{
	_cleanup_free_ char *path = xasprintf(CLASS_NET "/%s/address", name), *now = NULL;

	return fs_read_line(AT_FDCWD, path, &now) >= 0 && !strcasecmp(now, mac);
}

/* The interfaces of this machine's own NICs; heap vector. */
static char **nic_names(void)
{
	DIR *d = opendir(CLASS_NET);
	struct dirent *de;
	char **v = NULL;

	while (d && (de = readdir(d))) {
		_cleanup_free_ char *device = xasprintf(CLASS_NET "/%s/device", de->d_name);

		if (de->d_name[0] != '.' && fs_exists(device))
			strv_add(&v, de->d_name);
	}
	if (d)
		(void)closedir(d);
	return v;
}

static const char *find_mac(char *const *names, const char *mac)
{
	for (; names && *names; names++)
		if (has_mac(*names, mac))
			return *names;
	return NULL;
}

static void take_place(const char *name, const char *mac)
{
	_cleanup_nl_ struct nl *nl = NULL;
	uint8_t bytes[6];
	int index, r = mac_parse(mac, bytes);

	if (r == 0)
		r = nl_open(&nl);
	if (r == 0)
		r = nl_link_index(nl, name, &index);
	if (r == 0)
		r = nl_link_set_mac(nl, index, bytes);
	if (r < 0)
		log_warn("give interface '%s' the address '%s': %s", name, mac, strerror(-r));
}

size_t net_missing(const struct nics *nics, char **ret_mac)
{
	_cleanup_strv_ char **names = nic_names();
	const char *place = find_mac(names, MSG_PLACE_MAC);
	size_t n = 0;

	for (size_t i = 0; place && i < nics->n; i++)
		if (!find_mac(names, nics->v[i].mac))
			take_place(TAKE_PTR(place), nics->v[i].mac);
	for (size_t i = 0; i < nics->n; i++)
		if (!find_mac(names, nics->v[i].mac) && !n++)
			*ret_mac = xstrdup(nics->v[i].mac);
	return n;
}

int net_prepare(struct agent *a)
{
	_cleanup_close_ int here = open(NET_NS, O_RDONLY | O_CLOEXEC);

	if (here < 0 || unshare(CLONE_NEWNET) < 0)
		return -errno;
	a->aside_ns_fd = open(NET_NS, O_RDONLY | O_CLOEXEC);
	return a->aside_ns_fd < 0 || setns(here, CLONE_NEWNET) < 0 ? -errno : 0;
}

/* The place of a NIC that nobody asked for. It is much less work than to take it from its driver. */
static void put_aside(const struct agent *a, const char *name)
{
	_cleanup_nl_ struct nl *nl = NULL;
	int index, r = nl_open(&nl);

	if (r == 0)
		r = nl_link_index(nl, name, &index);
	if (r == 0)
		r = nl_link_set_ns(nl, index, a->aside_ns_fd);
	if (r < 0)
		log_warn("put interface '%s' aside: %s", name, strerror(-r));
}

/* One that is asked for no more leaves the bus; the host takes it away then. */
static void remove_others(const struct agent *a, const struct nics *nics, char *const *names)
{
	for (; names && *names; names++) {
		_cleanup_free_ char *path = xasprintf(CLASS_NET "/%s/device/../remove", *names);
		bool wanted = false;

		for (size_t i = 0; i < nics->n; i++)
			wanted |= has_mac(*names, nics->v[i].mac);
		if (has_mac(*names, MSG_PLACE_MAC))
			put_aside(a, *names);
		else if (!wanted && fs_write(AT_FDCWD, path, "1") < 0)
			log_warn("interface '%s' does not go", *names);
	}
}

static int rename_link(struct nl *nl, const char *from, const char *to)
{
	int index, r = nl_link_index(nl, from, &index);

	if (r == 0)
		r = nl_link_set_up(nl, index, false);
	return r == 0 ? nl_link_set_name(nl, index, to) : r;
}

/* Two may have one another's names: those that are wrong step aside first. */
static int give_names(struct nl *nl, const struct nics *nics)
{
	int r = 0;

	for (int aside = 1; aside >= 0; aside--) {
		_cleanup_strv_ char **names = nic_names();

		for (size_t i = 0; r == 0 && i < nics->n; i++) {
			const char *now = find_mac(names, nics->v[i].mac);
			_cleanup_free_ char *other = xasprintf("aside%zu", i);

			if (now && !streq(now, nics->v[i].name))
				r = rename_link(nl, now, aside ? other : nics->v[i].name);
		}
	}
	return r;
}

int net_configure(const struct agent *a, const struct nics *nics, struct err *e)
{
	_cleanup_strv_ char **names = nic_names();
	_cleanup_nl_ struct nl *nl = NULL;
	int r;

	remove_others(a, nics, names);
	if (!nics->n)
		return 0;
	r = nl_open(&nl);
	if (r == 0)
		r = give_names(nl, nics);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "name the guest's network interfaces");
	return nics_configure(nics, e);
}
