#include "registry/challenge.h"
#include "base/alloc.h"
#include "base/sbuf.h"
#include "base/strv.h"
#include "lib/json.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#define TOKEN_MAX (64u << 10)

void challenge_done(struct challenge *c)
{
	free(c->realm);
	free(c->service);
	free(c->scope);
	free(c->error);
	*c = (struct challenge){ 0 };
}

static size_t token_len(const char *s)
{
	size_t n = 0;

	while (isalnum((unsigned char)s[n]) || (s[n] && strchr("!#$%&'*+-.^_`|~", s[n])))
		n++;
	return n;
}

/* A token or a quoted string; heap. NULL if there is none. */
static char *param_value(const char **s)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	const char *p = *s;
	size_t n;

	if (*p != '"') {
		n = strcspn(p, ", \t");
		*s = p + n;
		return n ? xstrndup(p, n) : NULL;
	}
	for (p++; *p && *p != '"'; p++) {
		if (*p == '\\' && p[1])
			p++;
		sbuf_putc(&b, *p);
	}
	if (*p != '"')
		return NULL;
	*s = p + 1;
	sbuf_putc(&b, 0);
	return sbuf_steal(&b);
}

static void set_param(struct challenge *c, const char *name, size_t n, char *value)
{
	const struct { const char *name; char **to; } known[] = {
	    {"realm", &c->realm}, {"service", &c->service}, {"scope", &c->scope}, {"error", &c->error}};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strlen(known[i].name) == n && !strncasecmp(known[i].name, name, n) && !*known[i].to) {
			*known[i].to = value;
			return;
		}
	free(value);
}

/* name=value, name="value"... up to what is no parameter: the next scheme or the end. */
static const char *read_params(const char *s, struct challenge *c)
{
	for (;;) {
		size_t n;
		char *value;
		const char *at;

		s += strspn(s, ", \t");
		n = token_len(s);
		at = s + n + strspn(s + n, " \t");
		if (!n || *at != '=')
			return s;
		at++;
		at += strspn(at, " \t");
		value = param_value(&at);
		if (!value)
			return at + strlen(at);
		set_param(c, s, n, value);
		s = at;
	}
}

int challenge_parse(const char *s, struct challenge *ret)
{
	bool basic = false;

	for (;;) {
		struct challenge c = { 0 };
		const char *scheme;
		size_t n;

		s += strspn(s, ", \t");
		scheme = s;
		n = token_len(s);
		if (!n)
			break;
		s = read_params(s + n, &c);
		c.bearer = n == 6 && !strncasecmp(scheme, "Bearer", n);
		if (c.bearer && !str_empty(c.realm)) {
			*ret = c;
			return 0;
		}
		basic |= n == 5 && !strncasecmp(scheme, "Basic", n);
		challenge_done(&c);
	}
	if (!basic)
		return -EBADMSG;
	*ret = (struct challenge){ 0 };
	return 0;
}

char *registry_error_text(const char *body, size_t n)
{
	_cleanup_json_ struct json *doc = NULL;
	const struct json *first;
	const char *code, *message;
	char *text;

	if (json_parse_foreign(body, n, &doc, NULL) < 0)
		return NULL;
	first = json_at(json_get(doc, "errors"), 0);
	code = json_get_str(first, "code");
	message = json_get_str(first, "message") ?: json_get_str(doc, "details");
	message = message ?: json_get_str(doc, "message");
	if (!code && !message)
		return NULL;
	text = code && message ? xasprintf("%s: %s", code, message) : xstrdup(code ?: message);
	/* MANIFEST_UNKNOWN is shown as "manifest unknown". */
	for (char *c = text; code && c < text + strlen(code); c++)
		*c = *c == '_' ? ' ' : (char)tolower((unsigned char)*c);
	for (char *c = text; *c; c++)
		if (iscntrl((unsigned char)*c))
			*c = '?';
	if (strlen(text) > 1024)
		text[1024] = 0;
	return text;
}

char *registry_token(const char *body, size_t n)
{
	_cleanup_json_ struct json *doc = NULL;
	const char *token;

	if (json_parse_foreign(body, n, &doc, NULL) < 0)
		return NULL;
	token = json_get_str(doc, "token") ?: json_get_str(doc, "access_token");
	/* It becomes a header. */
	for (const char *c = token; c && *c; c++)
		if (*c <= ' ' || *c > '~')
			return NULL;
	return str_empty(token) || strlen(token) > TOKEN_MAX ? NULL : xstrdup(token);
}
