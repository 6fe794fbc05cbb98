/* Containers: what the API asks of them. The engine side of `create`, `start`, `stop`... in both isolation
 * modes.
 *
 * Theory of operation. A container is a row of the database, a folder of the data root, and while it runs a
 * supervisor (insula-shim or vmwp: one protocol) that the daemon is connected to. Requests that change it go
 * through one queue per container, so that no two are at work on it; what only asks, and kill, goes straight
 * through. Nothing blocks: each operation is a chain of callbacks that ends in its engine_done_fn, which runs
 * exactly once. */
#pragma once

#include "engine/engine.h"
#include "engine/filters.h"
#include "lib/json_write.h"
#include "proto/msg.h"

struct container;

/* Loads the table and adopts the supervisors that run: after it the states are those of now. */
int containers_open(struct engine *e, struct err *err);
void containers_close(struct engine *e);		/* containers run on */

/* By full id, name (with or without slash) or unique prefix of the id. Borrowed until the next return to the
 * loop. 404 "No such container: x". */
int container_find(struct engine *e, const char *ref, struct container **ret, struct err *err);
const char *container_id(const struct container *c);
const char *container_name(const struct container *c);	/* without slash */
bool container_tty(const struct container *c);
bool container_running(const struct container *c);
enum isolation container_isolation(const struct container *c);
char *container_log_path(const struct container *c);	/* heap */
/* Keeps the memory of c valid (not the container). */
struct container *container_ref(struct container *c);
void container_unref(struct container *c);

/* What others ask: info, df, rmi, volume rm. */
void containers_count(struct engine *e, unsigned *ret_running, unsigned *ret_paused, unsigned *ret_stopped);
/* Something that a container leaves behind for a moment is still there: its address, its interface. */
bool containers_settling(struct engine *e);
struct json *containers_summaries(struct engine *e);	/* as GET /containers/json?all=1; new array */
/* Ids; heap vector, NULL if there are none. */
char **containers_using_volume(struct engine *e, const char *name);
/* A container made from the image (running ones first), or NULL. */
const struct container *containers_use_image(struct engine *e, const char *image_id);

/* The sandbox of this container is there, with somebody in it: what was taken for it is in use. */
bool sandbox_occupied(const struct engine *e, const char *ctr);
/* It is there, ending perhaps: not all that was taken for it is free yet. */
bool sandbox_lives(const struct engine *e, const char *ctr);
/* What a container is called on a user-defined network, its name first; heap vector. */
char **container_dns_names(struct engine *e, const char *ctr, const char *network);
/* Its own servers (--dns); heap vector, NULL = the host's. */
char **container_dns_servers(struct engine *e, const char *ctr);
/* POST /networks/{id}/connect and disconnect. settings: EndpointSettings of the API, may be NULL. */
void container_connect(struct container *c, const char *network, const struct json *settings,
		       engine_done_fn done, void *ud);
void container_disconnect(struct container *c, const char *network, engine_done_fn done, void *ud);

/* body: Config with HostConfig and NetworkingConfig; borrowed. name may be NULL. Result: struct
 * container_created. */
struct container_created { const char *id; char *const *warnings; uint64_t disks; };
void container_create(struct engine *e, const char *name, const struct json *body, engine_done_fn done,
		      void *ud);

/* ERR_NOT_MODIFIED if it is in that state already. */
void container_start(struct container *c, engine_done_fn done, void *ud);
/* timeout_s: INT64_MIN = the container's own; < 0 = wait for ever. signo 0 = the container's stop signal. */
void container_stop(struct container *c, int signo, int64_t timeout_s, engine_done_fn done, void *ud);
void container_restart(struct container *c, int signo, int64_t timeout_s, engine_done_fn done, void *ud);
/* SIGKILL: once it has ended. */
void container_kill(struct container *c, int signo, engine_done_fn done, void *ud);
void container_remove(struct container *c, bool force, bool volumes, engine_done_fn done, void *ud);
int container_rename(struct container *c, const char *name, struct err *err);
/* exec NULL = the container's own terminal. */
void container_resize(struct container *c, const char *exec, unsigned rows, unsigned cols,
		      engine_done_fn done, void *ud);
/* Result: struct json (borrowed) {"Titles": [], "Processes": []}. */
void container_top(struct container *c, const char *ps_args, engine_done_fn done, void *ud);

/* "KILL", "SIGKILL", "9", "RTMIN+3" -> number; ERR_INVALID "invalid signal: x". */
int signal_parse(const char *s, int *ret, struct err *err);

/* Gives a client's connection to the container: to the supervisor at once if it runs, else at its next start.
 */
struct attach_args {
	int fd;				/* taken */
	const void *preread;
	size_t n_preread;
	uint32_t flags;			/* ATTACH_* */
	const unsigned char *keys;	/* detach keys */
	size_t n_keys;
};
void container_attach(struct container *c, const struct attach_args *a);

/* A new image from what the container has written. Result: the image's id (const char *). */
struct commit_args {
	const char *name;		/* "repo:tag", "" = none */
	const char *author, *comment;
	bool pause;			/* stop it meanwhile, if it runs */
	struct json *config;		/* of the image; taken */
};
void container_commit(struct container *c, const struct commit_args *a, engine_done_fn done, void *ud);
/* What an image made of it would say of how to run it; new. */
struct json *container_image_config(const struct container *c);

void container_pause(struct container *c, bool on, engine_done_fn done, void *ud);
/* Changes limits and the restart policy; body: the fields of POST /containers/ID/update. */
void container_update(struct container *c, const struct json *body, engine_done_fn done, void *ud);
/* What it uses now. Result: struct msg_stats_table (borrowed). ERR_CONFLICT if it does not run. */
void container_stats(struct container *c, engine_done_fn done, void *ud);

/* An operation on the container's files, whether it runs or not (msg files); what comes out of fd, or goes
 * into it, is as msg.h says. Result of STAT: struct msg_file_stat (borrowed); what is not there is
 * ERR_NOT_FOUND. */
struct files_args {
	uint32_t op, flags;		/* FILES_* */
	const char *path;
	int fd;				/* taken; -EBADF = none */
};
void container_files(struct container *c, const struct files_args *a, engine_done_fn done, void *ud);
/* Tells the listeners of something that was done with a container: "archive-path", "export"... */
void container_tell(struct container *c, const char *action);

enum wait_condition { WAIT_NOT_RUNNING, WAIT_NEXT_EXIT, WAIT_REMOVED };
struct container_wait;
/* fn runs once, from the loop or from within this call (not running already), with the exit code. NULL if it
 * ran. */
typedef void (*container_wait_fn)(void *ud, int exit_code);
struct container_wait *container_wait_add(struct container *c, enum wait_condition cond, container_wait_fn fn,
					  void *ud);
void container_wait_cancel(struct container_wait *w);	/* NULL is fine; fn will not run */

struct json *container_inspect(struct container *c);	/* new */
/* Gives a configuration the members that it has not, with their empty values; that of an image has null for
 * lists and maps. */
void container_config_fill(struct json *config, bool of_image);
struct list_args { bool all; int64_t limit; const struct filters *filters; };
extern const char *const container_filters[];		/* allowed keys */
int containers_list(struct engine *e, const struct list_args *a, struct json_writer *w, struct err *err);
