#include "cli/cli.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/sock.h"
#include "base/strv.h"
#include "cli/contexts.h"
#include "lib/json_scan.h"

#include <errno.h>
#include <string.h>

#define ANSWER_MAX (256u << 20)

char *cli_config_dir(void)
{
	const char *dir = getenv("DOCKER_CONFIG"), *home = getenv("HOME");

	if (!str_empty(dir))
		return xstrdup(dir);
	return str_empty(home) ? NULL : xasprintf("%s/.docker", home);
}

char *cli_default_host(void)
{
	const char *root = getenv("INSULA_EXEC_ROOT");

	return xasprintf("unix://%s/insula.sock", str_empty(root) ? "/run/insula" : root);
}

int cli_resolve_host(struct cli *c, struct err *e)
{
	const char *host = c->given_host, *context = c->given_context;
	_cleanup_free_ char *name = NULL;
	const char *env = getenv("INSULA_HOST");

	if (str_empty(env))
		env = getenv("DOCKER_HOST");
	c->context = xstrdup("default");
	if (host && context)
		return err_msg(e, ERR_INVALID, 0,
			       "conflicting options: cannot specify both --host and --context");
	if (host) {
		c->host = xstrdup(host);
	} else {
		if (context)
			name = xstrdup(context);
		else if (!str_empty(env))
			c->host = xstrdup(env);
		else
			name = context_current();
	}
	if (name && !str_empty(name) && !streq(name, "default")) {
		_cleanup_json_ struct json *chosen = context_load(name);

		str_replace(&c->context, name);
		c->host = xstrdup(context_host(chosen));
		if (!c->host)
			return err_msg(e, ERR_INVALID, 0,
				       "Failed to initialize: unable to resolve docker endpoint: "
				       "context \"%s\": context not found",
				       name);
	}
	if (!c->host) {
		c->host = cli_default_host();
		c->default_host = true;
	}
	if (!str_starts(c->host, "unix://") || !c->host[7]) {
		bool known = str_starts(c->host, "tcp://") || str_starts(c->host, "ssh://") ||
			     str_starts(c->host, "http://") || str_starts(c->host, "https://");

		if (known)
			return err_msg(e, ERR_INVALID, 0,
				       "Failed to initialize: %s: insula speaks to unix sockets "
				       "only (unix:///PATH)",
				       c->host);
		return err_msg(e, ERR_INVALID, 0, "Failed to initialize: unable to resolve docker endpoint: "
			       "invalid bind address format: %s", c->host);
	}
	c->socket = xstrdup(c->host + strlen("unix://"));
	return 0;
}

int cli_dial(struct cli *c, struct err *e)
{
	int fd = sock_connect_unix(c->socket);

	if ((fd == -ENOENT || fd == -ECONNREFUSED) && c->default_host) {
		int r = cli_start_daemon(c, &fd, e);

		if (r < 0)
			return r;
	}
	if (fd == -EACCES || fd == -EPERM)
		return err_msg(e, ERR_SYSTEM, fd,
			       "permission denied while trying to connect to the insula daemon "
			       "socket at %s: connect: permission denied",
			       c->host);
	if (fd < 0)
		return err_msg(e, ERR_SYSTEM, fd,
			       "Cannot connect to the insula daemon at %s. Is the insula daemon "
			       "running?",
			       c->host);
	return fd;
}

int cli_connect(struct cli *c, struct httpc **ret, struct err *e)
{
	int fd = cli_dial(c, e);

	if (fd < 0)
		return fd;
	*ret = httpc_new(fd, "insula/" INSULA_VERSION " (linux)");
	return 0;
}

static enum err_kind kind_of(int status)
{
	switch (status) {
	case 304: return ERR_NOT_MODIFIED;
	case 400: return ERR_INVALID;
	case 401: return ERR_UNAUTHORIZED;
	case 403: return ERR_FORBIDDEN;
	case 404: return ERR_NOT_FOUND;
	case 409: return ERR_CONFLICT;
	case 501: return ERR_NOT_IMPLEMENTED;
	case 503: return ERR_UNAVAILABLE;
	default: return ERR_SYSTEM;
	}
}

/* The message of an error answer; the connection is then free for the next request. */
static int daemon_error(struct cli *c, struct httpc *h, const struct http_head *head, struct err *e)
{
	_cleanup_sbuf_ struct sbuf body = SBUF_INIT_MAX(1u << 20);
	_cleanup_json_ struct json *j = NULL;
	enum err_kind kind = kind_of(head->status);
	const char *msg;
	int status = head->status, r = httpc_read_all(h, &body);

	if (r >= 0 && body.len)
		(void)json_parse(body.buf, body.len, &j, NULL);
	msg = json_get_str(j, "message");
	while (!msg && body.len > 0 && body.buf[body.len - 1] == '\n')
		body.buf[--body.len] = 0;
	if (!str_empty(msg) || body.len > 0)
		r = err_msg(e, kind, 0, "Error response from daemon: %s", msg ?: sbuf_str(&body));
	else
		r = err_msg(e, kind, 0, "Error response from daemon: request returned HTTP status %d",
			    status);
	api_release(c, h);
	return r;
}

static int broken(struct cli *c, int r, struct err *e)
{
	return err_msg(e, ERR_SYSTEM, r, "error during connect: the daemon at %s did not answer: %s", c->host,
		       strerror(-r));
}

int api_answer(struct cli *c, struct httpc *h, const struct http_head **ret_head, struct err *e)
{
	const struct http_head *head;
	int r = httpc_recv_head(h, &head);

	if (r < 0) {
		httpc_free(h);
		return broken(c, r, e);
	}
	if (head->status >= 400)
		return daemon_error(c, h, head, e);
	if (ret_head)
		*ret_head = head;
	return 0;
}

int api_open(struct cli *c, const struct httpc_request *req, struct httpc **ret,
	     const struct http_head **ret_head, struct err *e)
{
	for (;;) {
		struct httpc *h = TAKE_PTR(c->idle);
		bool reused = h;
		const struct http_head *head;
		int r = h ? 0 : cli_connect(c, &h, e);

		if (r < 0)
			return r;
		r = httpc_send(h, req);
		if (r >= 0 && req->chunked) {
			*ret = h;
			return 0;
		}
		r = httpc_recv_head(h, &head);
		/* An idle connection may have been closed meanwhile (the daemon was restarted): once more. */
		if (r < 0 && reused) {
			httpc_free(h);
			continue;
		}
		if (r < 0) {
			httpc_free(h);
			return broken(c, r, e);
		}
		if (head->status >= 400)
			return daemon_error(c, h, head, e);
		*ret = h;
		if (ret_head)
			*ret_head = head;
		return 0;
	}
}

void api_release(struct cli *c, struct httpc *h)
{
	if (h && !c->idle && httpc_reusable(h))
		c->idle = h;
	else
		httpc_free(h);
}

/* The whole answer; header: one more of the request, or NULL. */
static int api_read(struct cli *c, const char *method, const char *target, const char *header,
		    const struct json *body, struct sbuf *answer, struct err *e)
{
	_cleanup_free_ char *text = body ? json_dump(body) : NULL;
	struct httpc_request req = {
		.method = method, .target = target, .header = header, .body = text,
		.body_len = text ? strlen(text) : 0, .content_type = text ? "application/json" : NULL,
	};
	struct httpc *h;
	int r = api_open(c, &req, &h, NULL, e);

	if (r < 0)
		return r;
	r = httpc_read_all(h, answer);
	api_release(c, h);
	return r < 0 ? broken(c, r, e) : 0;
}

int api_call(struct cli *c, const char *method, const char *target, const struct json *body,
	     struct json **ret_json, struct err *e)
{
	return api_call_with(c, method, target, NULL, body, ret_json, e);
}

int api_call_with(struct cli *c, const char *method, const char *target, const char *header,
		  const struct json *body, struct json **ret_json, struct err *e)
{
	_cleanup_sbuf_ struct sbuf answer = SBUF_INIT_MAX(ANSWER_MAX);
	struct json *j = NULL;
	int r = api_read(c, method, target, header, body, &answer, e);

	if (r < 0 || !ret_json)
		return r;
	if (answer.len > 0) {
		r = json_parse(answer.buf, answer.len, &j, e);
		if (r < 0)
			return err_wrap(e, r, "%s %s: the daemon's answer", method, target);
	}
	*ret_json = j;
	return 0;
}

int api_objects(struct httpc *h, api_object_fn fn, void *userdata, struct err *e)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT_MAX(16u << 20);

	for (;;) {
		char buf[16384];
		size_t n;
		ssize_t k = httpc_read(h, buf, sizeof(buf));

		if (k <= 0)
			return k < 0 ? err_set(e, ERR_SYSTEM, k, "reading the daemon's answer") : 0;
		sbuf_add(&b, buf, k);
		if (!sbuf_ok(&b))
			return err_set(e, ERR_SYSTEM, -EFBIG, "reading the daemon's answer");
		while ((n = json_scan_value(b.buf, b.len)) > 0) {
			_cleanup_json_ struct json *j = NULL;
			int r = json_parse(b.buf, n, &j, e);

			if (r >= 0)
				r = fn(j, userdata, e);
			if (r < 0)
				return r;
			sbuf_consume(&b, n);
		}
	}
}

int api_list(struct cli *c, const char *target, const char *const *keys, api_object_fn fn, void *userdata,
	     struct err *e)
{
	_cleanup_sbuf_ struct sbuf answer = SBUF_INIT_MAX(ANSWER_MAX), picked = SBUF_INIT_MAX(ANSWER_MAX);
	int r = api_read(c, "GET", target, NULL, NULL, &answer, e);
	size_t at = 0;

	while (r >= 0) {
		_cleanup_json_ struct json *j = NULL;
		const char *p;
		size_t n;

		while (at < answer.len && strchr("[,] \r\n\t", answer.buf[at]))
			at++;
		p = answer.buf + at;
		sbuf_reset(&picked);
		n = keys ? json_scan_members(p, answer.len - at, keys, &picked)
			 : json_scan_value(p, answer.len - at);
		if (n == 0)
			return at < answer.len ? err_msg(e, ERR_SYSTEM, -EBADMSG,
							 "GET %s: the daemon's answer: not a list", target)
					       : 0;
		r = keys ? json_parse(picked.buf, picked.len, &j, e) : json_parse(p, n, &j, e);
		if (r >= 0)
			r = fn(j, userdata, e);
		at += n;
	}
	return r;
}

void url_query(struct sbuf *url, const char *key, const char *value)
{
	_cleanup_free_ char *escaped = value ? http_url_encode(value) : NULL;

	if (value)
		sbuf_printf(url, "%c%s=%s", strchr(sbuf_str(url), '?') ? '&' : '?', key, escaped);
}

char *url_path(const char *prefix, const char *name, const char *suffix)
{
	_cleanup_free_ char *escaped = http_url_encode(name);

	return xasprintf("%s%s%s", prefix, escaped, suffix);
}
