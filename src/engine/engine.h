/* The engine: owner of containers, images, networks and volumes. One thread, one event loop; nothing
 * here blocks: long work runs in worker processes (worker.h). Lives in insulad under api/.
 *
 * Subsystem structs are opaque; each has its header: container.h, image.h, network.h, volume.h,
 * events.h, db.h. Functions report failures by `struct err *`; asynchronous ones by engine_done_fn. */
#pragma once

#include "base/err.h"
#include "base/group_home.h"
#include "base/loop.h"
#include "lib/json.h"

struct containers;
struct images;
struct networks;
struct volumes;
struct events;
struct db;

enum isolation { ISOLATION_PROCESS = 1, ISOLATION_HYPERV = 2 };
const char *isolation_name(enum isolation i);	/* "process", "hyperv" */

/* Settings of this daemon; strings never NULL unless said. */
struct engine_config {
	char *data_root;	/* /var/lib/insula */
	char *exec_root;	/* /run/insula */
	char *socket;		/* path of the API socket */
	char *instance; /* "" or a suffix from the roots: second daemons get their own bridge and nft table */
	char *bridge;		/* "insula0" */
	char *subnet;		/* "172.30.0.0/16" default; the next free one if taken */
	bool open_firewall;	/* firewalls of others are told to let containers through */
	char *publish_ip;	/* where ports are published that name no address; NULL = everywhere */
	char *libexec; /* directory of insula-shim, vmwp, insula-puller (beside insulad in a build tree) */
	char *vm_dir;		/* guest kernel and initramfs: vmlinuz, initramfs.img */
	enum isolation default_isolation;
	bool require_hardware;	/* refuse hyperv under TCG */
	char *accel;		/* "auto" (NULL), "kvm", "tcg" */
	uint64_t vm_memory; /* bytes that every VM has from the first moment on; more comes by its limit */
	bool vm_cold_boot;	/* VMs boot instead of being clones of a template */
	unsigned vm_vcpus;
	char **registry_mirrors;	/* URLs, of Docker Hub */
	char **insecure_registries;	/* HOST[:PORT] that may be spoken to without TLS */
	char *log_driver;		/* of containers that ask for none; NULL = json-file */
	char **log_opts;		/* "key=value", of that driver */
	char *cgroup_parent;		/* of containers that ask for none: below each hierarchy */
	char *registry_certs;		/* directory with HOST[:PORT]/ca.crt; NULL = the usual ones */
};

struct engine {
	struct loop *loop;
	struct engine_config cfg;
	struct db *db;
	struct images *images;
	struct containers *containers;
	struct networks *networks;
	struct publishing *publishing;	/* publish.h */
	struct volumes *volumes;
	struct events *events;
	struct accel_state *accel;	/* accel.h */
	struct template_state *template;	/* template.h */
	struct group_home home;		/* of what outlives the daemon */
	char *id;		/* random, kept in the database: `info` ID */
};

/* r = 0, or < 0 and e. result: what the operation made (borrowed; may be NULL). */
typedef void (*engine_done_fn)(void *userdata, int r, const struct err *e, void *result);

/* Opens data and exec roots, database, networks; adopts running supervisors; carries out what fell due. */
int engine_open(struct loop *l, const struct engine_config *cfg, struct engine **ret, struct err *e);
void engine_close(struct engine *e);
