/* The QEMU driver: machine `pc`, nothing but what we add, every file by descriptor.
 *
 * Disks come by add-fd and device_add, raw, never with format detection (a guest could otherwise turn its
 * raw disk into one with a backing file and read any file of the host). Addresses are fixed: the
 * link at 3, NIC at 4, shares from 5 down from the top, disks after them. */
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sock.h"
#include "base/strv.h"
#include "vm/jail.h"
#include "vm/qemu/qmp.h"
#include "vm/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define FD_QMP 10
#define FD_LINK 11
#define FD_TAP 12
#define FD_SERIAL 13
#define FD_SHARES 20
#define JAIL_KERNEL "/boot/vmlinuz"	/* what the jail calls them: QEMU opens these two by name only */
#define JAIL_INITRD "/boot/initramfs.img"
#define SHARES_MAX 8
#define SLOT_LINK 3
#define SLOT_NIC 4
#define SLOT_FIRST 5
#define SLOT_LAST 31
#define QEMU_OVERHEAD (256ull << 20)	/* QEMU itself, its translation buffer, page tables */
#define UID_BASE 0x70000000u		/* uids of machines: far from those people have */

struct qemu {
	struct vmm v;
	struct loop *loop;
	struct proc proc;
	struct loop_source *child, *serial_io;
	struct qmp *qmp;
	int serial;
	struct sbuf console;
	unsigned next_slot, next_disk;
	char *cgroup, *mac, *why;
	bool has_nic, debug, gone;
	char **tags;
	size_t to_add;			/* devices that start() still waits for */
	vmm_done_fn started;
	void *started_ud;
};

/* One command whose answer is the caller's. */
struct pass {
	struct qemu *q;
	vmm_done_fn done;
	void *ud;
	char *id, *serial;
	bool read_only;
};

static struct qemu *qemu_of(struct vmm *v)
{
	return container_of(v, struct qemu, v);
}

const char *qemu_program(void)
{
	static const char *const places[] = { "/usr/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm" };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (access(places[i], X_OK) == 0)
			return places[i];
	return NULL;
}

/* --- end of the machine --- */

static void gone(struct qemu *q, const char *text)
{
	if (q->gone)
		return;
	q->gone = true;
	if (q->started) {
		vmm_done_fn fn = q->started;
		_cleanup_err_ struct err e = ERR_INIT;

		q->started = NULL;
		err_msg(&e, ERR_SYSTEM, -EIO, "start the virtual machine: %s%s%s", text, q->console.len ? ": " : "",
			sbuf_str(&q->console));
		fn(q->started_ud, -EIO, &e);
		return;
	}
	q->v.events->gone(q->v.userdata, q->why ? q->why : text);
}

static void on_child(struct loop_source *s, const siginfo_t *si, void *ud)
{
	struct qemu *q = ud;
	char text[96];

	loop_source_free(q->child);
	q->child = NULL;
	proc_done(&q->proc);
	if (si->si_code == CLD_EXITED)
		snprintf(text, sizeof text, "the virtual machine ended (exit code %d)", si->si_status);
	else
		snprintf(text, sizeof text, "the virtual machine ended (signal %d)", si->si_status);
	gone(q, text);
}

static void on_qmp_event(void *ud, const char *event, const struct json *data)
{
	struct qemu *q = ud;

	if (streq(event, "GUEST_PANICKED") || (streq(event, "SHUTDOWN") && json_get_bool(data, "guest", false)))
		str_replace(&q->why, "the virtual machine ended: its kernel stopped");
	log_debug("QEMU event %s", event);
}

static void on_qmp_closed(void *ud)
{
	/* Its process ends too: that is what is told. */
}

/* The console is the guest's to fill: only its tail is kept. */
static void on_serial(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct qemu *q = ud;
	char buf[1024];
	ssize_t n = RETRY(read(fd, buf, sizeof buf));

	if (n <= 0) {
		if (n == 0 || errno != EAGAIN) {
			loop_source_free(q->serial_io);
			q->serial_io = NULL;
		}
		return;
	}
	if (q->console.len + (size_t)n > 2048)
		sbuf_consume(&q->console, MIN(q->console.len, (size_t)n + q->console.len - 2048));
	for (ssize_t i = 0; i < n; i++)
		sbuf_putc(&q->console, buf[i] == '\n' ? '|' : buf[i] < ' ' || buf[i] > '~' ? ' ' : buf[i]);
	if (q->debug)
		log_debug("console: %.*s", (int)n, buf);
}

/* --- devices --- */

static void device_added(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct pass *p = ud;

	p->done(p->ud, r, e);
	free(p->id);
	free(p->serial);
	free(p);
}

static struct json *device(const char *driver, const char *id, unsigned slot)
{
	struct json *a = json_object();
	char addr[8];

	snprintf(addr, sizeof addr, "0x%x", slot);
	json_set_str(a, "driver", driver);
	json_set_str(a, "id", id);
	json_set_str(a, "addr", addr);
	json_set_str(a, "disable-legacy", "on");
	return a;
}

static void disk_node_added(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct pass *p = ud;
	struct json *a;

	if (r < 0) {
		device_added(p, r, e, NULL);
		return;
	}
	a = device("virtio-blk-pci", p->id, p->q->next_slot++);
	json_set_str(a, "drive", p->id);
	json_set_str(a, "serial", p->serial);
	json_set_str(a, "werror", "report");
	json_set_str(a, "rerror", "report");
	qmp_command(p->q->qmp, "device_add", a, -EBADF, device_added, p);
}

static void disk_fd_added(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct pass *p = ud;
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

static void op_add_disk(struct vmm *v, int fd, bool read_only, const char *serial, vmm_done_fn done, void *ud)
{
	struct qemu *q = qemu_of(v);
	struct pass *p;

	if (!q->qmp || q->gone || q->next_slot + 1 > SLOT_LAST || strlen(serial) > 20) {
		_cleanup_err_ struct err e = ERR_INIT;
		int r = err_msg(&e, ERR_INVALID, -ENOSPC, "attach disk '%s': %s", serial,
				q->next_slot + 1 > SLOT_LAST ? "no slot is left on the machine's bus" : "the machine is gone");

		done(ud, r, &e);
		return;
	}
	p = new0(struct pass);
	*p = (struct pass){ q, done, ud, xasprintf("disk%u", q->next_disk++), xstrdup(serial), read_only };
	qmp_command(q->qmp, "add-fd", NULL, fd, disk_fd_added, p);
}

/* --- start --- */

static void start_done(struct qemu *q, int r, const struct err *e)
{
	vmm_done_fn fn = q->started;

	q->started = NULL;
	if (fn)
		fn(q->started_ud, r, e);
}

static void first_device_added(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct qemu *q = ud;

	if (r < 0 && q->started) {
		start_done(q, r, e);
		return;
	}
	if (--q->to_add == 0 && q->started)
		start_done(q, 0, NULL);
}

static void add_first_devices(struct qemu *q)
{
	q->to_add = 1 + q->has_nic + strv_len(q->tags);
	if (q->has_nic) {
		struct json *a = device("virtio-net-pci", "nic", SLOT_NIC);

		json_set_str(a, "netdev", "net");
		json_set_str(a, "mac", q->mac);
		json_set_str(a, "romfile", "");
		qmp_command(q->qmp, "device_add", a, -EBADF, first_device_added, q);
	}
	for (size_t i = 0; q->tags && q->tags[i]; i++) {
		_cleanup_free_ char *id = xasprintf("share%zu", i), *chardev = xasprintf("sharec%zu", i);
		struct json *a = json_object();
		char addr[8];

		snprintf(addr, sizeof addr, "0x%x", q->next_slot++);
		json_set_str(a, "driver", "vhost-user-fs-pci");
		json_set_str(a, "id", id);
		json_set_str(a, "addr", addr);
		json_set_str(a, "chardev", chardev);
		json_set_str(a, "tag", q->tags[i]);
		qmp_command(q->qmp, "device_add", a, -EBADF, first_device_added, q);
	}
	/* Answers come in order: this one says that all before it are in. */
	qmp_command(q->qmp, "query-status", NULL, -EBADF, first_device_added, q);
}

static char **arguments(const struct vmm_config *c)
{
	char **v = NULL;
	bool kvm = streq(c->accel, "kvm");

	strv_add(&v, qemu_program());
	strv_adds(&v, "-name", "insula", "-no-user-config", "-nodefaults", "-nographic", "-no-reboot", "-S", NULL);
	strv_adds(&v, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny", NULL);
	strv_add(&v, "-machine");
	strv_add(&v, "pc,memory-backend=ram,usb=off,vmport=off");
	strv_add(&v, "-accel");
	strv_add(&v, kvm ? "kvm" : "tcg,tb-size=64");
	/* Under TCG the fast string features cost more than they give. */
	strv_adds(&v, "-cpu", kvm ? "host" : "max,-erms,-fsrm", NULL);
	strv_add(&v, "-smp");
	strv_addf(&v, "%u", c->vcpus);
	strv_add(&v, "-m");
	strv_addf(&v, "%lluk", (unsigned long long)(c->memory >> 10));
	strv_add(&v, "-object");
	strv_addf(&v, "memory-backend-memfd,id=ram,size=%lluk,share=on", (unsigned long long)(c->memory >> 10));
	strv_adds(&v, "-kernel", JAIL_KERNEL, "-initrd", JAIL_INITRD, "-append", NULL);
	strv_add(&v, c->cmdline);
	strv_add(&v, "-chardev");
	strv_addf(&v, "socket,id=qmp,fd=%d", FD_QMP);
	strv_adds(&v, "-mon", "chardev=qmp,mode=control", "-chardev", NULL);
	strv_addf(&v, "socket,id=serial,fd=%d", FD_SERIAL);
	strv_adds(&v, "-serial", "chardev:serial", "-chardev", NULL);
	strv_addf(&v, "socket,id=link,fd=%d", FD_LINK);
	strv_add(&v, "-device");
	strv_addf(&v, "virtio-serial-pci,id=vser,max_ports=2,disable-legacy=on,addr=0x%x", SLOT_LINK);
	strv_adds(&v, "-device", "virtserialport,bus=vser.0,nr=1,chardev=link,name=insula.agent", NULL);
	if (c->tap_fd >= 0) {
		strv_add(&v, "-netdev");
		strv_addf(&v, "tap,id=net,fd=%d,vhost=off", FD_TAP);
	}
	for (size_t i = 0; i < c->n_shares; i++) {
		strv_add(&v, "-chardev");
		strv_addf(&v, "socket,id=sharec%zu,fd=%d", i, FD_SHARES + (int)i);
	}
	return v;
}

/* A uid no other machine of this host has: derived from our pid, which is unique while we live. */
static uint32_t machine_uid(void)
{
	return UID_BASE + (uint32_t)getpid();
}

static int launch(struct qemu *q, const struct vmm_config *c, struct err *e)
{
	const struct jail_bind files[] = { { c->kernel, JAIL_KERNEL }, { c->initrd, JAIL_INITRD } };
	_cleanup_close_ int qmp_theirs = -EBADF, serial_theirs = -EBADF;
	_cleanup_strv_ char **argv = arguments(c);
	struct fd_map map[8 + SHARES_MAX];
	int qmp_pair[2], serial_pair[2], r;
	size_t n = 0;

	r = sock_pair(qmp_pair);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "open the monitor");
	qmp_theirs = qmp_pair[1];
	r = qmp_new(q->loop, qmp_pair[0], on_qmp_event, on_qmp_closed, q, &q->qmp);
	if (r == 0)
		r = sock_pair(serial_pair);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "open the monitor");
	q->serial = serial_pair[0];
	serial_theirs = serial_pair[1];
	(void)fd_set_nonblock(q->serial, true);
	(void)loop_add_io(q->loop, q->serial, EPOLLIN, on_serial, q, &q->serial_io);
	map[n++] = (struct fd_map){ qmp_theirs, FD_QMP };
	map[n++] = (struct fd_map){ serial_theirs, FD_SERIAL };
	map[n++] = (struct fd_map){ c->link_fd, FD_LINK };
	map[n++] = (struct fd_map){ STDERR_FILENO, STDERR_FILENO };
	if (c->tap_fd >= 0)
		map[n++] = (struct fd_map){ c->tap_fd, FD_TAP };
	for (size_t i = 0; i < c->n_shares; i++)
		map[n++] = (struct fd_map){ c->share_fds[i], FD_SHARES + (int)i };
	struct jail_args a = {
		.argv = argv, .fds = map, .n_fds = n, .uid = machine_uid(), .cgroup = c->cgroup,
		.memory_max = c->memory + QEMU_OVERHEAD, .kvm = streq(c->accel, "kvm"),
		.binds = files, .n_binds = ARRAY_SIZE(files),
	};

	r = jail_spawn(&a, &q->proc);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "start %s", argv[0]);
	return loop_add_child(q->loop, q->proc.pidfd, on_child, q, &q->child);
}

static void op_start(struct vmm *v, const struct vmm_config *c, vmm_done_fn done, void *ud)
{
	struct qemu *q = qemu_of(v);
	_cleanup_err_ struct err e = ERR_INIT;
	int r = 0;

	if (!qemu_program())
		r = err_msg(&e, ERR_UNAVAILABLE, -ENOENT, "hyperv isolation needs QEMU: install qemu-system-x86");
	else if (c->n_shares > SHARES_MAX)
		r = err_msg(&e, ERR_INVALID, -E2BIG, "hyperv isolation takes at most %d volumes a sandbox", SHARES_MAX);
	q->cgroup = xstrdup(c->cgroup);
	q->mac = xstrdup(c->mac);
	q->has_nic = c->tap_fd >= 0;
	q->tags = strv_copy(c->share_tags);
	q->debug = c->debug;
	if (r == 0)
		r = launch(q, c, &e);
	if (r < 0) {
		close(c->link_fd);
		done(ud, r, &e);
		return;
	}
	close(c->link_fd);
	q->started = done;
	q->started_ud = ud;
	add_first_devices(q);
}

static void went(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct pass *p = ud;

	p->done(p->ud, r, e);
	free(p);
}

static void op_go(struct vmm *v, vmm_done_fn done, void *ud)
{
	struct qemu *q = qemu_of(v);
	struct pass *p = new0(struct pass);

	*p = (struct pass){ .q = q, .done = done, .ud = ud };
	qmp_command(q->qmp, "cont", NULL, -EBADF, went, p);
}

static void op_kill(struct vmm *v)
{
	(void)proc_kill(&qemu_of(v)->proc, SIGKILL);
}

static const char *op_console(struct vmm *v)
{
	return sbuf_str(&qemu_of(v)->console);
}

static void op_free(struct vmm *v)
{
	struct qemu *q = qemu_of(v);

	loop_source_free(q->child);
	if (q->proc.pidfd >= 0) {
		(void)proc_kill(&q->proc, SIGKILL);
		(void)proc_wait(&q->proc, NULL);
		proc_done(&q->proc);
	}
	if (q->cgroup)
		jail_cgroup_remove(q->cgroup);
	qmp_free(q->qmp);
	loop_source_free(q->serial_io);
	fd_close(&q->serial);
	sbuf_done(&q->console);
	strv_free(q->tags);
	free(q->cgroup);
	free(q->mac);
	free(q->why);
	free(q);
}

static const struct vmm_ops qemu_ops = { op_start, op_add_disk, op_go, op_kill, op_console, op_free };

int qemu_new(struct loop *l, struct vmm **ret)
{
	struct qemu *q = new0(struct qemu);

	*q = (struct qemu){ .v = { .ops = &qemu_ops }, .loop = l, .proc = PROC_INIT, .serial = -EBADF, .next_slot = SLOT_FIRST,
			    .console = SBUF_INIT_MAX(4096) };
	*ret = &q->v;
	return 0;
}
