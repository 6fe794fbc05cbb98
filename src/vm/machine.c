/* The machine of a sandbox: its tap, its shares, its QEMU. */
#include "vm/guest_internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sock.h"
#include "base/strv.h"
#include "lib/netlink.h"
#include "vm/jail.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>

/* No serial console but for panics and warnings: each byte written to it is an exit. */
static const char cmdline[] =
	"quiet reboot=t panic=-1 tsc=reliable no_timer_check swiotlb=noforce cryptomgr.notests rcupdate.rcu_expedited=1 "
	"memhp_default_state=online_movable console=ttyS0";

struct starting {
	struct guest *g;
	backend_done_fn done;
	void *ud;
};

static int plug(struct guest *g)
{
	const struct msg_sandbox *m = &g->conf;
	_cleanup_nl_ struct nl *nl = NULL;
	int bridge, index, r;

	r = nl_open(&nl);
	if (r == 0)
		r = nl_link_index(nl, m->bridge, &bridge);
	if (r == 0)
		r = nl_tap_open(m->ifname, &g->tap);
	if (r == 0)
		r = nl_link_index(nl, m->ifname, &index);
	if (r == 0 && m->mtu)
		r = nl_link_set_mtu(nl, index, m->mtu);
	if (r == 0)
		r = nl_link_set_master(nl, index, bridge);
	if (r == 0)
		r = nl_link_set_hairpin(nl, index, true);
	return r == 0 ? nl_link_set_up(nl, index, true) : r;
}

static int start_shares(struct guest *g, struct err *e)
{
	char **v = g->conf.shares;

	for (; v && v[0] && v[1] && v[2]; v += 3) {
		int r;

		if (g->n_shares == GUEST_SHARES_MAX)
			return err_msg(e, ERR_INVALID, -E2BIG, "hyperv isolation takes at most %d volumes a container",
				       GUEST_SHARES_MAX);
		g->shares[g->n_shares] = (struct share)SHARE_INIT;
		r = share_start(&g->shares[g->n_shares], v[1], streq(v[2], "ro"), e);
		if (r < 0)
			return r;
		strv_add(&g->tags, v[0]);
		g->n_shares++;
	}
	return 0;
}

/* What vmwp keeps for the life of the machine: the right to end a process of another uid. Everything else
 * it may need later (disks of further containers) is root's own file. */
static void give_up_rights(void)
{
	int r = drop_capabilities(1ull << CAP_KILL);

	if (r < 0)
		log_warn("drop capabilities: %s", strerror(-r));
}

static void started(void *ud, int r, const struct err *e)
{
	struct starting *s = ud;
	struct guest *g = s->g;

	if (r == 0) {
		g->phase = GUEST_STOPPED;
		give_up_rights();
	}
	s->done(s->ud, r, e, NULL, 0);
	free(s);
}

static void on_gone(void *ud, const char *why)
{
	machine_gone(ud, why);
}

static const struct vmm_events vmm_events = { on_gone };

static int check_files(const struct msg_sandbox *m, struct err *e)
{
	if (!qemu_program())
		return err_msg(e, ERR_UNAVAILABLE, -ENOENT, "hyperv isolation needs QEMU: install qemu-system-x86");
	if (!fs_exists(m->kernel) || !fs_exists(m->initrd))
		return err_msg(e, ERR_UNAVAILABLE, -ENOENT, "hyperv isolation needs a guest kernel at %s: run \"insula vm prepare\"",
			       fs_exists(m->kernel) ? m->initrd : m->kernel);
	return 0;
}

static void copy_conf(struct guest *g, const struct msg_sandbox *m)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	msg_sandbox_done(&g->conf);
	msg_sandbox_encode(m, &b);
	(void)msg_sandbox_decode(b.buf, b.len, &g->conf);
}

void machine_start(struct guest *g, const struct msg_sandbox *m, backend_done_fn done, void *ud)
{
	_cleanup_err_ struct err e = ERR_INIT;
	int link[2] = { -EBADF, -EBADF }, fds[GUEST_SHARES_MAX], r;
	struct starting *s;

	copy_conf(g, m);
	r = g->phase == GUEST_NEW ? check_files(m, &e) : err_msg(&e, ERR_CONFLICT, -EEXIST, "the sandbox exists");
	if (r == 0 && streq(m->net, "bridge")) {
		r = plug(g);
		if (r < 0)
			err_set(&e, ERR_SYSTEM, r, "set up the network of sandbox '%s'", g->sandbox);
	}
	if (r == 0)
		r = start_shares(g, &e);
	if (r == 0) {
		r = sock_pair(link);
		if (r == 0)
			r = link_open(g, link[0]);
		if (r < 0)
			err_set(&e, ERR_SYSTEM, r, "open the agent link");
	}
	if (r == 0)
		r = qemu_new(g->loop, &g->vmm);
	if (r < 0) {
		done(ud, r, &e, NULL, 0);
		return;
	}
	for (size_t i = 0; i < g->n_shares; i++)
		fds[i] = g->shares[i].fd;
	struct vmm_config c = {
		.accel = g->conf.accel, .kernel = g->conf.kernel, .initrd = g->conf.initrd, .cmdline = cmdline,
		.memory = g->conf.memory, .vcpus = g->conf.vcpus ? g->conf.vcpus : 1, .cgroup = g->conf.cgroup,
		.tap_fd = g->tap, .mac = g->conf.mac, .share_fds = fds, .share_tags = g->tags, .n_shares = g->n_shares,
		.link_fd = link[1], .debug = g->debug,
	};

	g->vmm->events = &vmm_events;
	g->vmm->userdata = g;
	s = new0(struct starting);
	*s = (struct starting){ g, done, ud };
	g->vmm->ops->start(g->vmm, &c, started, s);
	/* QEMU has its own copies; the tap's last descriptor is QEMU's, so the tap goes with it. */
	fd_close(&g->tap);
	for (size_t i = 0; i < g->n_shares; i++)
		fd_close(&g->shares[i].fd);
}

void machine_gone(struct guest *g, const char *why)
{
	_cleanup_free_ char *reason = xstrdup(why);

	if (g->phase == GUEST_GONE)
		return;
	g->phase = GUEST_GONE;
	loop_source_free(g->deadline);
	g->deadline = NULL;
	link_close(g);
	list_for_each(t, &g->tasks, struct gtask, link)
		if (!t->exited) {
			t->exited = true;
			loop_source_free(t->kill_timer);
			t->kill_timer = NULL;
			g->b.events->exited(g->b.userdata, t->ctr, t->exec, 128 + SIGKILL, now_real_ns(), false, reason);
		}
	if (g->shutdown_done) {
		backend_done_fn done = g->shutdown_done;

		g->shutdown_done = NULL;
		done(g->shutdown_ud, 0, NULL, NULL, 0);
	}
	g->b.events->lost(g->b.userdata, reason);
}

void machine_done(struct guest *g)
{
	if (g->vmm)
		g->vmm->ops->free(g->vmm);
	g->vmm = NULL;
	for (size_t i = 0; i < g->n_shares; i++)
		share_stop(&g->shares[i]);
	fd_close(&g->tap);
	strv_free(g->tags);
	msg_sandbox_done(&g->conf);
}
