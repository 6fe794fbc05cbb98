/* Theory of operation.
 *
 * A VM sees an image as block devices. Each layer becomes one read-only erofs disk, made once, on the
 * first hyperv use, and shared by all machines: one page cache. Whiteouts and opaque marks are kept, so
 * overlay in the guest shows what overlay on the host shows. A machine's bus has room for
 * DISKS_MAX layers; of deeper images the lower layers are merged into one disk, named after the chain
 * they end with. Requests are served one after the other, so a disk is never made twice.
 *
 * How far it is tells the size of the file that mkfs writes, which is looked at from time to time: a disk is
 * as large as the files of its layer, and little more.
 *
 * The writable layer is a sparse copy of a formatted template: only its data extents are copied. */
#include "engine/image_int.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/proc.h"
#include "base/strv.h"
#include "engine/events.h"
#include "engine/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define DISKS_MAX 16
#define SCRATCH_MAX (10ull << 30)
#define SCRATCH_MIN (64ull << 20)
#define LOOK_US 200000			/* how often progress is told */
#define NOTABLE (64ull << 20)		/* less takes no time worth a word */
/* Trees of strangers may have any number of files; mkfs.erofs takes 5 KB for each: some 800,000. */
#define TOOL_MEMORY (4ull << 30)

static const char *const mkfs_erofs[] = {"/usr/bin/mkfs.erofs", "/usr/sbin/mkfs.erofs", "/sbin/mkfs.erofs",
					 NULL};
static const char *const mkfs_ext4[] = { "/sbin/mkfs.ext4", "/usr/sbin/mkfs.ext4", NULL };

static int run_tool(const char *const *places, char *const *args, char *const *env, const char *package,
		    struct err *e)
{
	_cleanup_strv_ char **argv = NULL;
	_cleanup_proc_ struct proc p = PROC_INIT;
	const char *path = NULL;
	int r, code = 0;

	for (; *places && !path; places++)
		if (fs_exists(*places))
			path = *places;
	if (!path)
		return err_msg(e, ERR_UNAVAILABLE, -ENOENT, "hyperv isolation needs %s: install %s",
			       path_basename(places[-1]), package);
	strv_add(&argv, path_basename(path));
	strv_extend(&argv, args);
	struct spawn_args a = { .path = path, .argv = argv, .envp = env, .keep_stderr = true,
				.memory = TOOL_MEMORY };

	r = proc_spawn(&a, &p);
	if (r == 0)
		r = proc_wait(&p, &code);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "run %s", path);
	return code ? err_msg(e, ERR_SYSTEM, -EIO, "%s failed with exit code %d", path, code) : 0;
}

/* --- layers --- */

struct disk_part { char id[16]; uint64_t size; bool told; };

struct image_disks {
	struct list link;
	struct engine *engine;
	char *image;			/* its id */
	struct id temp;			/* in the names of its temporary files */
	char **lower;			/* layer directories, top first */
	char **paths;			/* disks, top first */
	char **merged;			/* the directories of the merged disk, NULL if none */
	struct disk_part *parts;	/* one for each path */
	uint64_t size;			/* of what is converted */
	struct loop_source *timer;
	const struct image_disks_ops *ops;	/* NULL: nobody waits for it any more */
	void *ud;
};

/* The disk of a layer has a uuid that says whose it is, so that the image is the same every time. */
static char *uuid_of(const char *hex)
{
	return xasprintf("%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

/* Under data_root/tmp, which the next start empties. */
static char *temporary(const struct image_disks *j, const char *path)
{
	return xasprintf("%s/tmp/%s.%.12s", j->engine->cfg.data_root, path_basename(path), j->temp.s);
}

static int open_tmp(const struct image_disks *j)
{
	_cleanup_free_ char *dir = path_join(j->engine->cfg.data_root, "tmp");

	return open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static bool disk_full(const struct image_disks *j)
{
	_cleanup_close_ int fd = open_tmp(j);

	return fd >= 0 && fs_check_room(fd) == -ENOSPC;
}

/* A disk larger than what is left of the host's is not begun. What mkfs then writes beyond what the layer's
 * files promised ends there too. */
static int bound_size(const struct image_disks *j, uint64_t size, struct err *e)
{
	_cleanup_close_ int fd = open_tmp(j);
	struct statvfs s;
	struct rlimit l;

	if (fd < 0 || fstatvfs(fd, &s) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open the folder of temporary files");
	l.rlim_cur = l.rlim_max = (rlim_t)s.f_bavail * s.f_frsize;
	if (size >= l.rlim_cur || fs_check_room(fd) < 0)
		return err_set(e, ERR_SYSTEM, -ENOSPC, "make the disk of a layer of %llu bytes",
			       (unsigned long long)size);
	signal(SIGXFSZ, SIG_IGN);
	(void)setrlimit(RLIMIT_FSIZE, &l);
	return 0;
}

static int make_erofs(const struct image_disks *j, const char *dir, const char *path, struct err *e)
{
	const char *base = path_basename(path), *hex = str_starts(base, "m-") ? base + 2 : base;
	_cleanup_free_ char *tmp = temporary(j, path), *uuid = uuid_of(hex);
	/* mkfs clamps file times to this: far ahead, so that none is changed. */
	char *env[] = {(char *)"SOURCE_DATE_EPOCH=4102444800", (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
		       NULL};
	char *args[] = { (char *)"--quiet", (char *)"-U", uuid, tmp, (char *)dir, NULL };
	int r = run_tool(mkfs_erofs, args, env, "erofs-utils", e);

	if (r == 0 && (chmod(tmp, 0600) < 0 || rename(tmp, path) < 0))
		r = err_set(e, ERR_SYSTEM, -errno, "write disk '%s'", path);
	if (r < 0) {
		bool full = disk_full(j);

		(void)unlink(tmp);
		if (full)
			r = err_set(e, ERR_SYSTEM, -ENOSPC, "make disk '%s'", path);
	}
	return r;
}

/* A read-only overlay of the directories, top first, as a mount that is attached nowhere yet. */
static int overlay_open(char *const *dirs)
{
	_cleanup_close_ int fs = fsopen("overlay", FSOPEN_CLOEXEC);

	if (fs < 0)
		return -errno;
	for (; *dirs; dirs++)
		if (fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", *dirs, 0) < 0)
			return -errno;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	int mnt = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY);

	return mnt < 0 ? -errno : mnt;
}

/* Before Linux 6.7 an overlay's layers come in one string, a page long at most: relative names keep it short.
 */
static int overlay_mount(const char *layers, char *const *dirs, const char *at)
{
	_cleanup_strv_ char **names = NULL;
	_cleanup_free_ char *joined = NULL, *options = NULL;

	for (; *dirs; dirs++)
		strv_add(&names, path_basename(*dirs));
	joined = strv_join(names, ":");
	options = xasprintf("lowerdir=%s", joined);
	if (chdir(layers) < 0)
		return -errno;
	return mount("overlay", at, "overlay", MS_RDONLY, options) < 0 ? -errno : 0;
}

/* In a mount namespace of the worker's own: gone with it. */
static int make_merged(const struct image_disks *j, const char *path, struct err *e)
{
	_cleanup_free_ char *tmp = temporary(j, path), *dir = xasprintf("%s.mnt", tmp),
			    *layers = path_join(j->engine->cfg.data_root, "layers");
	_cleanup_close_ int mnt = -EBADF;
	int r = 0;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0 ||
	    mkdir(dir, 0700) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "merge layers");
	mnt = overlay_open(j->merged);
	if (mnt >= 0 && move_mount(mnt, "", AT_FDCWD, dir, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		r = -errno;
	else if (mnt < 0)
		r = overlay_mount(layers, j->merged, dir);
	r = r < 0 ? err_set(e, ERR_SYSTEM, r, "merge %zu layers", strv_len(j->merged))
		  : make_erofs(j, dir, path, e);
	(void)umount2(dir, MNT_DETACH);
	(void)rmdir(dir);
	return r;
}

static int disk_worker(void *arg, struct sbuf *out, struct err *e)
{
	struct image_disks *j = arg;
	int r = 0;

	for (size_t i = 0; r == 0 && j->paths[i]; i++) {
		if (fs_exists(j->paths[i]))
			continue;
		r = bound_size(j, j->parts[i].size, e);
		if (r < 0)
			break;
		if (j->merged && !j->paths[i + 1])
			r = make_merged(j, j->paths[i], e);
		else
			r = make_erofs(j, j->lower[i], j->paths[i], e);
	}
	return r;
}

/* --- telling --- */

static void tell(struct image_disks *j, struct disk_part *p, const char *status, int64_t current)
{
	_cleanup_json_ struct json *o = json_object();

	json_set_str(o, "id", p->id);
	json_set_str(o, "status", status);
	if (current >= 0) {
		json_set_int(o, "current", MIN(current, (int64_t)p->size));
		json_set_int(o, "total", (int64_t)p->size);
	}
	if (j->ops && j->ops->progress)
		j->ops->progress(j->ud, o);
}

/* The disks are made in the order of the paths: the first that is not there is at work. */
static void look(struct image_disks *j)
{
	for (size_t i = 0; j->paths[i]; i++) {
		struct disk_part *p = &j->parts[i];
		_cleanup_free_ char *tmp = NULL;
		struct stat st;

		if (p->told)
			continue;
		if (fs_exists(j->paths[i])) {
			tell(j, p, "Disk complete", -1);
			p->told = true;
			continue;
		}
		tmp = temporary(j, j->paths[i]);
		tell(j, p, "Converting", stat(tmp, &st) == 0 ? (int64_t)st.st_blocks * 512 : 0);
		return;
	}
}

static void on_time(struct loop_source *s, void *ud)
{
	look(ud);
}

static void tell_event(const struct image_disks *j, const char *action)
{
	const struct image *i = image_by_id(j->engine, j->image);
	_cleanup_free_ char *text = xasprintf("%llu", (unsigned long long)j->size);
	struct json *a;

	if (!i)
		return;
	a = json_object();
	json_set_str(a, "name", i->tags ? i->tags[0] : i->id);
	json_set_str(a, "size", text);
	event_emit(j->engine, "image", action, i->id, a);
}

/* --- one after the other --- */

static void next_job(struct images *im);

/* Bytes of the layers whose disks are not there yet. */
static uint64_t missing(const struct image_disks *j)
{
	uint64_t sum = 0;

	for (size_t i = 0; j->paths[i]; i++)
		if (!fs_exists(j->paths[i]))
			sum += j->parts[i].size;
	return sum;
}

static void job_free(struct image_disks *j)
{
	loop_source_free(j->timer);
	strv_free(j->lower);
	strv_free(j->paths);
	strv_free(j->merged);
	free(j->parts);
	free(j->image);
	free(j);
}

static void job_done(void *ud, int r, const struct err *e, const struct sbuf *out)
{
	struct image_disks *j = ud;
	struct images *im = j->engine->images;

	list_remove(&j->link);
	im->disk_busy = false;
	if (j->timer && r >= 0) {
		look(j);
		tell_event(j, "converted");
		image_sync_start(j->engine);
	}
	if (j->ops)
		j->ops->done(j->ud, r, e, j->paths);
	job_free(j);
	next_job(im);
}

static bool complete(const struct image_disks *j)
{
	for (char **p = j->paths; *p; p++)
		if (!fs_exists(*p))
			return false;
	return true;
}

static int job_begin(struct image_disks *j, struct err *e)
{
	struct loop *loop = j->engine->loop;
	int r = loop_add_timer(loop, LOOK_US, LOOK_US, on_time, j, &j->timer);

	j->size = missing(j);
	for (size_t i = 0; j->paths[i]; i++)
		j->parts[i].told = fs_exists(j->paths[i]);
	if (r == 0)
		r = image_sync_note_disks(j->engine, j->paths, e);
	if (r == 0)
		r = worker_run(loop, disk_worker, j, job_done, j);
	if (r < 0)
		return e->msg ? r : err_set(e, ERR_SYSTEM, r, "make the image's disks");
	tell_event(j, "convert");
	look(j);
	return 0;
}

static void next_job(struct images *im)
{
	struct image_disks *j;

	while (!im->disk_busy && (j = list_first(&im->disk_jobs, struct image_disks, link))) {
		_cleanup_err_ struct err e = ERR_INIT;
		int r = 0;

		im->disk_busy = true;
		if (!complete(j)) {
			r = job_begin(j, &e);
			if (r == 0)
				return;
		}
		job_done(j, r, &e, NULL);
	}
}

/* --- what an image needs --- */

/* The chain's disk is called as the download of its layer was, where that is known. */
static void describe(struct image_disks *j, size_t at, const char *chain, uint64_t size)
{
	_cleanup_image_blob_ struct image_blob b = { 0 };
	const char *hex = image_layer_blob(j->engine, chain, &b, NULL) == 0 ? b.digest : chain;

	snprintf(j->parts[at].id, sizeof j->parts[at].id, "%.12s", digest_hex(hex));
	j->parts[at].size = size;
}

static struct image_disks *job_new(struct engine *e, const struct image *i)
{
	struct image_disks *j = new0(struct image_disks);
	size_t n = strv_len(i->chain_ids), single = n > DISKS_MAX ? DISKS_MAX - 1 : n;
	uint64_t rest = 0;

	*j = (struct image_disks){ .engine = e, .image = xstrdup(i->id), .temp = id_new(),
				   .lower = image_layer_dirs(e, i), .paths = new_array(char *, 1),
				   .parts = new_array(struct disk_part, DISKS_MAX + 1) };
	for (size_t k = 0; k < single; k++) {
		const char *chain = i->chain_ids[n - 1 - k];

		strv_addf(&j->paths, "%s/disks/%s.erofs", e->cfg.data_root, digest_hex(chain));
		describe(j, k, chain, image_layer_size(e, chain));
	}
	if (n == single)
		return j;
	strv_addf(&j->paths, "%s/disks/m-%s.erofs", e->cfg.data_root,
		  digest_hex(i->chain_ids[n - DISKS_MAX]));
	for (size_t k = single; k < n; k++) {
		strv_add(&j->merged, j->lower[k]);
		rest += image_layer_size(e, i->chain_ids[n - 1 - k]);
	}
	describe(j, single, i->chain_ids[n - DISKS_MAX], rest);
	return j;
}

void image_disks_prepare(struct engine *e, const struct image *i, const struct image_disks_ops *ops, void *ud,
			 struct image_disks **ret)
{
	struct image_disks *j = job_new(e, i);

	j->ops = ops;
	j->ud = ud;
	if (ret)
		*ret = j;
	list_append(&e->images->disk_jobs, &j->link);
	next_job(e->images);
}

void image_disks_leave(struct image_disks *j)
{
	j->ops = NULL;
}

uint64_t image_disks_missing(struct engine *e, const struct image *i)
{
	struct image_disks *j = job_new(e, i);
	uint64_t size = missing(j);

	job_free(j);
	return size >= NOTABLE ? size : 0;
}

/* --- scratch --- */

struct scratch { struct engine *engine; char *template, *path; engine_done_fn done; void *ud; };

static uint64_t scratch_size(const char *path)
{
	_cleanup_free_ char *dir = xstrndup(path, (size_t)(path_basename(path) - path));
	struct statvfs s;
	uint64_t total;

	if (statvfs(dir, &s) < 0)
		return SCRATCH_MIN;
	total = (uint64_t)s.f_blocks * s.f_frsize;
	total = MIN(total, SCRATCH_MAX);
	return MAX(total & ~((1ull << 20) - 1), SCRATCH_MIN);
}

static int make_template(const char *data_root, const char *path, struct err *e)
{
	_cleanup_free_ char *tmp = xasprintf("%s/tmp/scratch.%d", data_root, getpid());
	_cleanup_close_ int fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	char *env[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	/* No blocks kept for growing: they are written out, and each container would copy 4 MB of them. */
	char *args[] = {(char *)"-q", (char *)"-F",
			(char *)"-m", (char *)"0",
			(char *)"-L", (char *)"insula-scratch",
			(char *)"-J", (char *)"size=8",
			(char *)"-O", (char *)"^resize_inode",
			(char *)"-E", (char *)"lazy_itable_init=1,lazy_journal_init=1,nodiscard",
			tmp,          NULL};
	int r;

	if (fd < 0)
		return err_set(e, ERR_SYSTEM, -errno, "create '%s'", tmp);
	if (ftruncate(fd, (off_t)scratch_size(path)) < 0)
		r = err_set(e, ERR_SYSTEM, -errno, "size '%s'", tmp);
	else
		r = run_tool(mkfs_ext4, args, env, "e2fsprogs", e);
	if (r == 0 && (fsync(fd) < 0 || rename(tmp, path) < 0))
		r = err_set(e, ERR_SYSTEM, -errno, "write '%s'", path);
	if (r < 0)
		(void)unlink(tmp);
	return r;
}

/* Under another name first: a disk that is there is whole. */
static int copy_template(const struct scratch *s, struct err *e)
{
	_cleanup_free_ char *tmp = xasprintf("%s.new", s->path);
	_cleanup_close_ int from = open(s->template, O_RDONLY | O_CLOEXEC), to = -EBADF;
	int r;

	if (from >= 0)
		to = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	r = to < 0 ? -errno : fs_copy_sparse(from, to);
	if (r == 0 && rename(tmp, s->path) < 0)
		r = -errno;
	if (r < 0) {
		if (to >= 0)
			(void)unlink(tmp);
		return err_set(e, ERR_SYSTEM, r, "create scratch disk '%s'", s->path);
	}
	return 0;
}

static int scratch_worker(void *arg, struct sbuf *out, struct err *e)
{
	const struct scratch *s = arg;
	int r = fs_exists(s->template) ? 0 : make_template(s->engine->cfg.data_root, s->template, e);

	return r < 0 ? r : copy_template(s, e);
}

static void scratch_done(void *ud, int r, const struct err *e, const struct sbuf *out)
{
	struct scratch *s = ud;

	s->done(s->ud, r, e, NULL);
	free(s->template);
	free(s->path);
	free(s);
}

void scratch_disk_create(struct engine *e, const char *path, engine_done_fn done, void *ud)
{
	struct scratch *s = new0(struct scratch);
	_cleanup_err_ struct err err = ERR_INIT;
	int r;

	*s = (struct scratch){e, path_join(e->cfg.data_root, "disks/scratch.ext4"), xstrdup(path), done, ud};
	if (fs_exists(s->template)) {		/* 240 KB: 0.2 ms, less than a worker takes to start */
		r = copy_template(s, &err);
		scratch_done(s, r, &err, NULL);
		return;
	}
	r = worker_run(e->loop, scratch_worker, s, scratch_done, s);
	if (r < 0) {
		err_set(&err, ERR_SYSTEM, r, "create scratch disk '%s'", path);
		scratch_done(s, r, &err, NULL);
	}
}
