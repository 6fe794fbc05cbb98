/* Tokens: the registry names a token server, which wants to know who asks and what for (distribution's token
 * and oauth2 specifications). */
#include "registry/registry.h"
#include "base/alloc.h"
#include "base/base64.h"
#include "base/strv.h"
#include "lib/http1.h"

#include <errno.h>
#include <string.h>

static char *basic(const char *user, const char *password)
{
	_cleanup_free_ char *pair = xasprintf("%s:%s", user, password ?: ""), *text = NULL;

	text = base64_encode(pair, strlen(pair));
	return xasprintf("Basic %s", text);
}

static void form(struct sbuf *b, const char *key, const char *value)
{
	_cleanup_free_ char *text = http_url_encode(value);

	sbuf_printf(b, "%s%s=%s", b->len ? "&" : "", key, text);
}

static void scopes(struct sbuf *b, const struct endpoint *p, bool joined)
{
	_cleanup_free_ char *one = xasprintf("repository:%s:%s", p->path, p->actions),
			    *two = p->from ? xasprintf("repository:%s:pull", p->from) : NULL,
			    *both = two ? xasprintf("%s %s", one, two) : NULL;

	if (!*p->path)
		return;
	form(b, "scope", joined && two ? both : one);
	if (two && !joined)
		form(b, "scope", two);
}

/* Credentials go over TLS, unless this registry may be spoken to without. */
static int check_realm(const struct endpoint *p, const char *realm, struct err *e)
{
	_cleanup_free_ char *url = NULL;

	if (web_resolve(p->base, realm, &url) < 0 || (str_starts(url, "http://") && !p->insecure))
		return err_msg(e, ERR_INVALID, -EINVAL, "registry %s names an unusable token server",
			       p->host);
	return 0;
}

static int ask(struct endpoint *p, struct web *w, const struct challenge *c, struct web_answer *a,
	       struct err *e)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	_cleanup_strv_ char **headers = NULL;
	_cleanup_free_ char *url = NULL, *login = NULL, *realm = web_origin(c->realm),
			    *own = web_origin(p->base);
	struct web_request q = { .max = 1u << 20, .tls = streq(realm, own) ? &p->tls : NULL };
	struct web_tls plain = { .insecure = p->insecure };

	if (!q.tls)
		q.tls = &plain;
	if (c->service)
		form(&b, "service", c->service);
	scopes(&b, p, p->identity != NULL);
	if (!str_empty(p->identity)) {
		form(&b, "grant_type", "refresh_token");
		form(&b, "client_id", "insula");
		form(&b, "refresh_token", p->identity);
		strv_add(&headers, "Content-Type: application/x-www-form-urlencoded");
		q.method = "POST";
		q.url = c->realm;
		q.body = sbuf_str(&b);
		q.body_len = b.len;
	} else {
		if (!str_empty(p->user)) {
			form(&b, "account", p->user);
			login = basic(p->user, p->password);
			strv_addf(&headers, "Authorization: %s", login);
		}
		q.method = "GET";
		q.url = url = xasprintf("%s%c%s", c->realm, strchr(c->realm, '?') ? '&' : '?', sbuf_str(&b));
	}
	q.headers = headers;
	for (unsigned n = 1;; n++) {
		int r = web_call(w, &q, a, e);

		if ((r == 0 && a->status != 429 && a->status < 500) || (r < 0 && !a->transient) ||
		    !endpoint_wait(a, n))
			return r;
		err_clear(e);
		web_answer_done(a);
	}
}

int endpoint_authorize(struct endpoint *p, struct web *w, const struct challenge *c, struct err *e)
{
	_cleanup_web_answer_ struct web_answer a = { 0 };
	_cleanup_free_ char *token = NULL, *why = NULL;
	int r;

	if (!str_empty(p->registry_token)) {
		free(p->authorization);
		p->authorization = xasprintf("Bearer %s", p->registry_token);
		return 0;
	}
	if (!c->bearer) {
		if (str_empty(p->user))
			return err_msg(e, ERR_SYSTEM, -EACCES, "no basic auth credentials");
		free(p->authorization);
		p->authorization = basic(p->user, p->password);
		return 0;
	}
	r = check_realm(p, c->realm, e);
	if (r == 0)
		r = ask(p, w, c, &a, e);
	if (r < 0)
		return err_wrap(e, r, "failed to fetch a token");
	why = registry_error_text(sbuf_str(&a.body), a.body.len);
	if (a.status == 401 || a.status == 403)
		return err_msg(e, ERR_SYSTEM, -EACCES, "unauthorized: %s",
			       why ?: "incorrect username or password");
	token = a.status == 200 ? registry_token(sbuf_str(&a.body), a.body.len) : NULL;
	if (!token)
		return err_msg(e, ERR_SYSTEM, -EACCES, "failed to fetch a token: %s",
			       a.status == 200
				   ? "authorization server did not include a token in the response"
			       : why ? why
				     : "unexpected status of the token server");
	free(p->authorization);
	p->authorization = xasprintf("Bearer %s", token);
	return 0;
}
