/* Inside of the container files of the engine; container.h is what others see. */
#pragma once

#include "base/hash.h"
#include "base/proc.h"
#include "engine/container.h"
#include "proto/conn.h"

enum ctr_status { CTR_CREATED, CTR_RUNNING, CTR_EXITED, CTR_RESTARTING, CTR_REMOVING, CTR_DEAD };

struct containers {
	struct engine *engine;
	struct hmap by_id, by_name;	/* -> struct container */
	struct list all;		/* oldest first */
	struct hmap execs;		/* id -> struct exec (exec.c) */
	struct hmap sups;		/* sandbox id -> struct sup (supervisor.c) */
	size_t zombies;			/* supervisors of ended containers that are still there */
	char *boot_id;
	const struct container *foreign;	/* its supervisor speaks another version of the protocol */
};

struct op;
struct sup;

struct container {
	struct engine *engine;
	struct list link;
	unsigned refs;
	bool gone;			/* removed: out of all tables */
	char *id, *name, *image_id, *dir;
	enum isolation isolation;
	uint64_t created_ns;
	struct json *doc;		/* Config, HostConfig, NetworkingConfig, Mounts, Path, Args */

	enum ctr_status status;
	uint32_t pid;
	uint64_t started_ns, finished_ns;
	int exit_code;
	bool oom;
	char *error;
	unsigned restart_count;
	bool paused;			/* while it is running */
	bool starting;			/* its supervisor has been told to start it, or is about to be */
	uint64_t machine_memory;	/* hyperv: the limits that its machine was started for */
	int64_t machine_cpus;
	bool stopped_by_user;		/* a manual stop: restart policies rest */
	bool exit_pending;		/* what follows an exit (rm, restart) is still due */
	uint64_t restart_delay_us;
	struct loop_source *restart_timer;
	bool returning;			/* by its restart policy, and not there yet */

	char **volumes;			/* that it holds mounted; volume_hold() */
	struct health *health;		/* its check, once it was started; health.h */

	struct json *ports;		/* published now: as NetworkSettings.Ports; NULL = none */
	char *ports_target;		/* the address that they lead to */

	char *sandbox;			/* the one it runs in, or ran in last: its own id, or another's */
	bool host_network;		/* joined: that sandbox has the host's network */
	struct sup *sup;		/* the supervisor we talk to */
	struct sup *zombie;		/* the previous one, which has not let go of it yet */
	struct list sup_link;		/* of either */
	void (*settled)(void *ud);	/* once there is no zombie any more */
	void *settled_ud;
	struct loop_source *files_timer;	/* closes what container_fs.c has opened */
	unsigned files_calls;		/* operations on the files of the running container */
	struct op *after_files;		/* what follows the exit: it waits for them */
	struct op *current;
	struct op *resume;		/* the current one, if it is container_resume() */
	struct list ops, waiters, held;	/* held: attached clients of a container that has not started */
};

/* What is told of it: the start that a restart policy brings is part of the restart. */
static inline enum ctr_status ctr_shown(const struct container *c)
{
	return c->status == CTR_EXITED && c->returning ? CTR_RESTARTING : c->status;
}

/* ---- container.c ---- */

struct container *container_new(struct engine *e, const char *id, const char *name);
void container_insert(struct container *c);	/* into the tables; takes the reference over */
void container_drop(struct container *c);	/* out of the tables; tells the waiters, ends the queue */
const struct json *ctr_config(const struct container *c);
const struct json *ctr_host(const struct container *c);
/* The network mode as it was asked for: a network's name or id, "host", "none". */
const char *ctr_network(const struct container *c);

/* ---- container_network.c ---- */

/* name of a network -> what the container asks of it. */
const struct json *ctr_attachments(const struct container *c);
/* The name of the network that the mode means; heap, NULL if it is gone. */
char *ctr_main_network(const struct container *c);
/* Gives a container from the database its attachments, if it is from before there were any. */
void attachments_load(struct container *c);
void container_event(struct container *c, const char *action, struct json *more /* taken, may be NULL */);
/* Runs the waiters of an exit (not-running and next-exit), or of the removal. */
void container_tell_waiters(struct container *c, bool removed);
/* 409 "container <id> is not running". */
int not_running(const struct container *c, struct err *err);

/* ---- operations: container_ops.c ---- */

/* One request at work on a container, or waiting for its turn. */
struct op {
	struct list link;
	struct container *c;		/* referenced */
	void (*run)(struct op *op);
	engine_done_fn done;
	void *userdata;
	struct container_wait *wait;
	struct loop_source *timer;
	int signo, level;		/* stop: how hard it was tried */
	int64_t timeout_s;
	bool force, volumes, then_start;
	size_t step;			/* start */
	struct start *start;
	/* Files of a container that does not run: a start that stops at its root file system. */
	void (*opened)(struct op *op, int r, const struct err *e);
	struct files_call *files;
	struct json *body;		/* update; owned */
};

struct op *op_new(struct container *c, void (*run)(struct op *), engine_done_fn done, void *ud);
void op_push(struct op *op);		/* runs it now or in turn */
void op_push_front(struct op *op);
/* Ends the current operation: calls done, runs the next. op is gone after. */
void op_finish(struct op *op, int r, const struct err *e);
void ops_flush(struct container *c);	/* the container is gone: ends what waits */

/* container_control.c */
/* Notes that it has been paused, or goes on. */
void container_paused(struct container *c, bool on);
/* Lets a paused container go on, so that it can take a signal. */
void container_thaw(struct container *c);

/* The last act of a removal: rows, folder, volumes, tables. The supervisor is gone by now. */
void container_forget(struct container *c, bool volumes);
/* Forwards a signal to the init. */
void container_signal(struct container *c, int signo, bool all, conn_reply_fn fn, void *ud);

/* ---- container_store.c ---- */

int container_store(struct container *c, struct err *err);	/* inserts */
void container_save(struct container *c);			/* state; a failure is logged */
int container_save_name(struct container *c, struct err *err);
int containers_load(struct engine *e, struct err *err);

/* ---- container_create.c and its helpers ---- */

/* Checks the request and fills in defaults; *ret_doc is the document to store. container_config.c */
struct create_ctx {
	struct engine *engine;
	const struct json *body;
	const struct json *image_config;	/* "config" of the image's document; may be NULL */
	enum isolation isolation;
	char **warnings;
};
int config_build(struct create_ctx *x, struct json **ret_doc, struct err *err);
/* container_validate.c: refuses what is not supported, in both parts. */
int host_config_check(const struct create_ctx *x, const struct json *hc, struct err *err);
int config_check(const struct create_ctx *x, const struct json *config, struct err *err);
int networking_check(const struct create_ctx *x, const struct json *nc, struct err *err);
int isolation_parse(struct engine *e, const char *s, enum isolation *ret, struct err *err);
/* container_network.c: what a container asks of its networks, from NetworkingConfig and mode. */
int attachments_build(const struct create_ctx *x, const char *mode, struct json **ret, struct err *err);
/* container_mounts.c: Binds, Mounts, Tmpfs and the image's volumes -> array as inspect shows it, with the
 * private keys "Create" (make a missing host path) and "NoCopy". Volumes that do not exist yet are named, not
 * made. */
int mounts_build(struct create_ctx *x, const struct json *config, const struct json *hc,
		 struct json **ret, struct err *err);
/* Lets go of the volumes that a start has taken hold of. */
void mounts_drop(struct container *c);
/* The same volumes, of a container that ran before the daemon. */
void mounts_adopt(struct container *c);
/* Host paths and volumes exist, for a start. */
int mounts_prepare(struct container *c, struct err *err);

/* ---- container_mount_check.c ---- */

bool propagation_shared(const char *p);
int propagation_check(enum isolation isolation, const char *p, struct err *err);
/* Whether the host's mount has anything to propagate. */
int propagation_possible(const char *source, const char *p, struct err *err);
/* maps: NULL = none are asked for, "" = those of a user namespace. */
int idmap_check(const char *maps, const char *propagation, struct err *err);

/* ERR_INVALID for a bad name; the text of a clash. */
int container_name_check(const char *name, struct err *err);
int container_name_taken(const char *name, const struct container *by, struct err *err);
/* A free random name; heap. container_names.c */
char *container_random_name(struct engine *e);

int container_save_doc(struct container *c, struct err *err);	/* after a change of it */

/* ---- container_ns.c ---- */

/* The modes of HostConfig, and those of them that name another container; x->body is the Config. */
int ns_modes_check(const struct create_ctx *x, const struct json *hc, struct err *err);
/* Names another container by its id. */
void ns_modes_fill(const struct create_ctx *x, struct json *hc);
bool ns_host_uts(const struct container *c);
/* What a start joins of others; -EBADF = nothing. To be held until the container is created. */
struct ns_shared {
	int pid, ipc;
	uint32_t ipc_of;	/* a process of the container whose ipc it is */
};
#define NS_SHARED_NONE { -EBADF, -EBADF, 0 }
int ns_shared_open(const struct container *c, struct ns_shared *ret, struct err *err);
void ns_shared_close(struct ns_shared *s);
/* Changes the namespaces, and the mounts, of a configuration that has its own. */
void ns_shared_apply(const struct container *c, const struct ns_shared *shared, struct json *linux_);
void ns_shared_mounts(const struct container *c, const struct ns_shared *shared, struct json *spec);

/* ---- container_devices.c ---- */

#define CTR_GUEST_DISKS_MAX 8	/* --device of block devices under hyperv */
int devices_check(const struct create_ctx *x, const struct json *hc, struct err *err);
/* Adds the devices of c to a configuration. *ret_disks: msg_create.devices. */
int devices_apply(const struct container *c, struct json *spec, char ***ret_disks, struct err *err);

/* ---- container_spec.c ---- */

/* The limits of a host configuration, as OCI resources; without device rules. */
int spec_limits(const struct json *hc, struct json *res, struct err *err);
/* container_blkio.c: those of block devices, which are looked at. */
int blkio_limits(const struct json *hc, struct json *res, struct err *err);

/* container_cpuset.c: refuses lists that are none, or name what the host does not have; and how many
 * processors CpusetCpus names, 0 = it is not given. */
int cpuset_check(const struct json *hc, struct err *err);
unsigned cpuset_count(const struct json *hc);
bool blkio_asked(const struct json *hc);
/* The control group of c below each hierarchy; that of its machine has "-vm" appended. Heap. */
char *ctr_cgroup(const struct container *c);

/* config.json, for CREATE. gateway: "" if none. */
int spec_build(struct container *c, const struct ns_shared *shared, struct json **ret, struct err *err);
/* The process object of an exec. */
struct exec_process {
	char *const *cmd, *const *env;
	const char *user, *cwd;
	bool tty, privileged;
	unsigned rows, cols;
};
int spec_exec_process(struct container *c, const struct exec_process *x, struct json **ret, struct err *err);
/* container_volumes.c: adds a mount to the list `mounts` of a config.json. */
struct json *spec_mount(struct json *list, const char *type, const char *source, const char *target,
			char *const *options);
/* The volumes, bind mounts and tmpfs of c. */
void spec_volumes(const struct container *c, struct json *list);
/* Triples of msg_sandbox.shares; heap vector, NULL if none. */
char **spec_shares(const struct container *c);
/* hosts, hostname, resolv.conf: name, content pairs. container_files.c */
char **spec_files(const struct container *c, const struct msg_sandbox *sb);
char *ctr_hostname(const struct container *c);

/* ---- supervisor.c ---- */

/* Starts a sandbox of its own for c, whose member it becomes (c->sup); HELLO is on its way. */
int sup_spawn(struct container *c, struct err *err);
/* Makes c a member of a sandbox that lives. False if there is none. */
bool sup_join(struct container *c, const char *sandbox);
/* The connection to its supervisor while a container runs in it; NULL: none does. */
struct conn *sandbox_conn(const struct engine *e, const char *sandbox);
/* Connects to the sandbox of c, which runs: 1, and hello runs once, r = 0 if it is ours; or 0: another member
 * has done so. */
int sup_adopt(struct container *c, void (*hello)(void *ud, int r), void *ud);
/* The connection to the supervisor of c, NULL if there is none (any more). */
struct conn *ctr_conn(const struct container *c);
/* Lets go of the supervisor of an exited container: c->sup becomes c->zombie until nothing of the container
 * is left there, or, for the last one, until the process, and with it mounts, interface and address, is gone.
 * Nobody need wait for that but the next start. */
void sup_release(struct container *c);
/* Ends what a failed start has made; gone runs when it is. */
void sup_abort(struct container *c, void (*gone)(void *ud), void *ud);
/* fn runs when c->zombie is gone; at once if there is none. */
void sup_wait_gone(struct container *c, void (*fn)(void *ud), void *ud);
void sup_kill(struct container *c);		/* and all in its sandbox */
void sups_close(struct engine *e);		/* the daemon ends */
char *sandbox_dir(const struct engine *e, const char *id);
pid_t sup_pid(const struct container *c);	/* of the supervisor, 0 = there is none */

/* ---- container_machine.c ---- */

/* Keeps what inspect tells of a machine that was asked for with m. */
void machine_remember(struct container *c, const struct msg_sandbox *m, bool cloned);
/* The machine of a running hyperv container; NULL for all others. */
struct json *machine_json(const struct container *c);
void sandbox_dir_remove(const char *dir);
/* Kills what is left in the cgroups of containers (or sandboxes) whose supervisor is gone, in a worker. done,
 * which may be NULL, runs when that is over. cgroup_reap.c */
void cgroup_reap(struct engine *e, char *const *ids, void (*done)(void *ud), void *ud);

/* ---- container_start.c, container_attach.c ---- */
void start_run_op(struct op *op);		/* op->run of a start */
/* A supervisor with the root file system of c and no process; then op->opened. */
void start_files(struct op *op);
/* container_start_undo.c: undoes what is there of a start that has failed, and ends op with that error.
 * runtime: it is one of the OCI runtime, and said as Docker says those. */
void start_undo(struct op *op, int r, const struct err *e, bool runtime);
/* container_fs.c: lets go of the supervisor of a container whose files only are open; if they are. */
void files_close(struct container *c);
/* Whether op has to wait for operations on files; then it is run again. */
bool files_wait(struct op *op);
void attach_send(struct container *c, const char *exec, const struct attach_args *a);
void held_drop(struct container *c);
void held_send(struct container *c);

/* ---- container_join.c: --network container:ID ---- */

/* The ID (or name, or prefix) if c shares the network of another container, else NULL. */
const char *ctr_joins(const struct container *c);
bool ctr_host_network(const struct container *c);
/* The container whose sandbox c is to enter, which runs. */
int join_target(const struct container *c, struct container **ret, struct err *err);
/* Whether it will soon: it is being started, or waits for its restart. */
bool join_target_awaited(const struct container *c);
/* Enters the sandbox of that container, with its names. */
int join_enter(struct container *c, struct err *err);
/* At create: what cannot go with it, and with that container. */
int join_check(const struct create_ctx *x, const struct json *hc, struct err *err);
int join_check_mounts(const struct create_ctx *x, const struct json *hc, const struct json *mounts,
		      struct err *err);
/* hosts, hostname, resolv.conf of the sandbox's first container, for those who join: they lie with it. */
void sandbox_files_keep(const struct container *c, char *const *files);
int sandbox_files(const struct container *c, char ***ret, struct err *err);

/* ---- container_exit.c ---- */

/* What the supervisor says of the init. */
void container_task_state(struct container *c, const struct msg_task_state *m);
/* The supervisor is gone without a word: its exit record decides, or 137. True if its control groups may be
 * left, for cgroup_reap(). */
bool container_sup_lost(struct container *c, const char *dir);
/* Records an exit and lets follow what follows. */
struct exit_info { int code; uint64_t when_ns; bool oom; const char *error; };
void container_exited(struct container *c, const struct exit_info *x);
/* A restart policy that fell due while the daemon was away or the host was down. */
void container_after_adoption(struct container *c, bool rebooted);
void restart_cancel(struct container *c);

/* ---- container_adopt.c ---- */
void containers_adopt(struct engine *e);

/* ---- container_resume.c ---- */

/* From now on the supervisor of a container that is not recorded as running decides what becomes of it. */
void container_resume(struct container *c);
/* It answers; what follows is to come from it. */
void resume_found(struct container *c);
/* What that supervisor says; for others nothing happens. And that it is gone: as container_sup_lost(). */
void resume_state(struct container *c, const struct msg_task_state *m);
bool resume_lost(struct container *c, const char *dir);

/* ---- exec.c ---- */
void exec_task_state(struct container *c, const struct msg_task_state *m);
void exec_detached(struct container *c, const char *id);
void execs_of_exited(struct container *c, bool forget);
void execs_close(struct engine *e);
