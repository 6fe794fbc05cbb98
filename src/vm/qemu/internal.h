/* The state of one QEMU. Internal to vm/qemu/: driver.c has its life, devices.c what it is made of,
 * state.c how its state is saved and loaded. */
#pragma once

#include "base/hash.h"
#include "base/proc.h"
#include "vm/output.h"
#include "vm/qemu/qmp.h"
#include "vm/vmm.h"

/* Commands that are asked for together: done runs once, after the last answer or at the first error. */
struct batch {
	struct list link;
	struct qemu *q;
	size_t pending;
	bool failed;
	vmm_done_fn done;
	void *ud;
};

/* slot 0: there is none with this number. mac NULL: it is leaving, until the guest has let go of the slot. */
struct qemu_nic { char *mac; unsigned slot; };

struct qemu {
	struct vmm v;
	struct loop *loop;
	struct proc proc;
	struct loop_source *child;
	struct qmp *qmp;
	struct output console, errors;
	bool gone, stopped_itself, ran, disk_failed;
	unsigned next_disk;
	uint32_t slots;			/* taken, bit n = slot n of the bus */
	unsigned last_slot;		/* the last that was taken while it runs */
	struct list disks;		/* struct qemu_disk (disks.c) */
	struct qemu_nic nics[VMM_NICS_MAX];	/* their place is the number in their ids */
	bool template;			/* a device is needed in each of a template's places */
	int state_fd;			/* to be loaded before the processors run */
	char **share_tags;
	size_t n_shares;
	uint64_t extra;			/* bytes of memory beside the base, as it begins to run */
	int region_fd;			/* the file behind what may come beside it; -EBADF = nothing */
	const char *cpu_type;
	unsigned vcpus;
	struct list batches;
	struct loop_source *watch;	/* watch.c */
	bool come_up;			/* made, loaded, and let run */
	bool asked;
	unsigned looks;
	uint64_t work_when_asked, ticks_when_asked;
	const char *hung;		/* why it was ended */
	struct batch *migration;	/* the one that waits for the end of a migration */
};

static inline struct qemu *qemu_of(struct vmm *v)
{
	return container_of(v, struct qemu, v);
}

/* A batch begins with one command pending, so that it is not over before all have been asked for:
 * batch_end() takes that one back. */
struct batch *batch_begin(struct qemu *q, vmm_done_fn done, void *ud);
/* args is taken; pass_fd >= 0 is duplicated. */
void batch_command(struct batch *b, const char *name, struct json *args, int pass_fd);
/* One of what it waits for is over. */
void batch_over(struct batch *b, int r, const struct err *e);
static inline void batch_end(struct batch *b)
{
	batch_over(b, 0, NULL);
}

/* disks.c */
void devices_add_disk(struct vmm *v, const struct vmm_disk *disk, char ret_place[VMM_PLACE_MAX],
		      vmm_done_fn done, void *ud);
void devices_remove_disk(struct vmm *v, const char *place, vmm_done_fn done, void *ud);
/* QEMU has deleted the device with this id. */
void disk_deleted(struct qemu *q, const char *id);
struct json *disk_device(const char *id, const char *node, unsigned slot);
/* The machine is gone. e: told to those who wait for disks; NULL: nobody is told. */
void disks_forget(struct qemu *q, const struct err *e);

/* devices.c */
/* id may be NULL. */
struct json *device_on_slot(const char *driver, const char *id, unsigned slot);
/* The first free one of these slots of the bus, 0: there is none. */
unsigned slot_take(struct qemu *q, unsigned first, unsigned last);
/* Any free slot of a machine that runs, 0: none is left. One that was just left comes last. */
unsigned slot_late(struct qemu *q);
void slot_give(struct qemu *q, unsigned slot);
struct json *nic_device(const char *id, const char *netdev, const char *mac, unsigned slot);
void devices_add_shares(struct batch *b);
/* Those beside the first. */
void devices_add_nics(struct batch *b);
void devices_add_nic(struct vmm *v, const struct vmm_nic *nic, vmm_done_fn done, void *ud);
void devices_remove_nic(struct vmm *v, const char *mac, vmm_done_fn done, void *ud);
/* QEMU's event DEVICE_DELETED. */
void devices_deleted(struct qemu *q, const char *id);
/* A device for each place of a template that nothing has taken. */
void devices_add_placeholders(struct batch *b);
/* The processors beside the first. */
void devices_add_processors(struct batch *b);
/* Tells the guest how much of the memory region it may use. */
void devices_set_memory(struct batch *b, uint64_t bytes);

/* watch.c */
/* From now on it must answer, or it is ended. */
void watch_start(struct qemu *q);

/* state.c */
void state_load(struct batch *b);
void state_save(struct batch *b, int fd);
/* An event of QEMU that says how a migration goes. */
void state_event(struct qemu *q, const struct json *data);
