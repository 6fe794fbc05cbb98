/* What may be asked of a mount beside its place: propagation and mapped ids. */
#include "engine/container_int.h"

#include "base/mount.h"
#include "base/alloc.h"
#include "base/strv.h"
#include "oci/runtime_spec.h"
#include <errno.h>
#include <string.h>

static const char *const propagations[] = {"private", "rprivate", "slave", "rslave",
					   "shared",  "rshared",  NULL};

bool propagation_shared(const char *p)
{
	return p && str_ends(p, "shared");
}

int propagation_check(enum isolation isolation, const char *p, struct err *err)
{
	if (str_empty(p))
		return 0;
	if (!strv_has((char *const *)propagations, p))
		return err_msg(err, ERR_INVALID, 0, "invalid propagation mode: %s", p);
	if (propagation_shared(p) && isolation == ISOLATION_HYPERV)
		return err_msg(err, ERR_INVALID, 0,
			       "propagation '%s': what is mounted in a virtual machine is its own kernel's "
			       "and cannot appear on the host; use rslave or rprivate, or "
			       "--isolation=process", p);
	return 0;
}

/* Docker's check: without it nothing would be propagated, silently. */
int propagation_possible(const char *source, const char *p, struct err *err)
{
	_cleanup_free_ char *point = NULL;
	bool shared, slave;

	if (str_empty(p) || str_ends(p, "private") || mount_of(source, &point, &shared, &slave) < 0)
		return 0;
	if (shared || (slave && !propagation_shared(p)))
		return 0;
	return err_msg(err, ERR_INVALID, 0, "path %s is mounted on %s but it is not a shared%s mount", source,
		       point, propagation_shared(p) ? "" : " or slave");
}

int idmap_check(const char *maps, const char *propagation, struct err *err)
{
	struct oci_id_maps uids = {0}, gids = {0};
	int r = 0;

	if (!maps)
		return 0;
	if (!*maps)
		return err_msg(err, ERR_INVALID, 0,
			       "idmap: containers have no user namespace that would say what is mapped; use "
			       "idmap=uids=FILE-SEEN-COUNT;gids=FILE-SEEN-COUNT");
	if (propagation_shared(propagation))
		return err_msg(err, ERR_INVALID, 0, "idmap and propagation '%s' exclude each other",
			       propagation);
	if (oci_id_maps_parse(maps, NULL, NULL, &uids, &gids) < 0)
		r = err_msg(err, ERR_INVALID, 0,
			    "idmap=%s: must be uids=FILE-SEEN-COUNT[#...];gids=FILE-SEEN-COUNT[#...]", maps);
	free(uids.v);
	free(gids.v);
	return r;
}
