/* The link to vmwp over a virtio-serial port.
 *
 * The port shows a disconnected host as a permanent hang-up, so it must not stand in a level-triggered
 * epoll then. While nobody is connected it is watched edge-triggered: the first event is the hang-up
 * itself, the next one comes when the host has written something. Only then a connection is made on a
 * duplicate of the descriptor. The port itself stays open: it takes one opener only, and a process of a
 * container that has not executed its program yet would still hold it. */
#include "agent/agent.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define PORTS "/sys/class/virtio-ports"
#define PORT_DEADLINE_US (10 * 1000000ull)

struct pending *pending_new(struct agent *a, uint32_t seq, uint16_t type, const char *ctr, const char *exec)
{
	struct pending *p = new0(struct pending);

	*p = (struct pending){.a = a, .session = a->session, .seq = seq, .type = type, .ctr = xstrdup(ctr),
			      .exec = xstrdup(exec)};
	return p;
}

void pending_reply(struct pending *p, int r, const struct err *e, const void *payload, size_t n)
{
	if (p->a->conn && p->session == p->a->session)
		conn_reply(p->a->conn, p->seq, r, e, payload, n);
	free(p->ctr);
	free(p->exec);
	free(p);
}

static void on_hello(struct agent *a, const struct frame *f)
{
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	struct msg_hello hello;
	int r;

	r = msg_hello_decode(f->payload, f->len, &hello);
	if (r < 0) {
		conn_reply(a->conn, f->seq, r, NULL, NULL, 0);
		return;
	}
	/* The host may have come back before its absence was noticed. */
	task_unlink(a);
	streams_free(a->streams);
	a->streams = NULL;
	a->session++;
	a->greeted = false;
	conn_set_epoch(a->conn, f->epoch);
	if (hello.version != AGENT_VERSION) {
		r = err_set(&e, ERR_INVALID, -EPROTONOSUPPORT, "protocol version %u, the agent speaks %u",
			    hello.version, AGENT_VERSION);
		conn_reply(a->conn, f->seq, r, &e, NULL, 0);
		goto out;
	}
	r = streams_new(a->conn, &a->streams);
	if (r < 0) {
		conn_reply(a->conn, f->seq, r, NULL, NULL, 0);
		goto out;
	}
	str_replace(&a->sandbox, hello.sandbox);
	a->greeted = true;
	msg_hello_encode(&(struct msg_hello){.version = AGENT_VERSION, .sandbox = hello.sandbox,
					     .kind = (char *)"agent", .pid = (uint32_t)getpid()}, &out);
	conn_reply(a->conn, f->seq, 0, NULL, out.buf, out.len);
	task_replay(a);
out:
	msg_hello_done(&hello);
}

static void relisten(void *userdata)
{
	struct agent *a = userdata;
	int r;

	r = link_listen(a);
	if (r < 0) {
		/* Without the link this machine is of no use to anybody. */
		log_error("port '%s': %s", AGENT_PORT, strerror(-r));
		loop_exit(a->loop, r);
	}
}

static void on_close(struct conn *c, int r, void *userdata)
{
	struct agent *a = userdata;

	log_debug("link closed: %s", r < 0 ? strerror(-r) : "end of file");
	task_unlink(a);
	streams_free(a->streams);
	a->streams = NULL;
	conn_free(a->conn);
	a->conn = NULL;
	a->greeted = false;
	a->session++;
	loop_defer(a->loop, relisten, a);
}

static void on_frame(struct conn *c, const struct frame *f, int *fds, size_t n_fds, void *userdata)
{
	struct agent *a = userdata;
	int r;

	if (f->type == MSG_HELLO) {
		on_hello(a, f);
		return;
	}
	if (!a->greeted) {
		if (f->seq)
			conn_reply(c, f->seq, -EPROTO, NULL, NULL, 0);
		return;
	}
	switch (f->type) {
	case MSG_DATA:
	case MSG_STREAM_EOF:
	case MSG_STREAM_STOP:
	case MSG_CREDIT:
		r = streams_frame(a->streams, f);
		if (r < 0)
			on_close(c, r, a);	/* the peer breaks the rules: begin anew */
		break;
	case MSG_GUEST:
		guest_request(a, f->seq, f);
		break;
	case MSG_SHUTDOWN:
		power_request(a, f->seq);
		break;
	default:
		task_request(a, f);
	}
}

static const struct conn_ops link_ops = {.on_frame = on_frame, .on_close = on_close};

static bool host_gone(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0 && (p.revents & POLLHUP);
}

static bool host_talks(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLIN | POLLHUP)) == POLLIN;
}

static void on_port(struct loop_source *s, int fd, uint32_t events, void *userdata)
{
	struct agent *a = userdata;
	int r, copy;

	if (!host_talks(fd))
		return;
	loop_source_free(a->port_wait);
	a->port_wait = NULL;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	r = copy < 0 ? -errno : conn_new(a->loop, copy, false, &link_ops, a, &a->conn);
	if (r < 0) {
		log_error("link: %s", strerror(-r));
		loop_exit(a->loop, r);
	}
}

/* Opens the port by its name. -ENODEV while it has not appeared. */
static int port_open(int *ret)
{
	DIR *d = opendir(PORTS);
	struct dirent *de;
	int r = -ENODEV;

	if (!d)
		return r;
	while (r == -ENODEV && (de = readdir(d))) {
		_cleanup_free_ char *attr = NULL, *name = NULL, *dev = NULL;
		int fd;

		if (de->d_name[0] == '.')
			continue;
		attr = xasprintf("%s/name", de->d_name);
		if (fs_read_line(dirfd(d), attr, &name) < 0 || !streq(name, AGENT_PORT))
			continue;
		dev = path_join("/dev", de->d_name);
		fd = open(dev, O_RDWR | O_CLOEXEC | O_NONBLOCK);
		if (fd < 0) {
			r = errno == ENOENT || errno == ENXIO ? -ENODEV : -errno;
			break;
		}
		*ret = fd;
		r = 0;
	}
	(void)closedir(d);
	return r;
}

int link_open(struct agent *a)
{
	uint64_t deadline = now_mono_us() + PORT_DEADLINE_US;
	int r;

	/* The port's name comes by a message of the device. */
	while ((r = port_open(&a->port_fd)) == -ENODEV) {
		r = uevent_wait(a->uevent_fd, deadline);
		if (r < 0)
			return r == -ETIMEDOUT ? -ENODEV : r;
	}
	return r;
}

int link_listen(struct agent *a)
{
	char rest[512];

	/* What the host of the last session wrote and nobody read. */
	while (host_gone(a->port_fd) && read(a->port_fd, rest, sizeof(rest)) > 0)
		;
	return loop_add_io(a->loop, a->port_fd, EPOLLIN | EPOLLET, on_port, a, &a->port_wait);
}
