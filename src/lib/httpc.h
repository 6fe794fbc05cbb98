/* A blocking HTTP/1.1 client on one connected stream socket: requests with complete or chunked bodies,
 * answers read whole or piece by piece, and Docker's stream hijack. Keep-alive: the connection may carry
 * the next request once the previous answer was read to its end (httpc_reusable). */
#pragma once

#include "base/sbuf.h"
#include "lib/http1.h"

struct httpc;

struct httpc_request {
	const char *method, *target;
	const char *content_type;	/* NULL = none */
	const char *header;		/* one more, "Name: value"; NULL = none */
	const void *body;
	size_t body_len;
	bool chunked;			/* the body follows by httpc_send_chunk */
	bool upgrade;			/* ask for a hijacked stream: Connection: Upgrade, Upgrade: tcp */
};

/* Takes the connected socket over. user_agent is copied. */
struct httpc *httpc_new(int fd, const char *user_agent);
void httpc_free(struct httpc *c);		/* closes; NULL is fine */
static inline void httpc_freep(struct httpc **c) { httpc_free(*c); *c = NULL; }
#define _cleanup_httpc_ _cleanup_(httpc_freep)

/* Sends a request. 0 or -errno; -EPIPE and -ECONNRESET may still leave an answer to read. */
int httpc_send(struct httpc *c, const struct httpc_request *r);
/* One piece of a chunked body; n = 0 ends it. */
int httpc_send_chunk(struct httpc *c, const void *p, size_t n);

/* Reads the head of the answer (100 Continue is skipped); owned by c until the next request.
 * -ECONNRESET if the server closed without answering, -EBADMSG if it does not speak HTTP. */
int httpc_recv_head(struct httpc *c, const struct http_head **ret);
/* Body bytes, unchunked; 0 at its end, -errno. Blocks until there is something. */
ssize_t httpc_read(struct httpc *c, void *p, size_t n);
/* The rest of the body, bounded by out->max. */
int httpc_read_all(struct httpc *c, struct sbuf *out);
/* The same, written to fd; *count (may be NULL) grows by the bytes. */
int httpc_copy(struct httpc *c, int fd, uint64_t *count);
bool httpc_reusable(const struct httpc *c);
int httpc_fd(const struct httpc *c);		/* for poll; borrowed */
/* True if httpc_read would give bytes without reading the socket. */
bool httpc_buffered(const struct httpc *c);

/* After an answer of 101 (or 200 to an upgrade): gives the socket away, and the bytes read behind the head.
 */
int httpc_hijack(struct httpc *c, struct sbuf *ret_preread);
