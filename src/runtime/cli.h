/* The command line tool: what its files share. main.c holds the table of commands; each command file does one
 * group of them; state.c keeps what is known of a container between two calls. */
#pragma once

#include "base/opt.h"
#include "runtime/internal.h"

struct cli {
	char *root;		/* directory of the states, /run/insula-runtime */
	char *log, *log_format;
	bool debug;
};

/* argv[0] is the command's name. Returns the exit code; on failure e is set and the code is derived from it. */
struct cli_command {
	const char *name, *usage, *help;
	int (*run)(const struct cli *cli, int argc, char **argv, struct err *e);
	bool forks;		/* makes processes of containers: runs from a protected image (CVE-2019-5736) */
};

/* Parses the command's options; prints help for --help and exits. min..max: number of arguments. */
int cli_parse(const struct opt *opts, int argc, char **argv, size_t min, size_t max, char ***ret_args, struct err *e);
/* What a command returns after a failure: 127 or 126 for a program that cannot be run, else 1. */
int cli_fail(const struct err *e);

int cmd_create(const struct cli *cli, int argc, char **argv, struct err *e);
int cmd_run(const struct cli *cli, int argc, char **argv, struct err *e);
int cmd_start(const struct cli *cli, int argc, char **argv, struct err *e);
int cmd_exec(const struct cli *cli, int argc, char **argv, struct err *e);
int cmd_kill(const struct cli *cli, int argc, char **argv, struct err *e);
int cmd_delete(const struct cli *cli, int argc, char **argv, struct err *e);
int cmd_state(const struct cli *cli, int argc, char **argv, struct err *e);
int cmd_list(const struct cli *cli, int argc, char **argv, struct err *e);
int cmd_ps(const struct cli *cli, int argc, char **argv, struct err *e);
int cmd_features(const struct cli *cli, int argc, char **argv, struct err *e);
int cmd_spec(const struct cli *cli, int argc, char **argv, struct err *e);

/* --- state.c: ROOT/ID/{state.json, config.json, start.sock} --- */

enum rt_status { RT_CREATING, RT_CREATED, RT_RUNNING, RT_PAUSED, RT_STOPPED };
const char *rt_status_name(enum rt_status s);

struct state {
	char *id, *bundle, *rootfs, *created, *cgroup;
	int64_t pid;
	uint64_t pid_start;	/* start time of the init (proc(5), field 22): tells it from a later owner of the pid */
	bool own_pid_ns;
	struct json *annotations;
	int dir;		/* ROOT/ID, locked against other calls on the same container */
	struct proc init;	/* pidfd -EBADF once it is gone */
};
#define STATE_INIT { .dir = -EBADF, .init = PROC_INIT }
void state_done(struct state *s);
#define _cleanup_state_ _cleanup_(state_done)

/* Makes ROOT/ID. ERR_CONFLICT if the id is taken. */
int state_new(const struct cli *cli, const char *id, struct state *ret, struct err *e);
/* Writes state.json. */
int state_save(const struct state *s, struct err *e);
/* ERR_NOT_FOUND: "container does not exist". lock waits for other calls that change it. */
int state_load(const struct cli *cli, const char *id, bool lock, struct state *ret, struct err *e);
void state_remove(const struct cli *cli, const char *id);
enum rt_status state_status(const struct state *s);
/* OCI state document. */
struct json *state_json(const struct state *s);
/* A library handle for the container; spec may be NULL. */
int state_container(const struct state *s, const struct oci_spec *spec, struct rt_container **ret, struct err *e);
int state_set_init(struct state *s, const struct proc *init, struct err *e);
/* The configuration as it was at create. */
int state_read_spec(const struct state *s, struct oci_spec **ret, struct err *e);
/* The socket at which the init waits to be started. */
int state_listen(const struct state *s, struct err *e);
int state_open_gate(const struct state *s, struct err *e);
int state_write_pid_file(const char *path, pid_t pid, struct err *e);

/* --- relay.c --- */

/* Waits for a child in the foreground: forwards signals; with a master (>= 0, taken over) the caller's terminal
 * is put in raw mode and copied to and from it. Returns the exit code or -errno. */
int relay_wait(struct proc *child, int master);
