/* insula-shim: the supervisor of one process sandbox. Started by insulad, outlives it. */
#include "base/alloc.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/strv.h"
#include "shim/shim.h"
#include "super/super.h"
#include "task/local.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <string.h>
#include <sys/stat.h>

struct shim {
	struct sandbox sandbox;
	struct local_hooks hooks;
	struct hmap bundles;	/* container -> bundle */
};

static int hook_rootfs_mount(void *ud, const struct msg_create *m, struct err *e)
{
	struct shim *s = ud;
	int r = rootfs_mount(m, e);

	if (r == 0)
		hmap_set(&s->bundles, m->ctr, xstrdup(m->bundle));
	return r;
}

static int hook_rootfs_umount(void *ud, const char *ctr, struct err *e)
{
	struct shim *s = ud;
	_cleanup_free_ char *bundle = hmap_remove(&s->bundles, ctr);

	return bundle ? rootfs_umount(bundle, e) : 0;
}

static char *hook_bundle(void *ud, const struct msg_create *m)
{
	return xstrdup(m->bundle);
}

static int hook_sandbox(void *ud, const struct msg_sandbox *m, struct err *e)
{
	struct shim *s = ud;
	int r = sandbox_make(&s->sandbox, m, e);

	s->hooks.net_ns_fd = s->sandbox.net_ns;
	s->hooks.ipc_ns_fd = s->sandbox.ipc_ns;
	return r;
}

int main(int argc, char **argv)
{
	_cleanup_loop_ struct loop *loop = NULL;
	struct super_args args;
	struct shim shim = {
		.sandbox = { -EBADF, -EBADF },
		.hooks = { hook_rootfs_mount, hook_rootfs_umount, hook_bundle, hook_sandbox, -EBADF, -EBADF },
	};
	int r;

	/* One small arena, given back early: there is one of us per container. */
	mallopt(M_MMAP_THRESHOLD, 64 << 10);
	mallopt(M_TRIM_THRESHOLD, 64 << 10);
	argv[0] = (char *)"insula-shim";
	if (super_parse_args(argc, argv, &args) < 0)
		return 2;
	umask(022);
	/* Killing us would end a container: the last thing to go when memory is short. Needs a right we may lack. */
	(void)fs_write(AT_FDCWD, "/proc/self/oom_score_adj", "-999");
	r = rootfs_private_mounts();
	if (r == 0)
		r = loop_new(&loop);
	if (r == 0)
		r = local_new(loop, &shim.hooks, &shim, &args.backend);
	if (r < 0) {
		log_error("start sandbox '%s': %s", args.sandbox, strerror(-r));
		return 1;
	}
	return super_run(loop, &args);
}
