/* The machine of a sandbox: its tap, its shares, its QEMU; and its end. */
#include "vm/guest_internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/sock.h"
#include "base/strv.h"
#include "lib/netlink.h"
#include "vm/jail.h"
#include "vm/template.h"

#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>

#define MEMORY_MIN (64ull << 20)

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

/* A tap for each interface. */
static int plug(struct guest *g, struct err *e)
{
	const struct nics *nics = &g->conf.nics;
	_cleanup_nl_ struct nl *nl = NULL;
	int r = nics->n ? nl_open(&nl) : 0;

	if (nics->n > VMM_NICS_MAX)
		return err_msg(e, ERR_INVALID, -E2BIG,
			       "hyperv isolation takes at most %d networks a container",
			       VMM_NICS_MAX);
	for (size_t i = 0; i < nics->n; i++) {
		const struct msg_nic *m = &nics->v[i];

		if (r == 0)
			r = nl_nic_tap_open(nl, m->kind, m->ifname, m->bridge, m->mac, m->mtu, &g->taps[i]);
		if (r == 0)
			g->n_taps++;
		if (r < 0)
			return err_set(e, ERR_SYSTEM, r, "connect sandbox '%s' to network bridge '%s'",
				       g->sandbox, m->bridge);
	}
	return 0;
}

static void close_taps(struct guest *g)
{
	for (size_t i = 0; i < g->n_taps; i++)
		fd_close(&g->taps[i]);
	g->n_taps = 0;
}

static int start_shares(struct guest *g, struct err *e)
{
	char **v = g->conf.shares;

	for (; v && v[0] && v[1] && v[2]; v += 3) {
		int r;

		if (streq(v[2], "socket") || streq(v[2], "fifo")) {
			r = pipe_add(g, v[0], v[1], streq(v[2], "fifo"), e);
			if (r < 0)
				return r;
			continue;
		}
		if (g->n_shares == GUEST_SHARES_MAX)
			return err_msg(e, ERR_INVALID, -E2BIG,
				       "hyperv isolation takes at most %d volumes a container",
				       GUEST_SHARES_MAX);
		g->shares[g->n_shares] = (struct share)SHARE_INIT;
		r = share_start(&g->shares[g->n_shares], g->loop, v[1], v[2], g->cg, e);
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

	g->oom = !g->why && group_out_of_memory(g);
	g->words = g->oom ? xasprintf("%s: the host had no more memory for it", words) : xstrdup(words);
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
	g->b.events->exited(g->b.userdata, t->ctr, t->exec, 128 + SIGKILL, now_real_ns(), g->oom, reason);
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
	if (streq(m->net, "host"))
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
static int prepare(struct guest *g, bool clone, int *ret_link, struct err *e)
{
	int r = group_make(g, &g->conf, clone, e);

	if (r == 0)
		r = plug(g, e);
	if (r == 0)
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
	g->memory_requested = g->conf.memory_extra;
}

static void start(struct guest *g, int link, int ram, int state, struct starting *s)
{
	_cleanup_free_ char *words =
	    g->debug ? xasprintf("%s insula.debug", guest_cmdline) : xstrdup(guest_cmdline);
	struct vmm_nic nics[VMM_NICS_MAX];
	int fds[GUEST_SHARES_MAX];

	for (size_t i = 0; i < g->n_taps; i++)
		nics[i] = (struct vmm_nic){ g->taps[i], g->conf.nics.v[i].mac };
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
	    .cgroup = g->cg,
	    .nics = nics,
	    .n_nics = g->n_taps,
	    .share_fds = fds,
	    .share_tags = g->tags,
	    .n_shares = g->n_shares,
	    .link_fd = link,
	};

	g->vmm->events = &vmm_events;
	g->vmm->userdata = g;
	g->vmm->ops->start(g->vmm, &c, started, s);
	/* Its own copies are the last: taps and link go with it. */
	close_taps(g);
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
		r = prepare(g, template >= 0, &link, &e);
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

/* --- interfaces that come and go --- */

/* What is new is made, then the guest is told of all, then what is old is taken away: so the guest has let
 * go of it by then. */
struct net_change {
	struct guest *g;
	struct nics before;
	backend_done_fn done;
	void *ud;
};

static void ignore_done(void *ud, int r, const struct err *e)
{
}

static void change_done(void *ud, int r, const struct err *e)
{
	struct net_change *x = ud;

	x->done(x->ud, r, e, NULL, 0);
	nics_done(&x->before);
	free(x);
}

/* The one interface of a that b does not have; NULL if there is none. */
static const struct msg_nic *only_in(const struct nics *a, const struct nics *b)
{
	for (size_t i = 0; i < a->n; i++)
		if (!nics_find(b, a->v[i].ifname))
			return &a->v[i];
	return NULL;
}

static void change_told(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct net_change *x = ud;
	struct guest *g = x->g;
	const struct nics *gone_from = r < 0 ? &g->conf.nics : &x->before;
	const struct msg_nic *gone = only_in(gone_from, r < 0 ? &x->before : &g->conf.nics);

	if (r < 0 && g->phase == GUEST_UP) {
		/* What the guest did not take is none of its interfaces. */
		if (gone)
			g->vmm->ops->remove_nic(g->vmm, gone->mac, ignore_done, NULL);
		nics_done(&g->conf.nics);
		nics_copy(&x->before, &g->conf.nics);
		gone = NULL;
	}
	if (gone && g->phase == GUEST_UP)
		g->vmm->ops->remove_nic(g->vmm, gone->mac, change_done, x);
	else
		change_done(x, r, e);
}

static void change_added(void *ud, int r, const struct err *e)
{
	struct net_change *x = ud;

	if (r < 0)
		change_told(x, r, e, NULL, 0);
	else
		link_ready(x->g, change_told, x);
}

void machine_network(struct guest *g, const struct nics *want, int tap, backend_done_fn done, void *ud)
{
	struct net_change *x = new0(struct net_change);
	const struct msg_nic *new;

	*x = (struct net_change){ .g = g, .before = g->conf.nics, .done = done, .ud = ud };
	nics_copy(want, &g->conf.nics);
	new = only_in(&g->conf.nics, &x->before);
	if (new && tap >= 0)
		g->vmm->ops->add_nic(g->vmm, &(struct vmm_nic){ tap, new->mac }, change_added, x);
	else
		change_added(x, 0, NULL);
}

void machine_done(struct guest *g)
{
	if (g->vmm)
		g->vmm->ops->free(g->vmm);
	g->vmm = NULL;
	for (size_t i = 0; i < g->n_shares; i++)
		share_stop(&g->shares[i]);
	pipes_close(g);
	group_remove(g);
	close_taps(g);
	strv_free(g->tags);
	msg_sandbox_done(&g->conf);
}
