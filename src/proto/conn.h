/* A framed connection on the event loop: buffered writes, descriptor passing (unix sockets), and
 * request/reply matching by seq. Control frames jump ahead of queued DATA frames. */
#pragma once

#include "base/err.h"
#include "base/loop.h"
#include "base/sbuf.h"
#include "proto/frame.h"
#include "proto/msg.h"

struct conn;

struct conn_ops {
	/* Every frame but REPLYs to own requests. fds: received descriptors; the handler takes them by
	 * setting entries to -EBADF, the rest is closed after it returns. The connection may be freed inside.
	 */
	void (*on_frame)(struct conn *c, const struct frame *f, int *fds, size_t n_fds, void *userdata);
	/* The peer is gone or broke the protocol (r = 0 for EOF, else -errno). Outstanding requests have been
	 * failed with ERR_UNAVAILABLE before. The handler usually frees the connection. */
	void (*on_close)(struct conn *c, int r, void *userdata);
};

/* r = 0 and payload, or r < 0 and e. */
typedef void (*conn_reply_fn)(void *userdata, int r, const struct err *e, const void *payload, size_t n);

/* Takes ownership of fd (made non-blocking). is_socket selects sendmsg/recvmsg with descriptors. */
int conn_new(struct loop *l, int fd, bool is_socket, const struct conn_ops *ops, void *userdata,
	     struct conn **ret);
/* Fails outstanding requests silently (their callbacks do not run), closes the descriptor. */
void conn_free(struct conn *c);
int conn_fd(const struct conn *c);
void conn_set_epoch(struct conn *c, uint16_t epoch);

/* Queues a frame; pass_fd >= 0 is duplicated and sent along. */
void conn_send(struct conn *c, uint16_t type, uint32_t seq, uint32_t stream, const void *p, size_t n,
	       int pass_fd);
/* Sends a request; fn runs exactly once, unless the connection is freed first. */
void conn_request(struct conn *c, uint16_t type, const void *p, size_t n, int pass_fd, conn_reply_fn fn,
		  void *userdata);
/* Answers the request seq. r = 0: payload; r < 0: e (may be NULL: then strerror). */
void conn_reply(struct conn *c, uint32_t seq, int r, const struct err *e, const void *payload, size_t n);
size_t conn_queued(const struct conn *c);	/* bytes not yet written */
/* Blocks until everything queued is written, at most timeout_ms. */
int conn_flush(struct conn *c, int timeout_ms);

/* Encodes a message struct and sends it: CONN_REQUEST(c, START, start, &m, -1, fn, ud). */
#define CONN_REQUEST(c, NAME, name, m, fd, fn, ud) do { \
	_cleanup_sbuf_ struct sbuf _b = SBUF_INIT; msg_##name##_encode((m), &_b); \
	conn_request((c), MSG_##NAME, _b.buf, _b.len, (fd), (fn), (ud)); } while (0)
#define CONN_EVENT(c, NAME, name, m) do { \
	_cleanup_sbuf_ struct sbuf _b = SBUF_INIT; msg_##name##_encode((m), &_b); \
	conn_send((c), MSG_##NAME, 0, 0, _b.buf, _b.len, -1); } while (0)
