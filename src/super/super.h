/* The supervisor: serves one sandbox to the daemon over a unix socket, on top of a backend.
 *
 * Owns, for every task: the log file (Docker's json-file format), attached clients (whose
 * connections the daemon handed over: data never passes through the daemon), stdin policy, state and
 * exit record. It survives the daemon: exits are written to <dir>/exit-<ctr> first, then told to
 * whoever is connected; on the next HELLO all task states are told again.
 * It ends when the last container is deleted, on SHUTDOWN, or when every container has exited, all
 * output is delivered and no daemon is connected (the exit records stay for the next daemon). */
#pragma once

#include "task/backend.h"

struct super_args {
	char *sandbox;		/* sandbox id */
	char *dir;		/* exec-root/sandboxes/ID: exit records go here */
	int listen_fd;		/* bound, listening unix socket, from the daemon */
	struct backend *backend;
};

/* Parses the command line all supervisors share: --sandbox ID --dir PATH (socket is fd 3), --name NAME (for
 * the process list only), --debug. */
int super_parse_args(int argc, char **argv, struct super_args *ret);
void super_args_done(struct super_args *a);	/* frees the backend too, if there is one */
/* Serves until the sandbox ends; returns the exit code. */
int super_run(struct loop *l, const struct super_args *a);

/* Exit records: one encoded msg_task_state per file, written atomically by the supervisor, read by the
 * daemon. */
int exit_record_write(const char *dir, const struct msg_task_state *m);
int exit_record_read(const char *dir, const char *ctr, struct msg_task_state *ret);
