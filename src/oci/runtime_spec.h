/* The OCI runtime configuration (config.json) as C structs.
 *
 * Any ociVersion 1.x is accepted and unknown fields are ignored, as the specification asks. A field that
 * is known but not supported is refused with its path, never dropped silently. No I/O happens here;
 * what depends on the host is checked by runtime/. */
#pragma once

#include "base/err.h"
#include "lib/json.h"

#include <stdbool.h>
#include <stdint.h>

struct oci_gids { uint32_t *v; size_t n; };

struct oci_user {
	uint32_t uid, gid;
	struct oci_gids additional_gids;
	uint64_t *umask;		/* NULL = 0022 */
	/* Of the engine: names to be resolved inside the root by whoever mounted it (task/user.h). */
	char *username;			/* "name|uid[:group|gid]"; NULL = the numbers above hold */
	char **groups;			/* more groups, names or numbers */
};

struct oci_rlimit { int resource; const char *name; uint64_t soft, hard; };	/* UINT64_MAX = unlimited */
struct oci_rlimits { struct oci_rlimit *v; size_t n; };

/* Names as in the document; runtime/caps.c turns them into masks. */
struct oci_caps { bool given; char **bounding, **effective, **inheritable, **permitted, **ambient; };

/* As sched_setattr(2) and ioprio_set(2) take them. */
struct oci_scheduler {
	bool given;
	unsigned policy;
	uint64_t flags, runtime, deadline, period;
	int nice, priority;
};
struct oci_io_priority { bool given; unsigned value; };

struct oci_process {
	bool terminal;
	uint32_t rows, cols;		/* consoleSize; 0 = unset */
	struct oci_user user;
	char **args, **env;
	char *cwd;
	struct oci_caps caps;
	struct oci_rlimits rlimits;
	bool no_new_privs;
	int64_t *oom_score_adj;		/* NULL = leave */
	char *apparmor, *selinux;	/* NULL or "" = none */
	struct oci_scheduler scheduler;
	struct oci_io_priority io_priority;
};

/* Ids of a user namespace, or on the file system of an idmapped mount: `size` of them from `inside` on are
 * those from `outside` on. */
struct oci_id_map { uint32_t inside, outside, size; };
struct oci_id_maps { struct oci_id_map *v; size_t n; };

struct oci_mount {
	char *destination, *type, *source;
	char *subpath;		/* of the engine: below source, resolved inside it: containers wrote there */
	char *shown;		/* of the engine: what errors call the source, where that is not its path */
	char **options;
	struct oci_id_maps uids, gids;
};
struct oci_mounts { struct oci_mount *v; size_t n; };

enum oci_ns {
	OCI_NS_MNT, OCI_NS_PID, OCI_NS_NET, OCI_NS_IPC, OCI_NS_UTS, OCI_NS_CGROUP, OCI_NS_TIME,
	OCI_NS_USER, _OCI_NS_MAX
};
struct oci_namespace { bool given; char *path; };	/* path: join this one; NULL = a new one */

/* linux.timeOffsets: of clocks in a time namespace. */
enum oci_clock { OCI_CLOCK_MONOTONIC, OCI_CLOCK_BOOTTIME, _OCI_CLOCK_MAX };
struct oci_time_offset { bool given; int64_t secs; uint32_t nanosecs; };

struct oci_device {
	char *path, *type;		/* type: "c", "b", "u" or "p" */
	int64_t major, minor;
	uint64_t *mode;			/* NULL = 0666 */
	uint32_t uid, gid;
};
struct oci_devices { struct oci_device *v; size_t n; };

/* type 'a', 'b' or 'c'; major and minor -1 = any. */
struct oci_device_rule { bool allow; char type; int64_t major, minor; bool read, write, mknod; };
struct oci_device_rules { struct oci_device_rule *v; size_t n; };

struct oci_throttle { int64_t major, minor; uint64_t rate; };
struct oci_throttles { struct oci_throttle *v; size_t n; };
struct oci_weight_device { int64_t major, minor, *weight, *leaf_weight; };
struct oci_weight_devices { struct oci_weight_device *v; size_t n; };
struct oci_hugepage { char *page_size; uint64_t limit; };
struct oci_hugepages { struct oci_hugepage *v; size_t n; };
struct oci_net_priority { char *name; uint32_t priority; };
struct oci_net_priorities { struct oci_net_priority *v; size_t n; };
struct oci_rdma { char *name; int64_t *handles, *objects; };
struct oci_rdmas { struct oci_rdma *v; size_t n; };
struct oci_kv { char *key, *value; };
struct oci_kvs { struct oci_kv *v; size_t n; };

/* Pointers are NULL where the document says nothing. Bytes, microseconds, shares as in the specification;
 * -1 = no limit. */
struct oci_resources {
	struct {
		int64_t *limit, *reservation, *swap, *kernel, *kernel_tcp, *swappiness;
		bool disable_oom_killer, use_hierarchy, check_before_update;
	} memory;
	struct {
		uint64_t *shares, *period, *rt_period, *burst;
		int64_t *quota, *rt_runtime, *idle;
		char *cpus, *mems;
	} cpu;
	int64_t *pids_limit;
	struct {
		int64_t *weight, *leaf_weight;
		struct oci_weight_devices weight_devices;
		struct oci_throttles read_bps, write_bps, read_iops, write_iops;
	} blkio;
	struct oci_device_rules devices;
	struct oci_hugepages hugepages;
	struct { int64_t *class_id; struct oci_net_priorities priorities; } network;
	struct oci_rdmas rdma;
	struct oci_kvs unified;
};

/* linux.intelRdt: lines for the schemata of a class of service. */
struct oci_rdt { bool given, monitoring; char *clos_id, *l3, *mb, **schemata; };

enum oci_hook_kind {
	OCI_HOOK_PRESTART, OCI_HOOK_CREATE_RUNTIME, OCI_HOOK_CREATE_CONTAINER, OCI_HOOK_START_CONTAINER,
	OCI_HOOK_POSTSTART, OCI_HOOK_POSTSTOP, _OCI_HOOK_MAX
};
struct oci_hook { char *path; char **args, **env; int64_t *timeout; };
struct oci_hooks { struct oci_hook *v; size_t n; };

struct oci_spec {
	char *version;
	struct oci_process
	    *process; /* NULL if the document has none (allowed by the specification at create) */
	struct { char *path; bool readonly; } root;
	char *hostname, *domainname;
	struct oci_mounts mounts;
	struct oci_hooks hooks[_OCI_HOOK_MAX];
	struct json *annotations;	/* NULL or an object of strings */

	struct oci_namespace ns[_OCI_NS_MAX];
	struct oci_id_maps uids, gids;	/* of a new user namespace */
	struct oci_time_offset time_offsets[_OCI_CLOCK_MAX];
	struct oci_devices devices;
	char *cgroups_path;
	struct oci_resources resources;
	struct oci_rdt rdt;
	char **masked_paths, **readonly_paths;
	char *rootfs_propagation;
	struct oci_kvs sysctl;
	struct json *seccomp; /* linux.seccomp as it stands: read by lib/seccomp; NULL = no filter */
	char *personality;		/* NULL, "LINUX" or "LINUX32" */
	char *mount_label;		/* SELinux context of file systems mounted; NULL or "" = none */
};

/* Parses a config.json. ERR_INVALID with the path of the offending value. */
int oci_spec_parse(const char *p, size_t n, struct oci_spec **ret, struct err *e);
void oci_spec_free(struct oci_spec *s);
DEFINE_CLEANUP(struct oci_spec *, oci_spec_free)
#define _cleanup_oci_spec_ _cleanup_(oci_spec_freep)

/* Parses a lone process object (exec). */
int oci_process_parse(const char *p, size_t n, struct oci_process **ret, struct err *e);
void oci_process_free(struct oci_process *p);
DEFINE_CLEANUP(struct oci_process *, oci_process_free)
#define _cleanup_oci_process_ _cleanup_(oci_process_freep)

/* Parses a lone linux.resources object (update). */
int oci_resources_parse(const char *p, size_t n, struct oci_resources *ret, struct err *e);
void oci_resources_done(struct oci_resources *r);	/* frees what it holds */
#define _cleanup_oci_resources_ _cleanup_(oci_resources_done)

/* "mount", "pid", "network", ... as the document names them. */
const char *oci_ns_name(enum oci_ns ns);
/* The id outside of one inside; false if it is not mapped. */
bool oci_id_maps_find(const struct oci_id_maps *maps, uint32_t inside, uint32_t *ret);
/* As the kernel reads them. Heap. */
char *oci_id_maps_text(const struct oci_id_maps *maps);
/* crun's and Podman's way to write those of a mount: "uids=INSIDE-OUTSIDE-SIZE#...;gids=...", where inside is
 * the file system. own_*: of the container's user namespace, for ranges with '@'; may be NULL. Both results
 * are to be freed, after a failure too. */
int oci_id_maps_parse(const char *text, const struct oci_id_maps *own_uids,
		      const struct oci_id_maps *own_gids, struct oci_id_maps *uids, struct oci_id_maps *gids);
/* "prestart", "createRuntime", ... */
const char *oci_hook_name(enum oci_hook_kind k);
/* Whether the document has hooks of this kind. */
bool oci_spec_has_hooks(const struct oci_spec *s, enum oci_hook_kind k);
