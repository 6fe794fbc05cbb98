/* Names: insula-resolver, and the file from which it answers.
 *
 * The resolver reads EXEC/resolver/names whenever that file has changed, so there is no connection between it
 * and the daemon that a crash of either could upset. It outlives the daemon. The lock file says that it runs:
 * the lock belongs to the descriptor that it was started with. The next daemon finds it there, with its pid
 * and its port; one that has died is renewed on the same port, for rules in the kernel and the
 * configuration of running containers lead to it. */
#include "engine/network_int.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/strv.h"
#include "engine/container.h"
#include "engine/db.h"
#include "engine/paths.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>

#define RENEW_US 200000
#define PORT_KEY "resolver.port"

struct names {
	struct networks *n;
	char *dir;
	struct proc proc;
	struct loop_source *watch, *timer;
	int udp, tcp;		/* kept, so that a resolver which is renewed misses nothing */
	unsigned port;
	bool wanted;
};

unsigned names_port(const struct networks *n)
{
	return n->names->port;
}

unsigned network_names_port(const struct engine *e)
{
	return e->networks->names ? e->networks->names->port : 0;
}

/* --- what it knows --- */

static void add_endpoints(struct networks *n, const struct network *w, struct sbuf *b)
{
	_cleanup_stmt_ struct stmt *s = NULL;

	if (db_query(n->engine->db, &s, NULL, "SELECT ip, ctr, ip6 FROM endpoints WHERE network = ?", "s",
		     w->id) < 0)
		return;
	while (stmt_step(s, NULL) > 0) {
		_cleanup_free_ char *ip = ip_text((uint32_t)stmt_int(s, 0)), *all = NULL;
		_cleanup_strv_ char **names =
		    w->builtin ? NULL : container_dns_names(n->engine, stmt_str(s, 1), w->name);

		all = names ? strv_join(names, " ") : xstrdup("");
		sbuf_printf(b, "at %s%s%s %s %s\n", ip, *stmt_str(s, 2) ? "," : "", stmt_str(s, 2),
			    stmt_str(s, 1), all);
	}
}

static void add_servers(struct networks *n, struct sbuf *b)
{
	_cleanup_stmt_ struct stmt *s = NULL;

	if (db_query(n->engine->db, &s, NULL, "SELECT DISTINCT ctr FROM endpoints", "") < 0)
		return;
	while (stmt_step(s, NULL) > 0) {
		_cleanup_strv_ char **servers = container_dns_servers(n->engine, stmt_str(s, 0));
		_cleanup_free_ char *all = servers ? strv_join(servers, " ") : NULL;

		if (all)
			sbuf_printf(b, "via %s %s\n", stmt_str(s, 0), all);
	}
}

void names_changed(struct networks *n)
{
	_cleanup_free_ char *path = path_join(n->names->dir, "names");
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	int r;

	if (!n->engine->containers)	/* the daemon begins: what there is holds */
		return;
	list_for_each(w, &n->all, struct network, link) {
		_cleanup_free_ char *subnet = NULL;

		if (w->driver != NET_BRIDGE)
			continue;
		subnet = subnet_text(&w->subnet);
		sbuf_printf(&b, "net %s %s %s\n", w->name, subnet, w->internal ? "internal" : "open");
		add_endpoints(n, w, &b);
	}
	add_servers(n, &b);
	r = fs_write_atomic(AT_FDCWD, path, sbuf_str(&b), b.len, 0644, false);
	if (r < 0)
		log_error("write '%s': names of containers are not up to date: %s", path, strerror(-r));
}

void endpoints_renamed(struct engine *e)
{
	names_changed(e->networks);
}

/* What of the host's file goes for a container too: all but the servers. */
static void host_options(struct sbuf *out)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_strv_ char **lines = NULL;

	if (fs_read(AT_FDCWD, "/etc/resolv.conf", 64 << 10, &text, NULL) < 0)
		return;
	lines = strv_split(text, "\n");
	for (char **l = lines; l && *l; l++)
		if (str_starts(*l, "search") || str_starts(*l, "options") || str_starts(*l, "domain"))
			sbuf_printf(out, "%s\n", *l);
}

char *network_resolv_conf(struct engine *e, const char *network)
{
	_cleanup_free_ char *gateway = NULL;
	struct sbuf out = SBUF_INIT;
	char *text = NULL;
	struct network *w;

	if (network_find(e->networks, network, &w, NULL) == 0 && w->driver == NET_BRIDGE) {
		gateway = ip_text(w->gateway);
		sbuf_printf(&out, "nameserver %s\n", gateway);
		host_options(&out);
		return sbuf_steal(&out);
	}
	return fs_read(AT_FDCWD, "/etc/resolv.conf", 64 << 10, &text, NULL) < 0 ? xstrdup("") : text;
}

/* --- its life --- */

static int bound(int type, unsigned port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	_cleanup_close_ int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1;

	if (fd < 0)
		return -errno;
	if (type == SOCK_STREAM)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0 || (type == SOCK_STREAM && listen(fd, 64) < 0))
		return -errno;
	return TAKE_FD(fd);
}

static unsigned port_of(int fd)
{
	struct sockaddr_in sa;
	socklen_t len = sizeof sa;

	return getsockname(fd, (struct sockaddr *)&sa, &len) < 0 ? 0 : ntohs(sa.sin_port);
}

/* The host's firewall may have a rule with it, which outlives a restart of the machine. */
static void remember_port(struct names *m)
{
	_cleanup_free_ char *text = xasprintf("%u", m->port);

	(void)db_meta_set(m->n->engine->db, PORT_KEY, text, NULL);
}

static unsigned remembered_port(struct names *m)
{
	_cleanup_free_ char *text = db_meta_get(m->n->engine->db, PORT_KEY);
	uint64_t port;

	return text && str_to_u64(text, &port) == 0 && port <= UINT16_MAX ? (unsigned)port : 0;
}

/* The same port for both, the former one if it is to be had. */
static int open_sockets(struct names *m)
{
	unsigned former = m->port;

	for (unsigned i = 0; m->udp < 0 && i < 50; i++) {
		_cleanup_close_ int udp = bound(SOCK_DGRAM, i ? 0 : m->port), tcp = -EBADF;

		if (udp < 0)
			continue;
		tcp = bound(SOCK_STREAM, port_of(udp));
		if (tcp < 0)
			continue;
		m->port = port_of(udp);
		m->udp = TAKE_FD(udp);
		m->tcp = TAKE_FD(tcp);
	}
	if (m->udp >= 0 && m->port != former)
		remember_port(m);
	return m->udp < 0 ? -EADDRINUSE : 0;
}

static void on_gone(struct loop_source *s, int fd, uint32_t events, void *ud);

static int watch(struct names *m)
{
	return loop_add_io(m->n->engine->loop, m->proc.pidfd, EPOLLIN, on_gone, m, &m->watch);
}

static int spawn(struct names *m, int lock)
{
	_cleanup_free_ char *program = engine_program(m->n->engine, "insula-resolver"), *text = NULL;
	char *argv[] = { (char *)"insula-resolver", (char *)"--sockets", (char *)"--names", m->dir, NULL };
	const struct fd_map map[] = { { m->udp, 3 }, { m->tcp, 4 }, { lock, 5 } };
	const struct spawn_args a = { .path = program, .argv = argv, .fds = map, .n_fds = ARRAY_SIZE(map),
				      .new_session = true, .home = &m->n->engine->home };
	int r = program ? proc_spawn(&a, &m->proc) : -ENOENT;

	if (r < 0)
		return r;
	text = xasprintf("%d %u\n", m->proc.pid, m->port);
	if (ftruncate(lock, 0) < 0 || pwrite(lock, text, strlen(text), 0) < 0)
		return -errno;
	return watch(m);
}

static int lock_open(struct names *m, int *ret)
{
	_cleanup_free_ char *path = path_join(m->dir, "lock");
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	*ret = fd;
	return 0;
}

/* Starts the resolver if it does not run. */
static int start(struct names *m)
{
	_cleanup_close_ int lock = -EBADF;
	int r;

	m->wanted = true;
	if (m->proc.pidfd >= 0)
		return 0;
	r = lock_open(m, &lock);
	if (r == 0 && flock(lock, LOCK_EX | LOCK_NB) < 0)
		r = -errno;
	if (r == 0)
		r = open_sockets(m);
	if (r == 0)
		r = spawn(m, lock);
	if (r < 0)
		log_error("start insula-resolver: names of containers do not resolve: %s", strerror(-r));
	return r;
}

static void on_renew(struct loop_source *s, void *ud)
{
	struct names *m = ud;

	loop_source_free(TAKE_PTR(m->timer));
	(void)start(m);
}

static void on_gone(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct names *m = ud;

	loop_source_free(TAKE_PTR(m->watch));
	(void)proc_wait(&m->proc, &(int){ 0 });	/* no child of ours if it was adopted */
	proc_done(&m->proc);
	m->proc = (struct proc)PROC_INIT;
	log_warn("insula-resolver ended: a new one is started");
	if (!m->timer)
		(void)loop_add_timer(m->n->engine->loop, RENEW_US, 0, on_renew, m, &m->timer);
}

/* One that another daemon has left, if it lives. */
static void adopt(struct names *m)
{
	_cleanup_close_ int lock = -EBADF;
	char text[64] = "";
	int pid = 0;

	if (lock_open(m, &lock) < 0 || read(lock, text, sizeof text - 1) < 0 ||
	    sscanf(text, "%d %u", &pid, &m->port) != 2 || m->port > 65535) {
		m->port = remembered_port(m);
		return;
	}
	if (flock(lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK || pid <= 1)
		return;
	if (proc_open(pid, &m->proc) == 0)
		(void)watch(m);
}

void names_want(struct networks *n)
{
	if (n->names->proc.pidfd < 0 && !n->names->timer && start(n->names) == 0)
		names_changed(n);
}

int names_open(struct networks *n, struct err *err)
{
	struct names *m = new0(struct names);

	*m = (struct names){ .n = n, .proc = PROC_INIT, .udp = -EBADF, .tcp = -EBADF };
	m->dir = path_join(n->engine->cfg.exec_root, "resolver");
	n->names = m;
	adopt(m);
	return 0;
}

void names_close(struct networks *n, bool keep)
{
	struct names *m = n->names;

	if (!m)
		return;
	loop_source_free(m->watch);
	loop_source_free(m->timer);
	if (!keep && m->proc.pidfd >= 0) {
		(void)proc_kill(&m->proc, SIGTERM);
		(void)proc_wait(&m->proc, &(int){ 0 });
	}
	proc_done(&m->proc);
	fd_close(&m->udp);
	fd_close(&m->tcp);
	free(m->dir);
	free(m);
	n->names = NULL;
}
