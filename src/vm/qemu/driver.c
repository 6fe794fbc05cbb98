/* The QEMU driver: machine `pc`, nothing but what we add, every file by descriptor.
 *
 * A machine that boots and one that is restored from a template go the same way: QEMU starts, stopped; disks
 * and NIC are added; go() loads the state if there is one, adds what a state cannot be loaded with (QEMU
 * refuses to load into a machine with vhost-user devices), and lets the processors run. */
#include "base/alloc.h"
#include "base/fd.h"
#include "base/sock.h"
#include "base/strv.h"
#include "vm/jail.h"
#include "vm/qemu/args.h"
#include "vm/qemu/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define DISK_WORDS_MAX 128
#define UID_BASE 0x70000000u		/* uids of machines: far from those people have */

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
	if (q->hung)
		return xstrdup(q->hung);
	if (q->stopped_itself)
		return xasprintf("its kernel stopped%s%s", *output_tail(&q->console) ? ": " : "",
				 output_tail(&q->console));
	if (si->si_code == CLD_EXITED)
		return xasprintf("QEMU exited with code %d%s%s", si->si_status,
				 *output_tail(&q->errors) ? ": " : "", output_tail(&q->errors));
	return xasprintf("QEMU was ended by signal %d", si->si_status);
}

/* --- commands that belong together --- */

struct batch *batch_begin(struct qemu *q, vmm_done_fn done, void *ud)
{
	struct batch *b = new0(struct batch);

	*b = (struct batch){ .q = q, .pending = 1, .done = done, .ud = ud };
	list_append(&q->batches, &b->link);
	return b;
}

static void batch_free(struct batch *b)
{
	list_remove(&b->link);
	free(b);
}

static void batch_tell(struct batch *b, int r, const struct err *e)
{
	vmm_done_fn done = b->done;

	b->done = NULL;
	if (done)
		done(b->ud, r, e);
}

void batch_over(struct batch *b, int r, const struct err *e)
{
	struct qemu *q = b->q;

	/* A migration that was not even begun does not end. */
	if (r < 0 && q->migration == b) {
		q->migration = NULL;
		b->pending--;
	}
	/* If QEMU has hung up, its process ends too, and there is more to say then. */
	if (r < 0 && r != -EPIPE)
		batch_tell(b, r, e);
	b->failed |= r < 0;
	if (--b->pending || (b->failed && b->done))
		return;
	batch_tell(b, 0, NULL);
	batch_free(b);
}

static void answered(void *ud, int r, const struct err *e, const struct json *ret)
{
	batch_over(ud, r, e);
}

void batch_command(struct batch *b, const char *name, struct json *args, int pass_fd)
{
	b->pending++;
	qmp_command(b->q->qmp, name, args, pass_fd, answered, b);
}

static void batches_fail(struct qemu *q, const char *words)
{
	_cleanup_err_ struct err e = ERR_INIT;

	err_msg(&e, ERR_SYSTEM, -EIO, "VM did not start: %s", words);
	q->migration = NULL;
	disks_forget(q, &e);
	for (struct batch *b; (b = list_first(&q->batches, struct batch, link));) {
		batch_tell(b, -EIO, &e);
		batch_free(b);
	}
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
	/* Its last events, and an end to what it left unanswered. */
	qmp_drain(q->qmp);
	words = last_words(q, si);
	batches_fail(q, words);
	q->v.events->gone(q->v.userdata, words);
}

/* The guest has been told, as of any disk that fails. */
static void disk_failed(struct qemu *q, const struct json *data)
{
	_cleanup_free_ char *why = text_clean(json_get_str(data, "reason") ?: "", DISK_WORDS_MAX);

	if (!q->disk_failed)
		log_warn("the host's disk fails the virtual machine: %s: %s",
			 json_get_str(data, "operation") ?: "?", why);
	q->disk_failed = true;
}

static void on_qmp_event(void *ud, const char *event, const struct json *data)
{
	struct qemu *q = ud;

	if (streq(event, "GUEST_PANICKED") ||
	    (streq(event, "SHUTDOWN") && json_get_bool(data, "guest", false)))
		q->stopped_itself = true;
	if (streq(event, "BLOCK_IO_ERROR"))
		disk_failed(q, data);
	if (streq(event, "MIGRATION"))
		state_event(q, data);
	if (streq(event, "DEVICE_DELETED") && json_get_str(data, "device"))
		devices_deleted(q, json_get_str(data, "device"));
	log_debug("QEMU event %s", event);
}

/* --- start --- */

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

/* Ours, so that we can see how much of it is there. */
static int open_region(struct qemu *q, const struct vmm_config *c)
{
	if (!c->memory_region)
		return 0;
	q->region_fd = memfd_create("insula-memory", MFD_CLOEXEC);
	return q->region_fd < 0 || ftruncate(q->region_fd, (off_t)c->memory_region) < 0 ? -errno : 0;
}

static int launch(struct qemu *q, const struct vmm_config *c, struct err *e)
{
	const struct jail_bind files[] = { { c->kernel, JAIL_KERNEL }, { c->initrd, JAIL_INITRD } };
	bool boots = c->state_fd < 0;
	_cleanup_close_ int qmp = -EBADF, console = -EBADF, errors = -EBADF;
	_cleanup_strv_ char **argv = qemu_arguments(qemu_program(), c);
	struct fd_map map[8 + SHARES_MAX + VMM_NICS_MAX];
	size_t n = 0;
	int r = open_channels(q, c, &qmp, &console, &errors);

	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "open the channels to QEMU");
	r = open_region(q, c);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "make the memory of a virtual machine");
	map[n++] = (struct fd_map){ errors, STDERR_FILENO };
	map[n++] = (struct fd_map){ qmp, FD_QMP };
	map[n++] = (struct fd_map){ console, FD_CONSOLE };
	map[n++] = (struct fd_map){ c->link_fd, FD_LINK };
	for (size_t i = 0; i < c->n_nics; i++)
		map[n++] = (struct fd_map){ c->nics[i].tap_fd, FD_TAPS + (int)i };
	if (place_of_nic(c))
		map[n++] = (struct fd_map){ JAIL_TAP, FD_TAPS };
	if (c->ram_fd >= 0)
		map[n++] = (struct fd_map){ c->ram_fd, FD_RAM };
	if (q->region_fd >= 0)
		map[n++] = (struct fd_map){ q->region_fd, FD_REGION };
	for (size_t i = 0; i < c->n_shares; i++)
		map[n++] = (struct fd_map){ c->share_fds[i], FD_SHARES + (int)i };
	struct jail_args a = {
		.argv = argv, .fds = map, .n_fds = n, .uid = machine_uid(), .cgroup = c->cgroup,
		.kvm = streq(c->accel, "kvm"), .binds = files, .n_binds = boots ? ARRAY_SIZE(files) : 0,
		.proc = c->ram_fd >= 0 || q->region_fd >= 0,
	};

	if (a.kvm && access("/dev/kvm", F_OK) < 0)
		return err_msg(e, ERR_SYSTEM, -errno, "there is no /dev/kvm");
	r = jail_spawn(&a, &q->proc);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "start '%s' in its jail", argv[0]);
	return loop_add_child(q->loop, q->proc.pidfd, on_child, q, &q->child);
}

/* What go() needs of the configuration. */
static void remember(struct qemu *q, const struct vmm_config *c)
{
	q->template = c->template;
	q->extra = c->memory_extra;
	q->vcpus = c->vcpus;
	q->cpu_type = qemu_cpu_type(c->accel);
	for (size_t i = 0; i < c->n_nics; i++)
		q->nics[i] = (struct qemu_nic){ .mac = xstrdup(c->nics[i].mac), .slot = SLOT_NIC };
	q->n_shares = c->n_shares;
	for (size_t i = 0; i < c->n_shares; i++)
		strv_add(&q->share_tags, c->share_tags[i]);
	if (c->state_fd >= 0)
		q->state_fd = fcntl(c->state_fd, F_DUPFD_CLOEXEC, 3);
}

static void op_start(struct vmm *v, const struct vmm_config *c, vmm_done_fn done, void *ud)
{
	struct qemu *q = qemu_of(v);
	_cleanup_err_ struct err e = ERR_INIT;
	struct batch *b;
	int r;

	if (c->n_nics > VMM_NICS_MAX)
		r = err_msg(&e, ERR_INVALID, -E2BIG, "a virtual machine takes at most %d networks",
			    VMM_NICS_MAX);
	else if (c->n_shares > SHARES_MAX)
		r = err_msg(&e, ERR_INVALID, -E2BIG, "a virtual machine takes at most %d shares", SHARES_MAX);
	else
		r = launch(q, c, &e);
	if (r < 0) {
		done(ud, r, &e);
		return;
	}
	remember(q, c);
	watch_start(q);
	/* Commands are answered in order, by a QEMU that has come up. */
	b = batch_begin(q, done, ud);
	batch_command(b, "query-status", NULL, -EBADF);
	batch_end(b);
}

struct going {
	struct qemu *q;
	vmm_done_fn done;
	void *ud;
};

static void loaded(void *ud, int r, const struct err *e)
{
	struct going *g = ud;
	struct qemu *q = g->q;

	if (r < 0) {
		g->done(g->ud, r, e);
	} else {
		struct batch *b = batch_begin(q, g->done, g->ud);

		q->ran = true;
		devices_add_nics(b);
		devices_add_shares(b);
		if (q->extra)
			devices_set_memory(b, q->extra);
		devices_add_processors(b);
		batch_command(b, "cont", NULL, -EBADF);
		q->come_up = true;
		batch_end(b);
	}
	free(g);
}

static void op_go(struct vmm *v, vmm_done_fn done, void *ud)
{
	struct qemu *q = qemu_of(v);
	struct going *g = new0(struct going);
	struct batch *b = batch_begin(q, loaded, g);

	*g = (struct going){ q, done, ud };
	if (q->template || q->state_fd >= 0)
		devices_add_placeholders(b);
	if (q->state_fd >= 0)
		state_load(b);
	batch_end(b);
}

static void op_save(struct vmm *v, int fd, vmm_done_fn done, void *ud)
{
	struct batch *b = batch_begin(qemu_of(v), done, ud);

	state_save(b, fd);
	batch_end(b);
}

static void op_set_memory(struct vmm *v, uint64_t bytes)
{
	struct batch *b = batch_begin(qemu_of(v), NULL, NULL);

	devices_set_memory(b, bytes);
	batch_end(b);
}

static uint64_t op_memory_touched(struct vmm *v)
{
	struct stat st;

	return fstat(qemu_of(v)->region_fd, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
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
	loop_source_free(q->watch);
	if (q->proc.pidfd >= 0) {
		(void)proc_kill(&q->proc, SIGKILL);
		(void)proc_wait(&q->proc, NULL);
		proc_done(&q->proc);
	}
	qmp_free(q->qmp);
	output_close(&q->console);
	output_close(&q->errors);
	list_for_each(b, &q->batches, struct batch, link)
		batch_free(b);
	disks_forget(q, NULL);
	fd_close(&q->state_fd);
	fd_close(&q->region_fd);
	strv_free(q->share_tags);
	for (size_t i = 0; i < ARRAY_SIZE(q->nics); i++)
		free(q->nics[i].mac);
	free(q);
}

static const struct vmm_ops qemu_ops = {
	.start = op_start,
	.add_disk = devices_add_disk,
	.remove_disk = devices_remove_disk,
	.add_nic = devices_add_nic,
	.remove_nic = devices_remove_nic,
	.set_memory = op_set_memory,
	.memory_touched = op_memory_touched,
	.go = op_go,
	.save = op_save,
	.kill = op_kill,
	.console = op_console,
	.free = op_free,
};

int qemu_new(struct loop *l, struct vmm **ret)
{
	struct qemu *q = new0(struct qemu);

	*q = (struct qemu){ .v = { .ops = &qemu_ops }, .loop = l, .proc = PROC_INIT,
			    .state_fd = -EBADF, .region_fd = -EBADF, .console = OUTPUT_INIT,
			    .errors = OUTPUT_INIT };
	list_init(&q->batches);
	list_init(&q->disks);
	*ret = &q->v;
	return 0;
}
