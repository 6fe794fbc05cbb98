/* Docker's stream hijack: after the head the connection carries raw bytes in both directions.
 *
 * docker-py reads the head through a buffered reader and then goes on with the bare socket, so payload that
 * arrives in the same read as the head is lost to it. The head is therefore given time to be read: SIOCOUTQ
 * counts the bytes of a unix socket that the peer has not taken yet, and the descriptor is handed on once it
 * is 0, looked at in growing steps from 50 us, for two seconds at most: on a host with much to do a client
 * may not come to its turn for long. */
#include "api/conn.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/sock.h"
#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define STEP_FIRST_US 50
#define STEP_MAX_US 200
#define STEP_LATE_US 1000
#define LATE_US 20000
#define GATE_US 2000000

struct hijack {
	struct loop *loop;
	struct loop_source *timer;
	int fd;
	struct sbuf preread;
	uint64_t deadline_us, step_us;
	hijack_fn fn;
	void *userdata;
};

static void hand_over(void *userdata)
{
	struct hijack *h = userdata;

	loop_source_free(h->timer);
	h->fn(h->userdata, h->fd, h->preread.buf, h->preread.len);
	sbuf_done(&h->preread);
	free(h);
}

static bool head_was_read(int fd)
{
	int unread = 0;

	return ioctl(fd, SIOCOUTQ, &unread) < 0 || unread == 0;
}

static void gate_step(struct loop_source *s, void *userdata)
{
	struct hijack *h = userdata;
	uint64_t now = now_mono_us();
	bool late = now + GATE_US >= h->deadline_us + LATE_US;

	if (head_was_read(h->fd) || now >= h->deadline_us) {
		hand_over(h);
		return;
	}
	h->step_us = late ? STEP_LATE_US : MIN(h->step_us * 2, (uint64_t)STEP_MAX_US);
	(void)loop_timer_set(s, h->step_us, 0);
}

/* A socket whose client has left: reads as ended, refuses writes. */
static int dead_socket(void)
{
	int pair[2];

	if (sock_pair(pair) < 0)
		return -EBADF;
	fd_close(&pair[1]);
	(void)fd_set_nonblock(pair[0], true);
	return pair[0];
}

static void send_head(struct req *q, bool multiplexed)
{
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT;
	bool upgrade = q->pub.head.upgrade;

	resp_head(q, upgrade ? 101 : 200, &out);
	sbuf_printf(&out, "Content-Type: application/vnd.docker.%s-stream\r\n",
		    multiplexed && q->pub.api_minor >= 42 ? "multiplexed" : "raw");
	sbuf_puts(&out, upgrade ? "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n" : "\r\n");
	hconn_send(q->conn, out.buf, out.len);
}

void resp_hijack(struct request *r, bool multiplexed, hijack_fn fn, void *ud)
{
	struct req *q = req_of(r);
	struct hconn *c = q->conn;
	struct hijack *h = new0(struct hijack);

	*h = (struct hijack){
		.loop = r->server->loop, .fd = -EBADF, .step_us = STEP_FIRST_US,
		.deadline_us = now_mono_us() + GATE_US, .fn = fn, .userdata = ud,
	};
	if (c) {
		send_head(q, multiplexed);
		loop_source_free(TAKE_PTR(c->io));
		/* the head is small and the socket was empty: anything left means that the client is gone */
		if (c->out.len > 0)
			shutdown(c->fd, SHUT_RDWR);
		h->fd = TAKE_FD(c->fd);
		h->preread = c->in;
		c->in = (struct sbuf)SBUF_INIT;
		c->req = NULL;
		c->state = CONN_TAKEN;
		hconn_schedule(c);
	} else {
		h->fd = dead_socket();
	}
	req_free(q);
	if (h->fd < 0 || head_was_read(h->fd) ||
	    loop_add_timer(h->loop, STEP_FIRST_US, 0, gate_step, h, &h->timer) < 0)
		loop_defer(h->loop, hand_over, h);
}
