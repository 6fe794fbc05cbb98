#include "oci/defaults.h"
#include "base/alloc.h"
#include "base/strv.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

static const char *const cap_names[] = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};

const char *const oci_default_caps[] = {
    "CAP_CHOWN",      "CAP_DAC_OVERRIDE", "CAP_FOWNER",      "CAP_FSETID",           "CAP_KILL",
    "CAP_SETGID",     "CAP_SETUID",       "CAP_SETPCAP",     "CAP_NET_BIND_SERVICE", "CAP_NET_RAW",
    "CAP_SYS_CHROOT", "CAP_MKNOD",        "CAP_AUDIT_WRITE", "CAP_SETFCAP",          NULL,
};

const char *const oci_masked_paths[] = {
	"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
	"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
	"/sys/devices/virtual/powercap", NULL,
};

const char *const oci_readonly_paths[] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", NULL,
};

/* --- capabilities --- */

const char *oci_cap_name(unsigned n)
{
	return n < ARRAY_SIZE(cap_names) ? cap_names[n] : NULL;
}

int oci_cap_number(const char *name)
{
	if (!strncasecmp(name, "CAP_", 4))
		name += 4;
	for (size_t i = 0; i < ARRAY_SIZE(cap_names); i++)
		if (!strcasecmp(name, cap_names[i] + 4))
			return (int)i;
	return -EINVAL;
}

/* Names to a mask; "ALL" sets *all. */
static int caps_mask(char *const *names, const char *what, uint64_t *ret, bool *all, struct err *e)
{
	*ret = 0;
	*all = false;
	for (; names && *names; names++) {
		int n = oci_cap_number(*names);

		if (!strcasecmp(*names, "ALL"))
			*all = true;
		else if (n < 0)
			return err_msg(e, ERR_INVALID, 0, "invalid %s: unknown capability: \"%s%s\"", what,
				       strncasecmp(*names, "CAP_", 4) ? "CAP_" : "", *names);
		else
			*ret |= 1ull << n;
	}
	return 0;
}

int oci_caps_resolve(char *const *add, char *const *drop, bool privileged, char ***ret, struct err *e)
{
	uint64_t everything = (1ull << ARRAY_SIZE(cap_names)) - 1, base = 0, plus, minus, mask;
	_cleanup_strv_ char **v = NULL;
	bool add_all, drop_all;
	int r;

	r = caps_mask(add, "CapAdd", &plus, &add_all, e);
	if (r == 0)
		r = caps_mask(drop, "CapDrop", &minus, &drop_all, e);
	if (r < 0)
		return r;
	for (size_t i = 0; oci_default_caps[i]; i++)
		base |= 1ull << oci_cap_number(oci_default_caps[i]);
	if (privileged)
		mask = everything;
	else if (add_all)
		mask = everything & ~minus;
	else if (drop_all)
		mask = plus;
	else
		mask = (base & ~minus) | plus;
	for (unsigned i = 0; i < ARRAY_SIZE(cap_names); i++)
		if (mask & (1ull << i))
			strv_add(&v, cap_names[i]);
	*ret = TAKE_PTR(v);
	return 0;
}

/* --- mounts and devices --- */

struct mount_row { const char *destination, *type, *source; const char *options[7]; };

static const struct mount_row mount_rows[] = {
	{ "/proc", "proc", "proc", { "nosuid", "noexec", "nodev" } },
	{ "/dev", "tmpfs", "tmpfs", { "nosuid", "strictatime", "mode=755", "size=65536k" } },
	{ "/dev/pts", "devpts", "devpts",
	  { "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5" } },
	{ "/sys", "sysfs", "sysfs", { "nosuid", "noexec", "nodev", "ro" } },
	{ "/sys/fs/cgroup", "cgroup", "cgroup", { "nosuid", "noexec", "nodev", "ro" } },
	{ "/dev/mqueue", "mqueue", "mqueue", { "nosuid", "noexec", "nodev" } },
	{ "/dev/shm", "tmpfs", "shm", { "nosuid", "noexec", "nodev", "mode=1777" } },
};

struct json *oci_default_mounts(uint64_t shm_size, bool privileged)
{
	struct json *list = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(mount_rows); i++) {
		const struct mount_row *row = &mount_rows[i];
		struct json *m = json_add(list, json_object()), *options;

		json_set_str(m, "destination", row->destination);
		json_set_str(m, "type", row->type);
		json_set_str(m, "source", row->source);
		options = json_set(m, "options", json_array());
		for (size_t k = 0; k < ARRAY_SIZE(row->options) && row->options[k]; k++)
			json_add_str(options,
				     privileged && streq(row->options[k], "ro") ? "rw" : row->options[k]);
		if (streq(row->destination, "/dev/shm")) {
			_cleanup_free_ char *size = xasprintf("size=%llu", (unsigned long long)shm_size);

			json_add_str(options, size);
		}
	}
	return list;
}

static const struct rule_row { bool allow; char type; int major, minor; const char *access; } rule_rows[] = {
	{ false, 'a', -1, -1, "rwm" },
	{ true, 'c', -1, -1, "m" },		/* making nodes is harmless: opening them is what counts */
	{ true, 'b', -1, -1, "m" },
	{ true, 'c', 1, 3, "rwm" },		/* null */
	{ true, 'c', 1, 5, "rwm" },		/* zero */
	{ true, 'c', 1, 7, "rwm" },		/* full */
	{ true, 'c', 1, 8, "rwm" },		/* random */
	{ true, 'c', 1, 9, "rwm" },		/* urandom */
	{ true, 'c', 5, 0, "rwm" },		/* tty */
	{ true, 'c', 5, 1, "rwm" },		/* console */
	{ true, 'c', 5, 2, "rwm" },		/* ptmx */
	{ true, 'c', 136, -1, "rwm" },		/* pts */
};

struct json *oci_default_device_rules(bool privileged)
{
	struct json *list = json_array();

	for (size_t i = 0; i < (privileged ? 1 : ARRAY_SIZE(rule_rows)); i++) {
		const struct rule_row *row = &rule_rows[i];
		struct json *o = json_add(list, json_object());

		json_set_bool(o, "allow", privileged || row->allow);
		if (row->type != 'a')
			json_set_str(o, "type", row->type == 'c' ? "c" : "b");
		if (row->major >= 0)
			json_set_int(o, "major", row->major);
		if (row->minor >= 0)
			json_set_int(o, "minor", row->minor);
		json_set_str(o, "access", row->access);
	}
	return list;
}
