/* insula-shim: the supervisor of one process sandbox. Started by insulad, outlives it. */
#include "base/alloc.h"
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
	char *ifname;		/* the host's end of the sandbox's veth */
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
	int r = sandbox_make(&s->hooks, m, e);

	if (r == 0 && streq(m->net, "bridge"))
		str_replace(&s->ifname, m->ifname);
	return r;
}

static void hook_shutdown(void *ud)
{
	struct shim *s = ud;

	sandbox_end(&s->hooks, s->ifname);
}

static void shim_done(struct shim *s)
{
	struct hmap_iter it = { 0 };

	while (hmap_next(&s->bundles, &it))
		free(it.entry->value);
	hmap_done(&s->bundles);
	free(s->ifname);
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
	(void)close_range(FIRST_FOREIGN_FD, ~0u, 0);
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
		.sandbox = hook_sandbox, .shutdown = hook_shutdown, .net_ns_fd = -EBADF, .ipc_ns_fd = -EBADF,
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
