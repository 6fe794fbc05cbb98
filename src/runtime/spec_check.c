/* What the parser cannot see: conditions between fields, and what this host or this runtime does not have. */
#include "runtime/internal.h"
#include "base/strv.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static int check_sysctls(const struct oci_spec *s, struct err *e)
{
	for (size_t i = 0; i < s->sysctl.n; i++) {
		int r = sysctl_check(s, s->sysctl.v[i].key, e);

		if (r < 0)
			return r;
		if (strstr(s->sysctl.v[i].key, ".."))
			return err_msg(e, ERR_INVALID, -EPERM, "sysctl \"%s\" is not valid",
				       s->sysctl.v[i].key);
	}
	return 0;
}

static int check_paths(const char *what, char *const *paths, struct err *e)
{
	for (; paths && *paths; paths++)
		if ((*paths)[0] != '/')
			return err_msg(e, ERR_INVALID, 0, "linux.%s: '%s' must be an absolute path", what,
				       *paths);
	return 0;
}

static int check_user_ns(const struct oci_spec *s, struct err *e)
{
	const struct oci_user *u = &(s->process ? s->process : &process_none)->user;
	const struct oci_namespace *ns = &s->ns[OCI_NS_USER];
	bool none = !s->uids.n && !s->gids.n;
	uint32_t id;

	if (!ns->given)
		return none ? 0
			    : err_msg(e, ERR_INVALID, 0, "linux.%s: given without a user namespace",
				      s->uids.n ? "uidMappings" : "gidMappings");
	if (ns->path)
		return 0;	/* it has its maps already */
	if (!s->uids.n || !s->gids.n)
		return err_msg(e, ERR_INVALID, 0, "linux.%s: a new user namespace needs them",
			       s->uids.n ? "gidMappings" : "uidMappings");
	if (!oci_id_maps_find(&s->uids, u->uid, &id))
		return err_msg(e, ERR_INVALID, 0, "process.user.uid: %u is not in linux.uidMappings", u->uid);
	if (!oci_id_maps_find(&s->gids, u->gid, &id))
		return err_msg(e, ERR_INVALID, 0, "process.user.gid: %u is not in linux.gidMappings", u->gid);
	return 0;
}

static int check_times(const struct oci_spec *s, struct err *e)
{
	const struct oci_namespace *ns = &s->ns[OCI_NS_TIME];

	for (int i = 0; i < _OCI_CLOCK_MAX; i++)
		if (s->time_offsets[i].given && (!ns->given || ns->path))
			return err_msg(e, ERR_INVALID, 0, "linux.timeOffsets: cannot be set without a time "
							  "namespace of the container's own");
	return 0;
}

/* What is mounted, masked and made read-only for a container would be so for the host. */
static bool is_own_mount_ns(const char *path)
{
	struct stat own, st;

	return path && stat(path, &st) == 0 && stat("/proc/self/ns/mnt", &own) == 0 &&
	       st.st_ino == own.st_ino && st.st_dev == own.st_dev;
}

int spec_check(const struct oci_spec *s, struct err *e)
{
	int r;

	if (!s->ns[OCI_NS_MNT].given || is_own_mount_ns(s->ns[OCI_NS_MNT].path))
		return err_msg(e, ERR_INVALID, 0,
			       "linux.namespaces: a mount namespace that is not the runtime's is required");
	if ((!str_empty(s->hostname) || !str_empty(s->domainname)) && !s->ns[OCI_NS_UTS].given)
		return err_msg(e, ERR_INVALID, 0, "hostname: cannot be set without a uts namespace");
	r = lsm_check(s->process ? s->process : &process_none, s->mount_label, e);
	if (r == 0)
		r = check_user_ns(s, e);
	if (r == 0)
		r = check_times(s, e);
	if (r == 0)
		r = check_sysctls(s, e);
	if (r == 0)
		r = check_paths("maskedPaths", s->masked_paths, e);
	if (r == 0)
		r = check_paths("readonlyPaths", s->readonly_paths, e);
	return r;
}
