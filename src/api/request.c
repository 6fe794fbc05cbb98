/* A request's way from the parsed head to its handler. */
#include "api/conn.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/strv.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>


struct req *req_new(struct hconn *c, struct http_head *head)
{
	struct req *q = new0(struct req);

	q->conn = c;
	q->pub.head = *head;
	q->pub.server = c->server;
	q->pub.engine = c->server->engine;
	q->pub.api_minor = API_MINOR_MAX;
	q->is_head = streq(head->method, "HEAD");
	c->server->refs++;
	*head = (struct http_head){0};
	return q;
}

void req_answer_begun(struct req *q)
{
	if (q->counted)
		q->pub.server->busy--;
	q->counted = false;
}

void req_free(struct req *q)
{
	req_answer_begun(q);
	if (q->handling) {
		/* Answered by its own handler, which may still look at it: gone when that returns. */
		q->conn = NULL;
		q->over = true;
		return;
	}
	server_unref(q->pub.server);
	if (q->freed)
		*q->freed = true;
	http_head_done(&q->pub.head);
	http_query_done(&q->pub.query);
	free(q->pub.path);
	strv_free(q->pub.params);
	json_free(q->pub.body);
	sbuf_done(&q->headers);
	free(q);
}

void req_finish(struct req *q)
{
	struct hconn *c = q->conn;

	if (c) {
		c->req = NULL;
		c->state = CONN_FLUSH;
		hconn_schedule(c);
	}
	req_free(q);
}

void req_client_gone(struct req *q)
{
	bool freed = false;

	q->conn = NULL;
	if (!q->dispatched) {
		req_free(q);
		return;
	}
	if (q->reading) {
		q->reading = false;
		q->freed = &freed;
		q->body_fn(&q->pub, NULL, -ECONNRESET);
		if (freed)
			return;
		q->freed = NULL;
	}
	if (q->pub.gone) {
		q->pub.gone(&q->pub);
		req_free(q);
	}
}

/* "/v1.47/rest": takes the version off. 0, or -EINVAL after answering. */
static int take_version(struct req *q, const char **path)
{
	const char *p = *path;
	unsigned major, minor;
	int used = 0;

	if (p[0] != '/' || p[1] != 'v' || !isdigit((unsigned char)p[2]))
		return 0;
	used = (int)strspn(p + 2, "0123456789.") + 2;
	if (p[used] != '/')
		return 0;
	if (sscanf(p, "/v%4u.%4u", &major, &minor) != 2) {
		resp_errorf(&q->pub, ERR_INVALID, "invalid API version in %.*s", used, p);
		return -EINVAL;
	}
	if (major < 1 || (major == 1 && minor < API_MINOR_MIN)) {
		resp_errorf(&q->pub, ERR_INVALID,
			    "client version %u.%u is too old. Minimum supported API version is "
			    "1.%d, please upgrade your client to a newer version",
			    major, minor, API_MINOR_MIN);
		return -EINVAL;
	}
	if (major > 1 || minor > API_MINOR_MAX) {
		resp_errorf(&q->pub, ERR_INVALID,
			    "client version %u.%u is too new. Maximum supported API version is 1.%d", major,
			    minor, API_MINOR_MAX);
		return -EINVAL;
	}
	q->pub.api_minor = (int)minor;
	*path = p + used;
	return 0;
}

bool req_route(struct req *q)
{
	const char *target = q->pub.head.target, *path;
	size_t len = strcspn(target, "?");
	_cleanup_free_ char *decoded = NULL;

	if (http_url_decode(target, len, false, &decoded) < 0 ||
	    (target[len] && http_query_parse(target + len + 1, &q->pub.query) < 0)) {
		resp_errorf(&q->pub, ERR_INVALID, "invalid URL escape in request");
		return false;
	}
	path = decoded;
	if (take_version(q, &path) < 0)
		return false;
	q->pub.path = xstrdup(path);
	log_debug("api: %s %s", q->pub.head.method, target);
	q->route = route_find(q->pub.head.method, path, &q->pub.params);
	if (!q->route) {
		resp_errorf(&q->pub, ERR_NOT_FOUND, "page not found");
		return false;
	}
	if (q->conn->watch_only && !q->route->watch) {
		resp_errorf(&q->pub, ERR_FORBIDDEN, "%s %s: this socket is read-only", q->pub.head.method,
			    path);
		return false;
	}
	return true;
}

/* moby's rule for bodies that are read as JSON: "application/json", with or without parameters. */
static bool content_type_is_json(const char *ct)
{
	size_t n = strcspn(ct, "; \t");

	return n == strlen("application/json") && strncasecmp(ct, "application/json", n) == 0;
}

/* 0, or -errno after answering. */
static int parse_body(struct req *q)
{
	struct hconn *c = q->conn;
	const char *ct = http_header_get(&q->pub.head, "Content-Type");
	_cleanup_err_ struct err e = ERR_INIT;
	int r;

	if (c->body.len == 0)
		return 0;
	if (!content_type_is_json(ct ? ct : "")) {
		resp_errorf(&q->pub, ERR_INVALID,
			    "unsupported Content-Type header (%s): must be 'application/json'", ct ? ct : "");
		return -EINVAL;
	}
	r = json_parse(c->body.buf, c->body.len, &q->pub.body, &e);
	sbuf_done(&c->body);
	if (r < 0)
		resp_error(&q->pub, &e);
	return r;
}

void req_dispatch(struct req *q)
{
	if (q->route->body == BODY_JSON && parse_body(q) < 0)
		return;
	q->counted = q->dispatched = true;
	q->pub.server->busy++;
	q->handling = true;
	q->route->handler(&q->pub, q->pub.engine);
	q->handling = false;
	if (q->over)
		req_free(q);
}

void req_body_read(struct request *r, bool (*fn)(struct request *r, const void *p, ssize_t n))
{
	struct req *q = req_of(r);

	q->body_fn = fn;
	q->reading = true;
	q->paused = false;
	if (!q->conn)
		return;
	hconn_expect_continue(q->conn);
	hconn_schedule(q->conn);
}

void req_body_resume(struct request *r)
{
	struct req *q = req_of(r);

	if (!q->paused)
		return;
	q->paused = false;
	if (q->conn)
		hconn_schedule(q->conn);
}
