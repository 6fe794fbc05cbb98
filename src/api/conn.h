/* Inside of the API server: connections and requests at work. server.h is what handlers see.
 *
 * Theory of operation. A connection is a small state machine that one function, hconn_run(), drives:
 *
 *   HEAD -> BODY (collecting or skipping) -> HANDLING -> FLUSH -> DRAIN (unread rest of a body) -> HEAD
 *                                               \-> TAKEN (hijacked: the descriptor is somebody else's)
 *
 * While a request is handled nothing is read from the socket (unless the handler reads the body), so
 * pipelined requests and the bytes behind a hijacked request wait in the kernel, and a vanished client shows
 * as EPOLLHUP. A half-close does not: such a client still gets its answer.
 *
 * resp_*() may be called from a handler or much later, from anywhere. They never free a connection and never
 * start the next request themselves: they put bytes out, set the state, and leave the rest to hconn_run(),
 * which is either further up the stack or scheduled for the end of the loop's round. */
#pragma once

#include "api/server.h"
#include "base/hash.h"

#define API_MINOR_MAX                                                                                        \
	47 /* advertised; >= 44 for several networks at create, < 48 keeps image fields simple */
#define API_MINOR_MIN 12		/* skopeo, buildah and podman of Debian 12 speak 1.22 */
#define CONN_MAX 4096			/* connections at a time; further ones are told so (429) */
#define CONN_REFUSED_MAX 256		/* of those, at a time; further ones wait in the listen queue */
#define CONN_IN_MAX (128u << 10)	/* bytes read ahead of what is parsed */
#define CONN_WIDE (1 << 20)		/* bytes of a long answer that the socket holds */
#define CONN_READ (32u << 10)		/* bytes taken by one read */
#define BODY_JSON_MAX (16u << 20)
#define BODY_SKIP_MAX (1u << 20)	/* an ignored body */
#define BODY_DRAIN_MAX (16u << 20)	/* what is read and dropped after an early answer */
#define CONN_STALL_US (60u * 1000000)   /* a head, a body or an answer that does not move for that long ends \
					 */
#define CONN_SWEEP_US (15u * 1000000)

enum conn_state { CONN_HEAD, CONN_BODY, CONN_HANDLING, CONN_FLUSH, CONN_DRAIN, CONN_TAKEN };

/* Where the body of the request being received ends. */
struct body_reader {
	bool is_chunked, done;
	struct http_chunked chunked;
	uint64_t left, total;
};

/* A socket that clients come to. */
struct listener {
	struct list link;
	struct server *server;
	int fd;			/* owned */
	struct loop_source *io;
	bool watch_only;	/* for clients who see and change nothing */
};

struct hconn {
	struct list link, ready_link;
	struct server *server;
	bool watch_only;	/* came by such a listener */
	int fd;
	struct loop_source *io;
	enum conn_state state;
	struct sbuf in, out, body;
	struct body_reader reader;
	struct req *req;
	uint64_t moved_us;	/* when bytes moved last */
	bool running;		/* hconn_run is on the stack */
	bool close_after;	/* this answer is the last one */
	bool eof;		/* the client sends no more */
	bool broken;		/* writing failed */
};

/* A request with what handlers need not see. */
struct req {
	struct request pub;
	struct hconn *conn;	/* NULL once the client has left */
	const struct route *route;
	struct sbuf headers;	/* added by resp_header */
	bool is_head, streaming, out_chunked;
	bool reading, paused;	/* req_body_read is on */
	bool dispatched;	/* its handler was called */
	bool counted;		/* in server->busy */
	bool handling, over;	/* its handler is on the stack; it was answered meanwhile */
	bool *freed;		/* set when q goes, for callers that must know */
	bool (*body_fn)(struct request *r, const void *p, ssize_t n);
	void (*drain_fn)(struct request *r);
};

struct server {
	struct engine *engine;
	struct loop *loop;
	struct list listeners;
	struct loop_source *sweep;
	struct list conns, ready;
	size_t n_conns, busy;
	size_t refs; /* server_new's, one per request, one per deferred call: some outlive the connections */
	bool accepting, stopping, ready_deferred;
	char date[32];		/* of the Date header, made once a second */
	uint64_t date_s;
};

static inline struct req *req_of(struct request *r) { return container_of(r, struct req, pub); }

/* conn.c */
struct hconn *hconn_new(struct server *s, int fd, bool watch_only);	/* NULL: there is no memory for it */
void hconn_run(struct hconn *c);			/* may free c */
void hconn_schedule(struct hconn *c);		/* hconn_run at the end of this round */
void hconn_close(struct hconn *c);
void hconn_sweep(struct hconn *c, uint64_t now_us);
/* Queues bytes and sends what the socket takes. */
void hconn_send(struct hconn *c, const void *p, size_t n);
/* A long answer follows: the socket is to take it without waiting for the client. */
void hconn_widen(struct hconn *c);
void hconn_expect_continue(struct hconn *c);

/* request.c: from a parsed head to a handler. */
struct req *req_new(struct hconn *c, struct http_head *head /* taken */);
void req_free(struct req *r);
/* Finds the version and the route; answers itself and returns false if there is none. */
bool req_route(struct req *r);
/* The body has been collected: parses it and calls the handler. */
void req_dispatch(struct req *r);
void req_finish(struct req *r);			/* answered: frees r, moves its connection on */
void req_client_gone(struct req *r);
void req_answer_begun(struct req *r);		/* it counts as busy no longer */

/* router.c */
/* Whether path matches pattern; params gets the values (heap vector). */
bool route_match(const char *pattern, const char *path, char ***ret_params);
/* First match over all tables in order; NULL = none. */
const struct route *route_find(const char *method, const char *path, char ***ret_params);
extern const struct route *const route_tables[];	/* NULL-terminated; tables.c */

/* response.c */
const char *http_reason(int status);
/* Status line and the headers that each answer carries; no final empty line. */
void resp_head(struct req *r, int status, struct sbuf *out);
/* For connections whose head could not even be parsed. */
void hconn_refuse(struct hconn *c, int status, const char *message);

/* server.c */
const char *server_date(struct server *s);
void server_conn_gone(struct server *s);
void server_unref(struct server *s);
