#include "task/nics.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "lib/netlink.h"

#include <fcntl.h>
#include <string.h>

int nics_loopback(struct err *e)
{
	_cleanup_nl_ struct nl *nl = NULL;
	int index, r = nl_open(&nl);

	if (r == 0)
		r = nl_link_index(nl, "lo", &index);
	if (r == 0)
		r = nl_link_set_up(nl, index, true);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "set up the loopback interface") : 0;
}

/* No IPv6 on an interface that was given no such address; and one that was listens to no router. */
static void set_ipv6(const struct msg_nic *m)
{
	_cleanup_free_ char *off = xasprintf("/proc/sys/net/ipv6/conf/%s/disable_ipv6", m->name),
			    *ra = xasprintf("/proc/sys/net/ipv6/conf/%s/accept_ra", m->name);
	bool any = false;

	for (char **a = m->addresses; a && *a; a++)
		any |= strchr(*a, ':') != NULL;
	(void)fs_write(AT_FDCWD, any ? ra : off, any ? "0" : "1");
}

static int add_address(struct nl *nl, int index, const struct msg_nic *m, const char *text, struct err *e)
{
	struct nl_addr a;
	int r = nl_addr_parse(text, &a);

	if (r == 0)
		r = nl_addr_add(nl, index, &a);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "give %s the address '%s'", m->name, text) : 0;
}

static int add_route(struct nl *nl, int index, const char *text, struct err *e)
{
	struct nl_addr a;
	int r = nl_addr_parse(text, &a);

	if (r == 0)
		r = nl_route_add_default(nl, &a, index);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "set the default gateway '%s'", text) : 0;
}

static int configure(struct nl *nl, const struct msg_nic *m, struct err *e)
{
	int index, r = nl_link_index(nl, m->name, &index);

	if (r == 0 && m->mtu)
		r = nl_link_set_mtu(nl, index, m->mtu);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "set up the interface '%s'", m->name);
	set_ipv6(m);
	for (char **a = m->addresses; r == 0 && a && *a; a++)
		r = add_address(nl, index, m, *a, e);
	if (r < 0)
		return r;
	r = nl_link_set_up(nl, index, true);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "set up the interface '%s'", m->name);
	for (char **g = m->gateways; r == 0 && g && *g; g++)
		r = add_route(nl, index, *g, e);
	return r;
}

int nics_configure(const struct nics *nics, struct err *e)
{
	_cleanup_nl_ struct nl *nl = NULL;
	int r;

	if (!nics->n)
		return 0;
	r = nl_open(&nl);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "open netlink");
	for (size_t i = 0; r == 0 && i < nics->n; i++)
		r = configure(nl, &nics->v[i], e);
	return r;
}
