/* The mounts of the configuration. */
#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/copy.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>

struct mount_ctx {
	const struct oci_spec *spec;
	const char *bundle;
	const struct cgroup *cg;
	int rootfd;
	const int *sources;		/* NULL = none is open */
	bool view;			/* to be looked at and taken away again, here */
	int (*enter)(void *arg, struct err *e);
	void *enter_arg;
};

/* What programs such as lxcfs replace; anything else inside /proc would let a container lie to itself and
 * to the runtime (CVE-2019-16884). */
static bool allowed_in_proc(const char *path)
{
	static const char *const names[] = {
	    "cpuinfo",
	    "diskstats",
	    "meminfo",
	    "stat",
	    "swaps",
	    "uptime",
	    "loadavg",
	    "slabinfo",
	    "net/dev",
	    "sys/kernel/ns_last_pid",
	    "sys/crypto/fips_enabled",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (streq(path, names[i]))
			return true;
	return false;
}

static int inside_proc(const char *path, struct err *e)
{
	return err_msg(e, ERR_INVALID, -EPERM, "\"%s\" cannot be mounted because it is inside /proc", path);
}

/* The name may be harmless and yet lead into /proc, by a link of the image or of a volume (CVE-2023-27561).
 */
static int check_target(int target, const char *destination, struct err *e)
{
	_cleanup_free_ char *clean = path_clean(destination);
	struct statfs sf;

	if (fstatfs(target, &sf) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "cannot look at the mount point");
	if (sf.f_type != PROC_SUPER_MAGIC || streq(clean, "/proc") ||
	    (str_starts(clean, "/proc/") && allowed_in_proc(clean + 6)))
		return 0;
	return inside_proc(clean, e);
}

static int attach_at(struct mount_ctx *c, int mnt, const char *destination, bool dir, bool follow,
		     struct err *e)
{
	_cleanup_close_ int target = rootfs_target(c->rootfd, destination, dir, follow, NULL, e);
	int r = target < 0 ? target : check_target(target, destination, e);

	if (r < 0)
		return r;
	r = mount_attach(mnt, target);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "cannot attach the mount") : 0;
}

static int attach(struct mount_ctx *c, int mnt, const char *destination, bool dir, struct err *e)
{
	return attach_at(c, mnt, destination, dir, true, e);
}

static int copy_link(struct mount_ctx *c, int link, const char *destination, struct err *e)
{
	char content[PATH_MAX];
	ssize_t n = readlinkat(link, "", content, sizeof content - 1);

	if (n < 0)
		return err_set(e, ERR_SYSTEM, -errno, "read the link");
	content[n] = 0;
	return rootfs_link(c->rootfd, destination, content, e);
}

/* What is set of the mount itself is given apart: of a new one it is set already. */
static int set_options(int mnt, uint64_t set, uint64_t clear, const struct mount_opts *o, struct err *e)
{
	int r = mount_set(mnt, false, set, clear, 0);

	if (r == 0 && o->bind)
		r = mount_set(mnt, true, o->rec_set, o->rec_clear, 0);
	if (r == 0)
		r = mount_set(mnt, o->propagation_rec, 0, 0, o->propagation);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "cannot set mount options") : 0;
}

static int mount_bind(struct mount_ctx *c, const struct oci_mount *m, const struct mount_opts *o,
		      struct err *e)
{
	int made = c->sources ? c->sources[m - c->spec->mounts.v] : -EBADF;
	_cleanup_close_ int mnt = made >= 0 ? fcntl(made, F_DUPFD_CLOEXEC, 3)
					    : source_open(c->bundle, m, o, e);
	struct stat st;
	int r;

	if (mnt < 0)
		return mnt;
	if (fstat(mnt, &st) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "source '%s'", m->source);
	if (S_ISLNK(st.st_mode) && o->copy_symlink)
		return copy_link(c, mnt, m->destination, e);
	r = attach_at(c, mnt, m->destination, S_ISDIR(st.st_mode), !o->dest_nofollow, e);
	if (r == 0)
		r = set_options(mnt, o->set, o->clear, o, e);
	/* To unmount what is shared would unmount what lies below it on the host. */
	if (r == 0 && c->view)
		r = mount_set(mnt, true, 0, 0, MS_PRIVATE);
	return r;
}

/* A tmpfs over an existing directory keeps its mode and owner, as users of --tmpfs /tmp expect. */
static int tmpfs_inherit(struct mount_ctx *c, const struct oci_mount *m, char ***data, struct err *e)
{
	bool created;
	_cleanup_close_ int target = rootfs_target(c->rootfd, m->destination, true, true, &created, e);
	struct stat st;

	if (target < 0)
		return target;
	for (char **d = *data; d && *d; d++)
		if (str_starts(*d, "mode="))
			return 0;
	if (created || fstat(target, &st) < 0)
		return 0;
	strv_addf(data, "mode=%o", st.st_mode & 07777);
	if (st.st_uid)
		strv_addf(data, "uid=%u", st.st_uid);
	if (st.st_gid)
		strv_addf(data, "gid=%u", st.st_gid);
	return 0;
}

/* tmpcopyup: the tmpfs starts with what the image has at its place. */
static int copy_up(struct mount_ctx *c, const struct oci_mount *m, int mnt, struct err *e)
{
	_cleanup_close_ int from = fs_open_in_root(c->rootfd, m->destination, O_RDONLY | O_DIRECTORY, 0);
	int r = c->enter(c->enter_arg, e);

	if (r < 0)
		return r;
	r = from < 0 ? from : fs_copy_tree(from, mnt);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "tmpcopyup") : 0;
}

static void add_label(const struct oci_spec *s, char ***data)
{
	if (!str_empty(s->mount_label))
		strv_addf(data, "context=%s", s->mount_label);
}

int mount_tmpfs(const struct oci_spec *s, const char *source, char *const *data, uint64_t attrs,
		struct err *e)
{
	_cleanup_strv_ char **all = strv_copy(data);

	add_label(s, &all);
	return mount_new_fs("tmpfs", source, all, attrs, e);
}

static int mount_fs(struct mount_ctx *c, const struct oci_mount *m, struct mount_opts *o, struct err *e)
{
	uint64_t attrs = o->set | o->rec_set, late = o->copyup ? MOUNT_ATTR_RDONLY : 0;
	_cleanup_close_ int mnt = -EBADF;
	int r;

	if (o->copyup && !streq(m->type, "tmpfs"))
		return err_msg(e, ERR_INVALID, 0, "tmpcopyup is only allowed on tmpfs mounts");
	if (streq(m->type, "tmpfs")) {
		r = tmpfs_inherit(c, m, &o->data, e);
		if (r < 0)
			return r;
	}
	/* The first two have labels of their own; the queues have been given theirs (lsm_label_queues). */
	if (!streq(m->type, "proc") && !streq(m->type, "sysfs") && !streq(m->type, "mqueue"))
		add_label(c->spec, &o->data);
	/* Device nodes are still to be made in /dev: it becomes read-only at the end (devices_setup). */
	if (streq(m->destination, "/dev"))
		attrs &= ~(uint64_t)MOUNT_ATTR_RDONLY;
	mnt = mount_new_fs(m->type, m->source, o->data, attrs & ~late, e);
	if (mnt < 0)
		return mnt;
	r = o->copyup ? copy_up(c, m, mnt, e) : 0;
	if (r == 0)
		r = attach(c, mnt, m->destination, true, e);
	return r < 0 ? r : set_options(mnt, attrs & late, 0, o, e);
}

/* --- /sys/fs/cgroup --- */

/* Only the container's own group is shown, never the host's tree (CVE-2023-25809). Seen from the container's
 * cgroup namespace a bind of it is the same as a fresh mount. */
static int clone_group(const struct cgroup *cg, const struct cgroup_hier *h)
{
	_cleanup_free_ char *dir = cgroup_file(cg, h, "");
	_cleanup_close_ int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : mount_clone(fd, false);
}

/* v1: a tmpfs with a directory per hierarchy, and a link for each controller of a joint one. */
static int fill_cgroup1(struct mount_ctx *c, int dir, uint64_t attrs)
{
	for (size_t i = 0; i < c->cg->n; i++) {
		const struct cgroup_hier *h = &c->cg->h[i];
		const char *name = path_basename(h->mount);
		_cleanup_close_ int mnt = clone_group(c->cg, h), target = -EBADF;
		int r;

		if (mnt < 0)
			return mnt;
		if (mkdirat(dir, name, 0755) < 0)
			return -errno;
		target = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		r = target < 0 ? -errno : mount_attach(mnt, target);
		if (r == 0)
			r = mount_set(mnt, false, attrs, 0, MS_PRIVATE);
		for (char **k = h->controllers; r == 0 && !h->v2 && k && *k; k++)
			if (!streq(*k, name) && symlinkat(name, dir, *k) < 0)
				r = -errno;
		if (r < 0)
			return r;
	}
	return 0;
}

/* The container has no group of its own, and others' are none of its business. */
static int hide_cgroups(struct mount_ctx *c, const struct oci_mount *m, struct err *e)
{
	char mode[] = "mode=555", *data[] = { mode, NULL };
	uint64_t attrs = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
	_cleanup_close_ int mnt = mount_tmpfs(c->spec, "cgroup", data, attrs, e);

	return mnt < 0 ? mnt : attach(c, mnt, m->destination, true, e);
}

static int mount_cgroup(struct mount_ctx *c, const struct oci_mount *m, const struct mount_opts *o,
			struct err *e)
{
	char mode[] = "mode=755", *data[] = { mode, NULL };
	uint64_t attrs = o->set | o->rec_set;
	_cleanup_close_ int mnt = -EBADF;
	int r = c->enter(c->enter_arg, e);

	if (r < 0)
		return r;
	if (c->cg && c->cg->n == 0)
		return err_msg(e, ERR_SYSTEM, -ENOENT, "this host has no cgroup file system");
	if (!c->cg || !cgroup_made(c->cg))
		return hide_cgroups(c, m, e);
	if (c->cg->unified) {
		mnt = clone_group(c->cg, &c->cg->h[0]);
		r = mnt < 0 ? err_set(e, ERR_SYSTEM, mnt, "cannot show the cgroup")
			    : attach(c, mnt, m->destination, true, e);
		if (r < 0)
			return r;
		r = mount_set(mnt, false, attrs, 0, MS_PRIVATE);
		return r < 0 ? err_set(e, ERR_SYSTEM, r, "cannot set mount options") : 0;
	}
	mnt = mount_tmpfs(c->spec, "cgroup", data, attrs & ~(uint64_t)MOUNT_ATTR_RDONLY, e);
	if (mnt < 0)
		return mnt;
	r = attach(c, mnt, m->destination, true, e);
	if (r < 0)
		return r;
	r = fill_cgroup1(c, mnt, attrs);
	if (r == 0)
		r = mount_set(mnt, false, attrs & MOUNT_ATTR_RDONLY, 0, 0);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "cannot show the cgroups") : 0;
}

/* --- all --- */

static int check_destination(const struct oci_mount *m, const struct mount_opts *o, struct err *e)
{
	_cleanup_free_ char *clean = path_clean(m->destination);
	struct statfs sf;

	if (streq(clean, "/"))
		return err_msg(e, ERR_INVALID, 0, "a mount cannot replace the container's root");
	if (str_starts(clean, "/proc/") && !allowed_in_proc(clean + 6))
		return inside_proc(clean, e);
	if (!streq(clean, "/proc") || streq(m->type, "proc"))
		return 0;
	if (o->bind && m->source && statfs(m->source, &sf) == 0 && sf.f_type == PROC_SUPER_MAGIC)
		return 0;
	return err_msg(e, ERR_INVALID, -EPERM, "\"/proc\" cannot be mounted because it is not of type proc");
}

static int mount_one(struct mount_ctx *c, const struct oci_mount *m, struct err *e)
{
	_cleanup_(mount_opts_done) struct mount_opts o = { 0 };
	int r = mount_opts_parse(m->options, &o, e);

	if (r == 0)
		r = check_destination(m, &o, e);
	if (r < 0)
		return r;
	if (mount_is_bind(m, &o)) {
		o.bind = true;
		return mount_bind(c, m, &o, e);
	}
	if (str_empty(m->type))
		return err_msg(e, ERR_INVALID, 0, "the mount has no type");
	if (streq(m->type, "cgroup") || streq(m->type, "cgroup2"))
		return mount_cgroup(c, m, &o, e);
	return mount_fs(c, m, &o, e);
}

bool mount_is_bind(const struct oci_mount *m, const struct mount_opts *o)
{
	return o->bind || streq(m->type, "bind");
}

int mount_failed(const struct oci_mount *m, int r, const struct err *why, struct err *e)
{
	return err_msg(e, why->kind, r, "error mounting \"%s\" to rootfs at \"%s\": %s",
		       m->shown ?: m->source ?: m->type ?: "", m->destination, err_text(why));
}

int mounts_apply(const struct oci_spec *s, const char *bundle, const int *sources, const struct cgroup *cg,
		 int rootfd, int (*enter)(void *arg, struct err *e), void *arg, struct err *e)
{
	struct mount_ctx c = { s, bundle, cg, rootfd, sources, false, enter, arg };

	for (size_t i = 0; i < s->mounts.n; i++) {
		const struct oci_mount *m = &s->mounts.v[i];
		_cleanup_err_ struct err why = ERR_INIT;
		int r = mount_one(&c, m, &why);

		if (r < 0)
			return mount_failed(m, r, &why, e);
	}
	return 0;
}

int rt_mount_binds(const struct oci_spec *s, const char *bundle, int rootfd, struct err *e)
{
	struct mount_ctx c = { .spec = s, .bundle = bundle, .rootfd = rootfd, .view = true };
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->mounts.n; i++)
		if (streq(s->mounts.v[i].type, "bind"))
			r = mount_one(&c, &s->mounts.v[i], e);
	return r;
}
