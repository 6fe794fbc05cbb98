/* The disks of a machine: files of the engine, and block devices of the host, as long as a container has
 * them. While the machine stands they come at once; while it runs they are plugged in, and the guest lets
 * go.
 *
 * They come by add-fd, raw, never with format detection (a guest could otherwise turn its raw disk into one
 * with a backing file and read any file of the host: Cloud Hypervisor's GHSA-jmr4-g2hv-mjj6). */
#include "base/alloc.h"
#include "base/strv.h"
#include "vm/qemu/args.h"
#include "vm/qemu/internal.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

struct qemu_disk {
	struct list link;
	struct qemu *q;
	char *id;			/* of the device and of its node */
	char place[VMM_PLACE_MAX];
	bool read_only, device;
	int sector;			/* of a block device; 0 = QEMU's own */
	unsigned slot;
	int64_t fdset;
	vmm_done_fn done;		/* who waits for its coming, or going */
	void *ud;
};

static void disk_free(struct qemu_disk *d)
{
	list_remove(&d->link);
	free(d->id);
	free(d);
}

static void disk_tell(struct qemu_disk *d, int r, const struct err *e)
{
	vmm_done_fn done = d->done;

	d->done = NULL;
	if (done)
		done(d->ud, r, e);
}

static void device_added(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct qemu_disk *d = ud;

	disk_tell(d, r, e);
	if (r < 0) {
		slot_give(d->q, d->slot);
		disk_free(d);
	}
}

struct json *disk_device(const char *id, const char *node, unsigned slot)
{
	struct json *a = device_on_slot("virtio-blk-pci", id, slot);

	json_set_str(a, "drive", node);
	return a;
}

static void disk_node_added(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct qemu_disk *d = ud;
	struct json *a;

	if (r < 0) {
		device_added(d, r, e, NULL);
		return;
	}
	a = disk_device(d->id, d->id, d->slot);
	if (d->sector) {
		json_set_int(a, "logical_block_size", d->sector);
		json_set_int(a, "physical_block_size", d->sector);
	}
	qmp_command(d->q->qmp, "device_add", a, -EBADF, device_added, d);
}

static void disk_fd_added(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct qemu_disk *d = ud;
	struct json *a, *file;
	_cleanup_free_ char *path = NULL;

	if (r < 0) {
		device_added(d, r, e, NULL);
		return;
	}
	d->fdset = json_get_int(ret, "fdset-id", -1);
	path = xasprintf("/dev/fdset/%lld", (long long)d->fdset);
	a = json_object();
	json_set_str(a, "driver", "raw");
	json_set_str(a, "node-name", d->id);
	json_set_bool(a, "read-only", d->read_only);
	json_set_str(a, "discard", "unmap");
	file = json_set(a, "file", json_object());
	json_set_str(file, "driver", d->device ? "host_device" : "file");
	json_set_str(file, "filename", path);
	json_set_bool(file, "read-only", d->read_only);
	json_set_str(file, "discard", "unmap");
	json_set_str(file, "locking", "off");
	qmp_command(d->q->qmp, "blockdev-add", a, -EBADF, disk_node_added, d);
}

/* While the machine has not run, a place that its template has, or one beyond these. What the kernel of a
 * clone knows of a disk in a template's place is the place holder's size: good enough for a file system,
 * which knows its own, not for a device. 0: none is left. */
static unsigned disk_slot(struct qemu *q, const struct vmm_disk *d)
{
	unsigned first = d->read_only ? SLOT_DISKS : SLOT_DISKS + VMM_TEMPLATE_LAYERS;
	unsigned last = SLOT_DISKS + (d->read_only ? VMM_TEMPLATE_LAYERS : VMM_TEMPLATE_DISKS) - 1;
	unsigned slot;

	if (q->ran)
		return slot_late(q);
	slot = d->device ? 0 : slot_take(q, first, last);
	return slot ? slot : slot_take(q, SLOT_REST, SLOT_LAST);
}

void devices_add_disk(struct vmm *v, const struct vmm_disk *disk, char ret_place[VMM_PLACE_MAX],
		      vmm_done_fn done, void *ud)
{
	struct qemu *q = qemu_of(v);
	unsigned slot = q->gone ? 0 : disk_slot(q, disk);
	struct qemu_disk *d;

	*ret_place = 0;
	if (!slot) {
		_cleanup_err_ struct err e = ERR_INIT;
		int r = err_msg(&e, ERR_INVALID, -ENOSPC, "attach a disk: %s",
				q->gone ? "the virtual machine ended"
					: "no slot is left on the bus of the virtual machine");

		done(ud, r, &e);
		return;
	}
	d = new0(struct qemu_disk);
	*d = (struct qemu_disk){.q = q, .id = xasprintf("disk%u", q->next_disk++),
				.read_only = disk->read_only, .device = disk->device, .slot = slot,
				.done = done, .ud = ud};
	snprintf(d->place, sizeof d->place, "%02x.0", slot & 0xff);
	memcpy(ret_place, d->place, sizeof d->place);
	if (d->device && ioctl(disk->fd, BLKSSZGET, &d->sector) < 0)
		d->sector = 0;
	list_append(&q->disks, &d->link);
	qmp_command(q->qmp, "add-fd", NULL, disk->fd, disk_fd_added, d);
}

/* --- and going --- */

static void disk_gone(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct qemu_disk *d = ud;

	disk_tell(d, r, e);
	disk_free(d);
}

static void disk_node_gone(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct qemu_disk *d = ud;
	struct json *a = json_object();

	json_set_int(a, "fdset-id", d->fdset);
	qmp_command(d->q->qmp, "remove-fd", a, -EBADF, disk_gone, d);
}

void disk_deleted(struct qemu *q, const char *id)
{
	list_for_each(d, &q->disks, struct qemu_disk, link) {
		struct json *a;

		if (!streq(d->id, id))
			continue;
		a = json_object();
		slot_give(q, d->slot);
		json_set_str(a, "node-name", d->id);
		qmp_command(q->qmp, "blockdev-del", a, -EBADF, disk_node_gone, d);
	}
}

/* The guest was asked to let go: disk_deleted() follows. */
static void deletion_begun(void *ud, int r, const struct err *e, const struct json *ret)
{
	if (r < 0)
		disk_tell(ud, r, e);
}

void devices_remove_disk(struct vmm *v, const char *place, vmm_done_fn done, void *ud)
{
	struct qemu *q = qemu_of(v);

	list_for_each(d, &q->disks, struct qemu_disk, link) {
		struct json *a;

		if (q->gone || d->done || !streq(d->place, place))
			continue;
		d->done = done;
		d->ud = ud;
		a = json_object();
		json_set_str(a, "id", d->id);
		qmp_command(q->qmp, "device_del", a, -EBADF, deletion_begun, d);
		return;
	}
	done(ud, -ENOENT, NULL);
}

void disks_forget(struct qemu *q, const struct err *e)
{
	list_for_each(d, &q->disks, struct qemu_disk, link) {
		if (e)
			disk_tell(d, -EIO, e);
		disk_free(d);
	}
}
