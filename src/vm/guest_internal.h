/* The state of a VM sandbox. Internal to vm/: guest.c has the backend, create.c how a container comes to its
 * disks, link.c the agent's end of it, machine.c the machine itself. */
#pragma once

#include "base/hash.h"
#include "lib/json.h"
#include "proto/conn.h"
#include "proto/relay.h"
#include "proto/stream.h"
#include "vm/guest.h"
#include "vm/share.h"
#include "vm/vmm.h"

#define GUEST_SHARES_MAX 8
#define GUEST_PIPES_MAX 16

struct guest;

/* A task behind the link. */
struct gtask {
	struct guest *guest;
	struct list link;
	char *ctr, *exec;
	bool tty;
	struct stream *s[3];		/* index: enum task_stream */
	bool eof[3];
	size_t untaken[3];		/* bytes passed on while output was paused */
	bool paused, exited;
	struct loop_source *kill_timer;	/* SIGKILL was asked for and has not worked yet */
};

/* A disk of the machine. Two containers of one image have their layers in common. */
struct disk {
	struct list link;
	dev_t dev;
	ino_t ino;
	bool read_only;
	char **users;			/* containers */
	bool device;			/* of the host, and not a file of the engine: of one container only */
	bool here, known;		/* attached; and the agent was told of it */
	bool leaving, stuck;		/* nobody's any more: the guest lets go of it; or does not */
	char place[VMM_PLACE_MAX];
};

enum guest_phase {
	GUEST_NEW,
	GUEST_STARTING,		/* the machine is being made */
	GUEST_STOPPED,		/* it stands, and waits for its first container's disks */
	GUEST_BOOTING,		/* it runs; the agent has not answered yet */
	GUEST_UP,
	GUEST_GONE,
};

struct guest {
	struct backend b;
	struct loop *loop;
	char *sandbox;
	bool debug;
	enum guest_phase phase;
	struct vmm *vmm;
	struct msg_sandbox conf;
	struct cgroup *cg;		/* of the machine's processes: made, to be removed */
	int taps[VMM_NICS_MAX];		/* of g->conf.nics, until QEMU has them */
	size_t n_taps;
	struct share shares[GUEST_SHARES_MAX];
	char **tags;
	size_t n_shares;
	struct pipe_end { char *tag; int fd; bool fifo; } pipes[GUEST_PIPES_MAX];	/* fd: O_PATH */
	size_t n_pipes, n_connections;
	struct conn *conn;
	struct streams *streams;
	bool hung_up;			/* the link is closed, what came over it has been read */
	char *why;			/* why we ended the machine */
	char *words;			/* why it ended, as the monitor knows it: set when it has */
	bool oom;			/* the host killed it for want of memory */
	struct loop_source *deadline;	/* of the boot, later of the shutdown */
	struct list tasks, disks;
	struct list transfers;		/* data of FILES requests (files.c) */
	struct list forwards;		/* requests that the agent has not answered */
	struct list waiting; /* struct waiter: creations whose devices the agent has not been told of */
	bool telling;			/* of some it is being told */
	bool told;			/* once, and thus who it is */
	unsigned telling_for;		/* ticks */
	unsigned patience_s;		/* for what is answered at once; 0 = what link.c has for a boot */
	struct loop_source *ticks;	/* while such an answer is due */
	struct list held;		/* creations that wait until the leaving disks are gone (create.c) */
	struct loop_source *held_timer;
	uint64_t memory_requested;	/* beside the base (memory.c) */
	struct msg_memory memory;	/* the last report */
	struct loop_source *memory_timer;	/* some lies idle */
	uint32_t next_stream;
	backend_done_fn shutdown_done;
	void *shutdown_ud;
};

/* guest.c */
struct gtask *gtask_find(struct guest *g, const char *ctr, const char *exec);
void gtask_free(struct gtask *t);
/* A request to the agent whose answer is the caller's. */
struct forward;
struct forward *forward_new(struct guest *g, const char *ctr, const char *exec, backend_done_fn done,
			    void *ud);
/* What to do with the task of a request once it is answered; runs before the caller's done. */
void forward_after(struct forward *f,
		   void (*after)(struct guest *g, const char *ctr, const char *exec, int r));
/* The agent answers this at once, whatever its containers do. One that does not has come to a stand, and is
 * ended with its machine: nothing that it is asked for hangs. */
void forward_quick(struct forward *f);
void guest_count(struct guest *g);	/* sees to it that time is counted */
/* The conn_reply_fn of a forward; frees it. What the guest says of an error is cleaned. */
void forwarded(void *ud, int r, const struct err *e, const void *p, size_t n);
void refuse_gone(backend_done_fn done, void *ud);

/* create.c */
/* A container is gone: so are the disks that no other uses. */
void disks_release(struct guest *g, const char *ctr);
void disk_free(struct disk *d);
void guest_create(struct guest *g, const struct msg_create *m, backend_done_fn done, void *ud);

void forward_check(struct forward *f, bool (*valid)(const void *p, size_t n));

/* files.c */
void guest_files(struct guest *g, const struct msg_files *m, int fd, backend_done_fn done, void *ud);
/* Carries bytes between a stream and a descriptor, which is taken, until both have ended. */
struct transfer;
int transfer_open(struct guest *g, uint32_t stream, const struct relay_end *end, struct transfer **ret);
void transfer_retry(struct transfer *t);	/* see relay_retry() */
/* gone runs when it is over, or with the link. */
void transfer_then(struct transfer *t, void (*gone)(void *userdata), void *userdata);

/* pipes.c: sockets and FIFOs of the host that the guest may use. */
/* Takes hold of what stands at path: whatever comes to stand there later is not meant. */
int pipe_add(struct guest *g, const char *tag, const char *path, bool fifo, struct err *e);
/* The frame PIPE_OPEN. -EPROTO: nothing that an honest agent sends. */
int pipe_open(struct guest *g, const struct frame *f);
void pipes_close(struct guest *g);
/* The link is closed: what is under way ends. */
void transfers_close(struct guest *g);

/* link.c */
unsigned guest_patience(const struct guest *g);	/* seconds */
/* Takes fd over and says HELLO as soon as somebody listens. */
int link_open(struct guest *g, int fd);
/* Makes the link end: what was sent before is still read, then machine_ended() runs. */
void link_hang_up(struct guest *g);
void link_close(struct guest *g);
/* Lets the machine run if it does not, waits for the agent, tells it of all devices; done runs when they are
 * there. */
void link_ready(struct guest *g, backend_done_fn done, void *ud);
/* Fails those who wait in link_ready(). */
void link_refuse(struct guest *g, const struct err *e);
int gtask_open_streams(struct gtask *t, uint32_t base);

/* memory.c */
/* The agent's report. */
void guest_memory(struct guest *g, const struct msg_memory *m);

/* group.c */
/* Makes the groups of the machine's processes and sets what bounds them. */
int group_make(struct guest *g, const struct msg_sandbox *m, bool clone, struct err *e);
/* Whether the host has killed one of them for want of memory. */
bool group_out_of_memory(const struct guest *g);
/* Takes out of an OCI linux.resources object what is the host's to do, and does it. NULL: nothing. */
int group_limits(struct guest *g, struct json *resources, struct err *e);
void group_remove(struct guest *g);

/* machine.c */
/* Tap, shares, QEMU, stopped. template: sealed, borrowed; -EBADF = the machine boots. */
void machine_start(struct guest *g, const struct msg_sandbox *m, int template, backend_done_fn done,
		   void *ud);
/* Ends it; why (NULL: because we were asked to) is told of its tasks. */
void machine_kill(struct guest *g, const char *why);
/* The machine is gone and the link drained: every task ends with 137. */
void machine_ended(struct guest *g);
void machine_done(struct guest *g);
/* Its interfaces from now on. tap: of a new one, -EBADF. */
void machine_network(struct guest *g, const struct nics *want, int tap, backend_done_fn done, void *ud);
