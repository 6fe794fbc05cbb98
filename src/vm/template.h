/* Templates: a machine that has booted up to its agent, as a file. Each container's machine then starts as a
 * copy-on-write clone of it.
 *
 * The file is the memory of the machine, sparse, followed by QEMU's device state. It is kept on disk, and
 * given to machines as a sealed memfd: no QEMU that a guest has taken over can write into the memory that
 * others start from (which holds for no file that a writable descriptor of can be had). */
#pragma once

#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct template_config {
	const char *dir;		/* template-KEY lies here */
	const char *kernel, *initrd, *accel;
	uint64_t memory, region, vcpus_max;	/* as vmm_config's */
	uint64_t patience_s;		/* until its agent must have come up */
	uint64_t proof_s;		/* until its kernel must be seen to run; 0 = nobody looks */
};

/* Fills and seals the memfd: from dir, if what lies there was made from the same kernel, initramfs, QEMU,
 * processor and sizes, else by booting a machine, which is then kept in dir in place of any other.
 * *ret_name: what it is called there (heap). */
int template_fill(const struct template_config *c, int memfd, char **ret_name, struct err *e);
/* The two parts of a sealed template of a machine with that much memory. *ret_ram: the template itself, or,
 * if shared, a copy that may be written to (file servers of shares insist on memory they can share).
 * *ret_state: a descriptor of its own, positioned at the device state. */
int template_open(int memfd, uint64_t memory, bool shared, int *ret_ram, int *ret_state);

/* The guest's kernel command line, the same for boots and templates. */
extern const char guest_cmdline[];
