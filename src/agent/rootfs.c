/* Root file systems in the guest: an overlay of the image's layers, which are read-only erofs disks
 * shared by all containers of this machine, and of the upper directory on the container's own ext4
 * scratch disk.
 *
 *	/run/insula/layers/SERIAL	one layer, mounted while a container uses it
 *	/run/insula/CTR			the bundle: rootfs/, scratch/{upper,work}, hosts, ...
 *	/run/insula/shares/TAG		a share, mounted from the first use on (spec.c) */
#include "agent/agent.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* Freed blocks go back to the host's disk. The rest are precautions for a disk that has seen years and
 * other systems: this one is as old as its container. */
#define SCRATCH_OPTIONS "discard,noinit_itable,noblock_validity,no_prefetch_block_bitmaps"

struct layer { unsigned refs; };

struct root {
	char **layers;		/* references held, top first */
	bool scratch, overlay;	/* mounted */
	bool failed;
};

static char *layer_dir(const char *place)
{
	return xasprintf(AGENT_RUN "/layers/%s", place);
}

static char *ctr_path(const char *ctr, const char *name)
{
	return xasprintf(AGENT_RUN "/%s%s%s", ctr, *name ? "/" : "", name);
}

static int disk_mount(const char *place, const char *dir, const char *type,
		      unsigned long flags, const char *options, struct err *e)
{
	_cleanup_free_ char *dev = NULL;
	int r;

	r = disk_find(place, &dev);
	if (r >= 0)
		r = fs_mkdir_p(dir, 0700);
	if (r >= 0 && mount(dev, dir, type, flags, options) < 0)
		r = -errno;
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "mount %s disk '%s' in the guest", type, place);
	return 0;
}

static int layer_get(struct agent *a, const char *place, struct err *e)
{
	_cleanup_free_ char *dir = NULL;
	struct layer *l = hmap_get(&a->layers, place);
	int r;

	if (!l) {
		dir = layer_dir(place);
		r = disk_mount(place, dir, "erofs", MS_RDONLY, NULL, e);
		if (r < 0)
			return r;
		l = new0(struct layer);
		hmap_set(&a->layers, place, l);
	}
	l->refs++;
	return 0;
}

static void layer_put(struct agent *a, const char *place)
{
	struct layer *l = hmap_get(&a->layers, place);
	_cleanup_free_ char *dir = NULL;

	if (!l || --l->refs)
		return;
	dir = layer_dir(place);
	(void)umount2(dir, MNT_DETACH);
	(void)rmdir(dir);
	free(hmap_remove(&a->layers, place));
}

/* MNT_DETACH ends the visible mount; the file system goes once nothing in it is open any more. */
static int unmount(const char *path)
{
	if (umount2(path, UMOUNT_NOFOLLOW) == 0)
		return 0;
	if (errno == EBUSY && umount2(path, UMOUNT_NOFOLLOW | MNT_DETACH) == 0)
		return -EBUSY;
	return errno == EINVAL || errno == ENOENT ? 0 : -errno;
}

static void root_undo(struct agent *a, const char *ctr, struct root *root)
{
	_cleanup_free_ char *rootfs = ctr_path(ctr, "rootfs"), *scratch = ctr_path(ctr, "scratch");

	if (root->overlay && unmount(rootfs) < 0)
		log_warn("root file system of %.12s: still busy", ctr);
	if (root->scratch) {
		/* Complete on the disk even where something still holds the mount. */
		_cleanup_close_ int fd = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd >= 0)
			(void)syncfs(fd);
		fd_close(&fd);
		if (unmount(scratch) < 0)
			log_warn("scratch disk of %.12s: still busy", ctr);
	}
	for (size_t i = 0; i < strv_len(root->layers); i++)
		layer_put(a, root->layers[i]);
	strv_free(root->layers);
	free(root);
}

static char *overlay_options(char *const *lower, const char *scratch)
{
	struct sbuf b = SBUF_INIT;

	for (size_t i = 0; i < strv_len(lower); i++) {
		_cleanup_free_ char *dir = layer_dir(lower[i]);

		sbuf_printf(&b, "%s%s", i ? ":" : "lowerdir=", dir);
	}
	if (scratch)
		sbuf_printf(&b, ",upperdir=%s/upper,workdir=%s/work", scratch, scratch);
	return sbuf_steal(&b);
}

static int mkdir_scratch(const char *scratch)
{
	_cleanup_free_ char *upper = path_join(scratch, "upper"), *work = path_join(scratch, "work");

	if (mkdir(upper, 0755) < 0 && errno != EEXIST)
		return -errno;
	if (mkdir(work, 0700) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

/* An overlay of these layers, and of scratch if there is one; a single layer is mounted as it is, since an
 * overlay needs two directories. */
static int mount_layers(char *const *lower, const char *scratch, const char *target)
{
	_cleanup_free_ char *options = NULL, *layer = NULL;

	if (!scratch && !lower[1]) {
		layer = layer_dir(lower[0]);
		return mount(layer, target, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
	}
	options = overlay_options(lower, scratch);
	return mount("overlay", target, "overlay", scratch ? 0 : MS_RDONLY, options) < 0 ? -errno : 0;
}

static int root_assemble(struct agent *a, const struct msg_create *m, struct root *root, struct err *e)
{
	_cleanup_free_ char *rootfs = ctr_path(m->ctr, "rootfs"), *scratch = ctr_path(m->ctr, "scratch");
	bool writable = !str_empty(m->upper);
	int r;

	if (!m->lower || !m->lower[0])
		return err_msg(e, ERR_INVALID, -EINVAL, "container '%.12s' has no image layers", m->ctr);
	for (size_t i = 0; i < strv_len(m->lower); i++) {
		r = layer_get(a, m->lower[i], e);
		if (r < 0)
			return r;
		strv_add(&root->layers, m->lower[i]);
	}
	r = fs_mkdir_p(rootfs, 0755);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "create '%s' in the guest", rootfs);
	if (writable) {
		r = disk_mount(m->upper, scratch, "ext4", 0, SCRATCH_OPTIONS, e);
		if (r < 0)
			return r;
		root->scratch = true;
		failing_watch(a, scratch);
		r = mkdir_scratch(scratch);
		if (r < 0)
			return err_set(e, ERR_SYSTEM, r, "prepare scratch disk '%s'", m->upper);
	}
	r = mount_layers(m->lower, writable ? scratch : NULL, rootfs);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "mount the root file system of '%.12s' in the guest",
			       m->ctr);
	root->overlay = true;
	return 0;
}

int rootfs_mount(void *userdata, const struct msg_create *m, struct err *e)
{
	struct agent *a = userdata;
	struct root *root;
	int r;

	if (!rt_id_valid(m->ctr) || streq(m->ctr, "layers") || streq(m->ctr, "shares"))
		return err_msg(e, ERR_INVALID, -EINVAL, "invalid container id '%s'", m->ctr);
	if (hmap_get(&a->roots, m->ctr))
		return err_set(e, ERR_CONFLICT, -EEXIST, "mount the root file system of '%.12s' in the guest",
			       m->ctr);
	root = new0(struct root);
	r = root_assemble(a, m, root, e);
	if (r < 0) {
		root_undo(a, m->ctr, root);
		return r;
	}
	hmap_set(&a->roots, m->ctr, root);
	return 0;
}

int rootfs_umount(void *userdata, const char *ctr, struct err *e)
{
	struct agent *a = userdata;
	struct root *root = hmap_remove(&a->roots, ctr);
	_cleanup_close_ int run = -EBADF;

	if (!root)
		return 0;
	root_undo(a, ctr, root);
	run = open(AGENT_RUN, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	if (run >= 0)
		(void)fs_rm_rf(run, ctr);
	return 0;
}

int rootfs_lower_mount(void *userdata, const char *ctr, const char *target, struct err *e)
{
	struct agent *a = userdata;
	const struct root *root = hmap_get(&a->roots, ctr);
	int r = root ? mount_layers(root->layers, NULL, target) : -ENOENT;

	return r < 0 ? err_set(e, ERR_SYSTEM, r, "mount the image of '%.12s' in the guest", ctr) : 0;
}

char *rootfs_upper(void *userdata, const char *ctr)
{
	return ctr_path(ctr, "scratch/upper");
}

char *rootfs_bundle(void *userdata, const struct msg_create *m)
{
	char *dir = ctr_path(m->ctr, "");

	if (rt_id_valid(m->ctr))
		(void)fs_mkdir_p(dir, 0711);
	return dir;
}

void rootfs_failed(struct agent *a, const void *fsid)
{
	struct hmap_iter it = {0};

	while (hmap_next(&a->roots, &it)) {
		_cleanup_free_ char *scratch = ctr_path(it.entry->key, "scratch");
		struct root *root = it.entry->value;

		if (root->scratch && !root->failed)
			root->failed = failing_check(scratch, fsid);
	}
}

void rootfs_umount_all(struct agent *a)
{
	struct hmap_iter it = {0};

	while (hmap_next(&a->roots, &it)) {
		_cleanup_free_ char *ctr = xstrdup(it.entry->key);

		(void)rootfs_umount(a, ctr, NULL);
	}
	it = (struct hmap_iter){0};
	while (hmap_next(&a->shares, &it)) {
		_cleanup_free_ char *dir = xasprintf(AGENT_RUN "/shares/%s", it.entry->key);

		(void)umount2(dir, MNT_DETACH);
	}
	sync();
}
