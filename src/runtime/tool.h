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

int state_write(const char *id, const char *bundle, pid_t pid, const char *config, struct err *e);
/* ERR_NOT_FOUND "container 'x' does not exist". */
int state_read(const char *id, struct state *ret, struct err *e);
void state_done(struct state *s);
#define _cleanup_state_ _cleanup_(state_done)
/* "created", "running" or "stopped", as seen now. */
const char *state_status(const struct state *s);
void state_remove(const struct state *s);
/* A handle on the container, for kill, exec and delete. */
int state_container(const struct state *s, struct rt_container **ret, struct oci_spec **ret_spec,
		    struct err *e);
/* A configuration that names no cgroup gets one of its own. */
void cgroup_path_default(struct oci_spec *spec, const char *id);
char *state_json(const struct state *s);	/* as `state` prints it; heap */
char *state_path(const char *id, const char *file);

struct command {
	const char *name, *usage, *help;
	int (*run)(int argc, char **argv, struct err *e);
};
extern const struct command commands[];
