/* A machine that is none, in the place of QEMU: whoever includes this holds the guest's end of the link,
 * and sees what vmwp asks of the machine. For the unit tests and the fuzz target of src/vm/guest.c. */
#pragma once

#include "base/fd.h"
#include "vm/jail.h"
#include "vm/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static struct {
	struct vmm v;
	int link;			/* the guest's end */
	char disks[256];		/* places: "+" behind what is writable, "-" before what went */
	uint64_t memory, touched;
	unsigned places;
	bool killed, told, freed, fail_disks;
} machine;

static void fake_start(struct vmm *v, const struct vmm_config *c, vmm_done_fn done, void *ud)
{
	machine.link = fcntl(c->link_fd, F_DUPFD_CLOEXEC, 3);
	(void)fd_set_nonblock(machine.link, true);
	done(ud, 0, NULL);
}

static void fake_add_disk(struct vmm *v, const struct vmm_disk *d, char ret_place[VMM_PLACE_MAX],
			  vmm_done_fn done, void *ud)
{
	size_t n = strlen(machine.disks);
	struct err e = { ERR_SYSTEM, EIO, (char *)"QEMU: no" };

	snprintf(ret_place, VMM_PLACE_MAX, "%02x.0", ++machine.places & 0xff);
	snprintf(machine.disks + n, sizeof machine.disks - n, "%s%s%s", n ? "," : "", ret_place,
		 d->read_only ? "" : "+");
	done(ud, machine.fail_disks ? -EIO : 0, machine.fail_disks ? &e : NULL);
}

static void fake_remove_disk(struct vmm *v, const char *place, vmm_done_fn done, void *ud)
{
	size_t n = strlen(machine.disks);

	snprintf(machine.disks + n, sizeof machine.disks - n, ",-%s", place);
	done(ud, 0, NULL);
}

static void fake_go(struct vmm *v, vmm_done_fn done, void *ud)
{
	done(ud, 0, NULL);
}

static void fake_set_memory(struct vmm *v, uint64_t bytes)
{
	machine.memory = bytes;
}

static uint64_t fake_memory_touched(struct vmm *v)
{
	return machine.touched;
}

static void fake_kill(struct vmm *v)
{
	machine.killed = true;
}

static const char *fake_console(struct vmm *v)
{
	return "last words";
}

static void fake_free(struct vmm *v)
{
	fd_close(&machine.link);
	machine.freed = true;
}

static const struct vmm_ops fake = {
	.start = fake_start, .add_disk = fake_add_disk, .remove_disk = fake_remove_disk, .go = fake_go,
	.set_memory = fake_set_memory, .memory_touched = fake_memory_touched,
	.kill = fake_kill, .console = fake_console, .free = fake_free,
};

int qemu_new(struct loop *l, struct vmm **ret)
{
	memset(&machine, 0, sizeof machine);
	machine.v.ops = &fake;
	*ret = &machine.v;
	return 0;
}

const char *qemu_program(void)
{
	return "/bin/true";
}

int drop_capabilities(uint64_t keep)
{
	return 0;
}
