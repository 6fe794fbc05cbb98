/* Theory of operation.
 *
 * The work is done by a forked process with a mount namespace of its own. There, for what a user names by
 * path (stat, get, put), the volumes and other bind mounts of the configuration are attached to the root file
 * system: the view is the same whether the container runs or not. What speaks of the container's own writes
 * (changes, layer, export) sees the root file system as it is, without mounts.
 *
 * Paths are resolved inside the root by openat2; a symbolic link leads nowhere else. */
#include "task/files.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"
#include "lib/tree.h"
#include "oci/runtime_spec.h"
#include "runtime/runtime.h"
#include "task/user.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

struct job {
	const struct files_job *j;
	const struct msg_files *m;
	char *root_path;
	int root;
	bool read_only;		/* the container may not write to its root */
	struct sbuf *out;
};

static int own_mounts(struct err *e)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "make a mount namespace");
	return 0;
}

static int open_root(struct job *b, struct err *e)
{
	b->root = open(b->root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return b->root < 0 ? err_set(e, ERR_SYSTEM, -errno, "open root file system '%s'", b->root_path) : 0;
}

static int attach_volumes(struct job *b, struct err *e)
{
	_cleanup_oci_spec_ struct oci_spec *spec = NULL;
	int r = oci_spec_parse((const char *)b->m->spec.p, b->m->spec.n, &spec, e);

	if (r < 0)
		return r;
	b->read_only = spec->root.readonly;
	return rt_mount_binds(spec, b->j->bundle, b->root, e);
}

/* ---- paths ---- */

/* The last component as Go's filepath.Base has it; "/" is its own. */
static char *base_of(const char *path)
{
	size_t n = strlen(path), from;

	while (n > 1 && path[n - 1] == '/')
		n--;
	if (n <= 1)
		return xstrdup(*path && *path != '/' ? path : "/");
	for (from = n; from && path[from - 1] != '/'; from--)
		;
	return xstrndup(path + from, n - from);
}

/* "dir/" and "dir/." name what a link leads to, "dir" the link. */
static bool names_content(const char *path)
{
	size_t n = strlen(path);

	return n == 0 || path[n - 1] == '/' || (path[n - 1] == '.' && (n == 1 || path[n - 2] == '/'));
}

static int open_path(struct job *b, int flags)
{
	_cleanup_free_ char *path = xasprintf("/%s", b->m->path);

	if (!names_content(path))
		flags |= O_NOFOLLOW;
	return fs_open_in_root(b->root, path, O_PATH | flags, 0);
}

static int cannot(const struct job *b, int r, struct err *e)
{
	return err_set(e, r == -ENOENT ? ERR_NOT_FOUND : ERR_SYSTEM, r, "lstat %s", b->m->path);
}

/* Where a symbolic link leads to, as seen from inside. One that leads nowhere is taken by its words. */
static char *link_target(struct job *b, int link)
{
	_cleanup_free_ char *path = xasprintf("/%s", b->m->path), *dir = NULL, *joined = NULL;
	_cleanup_close_ int fd = fs_open_in_root(b->root, path, O_PATH, 0);
	char buf[PATH_MAX], words[PATH_MAX];
	size_t skip = strlen(b->root_path);
	ssize_t n;

	n = fd < 0 ? -1 : readlink(fd_proc_path(fd).s, buf, sizeof buf - 1);
	if (n >= (ssize_t)skip) {
		buf[n] = 0;
		return buf[skip] ? xstrdup(buf + skip) : xstrdup("/");
	}
	n = readlinkat(link, "", words, sizeof words - 1);
	if (n < 0)
		return xstrdup("");
	words[n] = 0;
	if (*words == '/')
		return path_clean(words);
	dir = xstrndup(path, (size_t)(path_basename(path) - path));
	joined = path_join(dir, words);
	return path_clean(joined);
}

/* ---- operations ---- */

static int do_stat(struct job *b, struct err *e)
{
	_cleanup_free_ char *name = base_of(b->m->path), *target = NULL;
	_cleanup_close_ int fd = open_path(b, 0);
	struct msg_file_stat m;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return cannot(b, fd < 0 ? fd : -errno, e);
	if (S_ISLNK(st.st_mode))
		target = link_target(b, fd);
	m = (struct msg_file_stat){
		.name = name, .size = (uint64_t)st.st_size, .mode = st.st_mode,
		.mtime_s = (uint64_t)st.st_mtim.tv_sec, .mtime_ns = (uint32_t)st.st_mtim.tv_nsec,
		.target = target,
	};
	msg_file_stat_encode(&m, b->out);
	return 0;
}

static int do_get(struct job *b, struct err *e)
{
	_cleanup_free_ char *name = base_of(b->m->path), *path = xasprintf("/%s", b->m->path), *clean = NULL;
	_cleanup_free_ char *parent = NULL;
	_cleanup_close_ int fd = open_path(b, 0), dir = -EBADF;
	struct ustar_writer w = { .fd = b->j->fd };
	struct tree_pack p = { .w = &w };
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return cannot(b, fd < 0 ? fd : -errno, e);
	clean = path_clean(path);
	parent = xstrndup(clean, (size_t)(path_basename(clean) - clean));
	dir = fs_open_in_root(b->root, S_ISDIR(st.st_mode) ? path : parent, O_RDONLY | O_DIRECTORY, 0);
	if (dir < 0)
		return cannot(b, dir, e);
	r = tree_pack(&p, dir, S_ISDIR(st.st_mode) ? "." : path_basename(clean), name, e);
	if (r == 0) {
		r = ustar_put_end(&w);
		if (r < 0)
			err_set(e, ERR_SYSTEM, r, "write the archive");
	}
	tree_pack_done(&p);
	ustar_writer_done(&w);
	return r;
}

static uint64_t mount_id(int fd)
{
	struct statx sx;

	return statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &sx) == 0 ? sx.stx_mnt_id : 0;
}

/* What the container itself could not write to is not written to for it. */
static int check_writable(const struct job *b, int dir, struct err *e)
{
	struct statvfs v;

	if (mount_id(dir) == mount_id(b->root))
		return b->read_only ? err_msg(e, ERR_INVALID, -EROFS, "container rootfs is marked read-only")
				    : 0;
	if (fstatvfs(dir, &v) == 0 && v.f_flag & ST_RDONLY)
		return err_msg(e, ERR_INVALID, -EROFS, "mounted volume is marked read-only");
	return 0;
}

static int do_put(struct job *b, struct err *e)
{
	_cleanup_free_ char *given = xasprintf("/%s", b->m->path), *path = path_clean(given);
	_cleanup_close_ int fd = fs_open_in_root(b->root, path, O_PATH, 0);
	struct tree_unpack u = { .root = b->root, .dest = path,
				 .keep_types = b->m->flags & FILES_KEEP_TYPES };
	struct ustar_reader *in;
	struct user user;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return cannot(b, fd < 0 ? fd : -errno, e);
	if (!S_ISDIR(st.st_mode))
		return err_msg(e, ERR_INVALID, -ENOTDIR, "extraction point is not a directory");
	r = check_writable(b, fd, e);
	if (r == 0 && b->m->flags & FILES_OWNER && *b->m->user) {
		r = user_resolve(b->root, b->m->user, &user, e);
		if (r == 0) {
			u.owner = true;
			u.uid = user.uid;
			u.gid = user.gid;
			user_done(&user);
		}
	}
	if (r < 0)
		return r;
	in = ustar_reader_new(b->j->fd);
	r = tree_unpack(&u, in, e);
	ustar_reader_free(in);
	return r;
}

/* ---- the container's own writes ---- */

/* Mounts the image where the root file system was, which is not needed here. */
static int open_layers(struct job *b, int *ret_upper, int *ret_lower, struct err *e)
{
	const struct files_job *j = b->j;
	_cleanup_free_ char *upper = j->hooks->upper(j->userdata, b->m->ctr);
	_cleanup_close_ int up = open(upper, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int low, r;

	if (up < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open the writable layer of container '%s'", b->m->ctr);
	r = j->hooks->lower_mount(j->userdata, b->m->ctr, b->root_path, e);
	if (r < 0)
		return r;
	low = open(b->root_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (low < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open the image of container '%s'", b->m->ctr);
	*ret_upper = TAKE_FD(up);
	*ret_lower = low;
	return 0;
}

static int do_changes(struct job *b, struct err *e)
{
	_cleanup_close_ int upper = -EBADF, lower = -EBADF;
	struct changes c = { .fd = b->j->fd };
	int r = open_layers(b, &upper, &lower, e);

	if (r < 0)
		return r;
	r = changes_write(&c, upper, lower);
	changes_done(&c);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "compare container '%s' with its image", b->m->ctr) : 0;
}

static bool skip_mount_point(void *ud, int dirfd, const char *name, const char *path, const struct stat *st)
{
	return is_mount_point(*(int *)ud, dirfd, name, path, st);
}

static int pack_all(struct job *b, int dir, struct tree_pack *p, struct err *e)
{
	struct ustar_writer w = { .fd = b->j->fd };
	int r;

	p->w = &w;
	r = tree_pack(p, dir, ".", "", e);
	if (r == 0) {
		r = ustar_put_end(&w);
		if (r < 0)
			err_set(e, ERR_SYSTEM, r, "write the archive");
	}
	tree_pack_done(p);
	ustar_writer_done(&w);
	return r;
}

static int do_layer(struct job *b, struct err *e)
{
	_cleanup_close_ int upper = -EBADF, lower = -EBADF;
	struct tree_pack p = { .whiteouts = true, .skip = skip_mount_point, .userdata = &lower };
	int r = open_layers(b, &upper, &lower, e);

	return r < 0 ? r : pack_all(b, upper, &p, e);
}

static int do_export(struct job *b, struct err *e)
{
	_cleanup_close_ int dir = open(b->root_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct tree_pack p = { .w = NULL };

	if (dir < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open root file system '%s'", b->root_path);
	return pack_all(b, dir, &p, e);
}

int files_run(void *job, struct sbuf *out, struct err *e)
{
	static const struct { int (*run)(struct job *b, struct err *e); bool volumes, data; } ops[] = {
		[FILES_STAT] = { do_stat, true, false },	[FILES_GET] = { do_get, true, true },
		[FILES_PUT] = { do_put, true, true },		[FILES_CHANGES] = { do_changes, false, true },
		[FILES_EXPORT] = { do_export, false, true },	[FILES_LAYER] = { do_layer, false, true },
	};
	const struct files_job *j = job;
	struct job b = { .j = j, .m = j->m, .root = -EBADF, .out = out };
	uint32_t op = j->m->op;
	int r;

	if (op >= ARRAY_SIZE(ops) || !ops[op].run || ops[op].data != (j->fd >= 0))
		return err_msg(e, ERR_INVALID, -EINVAL, "invalid operation on files");
	b.root_path = path_join(j->bundle, "rootfs");
	/* The link may be used without blocking by whoever made it; here it is waited for. */
	if (j->fd >= 0)
		(void)fd_set_nonblock(j->fd, false);
	r = own_mounts(e);
	if (r == 0)
		r = open_root(&b, e);
	if (r == 0 && ops[op].volumes)
		r = attach_volumes(&b, e);
	if (r == 0)
		r = ops[op].run(&b, e);
	fd_close(&b.root);
	free(b.root_path);
	return r;
}
