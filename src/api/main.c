/* insulad: the engine behind Docker's Engine API. */
#include "api/daemon.h"
#include "api/listen.h"
#include "api/server.h"
#include "api/tls.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/opt.h"
#include "base/sock.h"
#include "base/strv.h"
#include "engine/config.h"
#include "engine/container.h"
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define CONFIG_FILE "/etc/insula/daemon.json"
#define STOP_STEP_US 50000
#define STOP_STEPS 100			/* 5 s for requests at work */
#define IDLE_STEP_US (30u * 1000000)	/* two idle looks in a row end an activated daemon */
#define RACE_STEP_US 20000
#define RACE_STEPS 500			/* 10 s for the daemon that was started at the same moment */

struct insulad {
	struct daemon_config cfg;
	char *config_file;
	char **given;			/* options set on the command line */
	bool tls_verify_seen;
	bool debug_seen, require_hardware_seen, open_firewall_seen, cold_boot_seen;
	bool config_seen, detach, version, help;
	struct loop *loop;
	struct engine *engine;
	struct server *server;
	struct tls_gate *tls;
	struct loop_source *stop_timer, *idle_timer, *signals[3];
	unsigned stop_steps, idle_looks;
	bool activated;
	int ready_fd;			/* of daemon_detach */
};

/* ---- options ---- */

static int set_option(const struct opt *o, const char *value, char **ret_error)
{
	struct insulad *d = o->target;
	_cleanup_err_ struct err e = ERR_INIT;
	int r = daemon_config_set(&d->cfg, o->long_name, value, &e);

	if (r < 0)
		*ret_error = xstrdup(err_text(&e));
	else
		strv_add(&d->given, o->long_name);
	return r;
}

static int parse_options(struct insulad *d, int argc, char **argv)
{
	const struct opt opts[] = {
	    {'H', "host", OPT_CALL, d, "list",
	     "Where to listen: unix://PATH, tcp://ADDRESS:PORT with --tlsverify, or fd://; ro+unix://PATH "
	     "for those who only watch", set_option},
	    {0, "tlsverify", OPT_BOOL, &d->cfg.tls_verify, NULL,
	     "Use TLS on tcp:// hosts and demand certificates of clients", .seen = &d->tls_verify_seen},
	    {0, "tlscacert", OPT_CALL, d, "string", "Certificates of clients are signed by this authority",
	     set_option},
	    {0, "tlscert", OPT_CALL, d, "string", "Certificate of the daemon", set_option},
	    {0, "tlskey", OPT_CALL, d, "string", "Its key", set_option},
	    {0, "data-root", OPT_CALL, d, "string",
	     "Root directory of persistent state (default \"/var/lib/insula\")", set_option},
	    {0, "exec-root", OPT_CALL, d, "string",
	     "Root directory of execution state (default \"/run/insula\")", set_option},
	    {'p', "pidfile", OPT_CALL, d, "string",
	     "Path of the daemon's PID file (default \"EXEC_ROOT/insulad.pid\")", set_option},
	    {'G', "group", OPT_CALL, d, "string",
	     "Group of the socket (default \"insula\" or \"docker\", whichever exists)", set_option},
	    {0, "socket-mode", OPT_CALL, d, "octal", "Permissions of the socket (default 0660)", set_option},
	    {0, "monitor-group", OPT_CALL, d, "string", "Group of the ro+unix:// socket (default none)",
	     set_option},
	    {0, "docker-socket", OPT_CALL, d, "path",
	     "Make PATH a link to the socket, for tools that look only there", set_option},
	    {0, "exec-opt", OPT_CALL, d, "list", "Runtime execution options: isolation=auto|process|hyperv",
	     set_option},
	    {0, "isolation", OPT_CALL, d, "string",
	     "Default isolation of containers: auto, process or hyperv (default \"auto\")", set_option},
	    {0, "accel", OPT_CALL, d, "string",
	     "Accelerator of hyperv isolation: auto, kvm or tcg (default \"auto\")", set_option},
	    {0, "require-hardware", OPT_BOOL, &d->cfg.engine.require_hardware, NULL,
	     "Refuse hyperv isolation under software emulation", .seen = &d->require_hardware_seen},
	    {0, "vm-cold-boot", OPT_BOOL, &d->cfg.engine.vm_cold_boot, NULL,
	     "Boot each virtual machine instead of cloning a template", .seen = &d->cold_boot_seen},
	    {0, "vm-dir", OPT_CALL, d, "string",
	     "Directory of the guest kernel and initramfs (default \"DATA_ROOT/vm\")", set_option},
	    {'b', "bridge", OPT_CALL, d, "string", "Name of the default bridge (default \"insula0\")",
	     set_option},
	    {0, "bip", OPT_CALL, d, "string", "Address of the default bridge (default \"172.30.0.1/16\")",
	     set_option},
	    {0, "open-firewall", OPT_BOOL, &d->cfg.engine.open_firewall, NULL,
	     "Tell Docker's rules, ufw and firewalld to let containers through",
	     .seen = &d->open_firewall_seen},
	    {0, "log-driver", OPT_CALL, d, "string",
	     "Default driver of container logs (default \"json-file\")", set_option},
	    {0, "log-opt", OPT_CALL, d, "list", "Default options of that driver: key=value", set_option},
	    {0, "ip", OPT_CALL, d, "string",
	     "Address at which ports are published by default (default: all addresses)", set_option},
	    {0, "registry-mirror", OPT_CALL, d, "list", "Mirror of Docker Hub, asked first: a URL",
	     set_option},
	    {0, "insecure-registry", OPT_CALL, d, "list",
	     "Registry that may be spoken to without TLS: HOST[:PORT]", set_option},
	    {0, "cgroup-parent", OPT_CALL, d, "string",
	     "Parent cgroup of all containers (default \"/insula\")", set_option},
	    {0, "registry-certs", OPT_CALL, d, "string",
	     "Directory of HOST[:PORT]/ca.crt (default \"/etc/insula/certs.d\", then "
	     "\"/etc/docker/certs.d\")",
	     set_option},
	    {0, "config-file", OPT_STR, &d->config_file, "string",
	     "Configuration file (default \"" CONFIG_FILE "\")", .seen = &d->config_seen},
	    {'D', "debug", OPT_BOOL, &d->cfg.debug, NULL, "Enable debug mode", .seen = &d->debug_seen},
	    {0, "detach", OPT_BOOL, &d->detach, NULL,
	     "Run in the background; return once the socket accepts"},
	    {'v', "version", OPT_BOOL, &d->version, NULL, "Print version information and quit"},
	    {'h', "help", OPT_BOOL, &d->help, NULL, "Print this help and quit"},
	    OPT_END,
	};
	_cleanup_free_ char **args = NULL, *error = NULL;

	if (opt_parse(opts, argc, argv, false, &args, &error) < 0) {
		fprintf(stderr, "insulad: %s\nSee 'insulad --help'.\n", error);
		return -EINVAL;
	}
	if (args && args[0]) {
		fprintf(stderr, "insulad: unknown argument '%s'\nSee 'insulad --help'.\n", args[0]);
		return -EINVAL;
	}
	if (d->help) {
		printf("Usage:  insulad [OPTIONS]\n\nThe insula container engine: serves the Docker Engine "
		       "API.\n\n");
		opt_print_help(opts);
	}
	if (d->debug_seen)
		strv_add(&d->given, "debug");
	if (d->require_hardware_seen)
		strv_add(&d->given, "require-hardware");
	if (d->tls_verify_seen)
		strv_add(&d->given, "tlsverify");
	if (d->open_firewall_seen)
		strv_add(&d->given, "open-firewall");
	if (d->cold_boot_seen)
		strv_add(&d->given, "vm-cold-boot");
	return 0;
}

static int load_config(struct insulad *d, struct err *e)
{
	const char *path = d->config_seen ? d->config_file : CONFIG_FILE;

	if (!d->config_seen && !fs_exists(path))
		return 0;
	return daemon_config_load(&d->cfg, path, d->given, e);
}

/* ---- running ---- */

/* A request is at work, or a container is going: what it leaves behind (the bridge, if it was the last) would
 * stay. */
static bool busy(const struct insulad *d)
{
	return server_busy(d->server) > 0 || containers_settling(d->engine);
}

static void stop_step(struct loop_source *s, void *userdata)
{
	struct insulad *d = userdata;

	if (!busy(d) || ++d->stop_steps > STOP_STEPS)
		loop_exit(d->loop, 0);
}

/* Containers run on; requests at work get their answers; a second signal does not wait for them. */
static void stop(struct insulad *d)
{
	daemon_notify("STOPPING=1");
	server_stop(d->server);
	if (d->stop_timer || !busy(d) ||
	    loop_add_timer(d->loop, STOP_STEP_US, STOP_STEP_US, stop_step, d, &d->stop_timer) < 0)
		loop_exit(d->loop, 0);
}

static void on_stop_signal(struct loop_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	log_info("stopping on signal %u; containers run on", si->ssi_signo);
	stop(userdata);
}

/* The debug level is what a running daemon can change. */
static void on_reload_signal(struct loop_source *s, const struct signalfd_siginfo *si, void *userdata)
{
	struct insulad *d = userdata;
	_cleanup_config_ struct daemon_config fresh;
	_cleanup_err_ struct err e = ERR_INIT;
	const char *path = d->config_seen ? d->config_file : CONFIG_FILE;

	if (d->debug_seen || !fs_exists(path))
		return;
	daemon_config_init(&fresh);
	if (daemon_config_load(&fresh, path, NULL, &e) < 0) {
		log_warn("%s", err_text(&e));
		return;
	}
	log_init("insulad", fresh.debug ? LOG_LVL_DEBUG : LOG_LVL_INFO);
	log_info("configuration reloaded");
}

static void on_idle_step(struct loop_source *s, void *userdata)
{
	struct insulad *d = userdata;
	unsigned running, paused, stopped;
	bool idle;

	containers_count(d->engine, &running, &paused, &stopped);
	idle = server_connections(d->server) == 0 && server_busy(d->server) == 0 && running + paused == 0;
	d->idle_looks = idle ? d->idle_looks + 1 : 0;
	if (d->idle_looks >= 2) {
		log_info("idle: the next connection starts the daemon again");
		stop(d);
	}
}

static int add_sources(struct insulad *d)
{
	const struct { int signo; loop_signal_fn fn; } signals[] = {
		{SIGTERM, on_stop_signal}, {SIGINT, on_stop_signal}, {SIGHUP, on_reload_signal},
	};

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		int r = loop_add_signal(d->loop, signals[i].signo, signals[i].fn, d, &d->signals[i]);

		if (r < 0)
			return r;
	}
	if (d->activated)
		return loop_add_timer(d->loop, IDLE_STEP_US, IDLE_STEP_US, on_idle_step, d, &d->idle_timer);
	return 0;
}

static int write_pidfile(const char *path, struct err *e)
{
	char pid[32];
	int n = snprintf(pid, sizeof pid, "%d", (int)getpid());
	int r = fs_write_atomic(AT_FDCWD, path, pid, (size_t)n, 0644, false);

	return r < 0 ? err_set(e, ERR_SYSTEM, r, "write '%s'", path) : 0;
}

static int serve(struct insulad *d, int fd, bool watch_only, struct err *e)
{
	int r = server_listen(d->server, fd, watch_only);

	return r < 0 ? err_set(e, ERR_SYSTEM, r, "API server") : 0;
}

static int start(struct insulad *d, struct err *e)
{
	int fd, monitor, r;

	r = loop_new(&d->loop);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "event loop");
	r = engine_open(d->loop, &d->cfg.engine, &d->engine, e);
	if (r < 0)
		return r;
	r = daemon_listen(&d->cfg, &fd, &d->activated, e);
	if (r < 0)
		return r;
	d->server = server_new(d->engine);
	r = serve(d, fd, false, e);
	if (r >= 0)
		r = daemon_listen_monitor(&d->cfg, &monitor, e);
	if (r >= 0 && monitor >= 0)
		r = serve(d, monitor, true, e);
	if (r < 0)
		return r;
	docker_socket_link(&d->cfg);
	r = add_sources(d);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "event sources");
	r = tls_gate_start(&d->cfg, d->engine, &d->tls, e);
	if (r < 0)
		return r;
	return write_pidfile(d->cfg.pidfile, e);
}

static void finish(struct insulad *d)
{
	if (d->server && !d->activated)
		(void)unlink(d->cfg.engine.socket);
	if (d->server) {
		(void)unlink(d->cfg.pidfile);
		docker_socket_unlink(&d->cfg);
	}
	if (d->server && d->cfg.monitor)
		(void)unlink(d->cfg.monitor);
	tls_gate_free(d->tls);
	server_free(d->server);
	engine_close(d->engine);
	loop_free(d->loop);
}

static int fail(struct insulad *d, const struct err *e)
{
	log_error("%s", err_text(e));
	daemon_ready(&d->ready_fd, err_text(e));
	return 1;
}

/* Two commands that find no daemon start two: the one that comes second serves its caller as well, by waiting
 * for the first one's socket. */
static bool other_daemon_answers(const struct insulad *d)
{
	for (int i = 0; i < RACE_STEPS; i++) {
		int fd = sock_connect_unix(d->cfg.engine.socket);

		if (fd >= 0) {
			close(fd);
			return true;
		}
		usleep(RACE_STEP_US);
	}
	return false;
}

static int run(struct insulad *d)
{
	_cleanup_err_ struct err e = ERR_INIT;
	int r;

	if (geteuid() != 0) {
		fprintf(stderr, "insulad: insulad needs to be started with root privileges\n");
		return 1;
	}
	if (load_config(d, &e) < 0 || daemon_config_finish(&d->cfg, &e) < 0)
		return fail(d, &e);
	log_init("insulad", d->cfg.debug ? LOG_LVL_DEBUG : LOG_LVL_INFO);
	umask(022);
	signal(SIGPIPE, SIG_IGN);
	/* after the daemon is up, freed memory goes back at once: it is idle most of its life */
	mallopt(M_MMAP_THRESHOLD, 64 << 10);
	mallopt(M_TRIM_THRESHOLD, 128 << 10);
	if (d->detach && daemon_detach(&d->cfg.engine, &d->ready_fd, &e) < 0)
		return fail(d, &e);
	daemon_reset_limits();
	r = daemon_lock(&d->cfg.engine, &e);
	if (r == -EADDRINUSE && d->detach && other_daemon_answers(d)) {
		daemon_ready(&d->ready_fd, NULL);
		return 0;
	}
	if (r >= 0)
		r = start(d, &e);
	if (r < 0) {
		r = fail(d, &e);
		finish(d);
		return r;
	}
	log_info("insulad " INSULA_VERSION " listens on %s; default isolation: %s",
		 d->activated ? "the passed socket" : d->cfg.engine.socket,
		 isolation_name(d->cfg.engine.default_isolation));
	daemon_ready(&d->ready_fd, NULL);
	daemon_notify("READY=1");
	malloc_trim(0);
	r = loop_run(d->loop);
	if (r < 0)
		log_error("event loop: %s", strerror(-r));
	finish(d);
	return r < 0 ? 1 : r;
}

int main(int argc, char **argv)
{
	struct insulad d = {.ready_fd = -EBADF};
	int r;

	log_init("insulad", LOG_LVL_INFO);
	daemon_config_init(&d.cfg);
	r = parse_options(&d, argc, argv) < 0 ? 1 : 0;
	if (r == 0 && d.version)
		printf("insulad version " INSULA_VERSION "\n");
	else if (r == 0 && !d.help)
		r = run(&d);
	daemon_config_done(&d.cfg);
	strv_free(d.given);
	free(d.config_file);
	return r;
}
