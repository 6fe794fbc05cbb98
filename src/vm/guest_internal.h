/* The state of a VM sandbox. Internal to vm/: guest.c has the backend, link.c the agent's end of it,
 * machine.c the machine itself. */
#pragma once

#include "base/hash.h"
#include "proto/conn.h"
#include "proto/stream.h"
#include "vm/guest.h"
#include "vm/share.h"
#include "vm/vmm.h"

#define GUEST_SHARES_MAX 8

struct guest;

/* A task behind the link. */
struct gtask {
	struct guest *guest;
	struct list link;
	char *ctr, *exec;
	uint32_t flags;
	struct stream *s[3];
	size_t untaken[3];		/* bytes passed on while output was paused */
	bool paused, exited;
	struct loop_source *kill_timer;	/* SIGKILL was asked for and has not worked yet */
};

enum guest_phase { GUEST_NEW, GUEST_STOPPED, GUEST_BOOTING, GUEST_UP, GUEST_GONE };

struct guest {
	struct backend b;
	struct loop *loop;
	char *sandbox;
	bool debug;
	enum guest_phase phase;
	struct vmm *vmm;
	struct msg_sandbox conf;
	int tap;
	struct share shares[GUEST_SHARES_MAX];
	char **tags;
	size_t n_shares;
	struct conn *conn;
	struct streams *streams;
	struct loop_source *deadline;
	struct list tasks;
	struct list booting;		/* creations that wait for the agent */
	char **disks;			/* serials of everything attached */
	unsigned next_layer;
	uint32_t next_stream;
	backend_done_fn shutdown_done;
	void *shutdown_ud;
};

struct gtask *gtask_find(struct guest *g, const char *ctr, const char *exec);

/* machine.c */
/* Tap, shares, QEMU, stopped. */
void machine_start(struct guest *g, const struct msg_sandbox *m, backend_done_fn done, void *ud);
/* The machine is gone: every task ends with 137. */
void machine_gone(struct guest *g, const char *why);
void machine_done(struct guest *g);

/* link.c */
/* Takes fd over and says HELLO as soon as somebody listens. */
int link_open(struct guest *g, int fd);
void link_close(struct guest *g);
/* Waits for the agent (once), then tells it of all devices; done runs when they are there. */
void link_ready(struct guest *g, backend_done_fn done, void *ud);
int gtask_open_streams(struct gtask *t, uint32_t base);
void gtask_free(struct gtask *t);
