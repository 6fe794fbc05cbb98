#include "runtime/internal.h"
#include "base/log.h"

#include <errno.h>
#include <sys/resource.h>

/* Without CAP_SYS_RESOURCE hard limits cannot be raised: such a limit is clamped to what there is. */
int rlimits_apply(const struct oci_rlimits *l, struct err *e)
{
	for (size_t i = 0; i < l->n; i++) {
		const struct oci_rlimit *want = &l->v[i];
		struct rlimit lim = { .rlim_cur = want->soft, .rlim_max = want->hard }, now;

		if (want->resource == RLIMIT_NOFILE && getrlimit(RLIMIT_NOFILE, &now) == 0 &&
		    lim.rlim_max <= now.rlim_max)
			continue;	/* rlimits_apply_files() */
		if (setrlimit(want->resource, &lim) == 0)
			continue;
		if (errno != EPERM || getrlimit(want->resource, &now) < 0)
			return err_set(e, ERR_SYSTEM, -errno, "cannot set %s", want->name);
		lim.rlim_max = MIN(lim.rlim_max, now.rlim_max);
		lim.rlim_cur = MIN(lim.rlim_cur, lim.rlim_max);
		if (setrlimit(want->resource, &lim) < 0)
			return err_set(e, ERR_SYSTEM, -errno, "cannot set %s", want->name);
		log_warn("%s cannot be raised above %llu here (no CAP_SYS_RESOURCE)", want->name,
			 (unsigned long long)now.rlim_max);
	}
	return 0;
}

int rlimits_apply_files(const struct oci_rlimits *l, struct err *e)
{
	for (size_t i = 0; i < l->n; i++) {
		const struct oci_rlimit *want = &l->v[i];
		struct rlimit lim = { .rlim_cur = want->soft, .rlim_max = want->hard }, now;

		if (want->resource != RLIMIT_NOFILE || getrlimit(RLIMIT_NOFILE, &now) < 0)
			continue;
		lim.rlim_max = MIN(lim.rlim_max, now.rlim_max);
		lim.rlim_cur = MIN(lim.rlim_cur, lim.rlim_max);
		if (setrlimit(RLIMIT_NOFILE, &lim) < 0)
			return err_set(e, ERR_SYSTEM, -errno, "cannot set %s", want->name);
	}
	return 0;
}
