/* Control groups of a container: one directory at the same path below every hierarchy of the host.
 *
 * v2 is one hierarchy; v1 has one per controller; a hybrid host has v1 controllers and a v2 hierarchy without
 * controllers, which is left alone. Moving another process by writing its pid to cgroup.procs
 * waits for an RCU grace period (5 to 13 ms); so a process is born in its v2 group (CLONE_INTO_CGROUP) and
 * writes "0" to each v1 `tasks` file itself, which takes no global lock. */
#pragma once

#include "base/err.h"
#include "oci/runtime_spec.h"

#include <sys/types.h>

#define CGROUP_MAX_HIERARCHIES 24

struct cgroup_hier {
	char *mount;		/* "/sys/fs/cgroup/memory" */
	char *path;		/* of the container's group below it: "/insula/ID" */
	char **controllers;	/* "cpu", "cpuacct"; empty for a named one; v2: what the leaf has */
	bool v2;
};

struct cgroup {
	char *path;		/* as asked for: "/insula/ID" */
	bool unified;		/* one v2 hierarchy with controllers */
	struct cgroup_hier h[CGROUP_MAX_HIERARCHIES];
	size_t n;
};

/* Finds the hierarchies of this host; touches nothing. path must hold no "..". One that does not begin with
 * '/' is taken below the caller's own groups (v2: beside its own, which has processes and cannot have
 * children with controllers); own: the /proc/self/cgroup that tells them, NULL = read it now. */
int cgroup_new(const char *path, const char *own, struct cgroup **ret, struct err *e);
int cgroup_read_own(char **ret);
void cgroup_free(struct cgroup *cg);
DEFINE_CLEANUP(struct cgroup *, cgroup_free)
/* Makes the directories and sets the limits. ERR_CONFLICT if the group exists and is frozen or in use. On
 * failure nothing is left. given: it is known to be ours, whatever is in it. */
int cgroup_create(struct cgroup *cg, const struct oci_resources *res, bool given, struct err *e);
/* The group at a relative path below, without limits of its own; made if missing. It goes with cgroup_remove
 * of the one above. */
int cgroup_sub(const struct cgroup *cg, const char *path, struct cgroup **ret, struct err *e);
/* Sets the limits of an existing group. */
int cgroup_apply(struct cgroup *cg, const struct oci_resources *res, struct err *e);
/* v2: makes the device filter of these rules, attaches it to this group, and keeps it for all groups that get
 * the same rules later: the kernel checks and compiles it once. Replaces what was kept before. */
int cgroup_keep_filter(const struct cgroup *cg, const struct oci_device_rules *rules, struct err *e);
/* Kills what is in it and removes it; -EBUSY if something refuses to die. Missing is fine. */
int cgroup_remove(struct cgroup *cg, struct err *e);

/* Whether the group exists in any hierarchy: who may write to none goes without. */
bool cgroup_made(const struct cgroup *cg);
/* Directory descriptor of the v2 group for CLONE_INTO_CGROUP, -ENOENT if the host has none. */
int cgroup_open_v2(const struct cgroup *cg);
/* Descriptors of the v1 `tasks` files, to be used by the process that joins. */
int cgroup_open_tasks(const struct cgroup *cg, int ret[CGROUP_MAX_HIERARCHIES], size_t *ret_n, struct err *e);
int cgroup_join(const int *tasks, size_t n, struct err *e);
/* The same by path, and into the group of v2 where that is all there is. One thread only. */
int cgroup_enter(const struct cgroup *cg);

/* Pids in the group and below, of the caller's pid namespace. Heap array. */
int cgroup_pids(const struct cgroup *cg, pid_t **ret, size_t *ret_n);
int cgroup_signal(const struct cgroup *cg, int signo);	/* SIGKILL also thaws */
bool cgroup_frozen(const struct cgroup *cg);
/* Freezes or thaws it; returns when all processes have stopped, or thaws again and fails. */
int cgroup_freeze(const struct cgroup *cg, bool on, struct err *e);
struct rt_stats;
void cgroup_stats(const struct cgroup *cg, struct rt_stats *ret);
void cgroup_stats_net(pid_t pid, struct rt_stats *s);	/* adds the interfaces of a process */
uint64_t cgroup_oom_kills(const struct cgroup *cg);	/* how often the OOM killer struck in it */
/* A descriptor that becomes readable when the OOM killer strikes (v1), or when something about memory happens
 * (v2: compare cgroup_oom_kills). -errno. */
int cgroup_watch_oom(const struct cgroup *cg);

/* --- for the files of the component --- */

const struct cgroup_hier *cgroup_hier_of(const struct cgroup *cg, const char *controller); /* NULL if none */
char *cgroup_file(const struct cgroup *cg, const struct cgroup_hier *h, const char *file); /* heap path */
/* Writes one control file. controller (v1: picks the hierarchy) and what name the limit in errors. */
int cgroup_set(const struct cgroup *cg, const char *controller, const char *file, const char *what,
	       struct err *e, const char *fmt, ...) _printf_(6, 7);
/* For limits that need an I/O scheduler which knows weights: BFQ, or iocost. */
int cgroup_no_weights(const char *what, struct err *e);
bool cgroup_has_file(const struct cgroup *cg, const char *controller, const char *file);
/* Reads one number; "max" is UINT64_MAX. */
int cgroup_get(const struct cgroup *cg, const char *controller, const char *file, uint64_t *ret);
/* An optional number; 0 (or none) means "not given", as in runc. */
static inline int64_t cgroup_i64(const int64_t *v) { return v ? *v : 0; }
int cgroup1_apply(struct cgroup *cg, const struct oci_resources *res, struct err *e);
int cgroup1_prepare(const struct cgroup *cg,
		    const struct cgroup_hier *h); /* cpuset needs values before use */
int cgroup2_apply(struct cgroup *cg, const struct oci_resources *res, struct err *e);
int cgroup2_enable(struct cgroup *cg);			/* controllers for the leaf */
uint64_t cgroup2_weight(uint64_t shares);		/* cpu.shares -> cpu.weight */
int64_t cgroup2_io_weight(int64_t weight);		/* blkio.weight -> io.weight */
int cgroup2_devices(const struct cgroup *cg, const struct oci_device_rules *rules, struct err *e);
/* The rules with what every container may use. Free v. */
struct oci_device_rules device_rules_full(const struct oci_device_rules *rules);
/* Whether the rules let everything through. */
bool device_rules_allow_all(const struct oci_device_rules *rules);
