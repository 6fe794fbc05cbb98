/* The devices of a machine. Every one comes by device_add while the processors stand, on a slot of its own.
 *
 * Disks come by add-fd, raw, never with format detection (a guest could otherwise turn its raw disk into one
 * with a backing file and read any file of the host: Cloud Hypervisor's GHSA-jmr4-g2hv-mjj6). */
#include "base/alloc.h"
#include "base/sock.h"
#include "vm/qemu/args.h"
#include "vm/qemu/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct json *device(const char *driver, const char *id, unsigned slot)
{
	struct json *a = json_object();
	char addr[8];

	snprintf(addr, sizeof addr, "0x%x", slot);
	json_set_str(a, "driver", driver);
	json_set_str(a, "id", id);
	json_set_str(a, "addr", addr);
	return a;
}

/* --- disks --- */

/* A disk on its way, and who waits for it. */
struct adding {
	struct qemu *q;
	vmm_done_fn done;
	void *ud;
	char *id, *serial;
	bool read_only;
	unsigned slot;
};

static void device_added(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct adding *p = ud;

	p->done(p->ud, r, e);
	free(p->id);
	free(p->serial);
	free(p);
}

static struct json *disk_device(const char *id, unsigned slot, const char *serial)
{
	struct json *a = device("virtio-blk-pci", id, slot);

	json_set_str(a, "disable-legacy", "on");
	json_set_str(a, "drive", id);
	json_set_str(a, "serial", serial);
	json_set_str(a, "werror", "report");
	json_set_str(a, "rerror", "report");
	return a;
}

static void disk_node_added(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct adding *p = ud;

	if (r < 0)
		device_added(p, r, e, NULL);
	else
		qmp_command(p->q->qmp, "device_add", disk_device(p->id, p->slot, p->serial), -EBADF,
			    device_added, p);
}

static void disk_fd_added(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct adding *p = ud;
	struct json *a, *file;
	_cleanup_free_ char *path = NULL;

	if (r < 0) {
		device_added(p, r, e, NULL);
		return;
	}
	path = xasprintf("/dev/fdset/%lld", (long long)json_get_int(ret, "fdset-id", -1));
	a = json_object();
	json_set_str(a, "driver", "raw");
	json_set_str(a, "node-name", p->id);
	json_set_bool(a, "read-only", p->read_only);
	json_set_str(a, "discard", "unmap");
	file = json_set(a, "file", json_object());
	json_set_str(file, "driver", "file");
	json_set_str(file, "filename", path);
	json_set_bool(file, "read-only", p->read_only);
	json_set_str(file, "discard", "unmap");
	json_set_str(file, "locking", "off");
	qmp_command(p->q->qmp, "blockdev-add", a, -EBADF, disk_node_added, p);
}

/* A place that a template has, while the machine has not run, else a free one. 0: none is left. */
static unsigned disk_slot(struct qemu *q)
{
	if (q->next_disk < VMM_TEMPLATE_DISKS && !q->ran)
		return SLOT_DISKS + q->next_disk;
	return q->next_slot <= SLOT_LAST ? q->next_slot++ : 0;
}

void devices_add_disk(struct vmm *v, int fd, bool read_only, const char *serial, vmm_done_fn done, void *ud)
{
	struct qemu *q = qemu_of(v);
	unsigned slot = q->gone ? 0 : disk_slot(q);
	struct adding *p;

	if (!slot || strlen(serial) > 20) {
		_cleanup_err_ struct err e = ERR_INIT;
		int r = err_msg(&e, ERR_INVALID, -ENOSPC, "attach disk '%s': %s", serial,
				q->gone ? "the virtual machine ended"
					: "no slot is left on the bus of the virtual machine");

		done(ud, r, &e);
		return;
	}
	p = new0(struct adding);
	*p = (struct adding){q,         done, ud, xasprintf("disk%u", q->next_disk++), xstrdup(serial),
			     read_only, slot};
	qmp_command(q->qmp, "add-fd", NULL, fd, disk_fd_added, p);
}

/* --- the rest --- */

/* A region that the guest sees as memory which may come: how much of it does is set later, at any time. Its
 * size belongs to the saved state, so it is the same for all machines of a host. */
void devices_add_memory(struct batch *b, uint64_t region)
{
	struct json *a = json_object();

	json_set_str(a, "qom-type", "memory-backend-memfd");
	json_set_str(a, "id", "extra");
	json_set_int(a, "size", (int64_t)region);
	json_set_bool(a, "share", true);
	json_set_bool(a, "reserve", false);
	batch_command(b, "object-add", a, -EBADF);
	a = device("virtio-mem-pci", "memory", SLOT_MEMORY);
	json_set_str(a, "memdev", "extra");
	json_set_int(a, "requested-size", 0);
	json_set_int(a, "block-size", 2 << 20);	/* it would look in /sys, which the jail has not */
	batch_command(b, "device_add", a, -EBADF);
}

void devices_set_memory(struct batch *b)
{
	struct json *a;

	if (!b->q->extra)
		return;
	a = json_object();
	json_set_str(a, "path", "/machine/peripheral/memory");
	json_set_str(a, "property", "requested-size");
	json_set_int(a, "value", (int64_t)b->q->extra);
	batch_command(b, "qom-set", a, -EBADF);
}

/* The tap's descriptor gets a name, by which the back end takes it. Without one the guest has a NIC that
 * leads nowhere, and leaves it alone. */
void devices_add_nic(struct batch *b, int tap_fd, const char *mac)
{
	struct json *a;

	if (tap_fd >= 0) {
		a = json_object();
		json_set_str(a, "fdname", "tap");
		batch_command(b, "getfd", a, tap_fd);
		a = json_object();
		json_set_str(a, "type", "tap");
		json_set_str(a, "id", "net");
		json_set_str(a, "fd", "tap");
		json_set_bool(a, "vhost", false);
		batch_command(b, "netdev_add", a, -EBADF);
	}
	a = device("virtio-net-pci", "nic", SLOT_NIC);
	json_set_str(a, "disable-legacy", "on");
	json_set_str(a, "romfile", "");
	if (tap_fd >= 0) {
		json_set_str(a, "netdev", "net");
		json_set_str(a, "mac", mac);
	}
	batch_command(b, "device_add", a, -EBADF);
	b->q->has_nic = true;
}

void devices_add_shares(struct batch *b)
{
	for (size_t i = 0; i < b->q->n_shares; i++) {
		_cleanup_free_ char *id = xasprintf("share%zu", i), *chardev = xasprintf("sharec%zu", i);
		struct json *a = device("vhost-user-fs-pci", id, b->q->next_slot++);

		json_set_str(a, "chardev", chardev);
		json_set_str(a, "tag", b->q->share_tags[i]);
		batch_command(b, "device_add", a, -EBADF);
	}
}

void devices_add_placeholders(struct batch *b)
{
	for (unsigned i = b->q->next_disk; i < VMM_TEMPLATE_DISKS; i++) {
		_cleanup_free_ char *id = xasprintf("disk%u", i);
		struct json *a = json_object();

		json_set_str(a, "driver", "null-co");
		json_set_str(a, "node-name", id);
		json_set_bool(a, "read-zeroes", true);
		batch_command(b, "blockdev-add", a, -EBADF);
		batch_command(b, "device_add", disk_device(id, SLOT_DISKS + i, ""), -EBADF);
	}
	/* Disks that come later find no place among these. */
	if (b->q->next_disk < VMM_TEMPLATE_DISKS)
		b->q->next_disk = VMM_TEMPLATE_DISKS;
	if (!b->q->has_nic)
		devices_add_nic(b, -EBADF, NULL);
}
