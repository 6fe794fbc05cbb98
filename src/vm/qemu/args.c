#include "vm/qemu/args.h"
#include "base/strv.h"
#include "lib/json_write.h"
#include "proto/msg.h"
#include "vm/qemu/internal.h"

#include <stdio.h>

static const char *const fixed[] = {
	"-name", "insula", "-no-user-config", "-nodefaults", "-nographic", "-no-reboot", "-S",
	"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
	"-machine", "pc,memory-backend=ram,usb=off,vmport=off",
	"-global", "virtio-pci.disable-legacy=on",
	"-global", "virtio-blk-device.werror=report", "-global", "virtio-blk-device.rerror=report",
};

/* The translation buffer of TCG would be 1 GiB. Under TCG the fast string features cost more than they give.
 */
static const struct { const char *name, *cpu; const char *const args[4]; } accels[] = {
	{ "kvm", "host-x86_64-cpu", { "-accel", "kvm", "-cpu", "host" } },
	{ "tcg", "max-x86_64-cpu", { "-accel", "tcg,tb-size=64", "-cpu", "max,-erms,-fsrm" } },
};

const char *qemu_cpu_type(const char *accel)
{
	for (size_t i = 0; i < ARRAY_SIZE(accels); i++)
		if (streq(accels[i].name, accel))
			return accels[i].cpu;
	return NULL;
}

static void add_chardev(char ***v, const char *id, int fd)
{
	strv_add(v, "-chardev");
	strv_addf(v, "socket,id=%s,fd=%d", id, fd);
}

/* The memory of a clone is its template's, copied page by page as it is written to; all other is shared, for
 * the file servers of shares map it too, and a template is made by writing to its file. */
static void add_memory(char ***v, const struct vmm_config *c)
{
	unsigned long long kib = c->memory >> 10, region = c->memory_region >> 10;

	strv_add(v, "-m");
	if (region)
		strv_addf(v, "size=%lluk,slots=1,maxmem=%lluk", kib, kib + region);
	else
		strv_addf(v, "%lluk", kib);
	strv_add(v, "-object");
	if (c->ram_fd >= 0)
		strv_addf(v, "memory-backend-file,id=ram,size=%lluk,mem-path=/proc/self/fd/%d,share=%s", kib,
			  FD_RAM, c->ram_private ? "off" : "on");
	else
		strv_addf(v, "memory-backend-memfd,id=ram,size=%lluk,share=on", kib);
}

/* A region that the guest sees as memory which may come: how much of it does is set later, at any time. Its
 * size belongs to the saved state, so it is the same for all machines of a host. */
static void add_region(char ***v, const struct vmm_config *c)
{
	if (!c->memory_region)
		return;
	strv_add(v, "-object");
	strv_addf(v, "memory-backend-file,id=extra,size=%llu,mem-path=/proc/self/fd/%d,share=on,reserve=off",
		  (unsigned long long)c->memory_region, FD_REGION);
	strv_add(v, "-device");
	strv_addf(v, "virtio-mem-pci,id=memory,memdev=extra,requested-size=0,block-size=2M,addr=0x%x",
		  SLOT_MEMORY);
}

static void add_nic(char ***v, const char *id, const char *netdev, const char *mac)
{
	_cleanup_json_ struct json *device = nic_device(id, netdev, mac, SLOT_NIC);
	_cleanup_free_ char *text = json_dump(device);

	strv_adds(v, "-device", text, NULL);
}

/* The devices of further ones come later, as those of shares do (devices.c). */
static void add_nics(char ***v, const struct vmm_config *c)
{
	for (size_t i = 0; i < c->n_nics; i++) {
		strv_add(v, "-netdev");
		strv_addf(v, "tap,id=net%zu,fd=%d,vhost=off", i, FD_TAPS + (int)i);
	}
	if (place_of_nic(c)) {
		strv_add(v, "-netdev");
		strv_addf(v, "tap,id=" PLACE_OF_NIC ",fd=%d,vhost=off", FD_TAPS);
		add_nic(v, PLACE_OF_NIC, PLACE_OF_NIC, MSG_PLACE_MAC);
	}
	if (c->n_nics)
		add_nic(v, "nic0", "net0", c->nics[0].mac);
}

/* Larger than any disk that takes their place: the guest's drivers know them by this size, and no more of a
 * disk is read than its file system says. */
static void add_placeholders(char ***v, const struct vmm_config *c)
{
	if (!c->template && c->state_fd < 0)
		return;
	for (unsigned i = 0; i < VMM_TEMPLATE_DISKS; i++) {
		strv_add(v, "-blockdev");
		strv_addf(v,
			  "null-co,node-name=" PLACEHOLDER ",size=1099511627776,read-zeroes=on,read-only=%s",
			  i, i < VMM_TEMPLATE_LAYERS ? "on" : "off");
	}
}

char **qemu_arguments(const char *program, const struct vmm_config *c)
{
	char **v = NULL;

	strv_add(&v, program);
	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		strv_add(&v, fixed[i]);
	for (size_t i = 0; i < ARRAY_SIZE(accels); i++)
		for (size_t k = 0; k < 4 && streq(accels[i].name, c->accel); k++)
			strv_add(&v, accels[i].args[k]);
	/* What is restored has its kernel in memory. */
	if (c->state_fd >= 0)
		strv_adds(&v, "-incoming", "defer", NULL);
	else
		strv_adds(&v, "-kernel", JAIL_KERNEL, "-initrd", JAIL_INITRD, "-append", c->cmdline, NULL);
	strv_add(&v, "-smp");
	strv_addf(&v, "1,maxcpus=%u,sockets=%u,cores=1,threads=1", c->vcpus_max, c->vcpus_max);
	add_memory(&v, c);

	add_chardev(&v, "qmp", FD_QMP);
	strv_adds(&v, "-mon", "chardev=qmp,mode=control", NULL);
	add_chardev(&v, "console", FD_CONSOLE);
	strv_adds(&v, "-serial", "chardev:console", NULL);
	add_chardev(&v, "link", FD_LINK);
	strv_add(&v, "-device");
	strv_addf(&v, "virtio-serial-pci,id=vser,max_ports=2,addr=0x%x", SLOT_LINK);
	strv_adds(&v, "-device", "virtserialport,bus=vser.0,nr=1,chardev=link,name=insula.agent", NULL);
	add_region(&v, c);
	add_nics(&v, c);
	add_placeholders(&v, c);
	for (size_t i = 0; i < c->n_shares; i++) {
		char id[32];

		snprintf(id, sizeof id, "sharec%zu", i);
		add_chardev(&v, id, FD_SHARES + (int)i);
	}
	return v;
}
