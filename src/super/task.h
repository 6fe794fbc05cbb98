/* A task as the supervisor sees it, and its attached clients. Internal to super/. */
#pragma once

#include "base/hash.h"
#include "super/jsonlog.h"
#include "super/super.h"

struct super;

struct task {
	struct super *super;
	struct list link;
	char *ctr, *exec;
	uint32_t flags;			/* TASK_TTY, ... */
	enum task_state state;
	uint32_t pid;
	uint64_t started_ns, exited_ns;
	int exit_code;
	bool oom;
	char *error;
	struct jsonlog log;
	struct list clients;
	bool eof[3];			/* stdout, stderr have ended (index: enum task_stream) */
	bool ended;			/* the process is gone; EXITED is told once its output is too */
	bool paused;			/* output is held back: a client is behind */
	struct loop_source *drain;	/* bounds the wait for output after the end */
};

struct super {
	struct loop *loop;
	const struct super_args *args;
	struct backend *backend;
	struct loop_source *accept;
	struct list tasks, conns, lingering;	/* lingering: clients of deleted tasks, still to be drained */
	bool had_container, ending;
};

struct task *task_find(struct super *s, const char *ctr, const char *exec);
struct task *task_new(struct super *s, const struct msg_create *m);
void task_free(struct task *t);		/* clients linger until they have everything */
/* The task's state as a message; strings are borrowed. */
struct msg_task_state task_state_msg(const struct task *t);
/* Moves on when the end and the end of output have both come. */
void task_maybe_exited(struct task *t, bool output_over);

/* A client's connection: output goes to it as Docker's stream, its input to the task. */
struct client;
/* Takes fd over. -errno if it cannot be watched. */
int client_attach(struct task *t, int fd, const struct msg_attach *m);
void client_output(struct task *t, enum task_stream s, const void *p, size_t n);
/* Closes the clients of t once they have taken what is queued. */
void clients_finish(struct task *t);
void clients_linger(struct task *t);
/* The task's stdin takes bytes again. */
void clients_stdin_ready(struct task *t);

/* From super.c. */
void super_tell_state(struct task *t);
void super_tell_detached(struct task *t);
void super_maybe_end(struct super *s);
