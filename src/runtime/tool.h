/* The parts of the command line tool insula-runtime. */
#pragma once

#include "base/opt.h"
#include "runtime/internal.h"

#define RUNTIME_ROOT "/run/insula-runtime"

/* What a container's state directory ROOT/ID tells: state.json, config.json (a copy), start.sock. */
struct state {
	char *dir, *id, *bundle, *created;
	pid_t pid;
	struct json *doc;
};

/* --root. */
extern char *runtime_root;
/* --cgroup-manager, --systemd-cgroup. */
enum tool_cgroups { TOOL_CGROUPFS, TOOL_SYSTEMD, TOOL_NO_CGROUPS };
extern enum tool_cgroups runtime_cgroups;

/* Writes what is to be remembered of a container whose init is pid; state_publish() makes it seen, once it is
 * created. config: the text of its configuration. */
int state_write(const char *bundle, const char *config, const struct oci_spec *spec,
		const struct rt_container *c, pid_t pid, struct err *e);
int state_publish(const char *id, struct err *e);
/* ERR_NOT_FOUND "container 'x' does not exist". */
int state_read(const char *id, struct state *ret, struct err *e);
void state_done(struct state *s);
#define _cleanup_state_ _cleanup_(state_done)
/* "created", "running", "paused" or "stopped", as seen now. */
const char *state_status(const struct state *s);
void state_remove(const char *id);
/* A handle on the container, for kill, exec and delete. */
int state_container(const struct state *s, struct rt_container **ret, struct oci_spec **ret_spec,
		    struct err *e);
/* A configuration that names no cgroup gets one of its own. */
void cgroup_path_default(struct oci_spec *spec, const char *id);
struct json *state_object(const struct state *s);	/* as `state` prints it */
char *state_owner(const struct state *s);		/* of the state directory: "root" or "#UID"; heap */
char *state_path(const char *id, const char *file);

/* --- tool.c --- */

/* ERR_INVALID with this text. */
int tool_usage(struct err *e, const char *text);
/* Parses options; exactly `want` arguments must remain (SIZE_MAX: at least one, and what follows the first is
 * not looked at). ret: free the vector only. */
int tool_parse(const struct opt *opts, int argc, char **argv, size_t want, char ***ret, struct err *e);
void tool_help(const struct opt *opts, int argc, char **argv);	/* exits if --help is the first argument */
int tool_write_pid(const char *path, pid_t pid, struct err *e);	/* path NULL = nothing to do */
/* Waits for a child and passes signals on to it meanwhile, and what comes and goes between our standard
 * streams and its terminal (master; -EBADF = it has none). Its exit code. */
int tool_wait(struct proc *p, int master, struct err *e);
/* state_read and state_container. *s must be zero; ret_spec may be NULL. */
int tool_open(const char *id, struct state *s, struct rt_container **ret, struct oci_spec **ret_spec,
	      struct err *e);

/* The ids of all containers, sorted; heap. cmd_list.c */
char **tool_ids(void);

/* --- the commands: argv[0] is the name; the exit code, or -errno with e --- */

int cmd_exec(int argc, char **argv, struct err *e);
int cmd_list(int argc, char **argv, struct err *e);
int cmd_ps(int argc, char **argv, struct err *e);
int cmd_pause(int argc, char **argv, struct err *e);
int cmd_resume(int argc, char **argv, struct err *e);
int cmd_update(int argc, char **argv, struct err *e);
int cmd_events(int argc, char **argv, struct err *e);
int cmd_spec(int argc, char **argv, struct err *e);
int cmd_features(int argc, char **argv, struct err *e);

struct command {
	const char *name, *usage, *help;
	int (*run)(int argc, char **argv, struct err *e);
};
extern const struct command commands[];
