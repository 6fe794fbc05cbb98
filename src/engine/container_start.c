/* Starting a container: a chain of steps, the same for both isolation modes.
 *
 * A step returns 1 when it is done, 0 when a callback will go on with start_next(), or an error. Whatever
 * fails, all is undone: the supervisor is ended (mounts, interface and machine go with it), the address
 * released. A container run with
 * --rm is removed. */
#include "engine/container_int.h"
#include "engine/container_log.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"
#include "engine/accel.h"
#include "engine/template.h"
#include "engine/image.h"
#include "engine/network.h"
#include "engine/publish.h"
#include "engine/volume.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define MB (1ull << 20)
#define VM_MEMORY_STEP (128 * MB)	/* in which a guest's memory grows: its memory block */
#define VM_OVERHEAD (160 * MB)		/* what a guest needs beside the container's own limit */

#define CLEAR_LOOK_US 100000
#define CLEAR_LOOKS 300u			/* a virtual machine may be busy */

struct start {
	struct op *op;
	struct container *c;		/* op's */
	struct image *image;
	char **lower;			/* layer directories or disks, top first */
	char *accel;
	const int *template;		/* what the machine is cloned from; NULL: it boots */
	struct msg_sandbox sandbox;
	struct ns_shared shared;
	size_t mount;			/* the volume it is at */
	bool spawned;			/* its sandbox is new */
	unsigned looks;			/* for what is left of it in an old one */
};

typedef int (*start_step)(struct start *s, struct err *err);

static void start_next(struct start *s, int r, const struct err *e);
static void start_steps(struct start *s);

static void next_done(void *ud, int r, const struct err *e, void *result)
{
	start_next(ud, r, e);
}

/* ---- preparing ---- */

static void zombie_gone(void *ud)
{
	start_next(ud, 0, NULL);
}

static int step_wait_gone(struct start *s, struct err *err)
{
	sup_wait_gone(s->c, zombie_gone, s);
	return 0;
}

/* Files only are opened in a sandbox of their own. */
static bool joins(const struct start *s)
{
	return ctr_joins(s->c) && !s->op->files;
}

static int step_target(struct start *s, struct err *err)
{
	struct container *target;
	int r = joins(s) ? join_target(s->c, &target, err) : 0;

	return r < 0 ? r : 1;
}

static int step_image(struct start *s, struct err *err)
{
	int r = image_find(s->c->engine, s->c->image_id, &s->image, err);

	if (r < 0)
		return r;
	r = mounts_prepare(s->c, err);
	return r < 0 ? r : 1;
}

static void accel_known(void *ud, int r, const struct err *e, void *result)
{
	struct start *s = ud;
	const struct accel *a = result;

	if (r >= 0)
		s->accel = xstrdup(a->name);
	start_next(s, r, e);
}

static int step_accel(struct start *s, struct err *err)
{
	struct engine *e = s->c->engine;
	_cleanup_free_ char *kernel = path_join(e->cfg.vm_dir, "vmlinuz"),
			    *initrd = path_join(e->cfg.vm_dir, "initramfs.img");
	int r;

	if (s->c->isolation != ISOLATION_HYPERV || joins(s))
		return 1;
	r = guest_kernel_check(e, err);
	if (r < 0)
		return r;
	s->sandbox.kernel = TAKE_PTR(kernel);
	s->sandbox.initrd = TAKE_PTR(initrd);
	accel_get(e, accel_known, s);
	return 0;
}

/* --vm-template=off */
static bool boots(const struct container *c)
{
	return streq(json_get_str(json_get(ctr_host(c), "Annotations"), TEMPLATE_ANNOTATION), "off");
}

static void template_known(void *ud, int r, const struct err *e, void *result)
{
	struct start *s = ud;

	s->template = boots(s->c) ? NULL : result;
	start_next(s, r, e);
}

static int step_template(struct start *s, struct err *err)
{
	if (s->c->isolation != ISOLATION_HYPERV || joins(s))
		return 1;
	/* On KVM it is the proof that machines run, for those that boot too. */
	if (boots(s->c) && !streq(s->accel, "kvm"))
		return 1;
	template_get(s->c->engine, s->accel, template_known, s);
	return 0;
}

static void disks_ready(void *ud, int r, const struct err *e, void *result)
{
	struct start *s = ud;

	if (r >= 0)
		s->lower = strv_copy(result);
	start_next(s, r, e);
}

static const struct image_disks_ops disks_ops = {.done = disks_ready};

static int make_dir(const char *dir, const char *name, mode_t mode, struct err *err)
{
	_cleanup_free_ char *path = path_join(dir, name);

	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return err_set(err, ERR_SYSTEM, -errno, "create '%s'", path);
	return 0;
}

static int step_layers(struct start *s, struct err *err)
{
	struct container *c = s->c;
	int r;

	if (c->isolation == ISOLATION_HYPERV) {
		image_disks_prepare(c->engine, s->image, &disks_ops, s, NULL);
		return 0;
	}
	s->lower = image_layer_dirs(c->engine, s->image);
	r = make_dir(c->dir, "upper", 0755, err);
	if (r >= 0)
		r = make_dir(c->dir, "work", 0700, err);
	return r < 0 ? r : 1;
}

static int step_scratch(struct start *s, struct err *err)
{
	_cleanup_free_ char *path = path_join(s->c->dir, "scratch.ext4");

	if (s->c->isolation != ISOLATION_HYPERV || fs_exists(path))
		return 1;
	scratch_disk_create(s->c->engine, path, next_done, s);
	return 0;
}

static void volume_ready(void *ud, int r, const struct err *e, void *result);

/* Takes hold of the volumes one after the other, and fills those that have not been used yet. */
static int step_volumes(struct start *s, struct err *err)
{
	const struct json *mounts = json_get(s->c->doc, "Mounts");

	for (; s->mount < json_len(mounts); s->mount++)
		if (streq(json_get_str(json_at(mounts, s->mount), "Type"), "volume")) {
			volume_hold(s->c->engine, json_get_str(json_at(mounts, s->mount), "Name"),
				    volume_ready, s);
			return 0;
		}
	return 1;
}

static void volume_filled(void *ud, int r, const struct err *e, void *result)
{
	struct start *s = ud;
	_cleanup_err_ struct err err = ERR_INIT;

	s->mount++;
	if (r >= 0)
		r = step_volumes(s, &err);
	else
		err_msg(&err, e->kind, r, "%s", err_text(e));
	if (r != 0)
		start_next(s, r, &err);
}

static void volume_ready(void *ud, int r, const struct err *e, void *result)
{
	struct start *s = ud;
	struct engine *engine = s->c->engine;
	const struct json *m = json_at(json_get(s->c->doc, "Mounts"), s->mount);
	_cleanup_strv_ char **dirs = NULL;

	if (r < 0) {
		start_next(s, r, e);
		return;
	}
	strv_add(&s->c->volumes, json_get_str(m, "Name"));
	/* Of a part of a volume it is not said where the image has its like. */
	if (json_get_bool(m, "NoCopy", false) || json_get(m, "Subpath")) {
		volume_filled(s, 0, NULL, NULL);
		return;
	}
	dirs = image_layer_dirs(engine, s->image);
	volume_fill(engine, json_get_str(m, "Name"), dirs, json_get_str(m, "Destination"), volume_filled, s);
}

static int step_networks(struct start *s, struct err *err)
{
	if (s->op->files || !json_len(ctr_attachments(s->c)))
		return 1;
	networks_ensure(s->c->engine, ctr_attachments(s->c), next_done, s);
	return 0;
}

static void take_again(void *ud);

static int take_addresses(struct start *s, struct err *err)
{
	struct container *c = s->c;
	_cleanup_free_ char *first = ctr_main_network(c);
	int r = endpoints_take(c->engine, c->id, first ?: "", ctr_attachments(c), &s->sandbox.nics, err);

	if (r >= 0)
		return 1;
	if ((r == -EADDRINUSE || r == -EADDRNOTAVAIL) &&
	    endpoints_await(c->engine, ctr_attachments(c), take_again, s))
		return 0;
	return err_wrap(err, r, "failed to set up container networking");
}

static void take_again(void *ud)
{
	_cleanup_err_ struct err err = ERR_INIT;
	int r = take_addresses(ud, &err);

	if (r != 0)
		start_next(ud, MIN(r, 0), &err);
}

static int step_address(struct start *s, struct err *err)
{
	struct container *c = s->c;

	s->sandbox.net = xstrdup(ctr_host_network(c) && !s->op->files ? "host" : "own");
	return !s->op->files || sandbox_lives(c->engine, c->id) ? take_addresses(s, err) : 1;
}

/* ---- the supervisor ---- */

static int step_spawn(struct start *s, struct err *err)
{
	int r;

	if (joins(s)) {
		r = join_enter(s->c, err);
	} else if (sup_join(s->c, s->c->id)) {
		r = 0;		/* others hold it since it ran last */
	} else {
		r = sup_spawn(s->c, err);
		s->spawned = r >= 0;
	}
	return r < 0 ? r : 1;
}

/* Every machine has the same memory to begin with, which makes it a clone of the template. What the limit of
 * its container asks beyond that, with room for the guest's own needs, is added as it starts to run; without
 * a limit there is more as needed, up to what the host has. */
static void vm_size(const struct container *c, struct msg_sandbox *m)
{
	const struct engine_config *cfg = &c->engine->cfg;
	uint64_t limit = (uint64_t)json_get_int(ctr_host(c), "Memory", 0), want = limit + VM_OVERHEAD;
	int64_t nano = json_get_int(ctr_host(c), "NanoCpus", 0),
		quota = json_get_int(ctr_host(c), "CpuQuota", 0);
	int64_t period = json_get_int(ctr_host(c), "CpuPeriod", 0);
	unsigned set = cpuset_count(ctr_host(c));

	if (nano <= 0 && quota > 0)
		nano = quota * 1000000000 / (period > 0 ? period : 100000);
	m->memory = cfg->vm_memory;
	m->memory_region = template_region();
	if (limit && want > m->memory)
		m->memory_extra = (want - m->memory + VM_MEMORY_STEP - 1) / VM_MEMORY_STEP * VM_MEMORY_STEP;
	m->memory_extra = MIN(m->memory_extra, m->memory_region);
	m->memory_most = limit ? m->memory_extra : m->memory_region;
	m->vcpus_max = template_vcpus();
	m->vcpus = nano > 0 ? (uint32_t)((nano + 999999999) / 1000000000) : cfg->vm_vcpus;
	if (set)
		m->vcpus = nano > 0 ? MIN(m->vcpus, set) : set;
	m->vcpus = MIN(m->vcpus, m->vcpus_max);
}

static int step_publish(struct start *s, struct err *err)
{
	return s->op->files ? 1 : publish_start(s->c, &s->sandbox.nics, next_done, s, err);
}

static void replied(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	start_next(ud, r, e);
}

static int step_sandbox(struct start *s, struct err *err)
{
	struct container *c = s->c;
	struct msg_sandbox *m = &s->sandbox;
	_cleanup_free_ char *cgroup = ctr_cgroup(c);

	if (!s->spawned)
		return 1;
	if (!m->sandbox) {	/* else it is asked for the second time */
		m->sandbox = xstrdup(c->id);
		m->hostname = ctr_hostname(c);
		m->cgroup = xasprintf("%s-vm", cgroup);
		if (c->isolation == ISOLATION_HYPERV) {
			m->accel = xstrdup(s->accel);
			vm_size(c, m);
			c->machine_memory = m->memory + m->memory_most;
			c->machine_cpus = m->vcpus;
			m->shares = spec_shares(c);
		}
	}
	if (!ctr_conn(c))
		return err_msg(err, ERR_SYSTEM, -ECONNRESET, "the supervisor ended at once");
	if (c->isolation == ISOLATION_HYPERV)
		machine_remember(c, m, s->template != NULL);
	CONN_REQUEST(ctr_conn(c), SANDBOX, sandbox, m, s->template ? *s->template : -EBADF, replied, s);
	return 0;
}

static void clear_again(struct loop_source *src, void *ud)
{
	struct start *s = ud;

	loop_source_free(TAKE_PTR(s->op->timer));
	start_steps(s);
}

static void cleared(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct start *s = ud;
	enum err_kind kind = r < 0 && e ? e->kind : 0;

	if (kind == ERR_CONFLICT && s->looks++ < CLEAR_LOOKS &&
	    loop_add_timer(s->c->engine->loop, CLEAR_LOOK_US, 0, clear_again, s, &s->op->timer) >= 0)
		return;
	start_next(s, kind == ERR_NOT_FOUND ? 0 : r, e);
}

/* In a sandbox that others keep may be what a daemon was about to make of the container when it died. */
static int step_clear(struct start *s, struct err *err)
{
	struct container *c = s->c;
	struct msg_delete m = {.sandbox = c->sandbox, .ctr = c->id, .exec = (char *)""};

	if (s->spawned)
		return 1;
	if (!ctr_conn(c))
		return err_msg(err, ERR_SYSTEM, -ECONNRESET, "the supervisor ended");
	CONN_REQUEST(ctr_conn(c), DELETE, delete, &m, -1, cleared, s);
	return 0;
}

static uint32_t task_flags(const struct container *c)
{
	const struct json *cfg = ctr_config(c);

	return (json_get_bool(cfg, "Tty", false) ? TASK_TTY : 0) |
	       (json_get_bool(cfg, "OpenStdin", false) ? TASK_STDIN : 0) |
	       (json_get_bool(cfg, "StdinOnce", false) ? TASK_STDIN_ONCE : 0);
}

static int step_create(struct start *s, struct err *err)
{
	struct container *c = s->c;
	const struct json *size = json_get(ctr_host(c), "ConsoleSize");
	_cleanup_json_ struct json *spec = NULL;
	_cleanup_free_ char *text = NULL, *log = container_log_path(c), *upper = NULL, *work = NULL;
	_cleanup_strv_ char **files = NULL, **log_opts = container_log_options(c), **devices = NULL;
	int r = s->op->files ? 0 : ns_shared_open(c, &s->shared, err);

	if (r >= 0)
		r = spec_build(c, &s->shared, &spec, err);
	if (r >= 0 && !s->op->files)
		r = devices_apply(c, spec, &devices, err);
	if (r >= 0 && joins(s))
		r = sandbox_files(c, &files, err);
	if (r < 0)
		return r;
	text = json_dump(spec);
	if (!files)
		files = spec_files(c, &s->sandbox);
	if (s->spawned)
		sandbox_files_keep(c, files);
	upper = path_join(c->dir, c->isolation == ISOLATION_HYPERV ? "scratch.ext4" : "upper");
	work = path_join(c->dir, "work");
	struct msg_create m = {
	    .sandbox = c->sandbox,
	    .ctr = c->id,
	    .exec = (char *)"",
	    .spec = {(uint8_t *)text, strlen(text)},
	    .bundle = c->dir,
	    .log = log_opts,
	    .log_path = s->op->files ? (char *)"" : log,
	    .flags = s->op->files ? TASK_FILES : task_flags(c),
	    .files = files,
	    .lower = s->lower,
	    .upper = upper,
	    .work = c->isolation == ISOLATION_HYPERV ? (char *)"" : work,
	    .devices = devices,
	    .rows = (uint32_t)json_uint(json_at(size, 0)),
	    .cols = (uint32_t)json_uint(json_at(size, 1)),
	};
	if (!ctr_conn(c))
		return err_msg(err, ERR_SYSTEM, -ECONNRESET, "the supervisor ended");
	CONN_REQUEST(ctr_conn(c), CREATE, create, &m, -1, replied, s);
	return 0;
}

static int step_start(struct start *s, struct err *err)
{
	struct container *c = s->c;
	struct msg_start m = {.sandbox = c->sandbox, .ctr = c->id, .exec = (char *)""};

	if (s->op->files)
		return 1;
	held_send(c);
	if (!ctr_conn(c))
		return err_msg(err, ERR_SYSTEM, -ECONNRESET, "the supervisor ended");
	c->starting = true;
	container_save(c);
	CONN_REQUEST(ctr_conn(c), START, start, &m, -1, replied, s);
	return 0;
}

/* ---- the chain ---- */

static const struct {
	start_step run;
	bool runtime;		/* its errors are those of the OCI runtime */
} steps[] = {
    {step_wait_gone}, {step_target},  {step_image},   {step_accel},    {step_template},
    {step_layers},    {step_scratch}, {step_volumes}, {step_networks},
    {step_wait_gone}, /* the sandbox that it was in once may have been left by the last one meanwhile */
    {step_address},   {step_spawn},   {step_publish}, {step_sandbox},  {step_clear},
    {step_create, true}, {step_start, true},
};

static void start_free(struct start *s)
{
	msg_sandbox_done(&s->sandbox);
	ns_shared_close(&s->shared);
	strv_free(s->lower);
	free(s->accel);
	free(s);
}

static void start_fail(struct start *s, int r, const struct err *e, bool runtime)
{
	struct op *op = s->op;

	start_free(s);
	start_undo(op, r, e, runtime && !op->files);
}

static void boot_instead(void *ud)
{
	struct start *s = ud;

	s->template = NULL;
	for (s->op->step = 0; steps[s->op->step].run != step_spawn;)
		s->op->step++;
	start_steps(s);
}

/* A machine that does not come up as a clone is given a second chance. */
static bool was_clone(const struct start *s, const struct err *e)
{
	return s->template && s->spawned && e && strstr(err_text(e), "VM did not start");
}

static void start_finish(struct start *s)
{
	struct op *op = s->op;

	start_free(s);
	if (op->files)
		op->opened(op, 0, NULL);
	else
		op_finish(op, 0, NULL);
}

static void start_steps(struct start *s)
{
	struct op *op = s->op;
	_cleanup_err_ struct err err = ERR_INIT;

	while (op->step < ARRAY_SIZE(steps)) {
		int r = steps[op->step].run(s, &err);

		if (r < 0)
			start_fail(s, r, &err, steps[op->step].runtime);
		if (r <= 0)
			return;
		op->step++;
	}
	start_finish(s);
}

static void start_next(struct start *s, int r, const struct err *e)
{
	if (r < 0 && was_clone(s, e)) {
		template_distrust(s->c->engine, err_text(e));
		sup_abort(s->c, boot_instead, s);
		return;
	}
	if (r < 0) {
		start_fail(s, r, e, steps[s->op->step].runtime);
		return;
	}
	s->op->step++;
	start_steps(s);
}

static void start_begin(struct op *op)
{
	struct start *s = new0(struct start);

	s->op = op;
	s->c = op->c;
	mounts_drop(s->c);
	s->shared = (struct ns_shared)NS_SHARED_NONE;
	op->step = 0;
	start_steps(s);
}

void start_files(struct op *op)
{
	start_begin(op);
}

void start_run_op(struct op *op)
{
	struct container *c = op->c;
	_cleanup_err_ struct err err = ERR_INIT;

	if (c->status == CTR_RUNNING) {
		op_finish(op, err_msg(&err, ERR_NOT_MODIFIED, 0, "container %s is running already", c->id),
			  &err);
		return;
	}
	restart_cancel(c);
	files_close(c);
	c->exit_pending = false;
	c->stopped_by_user = false;
	start_begin(op);
}

void container_start(struct container *c, engine_done_fn done, void *ud)
{
	op_push(op_new(c, start_run_op, done, ud));
}
