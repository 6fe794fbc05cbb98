/* A virtual machine, whatever runs it. QEMU is the one driver today (qemu/); a monitor of our own may
 * stand behind the same table later.
 *
 * Life: start() makes the machine, stopped. Devices are added to it while it stands, and later too
 * (disks of further containers). go() lets it run. The same order serves a cold boot and a machine that is
 * restored from a template: what a template holds is the place of a NIC, of memory that may come and of
 * VMM_TEMPLATE_DISKS disks, and a clone finds its own devices there; what has no place, the guest finds by a
 * rescan of its bus. All calls are asynchronous where the monitor is asked: done runs exactly once. */
#pragma once

#include "base/err.h"
#include "base/loop.h"
#include <stdbool.h>
#include <stdint.h>

/* Disks that a machine can have without a rescan of its bus: read-only ones, in the order they are added, and
 * one that is not. */
#define VMM_TEMPLATE_LAYERS 5
#define VMM_TEMPLATE_LAYOUT 2	/* raised when a template's devices or places change */
#define VMM_TEMPLATE_DISKS (VMM_TEMPLATE_LAYERS + 1)

struct vmm;
struct cgroup;

typedef void (*vmm_done_fn)(void *userdata, int r, const struct err *e);

/* A NIC, known by its MAC. */
struct vmm_nic { int tap_fd; const char *mac; };
#define VMM_NICS_MAX 8

/* A raw disk. device: fd is a block device of the host, not a file. */
struct vmm_disk { int fd; bool read_only, device; };
/* A disk is known by its place on the guest's first PCI bus, "SLOT.FUNCTION" as lspci(8) writes it: the guest
 * finds what is there by a look, where a serial number is a request to each device that might be it. */
#define VMM_PLACE_MAX 8

/* Everything in it, descriptors too, is borrowed for the call of start(). */
struct vmm_config {
	const char *accel;		/* "kvm" or "tcg" */
	const char *kernel, *initrd, *cmdline;
	uint64_t memory;		/* bytes: of the base, from the first moment on */
	uint64_t memory_region;		/* what may come beside it at most; 0 = the base is all */
	uint64_t memory_extra;		/* of that, what comes when the machine runs: a multiple of 2 MiB */
	int ram_fd;			/* the file behind the base memory; -EBADF = an unnamed one */
	bool ram_private;		/* written pages are the machine's own, the file stays as it is */
	int state_fd; /* what save() wrote, at its offset: restored in place of a boot; -EBADF */
	bool template;			/* goes with place holders for devices, to be saved */
	unsigned vcpus; /* the first is there from the first moment on, the others come with go() */
	unsigned vcpus_max;		/* like memory_region the same for all that share a template */
	const struct cgroup *cgroup;	/* for the machine's process, made already; NULL = ours */
	const struct vmm_nic *nics;	/* the first in the place that a template has for it */
	size_t n_nics;
	const int *share_fds;		/* connected vhost-user sockets, one per share */
	char *const *share_tags;
	size_t n_shares;
	int link_fd;			/* what the agent's port is connected to */
};

struct vmm_events {
	/* The machine is gone; text says why as far as is known: "QEMU exited with code 1: ...". Runs once,
	 * after a start() that failed too if there was a process. No answer is outstanding any more. */
	void (*gone)(void *userdata, const char *text);
};

struct vmm_ops {
	/* Starts the machine, stopped, with NIC and shares. */
	void (*start)(struct vmm *v, const struct vmm_config *c, vmm_done_fn done, void *ud);
	/* Adds a disk; its fd is borrowed during the call. ret_place is filled before anything else, with ""
	 * if there is none left. The guest sees it after a bus rescan. */
	void (*add_disk)(struct vmm *v, const struct vmm_disk *disk, char ret_place[VMM_PLACE_MAX],
			 vmm_done_fn done, void *ud);
	/* Takes one away while the machine runs, and closes it; the guest, which must let go of it, may take
	 * its time. */
	void (*remove_disk)(struct vmm *v, const char *place, vmm_done_fn done, void *ud);
	/* While it runs: the guest sees it after a bus rescan, and has let go of one that is removed. */
	void (*add_nic)(struct vmm *v, const struct vmm_nic *nic, vmm_done_fn done, void *ud);
	void (*remove_nic)(struct vmm *v, const char *mac, vmm_done_fn done, void *ud);
	/* Of the region, how much the guest may use while it runs. It is told, and takes its time. */
	void (*set_memory)(struct vmm *v, uint64_t bytes);
	/* Bytes of the host that lie behind the region. */
	uint64_t (*memory_touched)(struct vmm *v);
	void (*go)(struct vmm *v, vmm_done_fn done, void *ud);
	/* Stops the machine and writes its state, all but the memory in ram_fd, to fd, which is borrowed. */
	void (*save)(struct vmm *v, int fd, vmm_done_fn done, void *ud);
	/* Ends the machine now. gone() still runs, later. */
	void (*kill)(struct vmm *v);
	/* The last lines of the serial console, for messages, clean. Borrowed until the loop's next round. */
	const char *(*console)(struct vmm *v);
	void (*free)(struct vmm *v);	/* ends it if need be and reaps its process */
};

struct vmm {
	const struct vmm_ops *ops;
	const struct vmm_events *events;
	void *userdata;
};

/* What is missing for hyperv isolation, and the way out. The second takes the path of the file. */
#define NEEDS_QEMU "hyperv isolation needs QEMU: install qemu-system-x86"
#define NEEDS_KERNEL "hyperv isolation needs a guest kernel at %s: run \"insula vm prepare\""

int qemu_new(struct loop *l, struct vmm **ret);
/* The QEMU program of this host, NULL if there is none. */
const char *qemu_program(void);
