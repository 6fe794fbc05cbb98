/* The API server of insulad: connections, requests, routing, streaming answers and hijack.
 *
 * A handler gets a request whose head is complete. Small bodies (JSON) are collected first for routes
 * with .body = BODY_JSON (at most 16 MiB); BODY_STREAM routes read the body themselves.
 * A handler answers with exactly one of resp_*; it may do so later. A request that it answers itself stays
 * readable until it returns. If the client goes away first, a
 * request with a `gone` callback ends with it; one without stays valid until it is answered (into the void).
 */
#pragma once

#include "engine/engine.h"
#include "lib/http1.h"

struct server;
struct request;

enum body_kind { BODY_NONE /* ignored */, BODY_JSON, BODY_STREAM };

struct route {
	const char *method;	/* "GET"... ; HEAD falls back to GET */
	const char *pattern;	/* "/containers/{id}/start"; {name...} matches slashes too (image names) */
	void (*handler)(struct request *r, struct engine *e);
	enum body_kind body;
	bool watch;		/* for those who only watch: changes nothing, and gives no files away */
};
/* Each routes_*.c exports one table ended by a NULL method. */
extern const struct route routes_system[], routes_containers[], routes_exec[], routes_images[],
    routes_registry[], routes_save[], routes_disks[],
    routes_networks[], routes_volumes[], routes_vm[], routes_files[], routes_prune[];

struct request {
	struct http_head head;
	struct http_query query;
	int api_minor;			/* 47 for v1.47; unversioned = our maximum */
	char *path;			/* without the version prefix, decoded */
	char **params;			/* values of {…} in order */
	struct json *body;		/* BODY_JSON; NULL if the body was empty */
	struct server *server;
	struct engine *engine;
	/* Set by a handler that answers later: called if the client disconnects before. */
	void (*gone)(struct request *r);
	void *userdata;			/* the handler's */
};

static inline const char *req_param(const struct request *r, size_t i) { return r->params[i]; }

/* Adds a header to the answer; before resp_*. */
void resp_header(struct request *r, const char *name, const char *value);

/* Complete answers. */
void resp_json(struct request *r, int status, struct json *j /* taken */);
/* Of long lists, which are written without a tree (lib/json_write.h), and leave while they are written: what
 * has come together of one goes out in chunks, the rest with resp_json_text. More than LIST_MAX at once is
 * refused. */
#define LIST_MAX (256u << 20)
void resp_json_spill(void *r /* struct request */, struct sbuf *text);
void resp_json_text(struct request *r, int status, struct sbuf *text /* a line end is added */);
void resp_text(struct request *r, int status, const char *content_type, const char *body);
void resp_status(struct request *r, int status);		/* no body: 204, 304, 200 */
void resp_error(struct request *r, const struct err *e); /* {"message": ...} with the status of e->kind */
/* The same with a status that no kind of error has. */
void resp_message(struct request *r, int status, const char *message);
void resp_errorf(struct request *r, enum err_kind kind, const char *fmt, ...) _printf_(3, 4);

/* Streaming answers (chunked): headers are sent at once. After resp_stream_end the request is gone. */
void resp_stream_begin(struct request *r, int status, const char *content_type);
void resp_stream_write(struct request *r, const void *p, size_t n);
size_t resp_stream_pending(struct request *r);			/* bytes the client has not taken yet */
void resp_stream_on_drain(struct request *r,
			  void (*fn)(struct request *r)); /* called when pending drops to 0 */
void resp_stream_end(struct request *r);
/* The answer cannot be completed: the connection is cut, so that the client notices. The request is gone. */
void resp_stream_abort(struct request *r);

/* BODY_STREAM: the body as it comes. fn gets n > 0 bytes, or n = 0 at the end, or n < 0 (-errno: -EBADMSG
 * malformed, the client waits for an answer; -ECONNRESET cut off); after n <= 0 it is not called again.
 * Returning false pauses (the bytes given count as taken); req_body_resume goes on. fn runs from the loop,
 * never inside these two calls. */
void req_body_read(struct request *r, bool (*fn)(struct request *r, const void *p, ssize_t n));
void req_body_resume(struct request *r);

/* Docker's stream hijack: answers 101 (with Upgrade) or 200, waits until the client has read the head
 * (SIOCOUTQ = 0, at most 2 s: docker-py loses bytes otherwise), then gives the socket away: fn owns fd
 * (non-blocking; already at its end if the client has left) and the bytes already read behind the head.
 * fn always runs, from the loop. The request is gone after. */
typedef void (*hijack_fn)(void *userdata, int fd, const void *preread, size_t n);
void resp_hijack(struct request *r, bool multiplexed, hijack_fn fn, void *ud);

struct server *server_new(struct engine *e);
/* Takes fd, also if it fails. watch_only: its clients get only the routes that are marked so. */
int server_listen(struct server *s, int fd, bool watch_only);
void server_free(struct server *s);
/* Stops accepting and closes idle connections; requests at work go on. */
void server_stop(struct server *s);
/* Requests being handled whose answer has not begun. */
size_t server_busy(const struct server *s);
size_t server_connections(const struct server *s);
int http_status_of(enum err_kind k);
