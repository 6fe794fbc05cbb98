/* The command line of QEMU, and the descriptors it finds. */
#pragma once

#include "vm/vmm.h"

enum { FD_QMP = 10, FD_LINK, FD_CONSOLE, FD_RAM, FD_REGION, FD_SHARES = 20, FD_TAPS = 30 };
#define SHARES_MAX 8

/* What the jail calls them: QEMU opens these by name. */
#define JAIL_KERNEL "/boot/vmlinuz"
#define JAIL_INITRD "/boot/initramfs.img"

/* Slots of the PCI bus. Fixed addresses make the order of devices in the guest certain, and let a clone put
 * its own devices where its template had place holders: a device that the guest has not seen at boot costs
 * it 0.16 s under software emulation. */
enum {
	SLOT_LINK = 3,
	SLOT_NIC,
	SLOT_MEMORY,
	SLOT_DISKS,
	SLOT_REST = SLOT_DISKS + VMM_TEMPLATE_DISKS, /* disks beyond these, shares */
	SLOT_LAST = 31
};

/* Nodes of disks that are none, one for each place of a template. */
#define PLACEHOLDER "place%u"
/* Its NIC, and what is behind it. */
#define PLACE_OF_NIC "place"

/* The place of a NIC is there and nobody asked for one: a tap that leads nowhere is behind it, since the
 * driver in the template has settled with a tap what both of them can do. */
static inline bool place_of_nic(const struct vmm_config *c)
{
	return !c->n_nics && (c->template || c->state_fd >= 0);
}

/* The device that a further processor is. */
const char *qemu_cpu_type(const char *accel);
/* NULL-terminated, heap. program: argv[0]. */
char **qemu_arguments(const char *program, const struct vmm_config *c);
