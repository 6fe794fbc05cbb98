/* The systemd cgroup driver: a container's group is a transient scope that systemd makes and hands over
 * (Delegate=yes); what is inside is then set up as with the other driver. */
#pragma once

#include "base/sbuf.h"
#include "oci/runtime_spec.h"

#include <sys/types.h>

struct unit { char *name, *slice; };	/* "insula-ID.scope", "system.slice" */
#define _cleanup_unit_ _cleanup_(unit_done)
void unit_done(struct unit *u);
/* From a cgroupsPath "SLICE:PREFIX:NAME"; NULL or empty = a unit named after the container in the default
 * slice, which is system.slice, or user.slice for an ordinary user. */
int unit_parse(const char *cgroups_path, const char *id, struct unit *ret, struct err *e);

/* Makes the scope around a process and waits until it is there. */
int unit_start(const struct unit *u, const char *id, pid_t pid, const struct oci_resources *res, bool v2,
	       struct err *e);
/* Tells systemd of changed limits, so that a daemon-reload does not bring the old ones back. */
int unit_update(const char *name, const struct oci_resources *res, bool v2, struct err *e);
/* Ends the scope with all that is in it. One that is gone is fine. */
int unit_stop(const char *name, struct err *e);

/* The arguments of StartTransientUnit, signature "ssa(sv)a(sa(sv))". */
void unit_start_body(struct sbuf *b, const struct unit *u, const char *id, pid_t pid,
		     const struct oci_resources *res, bool v2);
