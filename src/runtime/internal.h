/* What the files of the runtime library share. Theory of operation:
 *
 * rt_create() checks the configuration, makes the cgroup with its limits, compiles the seccomp filter and
 * clones the init (fork.c). The init (init.c) builds the container around itself, one step after the other,
 * tells "ready" or an error over a SOCK_SEQPACKET pair (sync.c) and waits at the gate: the same pair, or, for
 * the command line tool whose `create` does not stay, a listening socket in the state directory. One byte
 * through the gate starts the program; end of file on it means that the exec succeeded, as it is
 * close-on-exec.
 *
 * Nothing inside the root file system is ever named by a path string to a system call that follows it:
 * targets are resolved once by openat2 in the root, and used by descriptor (CVE-2021-30465 and its kin). */
#pragma once

#include "base/mount.h"
#include "lib/seccomp.h"
#include "runtime/cgroup.h"
#include "runtime/runtime.h"

#include <sys/types.h>

/* Only the descriptors named here may be used after the container's mounts are in place. */
struct cap_sets { uint64_t bounding, effective, inheritable, permitted, ambient; };

struct rt_container {
	char *id, *bundle;
	struct proc init;
	struct cgroup *cg;
	struct { int v[CGROUP_MAX_HIERARCHIES]; size_t n; bool open; } tasks;	/* of cg, for execs to join */
	int gate;			/* to the waiting init, until it is started */
	int join_flags;			/* CLONE_NEW* that an exec joins */
	bool userns;			/* another user namespace than the caller's */
	bool outlive;			/* processes do not die with the caller */
	bool no_process;		/* the configuration has none: nothing to start */
	bool poststart_counts;		/* a failed hook of these ends the container */
	bool oom;			/* seen before the cgroup was removed */
	struct seccomp_prog seccomp;	/* len 0 = none */
	struct oci_hooks poststart, poststop;
	struct json *annotations;
	struct rdt *rdt;		/* NULL = none */
	char *listener, *listener_metadata;	/* linux.seccomp's; NULL = none */
	char *personality;		/* of all its processes */
	char *unit;			/* the systemd scope that is its cgroup; NULL = made by us */
};

/* --- rdt.c --- */

struct rdt {
	char *dir, *monitor;	/* the class; its monitoring group, NULL = none */
	bool shared;		/* named by the configuration: not ours to remove */
};
/* mount: where resctrl is, NULL = look. Touches nothing. */
int rdt_new(const struct oci_rdt *spec, const char *id, const char *mount, struct rdt **ret, struct err *e);
void rdt_free(struct rdt *x);
DEFINE_CLEANUP(struct rdt *, rdt_free)
int rdt_create(struct rdt *x, const struct oci_rdt *spec, struct err *e);
int rdt_update(const struct rdt *x, const struct oci_rdt *spec, struct err *e);	/* writes the schemata */
int rdt_join(const struct rdt *x, pid_t pid, struct err *e);
void rdt_remove(const struct rdt *x);

/* --- group.c --- */

/* Makes the cgroup with its limits and the RDT class. With systemd, *holder is a process that keeps the scope
 * alive until group_let_go. What is left behind after a failure, group_remove takes away. *ret_later: what
 * group_finish() shall make while the init is under way, NULL = nothing. */
int group_setup(struct rt_container *c, const struct rt_create_args *a, struct proc *holder,
		struct cgroup **ret_later, struct err *e);
int group_finish(struct rt_container *c, const struct rt_create_args *a, struct cgroup **later,
		 struct err *e);
void group_let_go(struct proc *holder);		/* one without a process is fine */
int group_update(struct rt_container *c, const struct oci_resources *res, struct err *e);
int group_remove(struct rt_container *c, struct err *e);

/* --- sync.c: messages between the caller and a process under construction --- */

enum sync_type {
	SYNC_FORKED = 1,	/* child -> caller: r = pid, descriptor = pidfd (joined namespaces only) */
	SYNC_CONSOLE,		/* child -> caller: descriptor = pty master */
	SYNC_HOOKS,		/* init -> caller: run the hooks of the runtime's namespaces now */
	SYNC_READY,		/* child -> caller: everything is in place; waiting at the gate */
	SYNC_ERROR,		/* child -> caller: kind, r, text */
	SYNC_LISTENER,		/* child -> caller: descriptor = the filter's listener */
	SYNC_GROUP,		/* caller -> init: the cgroup is made */
	SYNC_GO,		/* caller -> init: go on after SYNC_HOOKS; start the program */
};
struct sync_msg { uint32_t type; int32_t r; uint32_t kind; char text[1024]; };

int sync_pair(int ret[2]);
int sync_send(int fd, enum sync_type type, int r, int pass_fd);
int sync_send_error(int fd, int r, const struct err *e);
/* Receives one message; a passed descriptor goes to *ret_fd (closed if NULL). SYNC_ERROR is turned into e
 * and its r. -ECONNRESET at end of file. */
int sync_recv(int fd, struct sync_msg *ret, int *ret_fd, struct err *e);
/* Opens the gate: the waiting process pid of c runs its program, or its error is reported. */
int gate_release(int fd, const struct rt_container *c, pid_t pid, struct err *e);

/* --- ns.c --- */

/* Opens those to join: the caller's descriptors win over paths; -EBADF = none. *ret_flags: CLONE_NEW* of
 * those that the clone makes. */
int ns_open(const struct rt_create_args *a, int fds[_OCI_NS_MAX], uint64_t *ret_flags, struct err *e);
void ns_close(int fds[_OCI_NS_MAX]);
/* The same of a process that lives: those of flags (CLONE_NEW*). */
int ns_open_of(const struct proc *target, int flags, int fds[_OCI_NS_MAX]);
/* Joins them; pid: the pid namespace too, for children made from then on. */
int ns_join(const int fds[_OCI_NS_MAX], bool pid, struct err *e);
/* Whether another process has to join them, one that then makes the init. */
bool ns_join_first(const int fds[_OCI_NS_MAX], uint64_t flags);
/* Makes those that the process makes itself, once it is in its cgroup. */
int ns_make_late(const struct oci_spec *s, struct err *e);
int ns_join_flags(const struct oci_spec *s);	/* for rt_container.join_flags */
/* Of those flags: what an exec has to join of a container with a user namespace. */
int ns_join_needed(int flags, pid_t init);

/* --- userns.c --- */

struct id_maps { const struct oci_id_maps *uids, *gids; };
/* Whether the container has a user namespace that is not the caller's. */
bool userns_other(const struct oci_spec *s);
/* Writes the maps of a process in a new user namespace. */
int userns_map(pid_t pid, const struct id_maps *m, struct err *e);
/* A user namespace without processes, for idmapped mounts. */
int userns_new(const struct id_maps *m, int *ret, struct err *e);
int userns_become_root(const struct oci_user *u, bool outlive, struct err *e);
/* Whether maps that the configuration gives beside the path of a user namespace are those of process pid. */
int userns_check_maps(pid_t pid, const struct oci_spec *s, struct err *e);
/* process_give_stdio() to a uid of the user namespace of process pid. */
void userns_give_stdio(pid_t pid, const int stdio[3], uint32_t uid);

/* --- fork.c --- */

struct fork_plan {
	uint64_t flags;		/* CLONE_NEW* of the new process */
	int cgroup_fd;		/* cgroup v2 directory it starts in; -EBADF = none */
	int join_fd;		/* a process whose namespaces are joined first; -EBADF = none */
	int join_flags;		/* CLONE_NEW* to join */
	const int *join_fds;	/* instead: of _OCI_NS_MAX namespaces; NULL = none */
	pid_t join_pid;		/* of join_fd */
	const struct id_maps *maps;	/* of a new user namespace; NULL = none */
	const int64_t *oom_score_adj;	/* NULL = leave */
	int sync;		/* the child's end */
	int sync_parent;	/* the caller's end */
	int *keep;		/* from 3 on, the new process has these open and no others; reordered */
	size_t n_keep;
};
/* 0 in the new process, 1 in the caller, -errno. The new process is a child of the caller in any case. Its
 * /proc files are closed to other processes (PR_SET_DUMPABLE) until it executes a program; in a new user
 * namespace that is left to it. */
int rt_fork(const struct fork_plan *p, struct proc *ret, struct err *e);

/* --- process.c: the last steps, the same for an init and for an exec --- */

struct process_plan {
	const struct oci_process *p;
	const char *personality;	/* NULL = leave */
	struct cap_sets caps;
	const struct seccomp_prog *seccomp;
	int stdio[3];
	int preserve_fds;
	bool outlive;
	bool userns;		/* another user namespace than the caller's */
	int sync;		/* set at the end: where the filter's listener goes */
	int host_proc;		/* for labels in a user namespace; -EBADF = not needed */
	int lsm_fd;		/* of process_prepare, for process_exec */
};
/* Of a container whose configuration has none: it can be created, not started. */
extern const struct oci_process process_none;
/* The descriptors that a process under construction needs: fds, stdio and what is to be preserved. */
int *process_keep_fds(const struct process_plan *pp, const int *fds, size_t n, size_t *ret_n);
/* Session, stdio, limits, user, capabilities, working directory; finds the program. */
int process_prepare(struct process_plan *pp, char **ret_path, struct err *e);
/* Filter, final capabilities, exec. Returns only on failure. */
int process_exec(const struct process_plan *pp, const char *path, struct err *e);
/* Pipes and terminals among them become the user's: /dev/stdout must open again. */
void process_give_stdio(const int stdio[3], uid_t uid);
/* Resolves argv[0] in $PATH of the container, as its user. */
int command_lookup(const struct oci_process *p, char **ret, struct err *e);

/* userns: for a user namespace, in which the process will have them all. */
int caps_from_spec(const struct oci_caps *c, bool userns, struct cap_sets *ret);
/* Applies all but the final capset; CAP_SYS_ADMIN is kept until caps_finish, for the seccomp filter. */
int caps_prepare(const struct cap_sets *c, const struct oci_user *u, bool *ret_kept, struct err *e);
int caps_finish(const struct cap_sets *c);
/* All but a lower limit of open files, which rlimits_apply_files() sets last: until then we need some of our
 * own, more than the container's program may have. */
int rlimits_apply(const struct oci_rlimits *l, struct err *e);
int rlimits_apply_files(const struct oci_rlimits *l, struct err *e);

/* --- sched.c, lsm.c, listener.c --- */

int sched_apply(const struct oci_process *p, struct err *e);
bool lsm_apparmor_on(void);
bool lsm_selinux_on(void);
/* Labels that this host knows nothing of are refused. */
int lsm_check(const struct oci_process *p, const char *mount_label, struct err *e);
bool lsm_wanted(const struct oci_process *p);
/* linux.mountLabel of an mqueue file system: it is as old as the IPC namespace and takes no context any more.
 * Only who made the namespace owns it: before he becomes another user. */
int lsm_label_queues(const struct oci_spec *s, struct err *e);
/* Opens what lsm_apply() writes to, while that may still be done; -EBADF = nothing to write. host_proc: the
 * host's /proc; -EBADF = a private one is made. */
int lsm_open(const struct oci_process *p, int host_proc, int *ret, struct err *e);
int lsm_apply(const struct oci_process *p, int fd, struct err *e);
void listener_copy(struct rt_container *c, const struct json *profile);
/* Whether a filter that notifies has somebody to notify. */
int listener_check(const struct rt_container *c, struct err *e);
/* Hands the listener of the filter of process pid over. */
int listener_send(const struct rt_container *c, pid_t pid, int listener, struct err *e);

/* --- init.c --- */

struct init_plan {
	const struct rt_create_args *a;
	const struct cgroup *cg;
	bool await_group;		/* it is being made: SYNC_GROUP tells when it is there */
	bool in_group;
	struct process_plan process;
	int ns_fds[_OCI_NS_MAX];	/* namespaces to join, -EBADF = none */
	int *sources;			/* of sources_open() */
	int sync;
	int start_listen_fd;		/* <= 0: the gate is sync */
};
_noreturn_ void init_run(struct init_plan *ip);

/* --- the root file system --- */

int rootfs_prepare(const struct oci_spec *s, const char *bundle, bool userns, int *ret_rootfd, struct err *e);
/* MS_SLAVE or MS_PRIVATE: of everything that comes from the host. */
unsigned long rootfs_base_propagation(const struct oci_spec *s);
int rootfs_finish(const struct oci_spec *s, int rootfd, struct err *e);		/* propagation, read-only */
int rootfs_pivot(int rootfd, const char *propagation, bool no_pivot, struct err *e);
/* An O_PATH descriptor of a mount target, made if it is missing; dir says as what, follow whether a link
 * there is followed. /proc, /sys and /dev must be real directories. *ret_created may be NULL. */
int rootfs_target(int rootfd, const char *path, bool dir, bool follow, bool *ret_created, struct err *e);
/* A symbolic link at path; fine if it is there already. */
int rootfs_link(int rootfd, const char *path, const char *content, struct err *e);

/* sources: of sources_open(). enter: brings the process into its cgroup, if it is not yet there. Called
 * before what shows the group, or takes memory. */
int mounts_apply(const struct oci_spec *s, const char *bundle, const int *sources, const struct cgroup *cg,
		 int rootfd, int (*enter)(void *arg, struct err *e), void *arg, struct err *e);
int devices_setup(const struct oci_spec *s, int rootfd, struct err *e);
/* A detached mount of the host's null device, for masks_apply. */
int masks_null(struct err *e);
int masks_apply(const struct oci_spec *s, int rootfd, int null, struct err *e);
int sysctl_apply(const struct oci_spec *s, struct err *e);
/* Opens a pty of the devpts at <root>/dev/pts. */
int console_open(int rootfd, const struct oci_process *p, int *ret_master, int *ret_slave, struct err *e);
int console_bind(int rootfd, int slave, struct err *e);		/* as /dev/console */
int console_send(const char *socket_path, int master, struct err *e);

/* Parsed options of a mount. Attribute bits are MOUNT_ATTR_*. */
struct mount_opts {
	uint64_t set, clear;		/* of this mount */
	uint64_t rec_set, rec_clear;	/* of all below it too ("rro" and the like) */
	uint64_t propagation;		/* MS_SHARED, ..., 0 = leave */
	bool propagation_rec, bind, recursive;
	bool copyup;			/* a tmpfs starts with what the image has at its place */
	/* Links as source and as target of a bind mount are mounted, and mounted on, themselves; one that is
	 * the source is made anew in the container. */
	bool src_nofollow, dest_nofollow, copy_symlink;
	bool idmap, idmap_rec;
	const char *idmap_maps;		/* "uids=INSIDE-OUTSIDE-SIZE#...;gids=...", borrowed; NULL = none */
	char **data;			/* for the file system: "key" or "key=value" */
};
int mount_opts_parse(char *const *options, struct mount_opts *ret, struct err *e);
void mount_opts_done(struct mount_opts *o);
/* Comma-separated names for `features`; NULL past the last one. */
const char *mount_opt_name(size_t i);
/* A new detached mount of a file system. */
int mount_new_fs(const char *type, const char *source, char *const *data, uint64_t attrs, struct err *e);
/* A tmpfs of the container's, with linux.mountLabel. */
int mount_tmpfs(const struct oci_spec *s, const char *source, char *const *data, uint64_t attrs,
		struct err *e);
/* A detached copy of the mount at an O_PATH descriptor. */
int mount_clone(int fd, bool recursive);
int mount_attach(int mnt, int target);

bool mount_is_bind(const struct oci_mount *m, const struct mount_opts *o);
/* Names the mount in front of why it failed. Returns r. */
int mount_failed(const struct oci_mount *m, int r, const struct err *why, struct err *e);

/* --- mount_source.c --- */

/* A detached mount of the source of a bind mount. */
int source_open(const char *bundle, const struct oci_mount *m, const struct mount_opts *o, struct err *e);
/* Makes in the caller what the init could not: the sources of idmapped mounts, and with a user namespace
 * those of all bind mounts, if the caller may. One descriptor for each mount of the configuration, -EBADF =
 * left to the init; NULL = all are. */
int sources_open(const struct oci_spec *s, const char *bundle, bool userns, int **ret, struct err *e);
void sources_close(const struct oci_spec *s, int *sources);

/* --- the rest --- */

int spec_check(const struct oci_spec *s, struct err *e);
/* Namespaced sysctl of a namespace that this container has of its own. */
int sysctl_check(const struct oci_spec *s, const char *key, struct err *e);

/* The state that hooks read on stdin. */
struct hook_state { const char *id, *status, *bundle; pid_t pid; const struct json *annotations; };
struct json *hook_state_json(const struct hook_state *st);
int hooks_run(const struct oci_hooks *h, const char *kind, const struct hook_state *st, struct err *e);
/* A failure is logged, the others are called. */
void hooks_try(const struct oci_hooks *h, const char *kind, const struct hook_state *st);
void hooks_copy(struct oci_hooks *to, const struct oci_hooks *from);
void hooks_set_poststart(struct rt_container *c, const struct oci_spec *s);
int hooks_poststart(struct rt_container *c, struct err *e);
void hooks_free(struct oci_hooks *h);

/* A handle for a container that another process made (the command line tool). Takes pidfd. */
struct rt_container *rt_container_new(const char *id, const char *bundle);
