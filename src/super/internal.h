/* What the files of super/ share: tasks, connections of daemons, attached clients. */
#pragma once

#include "base/hash.h"
#include "proto/conn.h"
#include "super/jsonlog.h"
#include "super/ports.h"
#include "super/super.h"

struct super {
	struct loop *loop;
	const struct super_args *args;
	struct backend *backend;
	struct loop_source *accept, *deadline;
	struct list tasks, peers;
	struct ports *ports;		/* published, while a container runs */
	struct list lingering;		/* clients of deleted tasks, still to be given what is queued */
	uint64_t peers_seen;
	bool had_container;		/* a container was made here once */
	bool stopping, stopped;		/* the backend's shutdown was asked for, has been done */
	bool urgent;			/* clients have to be quick then */
	bool check_due;
};

/* --- task.c --- */

/* The life of a task. The daemon is told less: see task_told(). */
enum phase {
	PHASE_CREATING,		/* CREATE is on its way through the backend */
	PHASE_CREATED,
	PHASE_STARTING,		/* START is on its way */
	PHASE_RUNNING,
	PHASE_DRAINING,		/* the process has ended, its output has not */
	PHASE_EXITED,
	_PHASE_MAX
};
enum task_event {
	EVENT_CREATED,		/* the backend made it */
	EVENT_START,		/* the daemon asked for START */
	EVENT_STARTED,		/* it runs */
	EVENT_FAILED,		/* it could not be started */
	EVENT_ENDED,		/* its process is gone */
	EVENT_SILENT,		/* no more output on any stream */
	EVENT_DEADLINE,		/* there may be more output, but it has taken too long */
	_EVENT_MAX
};

struct task {
	struct super *super;
	struct list link;
	char *ctr, *exec;
	uint32_t flags;			/* TASK_TTY, ... */
	enum phase phase;
	uint32_t pid;
	uint64_t started_ns, exited_ns;
	int exit_code;
	bool oom;
	char *error;
	struct jsonlog log;
	struct list clients;
	bool eof[3];			/* stdout, stderr have ended (index: enum task_stream) */
	bool ended;			/* the process is gone: exit_code and exited_ns hold */
	bool paused;			/* output is held back: a client is behind */
	struct loop_source *drain;
};

struct task *task_find(struct super *s, const char *ctr, const char *exec);
/* Opens the log too; NULL and e if that is impossible. */
struct task *task_new(struct super *s, const struct msg_create *m, struct err *e);
void task_free(struct task *t);		/* clients linger until they have everything */
/* The only way a task changes its phase. Events that mean nothing in the present phase are ignored. */
void task_event(struct task *t, enum task_event ev);
/* Its process has ended, or could not be started. */
void task_ended(struct task *t, enum task_event ev, int exit_code, uint64_t when_ns, const char *error);
void task_output(struct task *t, enum task_stream s, const void *p, size_t n);
void task_output_eof(struct task *t, enum task_stream s);
/* Its state as a message; strings are borrowed. */
struct msg_task_state task_state_msg(const struct task *t);
/* Whether it has been announced to daemons (CREATE has succeeded). */
bool task_told(const struct task *t);
/* Whether something runs or will run, or its end is not told yet. */
bool task_live(const struct task *t);

/* --- attach.c: a client's connection. Output goes to it as Docker's stream, its input to the task. --- */

struct client;
/* Takes fd over. -errno if it cannot be watched. */
int client_attach(struct task *t, int fd, const struct msg_attach *m);
void clients_output(struct task *t, enum task_stream s, const void *p, size_t n);
/* Closes the clients of t once they have taken what is queued. */
void clients_finish(struct task *t);
/* The same, and the task is forgotten. */
void clients_linger(struct task *t);
/* Closes those that linger, whatever is queued. */
void clients_drop(struct super *s);
/* The task's stdin takes bytes again. */
void clients_stdin_ready(struct task *t);
/* Holds output back while a client is behind. */
void clients_balance(struct task *t);

/* --- requests.c --- */

struct peer {			/* the connection of a daemon */
	struct list link;
	struct super *super;
	struct conn *conn;
	uint64_t number;
};
/* Handles a request. -errno: the peer broke the protocol, end the connection. */
int request(struct peer *p, const struct frame *f, int *fds, size_t n_fds);

/* --- super.c --- */

struct peer *peer_find(struct super *s, uint64_t number);
void super_tell_state(const struct task *t);
void super_tell_detached(const struct task *t);
/* Ends everything, then answers through done (may be NULL). Later calls are answered at once. urgent: clients
 * that do not take what is queued for them are waited for a few seconds only. */
void super_stop(struct super *s, bool urgent, backend_done_fn done, void *userdata);
/* Something was finished: look, after this round of events, whether all is. */
void super_check(struct super *s);
