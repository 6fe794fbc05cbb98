/* The machine of a sandbox: its tap, its shares, its QEMU; and its end. */
#include "vm/guest_internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sock.h"
#include "base/strv.h"
#include "lib/netlink.h"
#include "vm/cgroup.h"
#include "vm/jail.h"
#include "vm/template.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>

#define MEMORY_MIN (64ull << 20)
#define QEMU_OVERHEAD (256ull << 20)	/* QEMU itself, its translation buffer, page tables, file servers */

/* What vmwp keeps for the life of the machine. Root's own files it opens without any capability: disks and
 * logs of further containers, exit records, the machine's control groups. */
static const struct { int capability; const char *why; } kept[] = {
	{ CAP_KILL, "QEMU has a uid of its own, and must be ended" },
};

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

		if (streq(v[2], "socket")) {
			r = pipe_add(g, v[0], v[1], e);
			if (r < 0)
				return r;
			continue;
		}
		if (g->n_shares == GUEST_SHARES_MAX)
			return err_msg(e, ERR_INVALID, -E2BIG,
				       "hyperv isolation takes at most %d volumes a container",
				       GUEST_SHARES_MAX);
		g->shares[g->n_shares] = (struct share)SHARE_INIT;
		r = share_start(&g->shares[g->n_shares], g->loop, v[1], v[2], g->cgroup, e);
		if (r < 0)
			return r;
		strv_add(&g->tags, v[0]);
		g->n_shares++;
	}
	return 0;
}

static int give_up_rights(struct err *e)
{
	uint64_t keep = 0;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		keep |= 1ull << kept[i].capability;
	r = drop_capabilities(keep);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "drop capabilities") : 0;
}

static void started(void *ud, int r, const struct err *e)
{
	_cleanup_err_ struct err err = ERR_INIT;
	struct starting *s = ud;
	struct guest *g = s->g;

	if (r == 0) {
		r = give_up_rights(&err);
		e = &err;
	}
	if (r == 0 && g->phase == GUEST_STARTING)
		g->phase = GUEST_STOPPED;
	else if (r < 0)
		machine_kill(g, NULL);
	s->done(s->ud, r, e, NULL, 0);
	free(s);
}

/* --- its end --- */

void machine_kill(struct guest *g, const char *why)
{
	if (why && !g->why) {
		g->why = xstrdup(why);
		log_warn("sandbox '%s': the virtual machine is ended: %s", g->sandbox, why);
	}
	if (g->vmm)
		g->vmm->ops->kill(g->vmm);
}

static void on_gone(void *ud, const char *words)
{
	struct guest *g = ud;

	g->words = xstrdup(words);
	link_hang_up(g);
}

static const struct vmm_events vmm_events = { on_gone };

static void end_task(struct guest *g, struct gtask *t, const char *reason)
{
	for (int i = TASK_STDOUT; i <= TASK_STDERR; i++)
		if (!t->eof[i] && !(t->tty && i == TASK_STDERR)) {
			t->eof[i] = true;
			g->b.events->output_eof(g->b.userdata, t->ctr, t->exec, (enum task_stream)i);
		}
	loop_source_free(t->kill_timer);
	t->kill_timer = NULL;
	if (t->exited)
		return;
	t->exited = true;
	g->b.events->exited(g->b.userdata, t->ctr, t->exec, 128 + SIGKILL, now_real_ns(), false, reason);
}

void machine_ended(struct guest *g)
{
	bool asked = g->shutdown_done, up = g->phase == GUEST_UP;
	const char *cause = g->why ? g->why : g->words, *tail = g->vmm->ops->console(g->vmm);
	_cleanup_free_ char *reason = xasprintf("the virtual machine ended: %s", cause);
	_cleanup_err_ struct err e = ERR_INIT;

	if (g->phase == GUEST_GONE)
		return;
	g->phase = GUEST_GONE;
	loop_source_free(g->deadline);
	g->deadline = NULL;
	link_close(g);
	if (up)
		err_msg(&e, ERR_SYSTEM, -EIO, "%s", reason);
	else
		err_msg(&e, ERR_SYSTEM, -EIO, "VM did not start: %s%s%s", cause, g->why && *tail ? ": " : "",
			g->why ? tail : "");
	link_refuse(g, &e);
	list_for_each(t, &g->tasks, struct gtask, link)
		end_task(g, t, asked ? "" : reason);
	if (asked) {
		backend_done_fn done = g->shutdown_done;

		g->shutdown_done = NULL;
		done(g->shutdown_ud, 0, NULL, NULL, 0);
	} else {
		g->b.events->lost(g->b.userdata, reason);
	}
}

/* --- its start --- */

static int check(struct guest *g, const struct msg_sandbox *m, struct err *e)
{
	if (g->phase != GUEST_NEW)
		return err_msg(e, ERR_CONFLICT, -EEXIST, "the sandbox exists");
	if (!qemu_program())
		return err_msg(e, ERR_UNAVAILABLE, -ENOENT, NEEDS_QEMU);
	if (!fs_exists(m->kernel) || !fs_exists(m->initrd))
		return err_msg(e, ERR_UNAVAILABLE, -ENOENT, NEEDS_KERNEL,
			       fs_exists(m->kernel) ? m->initrd : m->kernel);
	if (!streq(m->accel, "kvm") && !streq(m->accel, "tcg"))
		return err_msg(e, ERR_INVALID, -EINVAL, "invalid accelerator '%s': expected kvm or tcg",
			       m->accel);
	if (!streq(m->net, "none") && !streq(m->net, "bridge"))
		return err_msg(e, ERR_INVALID, -EINVAL,
			       "hyperv isolation has no network '%s': the network of the host "
			       "cannot be reached from a virtual machine; use bridge or none",
			       m->net);
	if (m->memory < MEMORY_MIN)
		return err_msg(e, ERR_INVALID, -EINVAL, "a virtual machine needs at least %llu MiB of memory",
			       MEMORY_MIN >> 20);
	return 0;
}

static int open_link(struct guest *g, int *ret_theirs)
{
	int pair[2], r = sock_pair(pair);

	if (r < 0)
		return r;
	*ret_theirs = pair[1];
	return link_open(g, pair[0]);
}

/* Everything the machine is connected to. */
static int prepare(struct guest *g, int *ret_link, struct err *e)
{
	const struct msg_sandbox *m = &g->conf;
	int r = 0;

	if (*m->cgroup) {
		g->cgroup = xstrdup(m->cgroup);
		cgroup_make(g->cgroup, m->memory + m->memory_extra + QEMU_OVERHEAD, m->vcpus);
	}
	if (streq(m->net, "bridge"))
		r = plug(g);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "connect sandbox '%s' to network bridge '%s'", g->sandbox,
			       m->bridge);
	r = start_shares(g, e);
	if (r < 0)
		return r;
	r = open_link(g, ret_link);
	if (r == 0)
		r = qemu_new(g->loop, &g->vmm);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "open the agent link") : 0;
}

static void copy_conf(struct guest *g, const struct msg_sandbox *m)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	msg_sandbox_encode(m, &b);
	(void)msg_sandbox_decode(b.buf, b.len, &g->conf);
	if (!g->conf.vcpus)
		g->conf.vcpus = 1;
	if (g->conf.vcpus_max < g->conf.vcpus)
		g->conf.vcpus_max = g->conf.vcpus;
}

static void start(struct guest *g, int link, int ram, int state, struct starting *s)
{
	_cleanup_free_ char *words =
	    g->debug ? xasprintf("%s insula.debug", guest_cmdline) : xstrdup(guest_cmdline);
	int fds[GUEST_SHARES_MAX];

	for (size_t i = 0; i < g->n_shares; i++)
		fds[i] = g->shares[i].fd;
	struct vmm_config c = {
	    .accel = g->conf.accel,
	    .kernel = g->conf.kernel,
	    .initrd = g->conf.initrd,
	    .cmdline = words,
	    .memory = g->conf.memory,
	    .memory_region = g->conf.memory_region,
	    .memory_extra = g->conf.memory_extra,
	    .ram_fd = ram,
	    .ram_private = ram >= 0 && !g->n_shares,
	    .state_fd = state,
	    .vcpus = g->conf.vcpus,
	    .vcpus_max = g->conf.vcpus_max,
	    .cgroup = g->cgroup,
	    .tap_fd = g->tap,
	    .mac = g->conf.mac,
	    .share_fds = fds,
	    .share_tags = g->tags,
	    .n_shares = g->n_shares,
	    .link_fd = link,
	};

	g->vmm->events = &vmm_events;
	g->vmm->userdata = g;
	g->vmm->ops->start(g->vmm, &c, started, s);
	/* Its own copies are the last: tap and link go with it. */
	fd_close(&g->tap);
	for (size_t i = 0; i < g->n_shares; i++)
		fd_close(&g->shares[i].fd);
}

void machine_start(struct guest *g, const struct msg_sandbox *m, int template, backend_done_fn done, void *ud)
{
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_close_ int link = -EBADF, ram = -EBADF, state = -EBADF;
	struct starting *s;
	int r = check(g, m, &e);

	if (r == 0) {
		copy_conf(g, m);
		r = prepare(g, &link, &e);
		if (r == 0 && template >= 0) {
			r = template_open(template, m->memory, g->n_shares > 0, &ram, &state);
			if (r < 0)
				err_set(&e, ERR_SYSTEM, r, "open the template of virtual machines");
		}
		/* There is no second try: what it takes is gone, or half made. */
		g->phase = r < 0 ? GUEST_GONE : GUEST_STARTING;
	}
	if (r < 0) {
		done(ud, r, &e, NULL, 0);
		return;
	}
	s = new0(struct starting);
	*s = (struct starting){ g, done, ud };
	start(g, link, ram, state, s);
}

void machine_done(struct guest *g)
{
	if (g->vmm)
		g->vmm->ops->free(g->vmm);
	g->vmm = NULL;
	for (size_t i = 0; i < g->n_shares; i++)
		share_stop(&g->shares[i]);
	pipes_close(g);
	cgroup_remove(g->cgroup);
	free(g->cgroup);
	fd_close(&g->tap);
	strv_free(g->tags);
	msg_sandbox_done(&g->conf);
}
