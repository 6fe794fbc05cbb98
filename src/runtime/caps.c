/* Capabilities of a process. Names that this kernel does not know, and capabilities that the caller itself
 * lacks, are dropped with a warning: the specification says that they must not be an error. */
#include "runtime/internal.h"
#include "base/log.h"
#include "oci/defaults.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static int cap_get(uint64_t *permitted)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { 0 };

	if (syscall(SYS_capget, &h, d) < 0)
		return -errno;
	*permitted = d[0].permitted | (uint64_t)d[1].permitted << 32;
	return 0;
}

static int cap_set(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = {
		{ (uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable },
		{ (uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32) },
	};

	return syscall(SYS_capset, &h, d) < 0 ? -errno : 0;
}

static uint64_t set_from_names(char *const *names, uint64_t grantable, uint64_t *warned)
{
	uint64_t mask = 0;

	for (; names && *names; names++) {
		int n = oci_cap_number(*names);

		if (n < 0)
			log_warn("capability %s is unknown, left out", *names);
		else if (grantable & (1ull << n))
			mask |= 1ull << n;
		else if (!(*warned & (1ull << n))) {
			*warned |= 1ull << n;
			log_warn("capability %s cannot be granted here, left out", *names);
		}
	}
	return mask;
}

int caps_from_spec(const struct oci_caps *c, bool userns, struct cap_sets *ret)
{
	uint64_t grantable = UINT64_MAX, warned = 0;
	int r = userns ? 0 : cap_get(&grantable);

	if (r < 0)
		return r;
	*ret = (struct cap_sets){
		.bounding = set_from_names(c->bounding, grantable, &warned),
		.permitted = set_from_names(c->permitted, grantable, &warned),
		.effective = set_from_names(c->effective, grantable, &warned),
		.inheritable = set_from_names(c->inheritable, grantable, &warned),
		.ambient = set_from_names(c->ambient, grantable, &warned),
	};
	/* What the kernel would refuse: the sets are nested. */
	ret->effective &= ret->permitted;
	ret->inheritable &= ret->permitted | ret->bounding;
	ret->ambient &= ret->permitted & ret->inheritable;
	return 0;
}

#define SYS_ADMIN_BIT (1ull << CAP_SYS_ADMIN)

/* In a user namespace that an ordinary user has made for himself, setgroups is denied even to who has the
 * capability. His own groups stay then; they give no more than he had. */
static int set_groups(const struct oci_user *u, struct err *e)
{
	uint64_t have = 0;
	int r = setgroups(u->additional_gids.n, u->additional_gids.v) < 0 ? -errno : 0;
	bool denied = r == -EPERM && cap_get(&have) == 0 && have & (1ull << CAP_SETGID);

	if (r == 0 || (denied && !u->additional_gids.n))
		return 0;
	return err_set(e, ERR_SYSTEM, r, "cannot set additional groups%s",
		       denied ? " (denied in this user namespace)" : "");
}

int caps_prepare(const struct cap_sets *c, const struct oci_user *u, bool *ret_kept, struct err *e)
{
	uint64_t keep, have;
	int r;

	for (unsigned i = 0; oci_cap_name(i); i++)
		if (!(c->bounding & (1ull << i)) && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0 &&
		    prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1)
			return err_set(e, ERR_SYSTEM, -errno, "cannot drop %s from the bounding set",
				       oci_cap_name(i));
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot keep capabilities");
	r = set_groups(u, e);
	if (r < 0)
		return r;
	if (setresgid(u->gid, u->gid, u->gid) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot set group id %u", u->gid);
	if (setresuid(u->uid, u->uid, u->uid) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot set user id %u", u->uid);
	(void)prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
	r = cap_get(&have);
	keep = (c->permitted | SYS_ADMIN_BIT) & have;
	if (r == 0)
		r = cap_set(c->effective | (keep & SYS_ADMIN_BIT), keep, c->inheritable);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "cannot set capabilities");
	/* Ambient ones are only what the configuration lists (CVE-2016-8867). */
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (unsigned i = 0; oci_cap_name(i); i++)
		if (c->ambient & (1ull << i) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) < 0)
			return err_set(e, ERR_SYSTEM, -errno, "cannot raise ambient %s", oci_cap_name(i));
	*ret_kept = keep & SYS_ADMIN_BIT;
	return 0;
}

int caps_finish(const struct cap_sets *c)
{
	return cap_set(c->effective, c->permitted, c->inheritable);
}
