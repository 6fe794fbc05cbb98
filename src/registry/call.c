#include "registry/registry.h"
#include "base/alloc.h"
#include "base/strv.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TRIES 5
#define REDIRECTS 10
#define WAIT_MAX 60

bool endpoint_wait(const struct web_answer *a, unsigned n)
{
	uint64_t ms = a->retry_after ? MIN(a->retry_after, (unsigned)WAIT_MAX) * 1000ull : 250ull << n;
	struct timespec t = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };

	if (n >= TRIES)
		return false;
	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
	return true;
}

static char *authorization(struct endpoint *p)
{
	char *s;

	pthread_mutex_lock(&p->lock);
	s = xstrdup(p->authorization);
	pthread_mutex_unlock(&p->lock);
	return s;
}

/* used: what the refused request carried. Another thread may have got a new one meanwhile. */
static int renew(struct endpoint *p, struct web *w, const struct web_answer *a, const char *used,
		 struct err *e)
{
	_cleanup_challenge_ struct challenge c = { 0 };
	const char *header = web_header(a, "WWW-Authenticate");
	int r = 0;

	if (!header || challenge_parse(header, &c) < 0)
		return err_msg(e, ERR_SYSTEM, -EACCES, "unauthorized: registry %s wants authentication of an "
			       "unknown kind", p->host);
	pthread_mutex_lock(&p->lock);
	if (!p->authorization || streq(p->authorization, used))
		r = endpoint_authorize(p, w, &c, e);
	pthread_mutex_unlock(&p->lock);
	return r;
}

/* One request, redirects followed. The authorization goes to the endpoint's own origin only, and TLS is never
 * left. */
static int call_once(struct endpoint *p, struct web *w, struct web_request *q, const char *auth,
		     struct web_answer *ret, struct err *e)
{
	_cleanup_free_ char *url = NULL, *own = web_origin(p->base);
	_cleanup_strv_ char **with = strv_copy(q->headers);
	struct web_tls other = { .insecure = p->insecure };
	struct web_request one = *q;

	url = *q->url == '/' ? xasprintf("%s%s", p->base, q->url) : xstrdup(q->url);
	if (auth)
		strv_addf(&with, "Authorization: %s", auth);
	for (unsigned hops = 0;; hops++) {
		_cleanup_free_ char *origin = web_origin(url), *next = NULL;
		bool home = origin && streq(origin, own);
		const char *location;
		int r;

		one.url = url;
		one.headers = home ? with : q->headers;
		one.tls = home ? &p->tls : &other;
		r = web_call(w, &one, ret, e);
		if (r < 0 || ret->status < 300 || ret->status > 399 || ret->status == 304)
			return r;
		location = web_header(ret, "Location");
		if (hops >= REDIRECTS)
			return err_msg(e, ERR_SYSTEM, -ELOOP, "%s \"%s\": stopped after 10 redirects",
				       q->method, url);
		if (!location || web_resolve(url, location, &next) < 0 ||
		    (str_starts(url, "https://") && str_starts(next, "http://")))
			return err_msg(e, ERR_SYSTEM, -EINVAL, "%s \"%s\": unusable redirect", q->method,
				       url);
		free(url);
		url = TAKE_PTR(next);
		web_answer_done(ret);
	}
}

static int failed(const struct web_request *q, const struct web_answer *a, struct err *e)
{
	_cleanup_free_ char *why = registry_error_text(sbuf_str(&a->body), a->body.len);
	enum err_kind kind = a->status == 404 ? ERR_NOT_FOUND : a->status == 403 ? ERR_FORBIDDEN : ERR_SYSTEM;

	if (a->status == 401)
		return err_msg(e, kind, -EACCES, "%s", why ?: "unauthorized: authentication required");
	if (a->status == 429)
		return err_msg(e, kind, -EBUSY, "toomanyrequests: %s",
			       why ?: "the registry limits its clients");
	if (why)
		return err_msg(e, kind, -EIO, "%s", why);
	return err_msg(e, kind, -EIO, "received unexpected HTTP status: %d for %s \"%s\"", a->status,
		       q->method, q->url);
}

int endpoint_call(struct endpoint *p, struct web *w, struct web_request *q, bool retry,
		  struct web_answer *ret, struct err *e)
{
	bool renewed = false;

	for (unsigned n = 1;;) {
		_cleanup_free_ char *auth = authorization(p);
		int r = call_once(p, w, q, auth, ret, e);

		if (r < 0 && (!retry || !ret->transient || !endpoint_wait(ret, n++)))
			return r;
		if (r == 0 && ret->status == 401 && !renewed) {
			renewed = true;
			r = renew(p, w, ret, auth, e);
			if (r < 0)
				return r;
		} else if (r == 0) {
			if (ret->status < 400)
				return 0;
			if ((ret->status != 429 && ret->status < 500) || !endpoint_wait(ret, n++))
				return failed(q, ret, e);
		}
		err_clear(e);
		web_answer_done(ret);
	}
}
