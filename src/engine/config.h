/* Settings: built-in defaults, the daemon.json-style file, and what follows from them. */
#pragma once

#include "engine/engine.h"
#include <stdbool.h>

/* What only insulad's main needs, beside the engine's own settings. */
struct daemon_config {
	struct engine_config engine;
	char *group;		/* of the socket; NULL = "insula" or "docker" where such a group exists */
	unsigned socket_mode;
	char *monitor;		/* ro+unix://PATH; NULL = none */
	char *monitor_group;	/* NULL = none */
	char *docker_socket;	/* a link to the socket; NULL = none */
	char *pidfile;		/* NULL = exec_root/insulad.pid */
	char *isolation;	/* "auto", "process", "hyperv" */
	char **hosts;		/* unix://, fd://, tcp://, ro+unix://; NULL = unix://EXEC_ROOT/insula.sock */
	char **tcp;		/* ADDRESS:PORT of the tcp:// hosts */
	bool tls_verify;	/* needed for those */
	char *tls_ca, *tls_cert, *tls_key;
	bool debug;
};

/* Built-in values. Everything heap. */
void daemon_config_init(struct daemon_config *c);
void daemon_config_done(struct daemon_config *c);
#define _cleanup_config_ __attribute__((cleanup(daemon_config_done)))

/* Reads a daemon.json-style file. given: names of the options that the command line has set; a key set in
 * both places, an unknown key and a bad value are errors in dockerd's words. */
int daemon_config_load(struct daemon_config *c, const char *path, char *const *given, struct err *e);
/* One "key=value" of --exec-opt or exec-opts: isolation=..., native.cgroupdriver=cgroupfs. */
int daemon_config_exec_opt(struct daemon_config *c, const char *opt, struct err *e);
/* auto, process or hyperv (any case), else ERR_INVALID. */
int daemon_config_isolation(struct daemon_config *c, const char *value, struct err *e);
/* Sets an option of the command line that takes a value, by its name there ("accel", "bip", "data-root"...).
 */
int daemon_config_set(struct daemon_config *c, const char *option, const char *value, struct err *e);
/* Derives the rest: socket, instance, bridge, helper directory, default isolation. */
int daemon_config_finish(struct daemon_config *c, struct err *e);

/* What `auto` means on this machine: hyperv on a workstation (by the chassis type that SMBIOS gives:
 * desktops, towers, all-in-ones, portables, laptops, convertibles, tablets, mini and stick PCs), process on
 * servers and in VMs. */
enum isolation isolation_auto(void);
/* Whether containers can have their groups below it: a path without "..". */
bool cgroup_parent_valid(const char *path);
void engine_config_done(struct engine_config *c);
void engine_config_copy(const struct engine_config *from, struct engine_config *ret);
