/* The QEMU driver: machine `pc`, nothing but what we add, every file by descriptor.
 *
 * Disks come by add-fd and device_add, raw, never with format detection (a guest could otherwise turn its
 * raw disk into one with a backing file and read any file of the host: Cloud Hypervisor's
 * GHSA-jmr4-g2hv-mjj6). NIC and shares come by device_add too, after QEMU has started and before the
 * processors run: where a template's state is loaded in between, nothing else changes (QEMU refuses to load
 * state into a machine that has vhost-user devices). */
#include "base/alloc.h"
#include "base/fd.h"
#include "base/sock.h"
#include "base/strv.h"
#include "vm/jail.h"
#include "vm/output.h"
#include "vm/qemu/args.h"
#include "vm/qemu/qmp.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define UID_BASE 0x70000000u		/* uids of machines: far from those people have */

struct qemu {
	struct vmm v;
	struct loop *loop;
	struct proc proc;
	struct loop_source *child;
	struct qmp *qmp;
	struct output console, errors;
	unsigned next_slot, next_disk;
	bool gone, stopped_itself;
	size_t to_add;			/* commands that start() still waits for */
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
	unsigned slot;
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

/* What is known of why it ended (heap). */
static char *last_words(struct qemu *q, const siginfo_t *si)
{
	if (q->stopped_itself)
		return xasprintf("its kernel stopped%s%s", *output_tail(&q->console) ? ": " : "",
				 output_tail(&q->console));
	if (si->si_code == CLD_EXITED)
		return xasprintf("QEMU exited with code %d%s%s", si->si_status,
				 *output_tail(&q->errors) ? ": " : "", output_tail(&q->errors));
	return xasprintf("QEMU was ended by signal %d", si->si_status);
}

static void start_done(struct qemu *q, int r, const struct err *e)
{
	vmm_done_fn fn = q->started;

	q->started = NULL;
	if (fn)
		fn(q->started_ud, r, e);
}

static void on_child(struct loop_source *s, const siginfo_t *si, void *ud)
{
	struct qemu *q = ud;
	_cleanup_free_ char *words = NULL;

	loop_source_free(TAKE_PTR(q->child));
	proc_done(&q->proc);
	q->gone = true;
	output_drain(&q->console);
	output_drain(&q->errors);
	if (q->started) {
		_cleanup_free_ char *cause = last_words(q, si);
		_cleanup_err_ struct err e = ERR_INIT;

		err_msg(&e, ERR_SYSTEM, -EIO, "VM did not start: %s", cause);
		start_done(q, -EIO, &e);
	}
	/* Its last events, and an end to what it left unanswered. */
	qmp_drain(q->qmp);
	words = last_words(q, si);
	q->v.events->gone(q->v.userdata, words);
}

static void on_qmp_event(void *ud, const char *event, const struct json *data)
{
	struct qemu *q = ud;

	if (streq(event, "GUEST_PANICKED") ||
	    (streq(event, "SHUTDOWN") && json_get_bool(data, "guest", false)))
		q->stopped_itself = true;
	log_debug("QEMU event %s", event);
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
	a = device("virtio-blk-pci", p->id, p->slot);
	json_set_str(a, "disable-legacy", "on");
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

	if (q->gone || q->next_slot > SLOT_LAST || strlen(serial) > 20) {
		_cleanup_err_ struct err e = ERR_INIT;
		int r = err_msg(&e, ERR_INVALID, -ENOSPC, "attach disk '%s': %s", serial,
				q->gone ? "the virtual machine ended"
					: "no slot is left on the bus of the virtual machine");

		done(ud, r, &e);
		return;
	}
	p = new0(struct pass);
	*p = (struct pass){ q, done, ud, xasprintf("disk%u", q->next_disk++), xstrdup(serial), read_only,
			     q->next_slot++ };
	qmp_command(q->qmp, "add-fd", NULL, fd, disk_fd_added, p);
}

/* --- start --- */

static void first_device_added(void *ud, int r, const struct err *e, const struct json *ret)
{
	struct qemu *q = ud;

	if (r == -EPIPE)
		return;		/* its process ends too: there is more to say then */
	if (r < 0)
		start_done(q, r, e);
	else if (--q->to_add == 0)
		start_done(q, 0, NULL);
}

static void first_command(struct qemu *q, const char *name, struct json *args, int pass_fd)
{
	q->to_add++;
	qmp_command(q->qmp, name, args, pass_fd, first_device_added, q);
}

/* The tap's descriptor gets a name, by which the back end takes it. */
static void add_nic(struct qemu *q, int tap_fd, const char *mac)
{
	struct json *a = json_object();

	json_set_str(a, "fdname", "tap");
	first_command(q, "getfd", a, tap_fd);
	a = json_object();
	json_set_str(a, "type", "tap");
	json_set_str(a, "id", "net");
	json_set_str(a, "fd", "tap");
	json_set_bool(a, "vhost", false);
	first_command(q, "netdev_add", a, -EBADF);
	a = device("virtio-net-pci", "nic", SLOT_NIC);
	json_set_str(a, "disable-legacy", "on");
	json_set_str(a, "netdev", "net");
	json_set_str(a, "mac", mac);
	json_set_str(a, "romfile", "");
	first_command(q, "device_add", a, -EBADF);
}

static void add_share(struct qemu *q, size_t i, const char *tag)
{
	_cleanup_free_ char *id = xasprintf("share%zu", i), *chardev = xasprintf("sharec%zu", i);
	struct json *a = device("vhost-user-fs-pci", id, q->next_slot++);

	json_set_str(a, "chardev", chardev);
	json_set_str(a, "tag", tag);
	first_command(q, "device_add", a, -EBADF);
}

/* A uid no other machine of this host has: derived from our pid, which is unique while we live. */
static uint32_t machine_uid(void)
{
	return UID_BASE + (uint32_t)getpid();
}

/* The ends that QEMU gets, and ours. */
static int open_channels(struct qemu *q, const struct vmm_config *c, int *ret_qmp, int *ret_console,
			 int *ret_errors)
{
	int pair[2], r = sock_pair(pair);

	if (r < 0)
		return r;
	*ret_qmp = pair[1];
	r = qmp_new(q->loop, pair[0], on_qmp_event, q, &q->qmp);
	if (r == 0)
		r = output_open(&q->console, q->loop, "console", LOG_LVL_DEBUG, ret_console);
	q->console.telling = "Kernel panic";
	if (r == 0)
		r = output_open(&q->errors, q->loop, "qemu", LOG_LVL_WARN, ret_errors);
	return r;
}

static int launch(struct qemu *q, const struct vmm_config *c, struct err *e)
{
	const struct jail_bind files[] = { { c->kernel, JAIL_KERNEL }, { c->initrd, JAIL_INITRD } };
	_cleanup_close_ int qmp = -EBADF, console = -EBADF, errors = -EBADF;
	_cleanup_strv_ char **argv = qemu_arguments(qemu_program(), c);
	struct fd_map map[8 + SHARES_MAX];
	size_t n = 0;
	int r = open_channels(q, c, &qmp, &console, &errors);

	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "open the channels to QEMU");
	map[n++] = (struct fd_map){ errors, STDERR_FILENO };
	map[n++] = (struct fd_map){ qmp, FD_QMP };
	map[n++] = (struct fd_map){ console, FD_CONSOLE };
	map[n++] = (struct fd_map){ c->link_fd, FD_LINK };
	for (size_t i = 0; i < c->n_shares; i++)
		map[n++] = (struct fd_map){ c->share_fds[i], FD_SHARES + (int)i };
	struct jail_args a = {
		.argv = argv, .fds = map, .n_fds = n, .uid = machine_uid(), .cgroup = c->cgroup,
		.kvm = streq(c->accel, "kvm"), .binds = files, .n_binds = ARRAY_SIZE(files),
	};

	r = jail_spawn(&a, &q->proc);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "start '%s' in its jail", argv[0]);
	return loop_add_child(q->loop, q->proc.pidfd, on_child, q, &q->child);
}

static void op_start(struct vmm *v, const struct vmm_config *c, vmm_done_fn done, void *ud)
{
	struct qemu *q = qemu_of(v);
	_cleanup_err_ struct err e = ERR_INIT;
	int r;

	if (c->n_shares > SHARES_MAX)
		r = err_msg(&e, ERR_INVALID, -E2BIG, "a virtual machine takes at most %d shares", SHARES_MAX);
	else
		r = launch(q, c, &e);
	if (r < 0) {
		done(ud, r, &e);
		return;
	}
	q->started = done;
	q->started_ud = ud;
	/* Held until all are asked for; commands are answered in order, by a QEMU that has come up. */
	first_command(q, "query-status", NULL, -EBADF);
	if (c->tap_fd >= 0)
		add_nic(q, c->tap_fd, c->mac);
	for (size_t i = 0; i < c->n_shares; i++)
		add_share(q, i, c->share_tags[i]);
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
	return output_tail(&qemu_of(v)->console);
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
	qmp_free(q->qmp);
	output_close(&q->console);
	output_close(&q->errors);
	free(q);
}

static const struct vmm_ops qemu_ops = { op_start, op_add_disk, op_go, op_kill, op_console, op_free };

int qemu_new(struct loop *l, struct vmm **ret)
{
	struct qemu *q = new0(struct qemu);

	*q = (struct qemu){ .v = { .ops = &qemu_ops }, .loop = l, .proc = PROC_INIT, .next_slot = SLOT_FIRST,
			    .console = OUTPUT_INIT, .errors = OUTPUT_INIT };
	*ret = &q->v;
	return 0;
}
