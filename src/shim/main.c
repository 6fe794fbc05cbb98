/* insula-shim: the supervisor of one process sandbox. Started by insulad, outlives it. */
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/strv.h"
#include "runtime/runtime.h"
#include "shim/shim.h"
#include "super/super.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define FIRST_FOREIGN_FD 4	/* 0..2 and the listening socket are ours */

struct shim {
	struct local_hooks hooks;
	struct nics nics;	/* the sandbox's interfaces */
	struct hmap roots;	/* container -> struct root */
};

/* What a mounted root file system was made of. */
struct root { char *bundle, *upper, **lower; };

static void root_free(struct root *r)
{
	if (!r)
		return;
	free(r->bundle);
	free(r->upper);
	strv_free(r->lower);
	free(r);
}

static int hook_rootfs_mount(void *ud, const struct msg_create *m, struct err *e)
{
	struct shim *s = ud;
	_cleanup_free_ char *target = path_join(m->bundle, "rootfs");
	struct root *root;
	int r = rootfs_mount(m, target, e);

	if (r < 0)
		return r;
	root = new0(struct root);
	*root = (struct root){ xstrdup(m->bundle), xstrdup(m->upper), strv_copy(m->lower) };
	root_free(hmap_remove(&s->roots, m->ctr));
	hmap_set(&s->roots, m->ctr, root);
	return 0;
}

static int hook_rootfs_umount(void *ud, const char *ctr, struct err *e)
{
	struct shim *s = ud;
	struct root *root = hmap_remove(&s->roots, ctr);
	int r = root ? rootfs_umount(root->bundle, e) : 0;

	root_free(root);
	return r;
}

static int hook_lower_mount(void *ud, const char *ctr, const char *target, struct err *e)
{
	struct shim *s = ud;
	const struct root *root = hmap_get(&s->roots, ctr);
	char none[] = "";

	if (!root)
		return err_msg(e, ERR_NOT_FOUND, -ENOENT, "No such container: %s", ctr);
	return rootfs_mount(&(struct msg_create){ .ctr = (char *)ctr, .lower = root->lower, .upper = none },
			    target, e);
}

static char *hook_upper(void *ud, const char *ctr)
{
	struct shim *s = ud;
	const struct root *root = hmap_get(&s->roots, ctr);

	return xstrdup(root ? root->upper : "");
}

static char *hook_bundle(void *ud, const struct msg_create *m)
{
	return xstrdup(m->bundle);
}

static int hook_sandbox(void *ud, const struct msg_sandbox *m, struct err *e)
{
	struct shim *s = ud;
	int r = sandbox_make(&s->hooks, m, e);

	if (r == 0)
		nics_copy(&m->nics, &s->nics);
	return r;
}

static int hook_network(void *ud, const struct msg_network *m, struct err *e)
{
	struct shim *s = ud;
	int r = sandbox_network(&s->hooks, &s->nics, &m->nics, e);

	if (r == 0) {
		nics_done(&s->nics);
		nics_copy(&m->nics, &s->nics);
	}
	return r;
}

static void hook_shutdown(void *ud)
{
	struct shim *s = ud;

	sandbox_end(&s->hooks, &s->nics);
}

static void shim_done(struct shim *s)
{
	struct hmap_iter it = { 0 };

	while (hmap_next(&s->roots, &it))
		root_free(it.entry->value);
	hmap_done(&s->roots);
	nics_done(&s->nics);
}

/* Whatever started us, from here on nothing of it is left: no descriptors, session, directory. Setuid
 * programs in containers must work, so no_new_privs stays off; capabilities stay for mounts, namespaces and
 * signals. */
static void become_daemon(void)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)prctl(PR_SET_NAME, "insula-shim");
	for (int fd = 0; null_fd >= 0 && fd < 2; fd++)
		(void)dup2(null_fd, fd);
	fd_close_range(FIRST_FOREIGN_FD, ~0u);
	(void)setsid();		/* EPERM: it leads one already */
	(void)!chdir("/");
	umask(022);
	/* Killing us would end a container: the last thing to go when memory is short. Needs a right we may
	 * lack. */
	(void)fs_write(AT_FDCWD, "/proc/self/oom_score_adj", "-999");
}

int main(int argc, char **argv)
{
	_cleanup_loop_ struct loop *loop = NULL;
	_cleanup_(super_args_done) struct super_args args = { .listen_fd = -EBADF };
	struct shim shim = { .hooks = {
		.rootfs_mount = hook_rootfs_mount, .rootfs_umount = hook_rootfs_umount, .bundle = hook_bundle,
		.lower_mount = hook_lower_mount, .upper = hook_upper,
		.sandbox = hook_sandbox, .network = hook_network, .shutdown = hook_shutdown,
		.net_ns_fd = -EBADF, .ipc_ns_fd = -EBADF,
	} };
	int r, protect = rt_protect_self(argv);

	/* One small heap, given back early: there is one of us per container. */
	mallopt(M_MMAP_THRESHOLD, 64 << 10);
	mallopt(M_TRIM_THRESHOLD, 64 << 10);
	argv[0] = (char *)"insula-shim";
	if (super_parse_args(argc, argv, &args) < 0)
		return 2;
	if (protect < 0)
		log_warn("protect this program from containers: %s", strerror(-protect));
	become_daemon();
	r = rootfs_private_mounts();
	if (r == 0)
		r = loop_new(&loop);
	if (r == 0)
		r = local_new(loop, &shim.hooks, &shim, &args.backend);
	if (r < 0) {
		log_error("start sandbox '%s': %s", args.sandbox, strerror(-r));
		return 1;
	}
	r = super_run(loop, &args);
	shim_done(&shim);
	return r;
}
