/* The devices of a machine but its disks (disks.c). Each comes by device_add, on a slot of its own. */
#include "base/alloc.h"
#include "base/sock.h"
#include "base/strv.h"
#include "proto/msg.h"
#include "vm/qemu/args.h"
#include "vm/qemu/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct json *device_on_slot(const char *driver, const char *id, unsigned slot)
{
	struct json *a = json_object();
	char addr[8];

	snprintf(addr, sizeof addr, "0x%x", slot);
	json_set_str(a, "driver", driver);
	if (id)
		json_set_str(a, "id", id);
	json_set_str(a, "addr", addr);
	return a;
}

/* The first free one of these slots; 0: there is none. */
unsigned slot_take(struct qemu *q, unsigned first, unsigned last)
{
	for (unsigned i = first; i <= last; i++)
		if (!(q->slots & 1u << i)) {
			q->slots |= 1u << i;
			return i;
		}
	return 0;
}

/* Any free slot of a machine that runs. One that was just left comes last: the guest's firmware may have
 * asked it twice to let go of what was there, and would take away what comes next. 0: none is left. */
unsigned slot_late(struct qemu *q)
{
	unsigned slot = slot_take(q, MAX(q->last_slot + 1, (unsigned)SLOT_DISKS), SLOT_LAST);

	if (!slot)
		slot = slot_take(q, SLOT_DISKS, SLOT_LAST);
	if (slot)
		q->last_slot = slot;
	return slot;
}

void slot_give(struct qemu *q, unsigned slot)
{
	q->slots &= ~(1u << slot);
}

void devices_set_memory(struct batch *b, uint64_t bytes)
{
	struct json *a = json_object();

	json_set_str(a, "path", "/machine/peripheral/memory");
	json_set_str(a, "property", "requested-size");
	json_set_int(a, "value", (int64_t)bytes);
	batch_command(b, "qom-set", a, -EBADF);
}

void devices_add_processors(struct batch *b)
{
	for (unsigned i = 1; i < b->q->vcpus; i++) {
		struct json *a = json_object();

		json_set_str(a, "driver", b->q->cpu_type);
		json_set_int(a, "socket-id", i);
		json_set_int(a, "core-id", 0);
		json_set_int(a, "thread-id", 0);
		batch_command(b, "device_add", a, -EBADF);
	}
}

void devices_add_shares(struct batch *b)
{
	for (size_t i = 0; i < b->q->n_shares; i++) {
		_cleanup_free_ char *id = xasprintf("share%zu", i), *chardev = xasprintf("sharec%zu", i);
		unsigned slot = slot_take(b->q, SLOT_REST, SLOT_LAST);
		struct json *a = device_on_slot("vhost-user-fs-pci", id, slot);

		json_set_str(a, "chardev", chardev);
		json_set_str(a, "tag", b->q->share_tags[i]);
		batch_command(b, "device_add", a, -EBADF);
	}
}

/* --- NICs --- */

/* No control queue, and so nothing that needs one: the guest's driver waits for each answer that comes
 * through it, some eight of them until the interface is up, and the host's end of the tap lets through only
 * what is the container's anyhow. */
struct json *nic_device(const char *id, const char *netdev, const char *mac, unsigned slot)
{
	static const char *const off[] = {
		"ctrl_vq", "ctrl_rx", "ctrl_rx_extra", "ctrl_vlan", "ctrl_mac_addr", "ctrl_guest_offloads",
		"guest_announce",
	};
	struct json *a = device_on_slot("virtio-net-pci", id, slot);

	json_set_str(a, "netdev", netdev);
	json_set_str(a, "mac", mac);
	json_set_str(a, "romfile", "");
	for (size_t i = 0; i < ARRAY_SIZE(off); i++)
		json_set_bool(a, off[i], false);
	return a;
}

static struct json *nic_of(const struct qemu *q, size_t i)
{
	_cleanup_free_ char *id = xasprintf("nic%zu", i), *netdev = xasprintf("net%zu", i);

	return nic_device(id, netdev, q->nics[i].mac, q->nics[i].slot);
}

void devices_add_nics(struct batch *b)
{
	struct qemu *q = b->q;

	for (size_t i = 1; i < ARRAY_SIZE(q->nics); i++)
		if (q->nics[i].mac) {
			q->nics[i].slot = slot_take(q, SLOT_REST, SLOT_LAST);
			batch_command(b, "device_add", nic_of(q, i), -EBADF);
		}
}

/* A number and a slot for one that comes. */
static struct qemu_nic *nic_place(struct qemu *q)
{
	for (size_t i = 0; i < ARRAY_SIZE(q->nics); i++) {
		struct qemu_nic *n = &q->nics[i];

		if (n->slot)
			continue;
		n->slot = slot_late(q);
		return n->slot ? n : NULL;
	}
	return NULL;
}

static void no_place(vmm_done_fn done, void *ud)
{
	_cleanup_err_ struct err e = ERR_INIT;
	int r = err_msg(&e, ERR_INVALID, -ENOSPC, "a virtual machine takes at most %d networks",
			VMM_NICS_MAX);

	done(ud, r, &e);
}

void devices_add_nic(struct vmm *v, const struct vmm_nic *nic, vmm_done_fn done, void *ud)
{
	struct qemu *q = qemu_of(v);
	struct qemu_nic *n = q->gone ? NULL : nic_place(q);
	struct json *fd, *netdev;
	_cleanup_free_ char *id = NULL;
	struct batch *b;

	if (!n) {
		no_place(done, ud);
		return;
	}
	n->mac = xstrdup(nic->mac);
	id = xasprintf("net%zu", (size_t)(n - q->nics));
	fd = json_object();
	json_set_str(fd, "fdname", id);
	netdev = json_object();
	json_set_str(netdev, "type", "tap");
	json_set_str(netdev, "id", id);
	json_set_str(netdev, "fd", id);
	b = batch_begin(q, done, ud);
	batch_command(b, "getfd", fd, nic->tap_fd);
	batch_command(b, "netdev_add", netdev, -EBADF);
	batch_command(b, "device_add", nic_of(q, (size_t)(n - q->nics)), -EBADF);
	batch_end(b);
}

/* Its tap goes at once. The device itself goes when the guest lets it, which is its own affair. */
void devices_remove_nic(struct vmm *v, const char *mac, vmm_done_fn done, void *ud)
{
	struct qemu *q = qemu_of(v);
	struct batch *b = batch_begin(q, done, ud);

	for (size_t i = 0; i < ARRAY_SIZE(q->nics); i++) {
		_cleanup_free_ char *id = xasprintf("nic%zu", i), *netdev = xasprintf("net%zu", i);
		struct json *a;

		if (!streq(q->nics[i].mac, mac))
			continue;
		freep(&q->nics[i].mac);
		a = json_object();
		json_set_str(a, "id", id);
		batch_command(b, "device_del", a, -EBADF);
		a = json_object();
		json_set_str(a, "id", netdev);
		batch_command(b, "netdev_del", a, -EBADF);
	}
	batch_end(b);
}

/* --- what the guest has let go of --- */

void devices_deleted(struct qemu *q, const char *id)
{
	uint64_t i;

	disk_deleted(q, id);
	if (str_starts(id, "nic") && str_to_u64(id + 3, &i) == 0 && i < ARRAY_SIZE(q->nics) &&
	    !q->nics[i].mac) {
		slot_give(q, q->nics[i].slot);
		q->nics[i].slot = 0;
	}
}

/* --- place holders --- */

void devices_add_placeholders(struct batch *b)
{
	struct qemu *q = b->q;

	for (unsigned i = 0; i < VMM_TEMPLATE_DISKS; i++) {
		char node[32];

		if (q->slots & 1u << (SLOT_DISKS + i))
			continue;
		q->slots |= 1u << (SLOT_DISKS + i);
		snprintf(node, sizeof node, PLACEHOLDER, i);
		batch_command(b, "device_add", disk_device(NULL, node, SLOT_DISKS + i), -EBADF);
	}
}
