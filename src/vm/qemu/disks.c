/* The disks of a machine: files of the engine for ever, block devices of the host as long as a container has
 * them.
 *
 * They come by add-fd, raw, never with format detection (a guest could otherwise turn its raw disk into one
 * with a backing file and read any file of the host: Cloud Hypervisor's GHSA-jmr4-g2hv-mjj6). */
#include "base/alloc.h"
#include "base/log.h"
#include "base/strv.h"
#include "vm/qemu/args.h"
#include "vm/qemu/internal.h"

#include <errno.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>

/* A disk on its way, and who waits for it. */
struct adding {
	struct qemu *q;
	vmm_done_fn done;
	void *ud;
	char *id, *serial;
	bool read_only, device;
	unsigned slot;
	int sector;			/* of a block device; 0 = QEMU's own */
	int64_t fdset;
};

static void device_added(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct adding *p = ud;

	if (r == 0 && p->device) {
		struct qemu_disk *d = new0(struct qemu_disk);

		*d = (struct qemu_disk){.id = TAKE_PTR(p->id), .serial = TAKE_PTR(p->serial), .slot = p->slot,
					.fdset = p->fdset};
		list_append(&p->q->disks, &d->link);
	}
	p->done(p->ud, r, e);
	free(p->id);
	free(p->serial);
	free(p);
}

struct json *placeholder_disk(const char *node, unsigned slot)
{
	struct json *a = device_on_slot("virtio-blk-pci", NULL, slot);

	json_set_str(a, "drive", node);
	return a;
}

static void disk_node_added(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct adding *p = ud;
	struct json *a;

	if (r < 0) {
		device_added(p, r, e, NULL);
		return;
	}
	a = device_on_slot("virtio-blk-pci", p->device ? p->id : NULL, p->slot);
	json_set_str(a, "drive", p->id);
	json_set_str(a, "serial", p->serial);
	if (p->sector) {
		json_set_int(a, "logical_block_size", p->sector);
		json_set_int(a, "physical_block_size", p->sector);
	}
	qmp_command(p->q->qmp, "device_add", a, -EBADF, device_added, p);
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
	p->fdset = json_get_int(ret, "fdset-id", -1);
	path = xasprintf("/dev/fdset/%lld", (long long)p->fdset);
	a = json_object();
	json_set_str(a, "driver", "raw");
	json_set_str(a, "node-name", p->id);
	json_set_bool(a, "read-only", p->read_only);
	json_set_str(a, "discard", "unmap");
	file = json_set(a, "file", json_object());
	json_set_str(file, "driver", p->device ? "host_device" : "file");
	json_set_str(file, "filename", path);
	json_set_bool(file, "read-only", p->read_only);
	json_set_str(file, "discard", "unmap");
	json_set_str(file, "locking", "off");
	qmp_command(p->q->qmp, "blockdev-add", a, -EBADF, disk_node_added, p);
}

/* A place that a template has, while the machine has not run, else a free slot. 0: none is left. What the
 * kernel of a clone knows of a disk in a template's place is the place holder's size: good enough for a file
 * system, which knows its own, not for a device. */
static unsigned disk_slot(struct qemu *q, const struct vmm_disk *d)
{
	unsigned first = d->read_only ? 0 : VMM_TEMPLATE_LAYERS;
	unsigned end = d->read_only ? VMM_TEMPLATE_LAYERS : VMM_TEMPLATE_DISKS;

	for (unsigned i = first; i < end && !q->ran && !d->device; i++) {
		if (q->taken[i])
			continue;
		q->taken[i] = true;
		return SLOT_DISKS + i;
	}
	return slot_take(q);
}

void devices_add_disk(struct vmm *v, const struct vmm_disk *d, vmm_done_fn done, void *ud)
{
	struct qemu *q = qemu_of(v);
	unsigned slot = q->gone || strlen(d->serial) > 20 ? 0 : disk_slot(q, d);
	struct adding *p;

	if (!slot) {
		_cleanup_err_ struct err e = ERR_INIT;
		int r = err_msg(&e, ERR_INVALID, -ENOSPC, "attach disk '%s': %s", d->serial,
				q->gone ? "the virtual machine ended"
					: "no slot is left on the bus of the virtual machine");

		done(ud, r, &e);
		return;
	}
	p = new0(struct adding);
	*p = (struct adding){.q = q, .done = done, .ud = ud, .id = xasprintf("disk%u", q->next_disk++),
			     .serial = xstrdup(d->serial), .read_only = d->read_only, .device = d->device,
			     .slot = slot};
	if (d->device && ioctl(d->fd, BLKSSZGET, &p->sector) < 0)
		p->sector = 0;
	qmp_command(q->qmp, "add-fd", NULL, d->fd, disk_fd_added, p);
}

/* --- and goes --- */

void devices_remove_disk(struct vmm *v, const char *serial, vmm_done_fn done, void *ud)
{
	struct qemu *q = qemu_of(v);
	struct batch *b = batch_begin(q, done, ud);

	list_for_each(d, &q->disks, struct qemu_disk, link) {
		struct json *a;

		if (!streq(d->serial, serial))
			continue;
		a = json_object();
		json_set_str(a, "id", d->id);
		batch_command(b, "device_del", a, -EBADF);
	}
	batch_end(b);
}

static void disk_free(struct qemu_disk *d)
{
	list_remove(&d->link);
	free(d->id);
	free(d->serial);
	free(d);
}

static void closed(void *ud, int r, const struct err *e)
{
	if (r < 0)
		log_warn("a block device stays open: %s", err_text(e));
}

/* The guest has let go of it: nothing uses the host's device any more. */
void disk_deleted(struct qemu *q, const char *id)
{
	list_for_each(d, &q->disks, struct qemu_disk, link) {
		struct batch *b;
		struct json *a;

		if (!streq(d->id, id))
			continue;
		b = batch_begin(q, closed, NULL);
		a = json_object();
		json_set_str(a, "node-name", d->id);
		batch_command(b, "blockdev-del", a, -EBADF);
		a = json_object();
		json_set_int(a, "fdset-id", d->fdset);
		batch_command(b, "remove-fd", a, -EBADF);
		batch_end(b);
		slot_give(q, d->slot);
		disk_free(d);
	}
}

void disks_forget(struct qemu *q)
{
	list_for_each(d, &q->disks, struct qemu_disk, link)
		disk_free(d);
}
