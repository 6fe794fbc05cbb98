#include "resolver/resolver.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#define TICK_US 100000
#define NOBODY 65534
enum { FD_UDP = 3, FD_TCP = 4 };	/* descriptor 5 is a lock, held as long as we live */

static void on_tick(struct loop_source *s, void *userdata)
{
	struct resolver *r = userdata;
	uint64_t now = now_mono_us();

	udp_tick(r, now);
	tcp_tick(r, now);
	if (!r->n_queries && !r->n_tcp) {
		r->ticking = false;
		(void)loop_timer_set(r->tick, 0, 0);
	}
}

void resolver_tick_on(struct resolver *r)
{
	if (r->ticking)
		return;
	r->ticking = true;
	(void)loop_timer_set(r->tick, TICK_US, TICK_US);
}

static void on_term(struct loop_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	loop_exit(userdata, 0);
}

/* FREEBIND: the bridge with this address may be made again while we run. */
static int listen_socket(const struct addr *a, int type)
{
	_cleanup_close_ int fd = socket(a->ss.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1;

	if (fd < 0)
		return -errno;
	if (a->ss.ss_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof(on));
	if (type == SOCK_STREAM)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)&a->ss, a->len) < 0)
		return -errno;
	if (type == SOCK_STREAM && listen(fd, 64) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int listener_watch(struct listener *l)
{
	int r = loop_add_io(l->r->loop, l->udp, EPOLLIN, udp_on_query, l, NULL);

	return r < 0 ? r : loop_add_io(l->r->loop, l->tcp, EPOLLIN, tcp_on_accept, l, NULL);
}

static int listener_open(struct listener *l)
{
	int r;

	r = l->udp = listen_socket(&l->addr, SOCK_DGRAM);
	if (r >= 0)
		r = l->tcp = listen_socket(&l->addr, SOCK_STREAM);
	return r < 0 ? r : listener_watch(l);
}

size_t resolver_servers(struct resolver *r, const struct addr *client, struct addr *ret)
{
	size_t n = r->names ? names_servers(r->names, client, ret) : 0;

	if (n)
		return n;
	memcpy(ret, r->conf.servers, sizeof r->conf.servers);
	return r->conf.n_servers;
}

/* The daemon's sockets: UDP, TCP. It keeps them too, so that nothing is lost when we are renewed. */
static int take_sockets(struct resolver *r)
{
	struct listener *l = new0(struct listener);

	*l = (struct listener){.r = r, .udp = FD_UDP, .tcp = FD_TCP};
	r->listeners = l;
	r->n_listeners = 1;
	r->own = new0(struct addr);
	return listener_watch(l);
}

static int open_listeners(struct resolver *r, char *const *listen_on)
{
	r->n_listeners = strv_len(listen_on);
	r->listeners = new_array(struct listener, r->n_listeners);
	r->own = new_array(struct addr, r->n_listeners);
	for (size_t i = 0; i < r->n_listeners; i++) {
		struct listener *l = &r->listeners[i];
		int e;

		*l = (struct listener){.r = r, .udp = -EBADF, .tcp = -EBADF};
		e = addr_parse(listen_on[i], &l->addr);
		if (e < 0) {
			log_error("--listen '%s': expected ADDRESS:PORT", listen_on[i]);
			return e;
		}
		e = listener_open(l);
		if (e < 0) {
			log_error("listen on '%s': %s", listen_on[i], strerror(-e));
			return e;
		}
		r->own[i] = l->addr;
	}
	return 0;
}

/* Nothing but the sockets is needed from here on. */
static int drop_privileges(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	if (geteuid() != 0)
		return 0;
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
	    setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return -errno;
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

static int run(struct resolver *r, char *const *listen_on)
{
	struct rlimit files = {.rlim_cur = 1024,
			       .rlim_max = 1024}; /* 512 queries, 64 connections, listeners */
	_cleanup_loop_ struct loop *loop = NULL;
	int e;

	(void)setrlimit(RLIMIT_NOFILE, &files);
	e = loop_new(&loop);
	if (e < 0)
		return e;
	r->loop = loop;
	list_init(&r->queries);
	list_init(&r->tcp);
	e = loop_add_timer(loop, TICK_US, 0, on_tick, r, &r->tick);
	if (e >= 0)
		e = loop_add_signal(loop, SIGTERM, on_term, loop, NULL);
	if (e >= 0)
		e = loop_add_signal(loop, SIGINT, on_term, loop, NULL);
	if (e < 0)
		return e;
	e = listen_on ? open_listeners(r, listen_on) : take_sockets(r);
	if (e < 0)
		return e;
	e = drop_privileges();
	if (e < 0) {
		log_error("drop privileges: %s", strerror(-e));
		return e;
	}
	conf_refresh(&r->conf, r->own, r->n_listeners);
	return loop_run(loop);
}

int main(int argc, char **argv)
{
	static struct resolver resolver;
	_cleanup_free_ char **args = NULL;
	_cleanup_free_ char *error = NULL, *conf = xstrdup("/etc/resolv.conf");
	_cleanup_strv_ char **listen_on = NULL;
	_cleanup_free_ char *names = NULL;
	bool debug = false, sockets = false;
	const struct opt opts[] = {
	    {0, "listen", OPT_STRV, &listen_on, "list", "Address and port to listen on (ADDRESS:PORT)", NULL},
	    {0, "sockets", OPT_BOOL, &sockets, NULL, "Serve on descriptors 3 (UDP) and 4 (TCP)", NULL},
	    {0, "names", OPT_STR, &names, "string", "Directory of the file that names containers", NULL},
	    {0, "resolv-conf", OPT_STR, &conf, "string", "File that names the servers to ask", NULL},
	    {'D', "debug", OPT_BOOL, &debug, NULL, "Log debug messages", NULL},
	    OPT_END,
	};

	log_init("insula-resolver", LOG_LVL_INFO);
	if (opt_parse(opts, argc, argv, false, &args, &error) < 0) {
		log_error("%s", error);
		return 2;
	}
	if (strv_len(args) || !listen_on == !sockets) {
		fprintf(stderr, "Usage:  insula-resolver --listen ADDRESS:PORT [OPTIONS]\n\nOptions:\n");
		opt_print_help(opts);
		return 2;
	}
	if (debug)
		log_init("insula-resolver", LOG_LVL_DEBUG);
	signal(SIGPIPE, SIG_IGN);
	resolver.conf.path = conf;
	if (names) {
		int fd = open(names, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd < 0) {
			log_error("open '%s': %s", names, strerror(errno));
			return 1;
		}
		resolver.names = names_new(fd);
		names_refresh(resolver.names);
	}
	return run(&resolver, listen_on) < 0 ? 1 : 0;
}
