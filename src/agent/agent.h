/* insula-agent: process 1 of the guest of a hyperv container.
 *
 * It loads what the kernel lacks, waits on the virtio-serial port "insula.agent" for vmwp, and then
 * does in the guest what insula-shim does on the host: tasks by the same runtime library, through
 * task/local.h. Nothing that belongs to one container happens before the request GUEST, so that the
 * state at the first HELLO can be saved as a template and started many times. */
#pragma once

#include "base/err.h"
#include "base/hash.h"
#include "base/loop.h"
#include "proto/conn.h"
#include "proto/stream.h"
#include "task/backend.h"
#include "task/local.h"

#define AGENT_RUN "/run/insula"
#define AGENT_PORT "insula.agent"

struct guest_wait;

struct agent {
	struct loop *loop;
	struct backend *backend;
	struct local_hooks hooks;

	int port_fd;
	struct loop_source *port_wait;	/* the port while no host is connected to it */
	struct conn *conn;
	struct streams *streams;
	unsigned session;		/* counts HELLOs: answers of an older one are dropped */
	bool greeted;
	bool stopping;
	char *sandbox;

	int errors_fd;			/* tells of file systems that fail; -EBADF = nobody does */
	int uevent_fd;
	int aside_ns_fd;		/* the network namespace of what is not to be seen (net.c) */
	struct loop_source *uevent;
	struct guest_wait *wait;	/* the GUEST request that waits for devices */
	struct loop_source *sweep;	/* reaping of orphans, see main.c */
	pid_t zombie;			/* seen by the last sweep */

	struct hmap tasks;		/* "ctr/exec" -> struct task */
	struct hmap layers;		/* place of its disk -> struct layer */
	struct hmap roots;		/* container -> struct root */
	struct list relays;		/* data of FILES requests at work (files.c) */
	struct hmap sockets;		/* tag -> struct listener: the host's sockets (sockets.c) */
	uint32_t next_pipe;
	size_t n_connections;		/* to them */
	struct hmap fifos;		/* tag -> struct fifo: the host's FIFOs (fifos.c) */
	int inotify_fd;			/* tells when they are opened and closed; -EBADF = not needed yet */
	struct loop_source *fifos_again;	/* a second look at who has them open */
	struct memory *memory;		/* memory.c */
	struct hmap shares;		/* virtiofs tag -> itself: mounted shares */
};

/* One request whose answer is still due. */
struct pending {
	struct agent *a;
	unsigned session;
	uint32_t seq;
	uint16_t type;
	char *ctr, *exec;
};

/* boot.c */
/* Loads a module that is not needed by every guest; 0 also if it is there already. */
int module_load(const char *name);
/* Mounts, root, cgroups, loopback, modules. Everything here is the same for every container. */
int boot(struct agent *a);
/* Netlink socket of kernel device events, opened before the modules are loaded. Returns the fd or -errno. */
int uevent_open(void);
/* Reads all events that are there and turns on the processors among them. Whether virtio devices have
 * come or changed: what exactly is asked from sysfs, so lost events do no harm. */
bool uevent_drain(int fd);
/* Blocks until the next event or the deadline (CLOCK_MONOTONIC, microseconds): -ETIMEDOUT. */
int uevent_wait(int fd, uint64_t deadline_us);

/* link.c */
/* Opens the port, as soon as it is there. */
int link_open(struct agent *a);
/* Waits, without using the processor, for a host to talk on the port. */
int link_listen(struct agent *a);
struct pending *pending_new(struct agent *a, uint32_t seq, uint16_t type, const char *ctr, const char *exec);
/* Answers and frees p. */
void pending_reply(struct pending *p, int r, const struct err *e, const void *payload, size_t n);

/* guest.c */
/* The request GUEST: entropy, clock, host name, new devices, network. Answers by itself. */
void guest_request(struct agent *a, uint32_t seq, const struct frame *f);
/* All devices of this virtio type (linux/virtio_ids.h) that have no driver get theirs. */
void guest_bind(unsigned type);
/* Virtio devices came: binds what a waiting GUEST needs. */
void guest_poke(struct agent *a);

/* net.c */
/* Makes the network namespace for interfaces that are not to be seen. */
int net_prepare(struct agent *a);
/* How many of them are not there yet; the MAC of the first (heap) if there is one. */
size_t net_missing(const struct nics *nics, char **ret_mac);
/* Makes the machine's interfaces these. */
int net_configure(const struct agent *a, const struct nics *nics, struct err *e);

/* disk.c */
/* "/dev/vdX" (heap) of the virtio-blk device at this place of the bus, "SLOT.FUNCTION": -ENODEV if there is
 * none (yet). */
int disk_find(const char *place, char **ret);
/* At most 20 characters of [A-Za-z0-9_.-], not starting with '.'. */
bool guest_name_valid(const char *s);
/* Whether the virtiofs device `tag` is there; if so it is mounted at AGENT_RUN/shares/<tag>. -ENODEV if not.
 */
int share_mount(struct agent *a, const char *tag);

/* rootfs.c: hooks of task/local.h */
int rootfs_mount(void *userdata, const struct msg_create *m, struct err *e);
int rootfs_umount(void *userdata, const char *ctr, struct err *e);
int rootfs_lower_mount(void *userdata, const char *ctr, const char *target, struct err *e);
char *rootfs_upper(void *userdata, const char *ctr);
char *rootfs_bundle(void *userdata, const struct msg_create *m);
/* The file system with this id (fsid_t) has met an error. */
void rootfs_failed(struct agent *a, const void *fsid);
/* Unmounts all root file systems, scratch disks and shares, for the end of the machine. */
void rootfs_umount_all(struct agent *a);

/* spec.c */
/* Fits an OCI config to the guest: mount sources "tag:NAME[/sub]" become paths here, disks of the host get
 * the numbers that they have here, the program for --init is the guest's, sysctls get their namespace.
 * disks: msg_create.devices. -ENODATA: nothing to change. */
int spec_rewrite(struct agent *a, const struct bytes *spec, char *const *disks, char **ret, struct err *e);

/* sockets.c */
/* What stands for a socket or FIFO of the host: "TAG:MODE:UID:GID". */
struct pipe_place { char *tag; mode_t mode; uid_t uid; gid_t gid; };
int pipe_place_parse(const char *source, struct pipe_place *ret, struct err *e);
/* A stream of our own choice, for a use (enum pipe_use) of the host's pipe `tag`. */
uint32_t pipe_announce(struct agent *a, const char *tag, uint32_t use);
/* "TAG:MODE:UID:GID" -> path (heap) of a socket whose connections lead to the host's. */
int socket_path(struct agent *a, const char *source, char **ret, struct err *e);

/* fifos.c */
/* "TAG:MODE:UID:GID" -> path (heap) of a FIFO whose bytes come from the host's, or go there. */
int fifo_path(struct agent *a, const char *source, char **ret, struct err *e);
/* Passes on what has been written to FIFOs up to now. */
void fifos_pump(struct agent *a);
/* The session ended. */
void fifos_unlink(struct agent *a);

/* task.c */
extern const struct backend_events task_events;
void task_request(struct agent *a, const struct frame *f);
/* A new session: opens the streams of all tasks again and tells all states. */
void task_replay(struct agent *a);
/* The session ended: output is held back until the next one. */
void task_unlink(struct agent *a);

/* files.c */
/* The request FILES: its data goes through a stream. */
int files_request(struct agent *a, const struct frame *f);
/* Connects a stream to fd, which is taken, until both have ended; gone (may be NULL) runs then. */
int transfer_open(struct agent *a, uint32_t stream, int fd, void (*gone)(struct agent *a));
/* The session ended: what is under way has nobody to talk to. */
void files_unlink(struct agent *a);

/* failing.c */
int failing_init(struct agent *a);
/* Errors of the file system mounted at dir are ours to see to. */
void failing_watch(struct agent *a, const char *dir);
/* Whether it is the one with this id: then it is shut down. */
bool failing_check(const char *dir, const void *fsid);

/* memory.c */
/* Before there is any container. */
int memory_init(struct agent *a);
/* How much may come beside the base, and whether some of it comes at once. Again: nothing. */
void memory_expect(struct agent *a, uint64_t most, bool now);

/* power.c */
void power_request(struct agent *a, uint32_t seq);
