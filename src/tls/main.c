/* insula-tls: the TLS listener of insulad, in a process without privileges. What comes from the network is
 * parsed here; only a client with a certificate of the right authority reaches the daemon's socket. */
#include "tls/relay.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/strv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define NOBODY 65534
#define READY_FD 3		/* says "+" or why not */
#define SWEEP_US 1000000

static void on_accept(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct gate *g = ud;
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	char host[48] = "?", port[8] = "", from[64];
	int one = 1, c = accept4(fd, (struct sockaddr *)&ss, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (c < 0)
		return;
	if (g->n_relays >= RELAYS_MAX) {
		close(c);
		return;
	}
	(void)setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	(void)setsockopt(c, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	(void)getnameinfo((struct sockaddr *)&ss, len, host, sizeof host, port, sizeof port,
			  NI_NUMERICHOST | NI_NUMERICSERV);
	snprintf(from, sizeof from, "%s:%s", host, port);
	relay_new(g, c, from);
}

static void on_sweep(struct loop_source *s, void *ud)
{
	relays_sweep(ud);
}

static void on_term(struct loop_source *s, const struct signalfd_siginfo *si, void *ud)
{
	loop_exit(ud, 0);
}

/* "ADDRESS:PORT", "[ADDRESS]:PORT" or ":PORT"; names are not looked up. */
static int listen_on(struct gate *g, const char *where, struct err *e)
{
	const char *colon = strrchr(where, ':');
	struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV,
				 .ai_socktype = SOCK_STREAM}, *ai = NULL;
	_cleanup_free_ char *host = colon ? xstrndup(where, (size_t)(colon - where)) : NULL;
	_cleanup_close_ int fd = -EBADF;
	int one = 1, r = 0;

	if (host && *host == '[' && str_ends(host, "]")) {
		host[strlen(host) - 1] = 0;
		memmove(host, host + 1, strlen(host));
	}
	if (!host || getaddrinfo(*host ? host : NULL, colon + 1, &hints, &ai) != 0)
		return err_set(e, ERR_INVALID, 0, "invalid host 'tcp://%s': expected ADDRESS:PORT", where);
	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
	    bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, 128) < 0)
		r = err_set(e, ERR_SYSTEM, -errno, "listen on 'tcp://%s'", where);
	freeaddrinfo(ai);
	if (r == 0)
		r = loop_add_io(g->loop, fd, EPOLLIN, on_accept, g, NULL);
	if (r == 0)
		(void)TAKE_FD(fd);
	return r;
}

/* What is left is the daemon's socket, by its group. */
static int drop_privileges(const char *socket_path)
{
	struct stat st;

	if (stat(socket_path, &st) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	if (setgroups(0, NULL) < 0 || setresgid(st.st_gid, st.st_gid, st.st_gid) < 0 ||
	    setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return -errno;
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? -errno : 0;
}

/* The socket is reached by its name alone: nobody may not be let through the directories above. */
static int stand_beside(struct gate *g, const char *socket_path)
{
	_cleanup_free_ char *dir = xstrndup(socket_path, (size_t)(path_basename(socket_path) - socket_path));

	g->socket = path_basename(socket_path);
	return *dir && chdir(dir) < 0 ? -errno : 0;
}

struct settings { char *socket, *ca, *cert, *key, **listen; };

static int prepare(struct gate *g, const struct settings *o, struct err *e)
{
	int r = loop_new(&g->loop);

	if (r >= 0)
		r = loop_add_signal(g->loop, SIGTERM, on_term, g->loop, NULL);
	if (r >= 0)
		r = loop_add_timer(g->loop, SWEEP_US, SWEEP_US, on_sweep, g, NULL);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "event loop");
	r = tls_server_new(o->ca, o->cert, o->key, &g->tls, e);
	for (char **l = o->listen; r >= 0 && *l; l++)
		r = listen_on(g, *l, e);
	if (r < 0)
		return r;
	r = stand_beside(g, o->socket);
	if (r >= 0)
		r = drop_privileges(g->socket);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "drop privileges");
	/* the parent that was to end this one may be gone already */
	return prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) < 0 || getppid() == 1 ? -ESRCH : 0;
}

int main(int argc, char **argv)
{
	struct rlimit files = {.rlim_cur = 2048, .rlim_max = 2048};
	struct settings o = {0};
	struct gate g = {0};
	_cleanup_free_ char **args = NULL, *error = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	const struct opt opts[] = {
	    {0, "socket", OPT_STR, &o.socket, "path", "The daemon's socket"},
	    {0, "listen", OPT_STRV, &o.listen, "list", "ADDRESS:PORT to listen on"},
	    {0, "tlscacert", OPT_STR, &o.ca, "file", "Authority of clients"},
	    {0, "tlscert", OPT_STR, &o.cert, "file", "The server's certificate"},
	    {0, "tlskey", OPT_STR, &o.key, "file", "Its key"},
	    OPT_END,
	};
	const char *text;
	int r;

	log_init("insula-tls", LOG_LVL_INFO);
	if (opt_parse(opts, argc, argv, false, &args, &error) < 0 || args[0] || !o.socket || !o.listen ||
	    !o.ca || !o.cert || !o.key) {
		fprintf(stderr, "Usage:  insula-tls OPTIONS (started by insulad)\n\nOptions:\n");
		opt_print_help(opts);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	umask(077);
	(void)setrlimit(RLIMIT_NOFILE, &files);
	list_init(&g.relays);
	r = prepare(&g, &o, &e);
	text = r < 0 ? (e.kind ? err_text(&e) : "the daemon has gone") : "+";
	(void)fd_write_full(READY_FD, text, strlen(text));
	close(READY_FD);
	return r < 0 ? 1 : loop_run(g.loop);
}
