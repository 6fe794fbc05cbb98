/* One local task and its stdio. Internal to task/. */
#pragma once

#include "base/hash.h"
#include "base/proc.h"
#include "base/sbuf.h"
#include "runtime/runtime.h"
#include "task/local.h"

struct local;

struct ltask {
	struct local *local;
	struct list link;
	char *ctr, *exec, *bundle;
	uint32_t flags, rows, cols;
	struct rt_container *rt;	/* the init's; execs use their container's */
	struct oci_process *process;	/* exec: until it is started */
	struct proc proc;
	struct loop_source *child;
	bool started, exited;
	/* stdio: our ends. A terminal's master stands in fd[0] and fd[1] (the same number). */
	int fd[3];
	struct loop_source *io[3];
	int child_fd[3];		/* the task's ends, until it is started */
	struct sbuf in; /* bytes for stdin that the pipe did not take, or that came before there was one */
	bool in_closing;		/* to be closed once they are written */
	bool in_dead;			/* nobody reads: what comes is dropped */
	bool in_short;			/* the caller waits for stdin_ready */
	bool paused;
};

struct local {
	struct backend b;
	struct loop *loop;
	struct local_hooks *hooks;
	void *userdata;
	struct list tasks;
	struct loop_source *trim;	/* when memory is given back after an exec; NULL = nothing to give */
};

struct ltask *ltask_find(struct local *l, const char *ctr, const char *exec);

/* stdio.c */
int stdio_open_pipes(struct ltask *t);			/* fills fd and child_fd */
int stdio_set_console(struct ltask *t, int master);	/* takes master over */
int stdio_watch(struct ltask *t); /* starts reading, and writing what stdin was given before */
void stdio_close_child_ends(struct ltask *t);
void stdio_close(struct ltask *t);
size_t stdio_in_write(struct ltask *t, const void *p, size_t n);
void stdio_in_close(struct ltask *t);
void stdio_pause(struct ltask *t, bool paused);

/* local_control.c */
void op_control(struct backend *b, const struct msg_control *m, backend_done_fn done, void *ud);

/* stats.c: what a container uses, as a stats_table. */
void stats_table(const struct rt_stats *s, struct sbuf *out);

/* local_files.c */
void op_files(struct backend *b, const struct msg_files *m, int fd, backend_done_fn done, void *ud);

/* ps.c: rows of a ps_table for these processes, in order of pid; those gone meanwhile are left out. */
char **ps_rows(const pid_t *pids, size_t n);
