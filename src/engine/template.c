#include "engine/template.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/strv.h"
#include "engine/accel.h"
#include "engine/paths.h"
#include "engine/worker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define TEMPLATE_FD 3
#define GB (1ull << 30)
#define TEXT_MAX 4096
#define PATIENCE_S 120
/* Until a KVM must be seen to run a kernel: then it is decided on. The second time a loaded host gets its
 * chance, and nobody waits for it. */
#define PROOF_KVM_S 5
#define VCPUS_MAX 64		/* more than one bus of a `pc` machine is good for */

struct template_waiter { struct list link; engine_done_fn done; void *userdata; };

struct template_state {
	struct engine *engine;
	int fd;				/* being filled, then sealed */
	bool ready, failed, busy, kvm, again;
	char *name;			/* of the file it is kept as */
	char *program, **argv;
	struct list waiters;
};

static struct template_state *state_of(struct engine *e)
{
	if (!e->template) {
		e->template = new0(struct template_state);
		*e->template = (struct template_state){.engine = e, .fd = -EBADF};
		list_init(&e->template->waiters);
	}
	return e->template;
}

uint64_t template_region(void)
{
	struct sysinfo si;

	if (sysinfo(&si) < 0)
		return GB;
	return ((uint64_t)si.totalram * si.mem_unit + GB - 1) / GB * GB;
}

unsigned template_vcpus(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n > VCPUS_MAX ? VCPUS_MAX : (unsigned)n;
}

static void answer(struct template_state *t, engine_done_fn done, void *userdata)
{
	_cleanup_err_ struct err e = ERR_INIT;
	int r = t->failed ? accel_check(t->engine, &e) : 0;

	done(userdata, r, &e, r == 0 && t->ready && !t->engine->cfg.vm_cold_boot ? &t->fd : NULL);
}

static void tell(struct template_state *t)
{
	struct template_waiter *w;

	while ((w = list_first(&t->waiters, struct template_waiter, link))) {
		list_remove(&w->link);
		answer(t, w->done, w->userdata);
		free(w);
	}
}

/* The template's name, or what failed. What goes before it is the log. */
static const char *last_line(char *text)
{
	size_t n = strlen(text);
	char *nl;

	while (n && text[n - 1] == '\n')
		text[--n] = 0;
	nl = strrchr(text, '\n');
	return !n ? "vmwp --template failed" : nl ? nl + 1 : text;
}

/* In the worker: runs vmwp with the memfd, and takes what it says. */
static int fill(void *arg, struct sbuf *out, struct err *e)
{
	struct template_state *t = arg;
	_cleanup_strv_ char **argv = strv_copy(t->argv);
	char *envp[] = {(char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL}, text[TEXT_MAX] = "";
	_cleanup_close_ int read_end = -EBADF;
	_cleanup_proc_ struct proc p = PROC_INIT;
	int pipe[2], code = 0, r = fd_pipe(pipe, 0);

	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "pipe");
	read_end = pipe[0];
	struct fd_map fds[] = {{t->fd, TEMPLATE_FD}, {pipe[1], 1}, {pipe[1], 2}};
	strv_addf(&argv, "--patience=%u", PATIENCE_S);
	if (t->kvm && !t->again)
		strv_addf(&argv, "--proof=%u", PROOF_KVM_S);
	struct spawn_args a = {.path = t->program, .argv = argv, .envp = envp, .fds = fds,
			       .n_fds = ARRAY_SIZE(fds), .pdeathsig = 9};

	r = proc_spawn(&a, &p);
	fd_close(&pipe[1]);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "run %s", t->program);
	(void)fd_read_full(read_end, text, sizeof text - 1);
	r = proc_wait(&p, &code);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "wait for %s", t->program);
	if (code)
		return err_msg(e, ERR_SYSTEM, -EIO, "%s", last_line(text));
	sbuf_puts(out, last_line(text));
	return 0;
}

/* What is kept on disk may be what is wrong: the next daemon makes it anew. */
static void remove_kept(struct engine *e)
{
	_cleanup_free_ char *dir = path_join(e->cfg.data_root, "vm");
	DIR *d = opendir(dir);
	struct dirent *de;

	while (d && (de = readdir(d)))
		if (str_starts(de->d_name, "template-"))
			(void)unlinkat(dirfd(d), de->d_name, 0);
	if (d)
		(void)closedir(d);
}

/* Machines that run have it still. */
static void forget(struct template_state *t)
{
	t->ready = false;
	free(t->name);
	t->name = NULL;
	fd_close(&t->fd);
}

static void give_up(struct template_state *t)
{
	remove_kept(t->engine);
	forget(t);
	t->failed = true;
}

void template_distrust(struct engine *e, const char *why)
{
	log_warn("virtual machines boot instead of being cloned: %s", why);
	give_up(state_of(e));
}

static void filled(void *ud, int r, const struct err *e, const struct sbuf *out);

/* Not while anybody waits: those are told what the first try came to. */
static bool try_again(struct template_state *t, const struct err *e)
{
	if (!t->kvm || t->again || ftruncate(t->fd, 0) < 0)
		return false;
	t->again = true;
	if (worker_run(t->engine->loop, fill, t, filled, t) < 0)
		return false;
	accel_refute(t->engine, err_text(e), false);
	t->failed = true;
	tell(t);
	return true;
}

static void filled(void *ud, int r, const struct err *e, const struct sbuf *out)
{
	struct template_state *t = ud;

	if (r < 0 && try_again(t, e))
		return;
	t->busy = false;
	if (r == 0) {
		t->ready = true;
		t->failed = false;
		t->name = xstrdup(sbuf_str(out));
		if (t->again)
			accel_confirm(t->engine);
	} else if (t->kvm) {
		accel_refute(t->engine, err_text(e), true);
		give_up(t);
	} else {
		template_distrust(t->engine, err_text(e));
	}
	strv_free(t->argv);
	t->argv = NULL;
	free(t->program);
	t->program = NULL;
	tell(t);
}

static int begin(struct template_state *t, const char *accel)
{
	const struct engine_config *cfg = &t->engine->cfg;
	_cleanup_free_ char *dir = path_join(cfg->data_root, "vm"),
			    *kernel = path_join(cfg->vm_dir, "vmlinuz"),
			    *initrd = path_join(cfg->vm_dir, "initramfs.img");

	t->program = engine_program(t->engine, "vmwp");
	if (!t->program)
		return -ENOENT;
	t->fd = memfd_create("insula-template", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (t->fd < 0)
		return -errno;
	strv_adds(&t->argv, "vmwp", "--template", "--dir", dir, "--kernel", kernel, "--initrd", initrd,
		  "--accel", accel, "--memory", NULL);
	strv_addf(&t->argv, "%llu", (unsigned long long)cfg->vm_memory);
	strv_add(&t->argv, "--region");
	strv_addf(&t->argv, "%llu", (unsigned long long)template_region());
	strv_add(&t->argv, "--cpus");
	strv_addf(&t->argv, "%u", template_vcpus());
	t->kvm = streq(accel, "kvm");
	t->again = false;
	t->busy = true;
	return worker_run(t->engine->loop, fill, t, filled, t);
}

void template_get(struct engine *e, const char *accel, engine_done_fn done, void *userdata)
{
	struct template_state *t = state_of(e);
	struct template_waiter *w;
	int r = 0;

	/* On KVM it is made even where machines boot: as the proof. */
	if ((!e->cfg.vm_cold_boot || streq(accel, "kvm")) && !t->ready && !t->failed && !t->busy)
		r = begin(t, accel);
	if (r < 0) {
		t->busy = false;
		template_distrust(e, strerror(-r));
	}
	if (!t->busy) {
		answer(t, done, userdata);
		return;
	}
	w = new0(struct template_waiter);
	*w = (struct template_waiter){.done = done, .userdata = userdata};
	list_append(&t->waiters, &w->link);
}

void template_close(struct engine *e)
{
	struct template_state *t = e->template;

	if (!t)
		return;
	forget(t);
	list_for_each(w, &t->waiters, struct template_waiter, link) {
		list_remove(&w->link);
		free(w);
	}
	strv_free(t->argv);
	free(t->program);
	free(t);
	e->template = NULL;
}

int guest_kernel_check(const struct engine *e, struct err *err)
{
	_cleanup_free_ char *kernel = path_join(e->cfg.vm_dir, "vmlinuz"),
			    *initrd = path_join(e->cfg.vm_dir, "initramfs.img");

	if (fs_exists(kernel) && fs_exists(initrd))
		return 0;
	return err_msg(err, ERR_INVALID, 0,
		       "hyperv isolation needs a guest kernel, and there is none in '%s': make it with "
		       "'insula vm prepare', or use --isolation=process",
		       e->cfg.vm_dir);
}

/* ---- those that are kept ---- */

static const char *kept_name(const char *name)
{
	return str_starts(name, "template-") && !strchr(name, '/') && !strchr(name, '.') ? name : NULL;
}

/* True if it is the one in use. */
static bool add_row(struct template_state *t, struct json *list, const char *name, const struct stat *st,
		    int64_t size)
{
	struct json *o = json_add(list, json_object());
	bool in_use = t->ready && streq(t->name, name);

	json_set_str(o, "Name", name);
	json_set_int(o, "Created", st->st_mtim.tv_sec);
	json_set_int(o, "Size", size);
	json_set_bool(o, "InUse", in_use);
	return in_use;
}

struct json *template_list(struct engine *e)
{
	_cleanup_free_ char *dir = path_join(e->cfg.data_root, "vm");
	struct template_state *t = state_of(e);
	struct json *list = json_array();
	DIR *d = opendir(dir);
	struct dirent *de;
	bool seen = false;
	struct stat st;

	while (d && (de = readdir(d)))
		if (kept_name(de->d_name) && fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			seen |= add_row(t, list, de->d_name, &st, (int64_t)st.st_blocks * 512);
	if (d)
		(void)closedir(d);
	/* One that there was no room for is there until the daemon ends. */
	if (t->ready && !seen && fstat(t->fd, &st) == 0)
		(void)add_row(t, list, t->name, &st, 0);
	return list;
}

int template_remove(struct engine *e, const char *name, struct err *err)
{
	_cleanup_free_ char *path = xasprintf("%s/vm/%s", e->cfg.data_root, name);
	struct template_state *t = state_of(e);
	bool ours = t->ready && streq(t->name, name), kept;

	if (t->busy)
		return err_msg(err, ERR_CONFLICT, 0, "a template is being made: try again when it is there");
	kept = kept_name(name) && unlink(path) == 0;
	if (!kept && errno != ENOENT && kept_name(name))
		return err_set(err, ERR_SYSTEM, -errno, "remove '%s'", path);
	if (!kept && !ours)
		return err_msg(err, ERR_NOT_FOUND, 0, "No such template: %s", name);
	if (ours)
		forget(t);
	return 0;
}
