#include "oci/ref.h"
#include "base/alloc.h"
#include "base/id.h"
#include "base/strv.h"

#include <ctype.h>
#include <string.h>

#define NAME_MAX_TOTAL 255
#define TAG_MAX 128

static bool alnum_lower(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* [a-z0-9]+ joined by one '.', one or two '_', or any number of '-'. */
static bool component_valid(const char *s, size_t n)
{
	size_t i = 0;

	while (i < n) {
		size_t sep = i;

		while (i < n && alnum_lower(s[i]))
			i++;
		if (i == sep)
			return false;
		if (i == n)
			return true;
		sep = i;
		while (i < n && !alnum_lower(s[i]))
			i++;
		if (i == n)
			return false;
		size_t len = i - sep;

		if (!((len == 1 && strchr("._-", s[sep])) || (len == 2 && !strncmp(s + sep, "__", 2)) ||
		      strspn(s + sep, "-") >= len))
			return false;
	}
	return false;
}

static bool path_valid(const char *s)
{
	for (;;) {
		size_t n = strcspn(s, "/");

		if (!component_valid(s, n))
			return false;
		if (!s[n])
			return true;
		s += n + 1;
	}
}

static bool domain_valid(const char *s)
{
	size_t host = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-");

	if (*s == '[') {
		host = strspn(s + 1, "0123456789abcdefABCDEF:") + 1;
		if (s[host++] != ']')
			return false;
	}
	if (!host || s[0] == '-' || s[0] == '.')
		return false;
	return !s[host] ||
	       (s[host] == ':' && s[host + 1] && strspn(s + host + 1, "0123456789") == strlen(s + host + 1));
}

static bool tag_valid(const char *s)
{
	size_t n = strlen(s);

	return n && n <= TAG_MAX && (isalnum((unsigned char)*s) || *s == '_') &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == n;
}

bool digest_valid(const char *s)
{
	return str_starts(s, "sha256:") && strlen(s) == 71 && is_hex(s + 7);
}

/* The first part is a host if it looks like one, as Docker decides it. */
static bool host_first(const char *name)
{
	const char *slash = strchr(name, '/');
	_cleanup_free_ char *first = slash ? xstrndup(name, (size_t)(slash - name)) : NULL;
	bool upper = false;

	for (char *c = first; c && *c; c++)
		upper |= isupper((unsigned char)*c);
	return first && (strpbrk(first, ".:") || streq(first, "localhost") || upper);
}

static void split_domain(const char *name, struct ref *r)
{
	const char *slash = strchr(name, '/');
	_cleanup_free_ char *first = xstrndup(name, slash ? (size_t)(slash - name) : strlen(name));

	if (host_first(name)) {
		r->domain = xstrdup(streq(first, "index.docker.io") ? "docker.io" : first);
		r->path = xstrdup(slash + 1);
	} else {
		r->domain = xstrdup("docker.io");
		r->path = xstrdup(name);
	}
	if (streq(r->domain, "docker.io") && !strchr(r->path, '/')) {
		char *p = xasprintf("library/%s", r->path);

		free(r->path);
		r->path = p;
	}
}

int ref_parse(const char *s, struct ref *ret, struct err *e)
{
	_cleanup_free_ char *name = xstrdup(s);
	_cleanup_ref_ struct ref r = { 0 };
	char *at = strchr(name, '@'), *colon;

	if (strlen(s) == 64 && is_hex(s))
		return err_msg(e, ERR_INVALID, 0,
			       "invalid repository name (%s), cannot specify 64-byte hexadecimal strings", s);
	if (at) {
		*at = 0;
		r.digest = xstrdup(at + 1);
		if (!digest_valid(r.digest))
			return err_msg(e, ERR_INVALID, 0, "invalid reference format");
	}
	colon = strrchr(name, ':');
	if (colon && !strchr(colon, '/')) {
		*colon = 0;
		r.tag = xstrdup(colon + 1);
		if (!tag_valid(r.tag))
			return err_msg(e, ERR_INVALID, 0, "invalid reference format");
	} else if (!r.digest) {
		r.tag = xstrdup("latest");
	}
	split_domain(name, &r);
	for (char *c = r.path; *c; c++)
		if (isupper((unsigned char)*c))
			return err_msg(e, ERR_INVALID, 0,
				       "invalid reference format: repository name (%s) must be lowercase",
				       r.path);
	if (!domain_valid(r.domain) || !path_valid(r.path) || strlen(r.path) > NAME_MAX_TOTAL)
		return err_msg(e, ERR_INVALID, 0, "invalid reference format");
	*ret = r;
	r = (struct ref){ 0 };
	return 0;
}

void ref_done(struct ref *r)
{
	free(r->domain);
	free(r->path);
	free(r->tag);
	free(r->digest);
	*r = (struct ref){ 0 };
}

char *ref_familiar_name(const struct ref *r)
{
	/* docker.io/HOST.NAME/x stays whole: without docker.io it would be another registry's image. */
	if (!streq(r->domain, "docker.io") || host_first(r->path))
		return xasprintf("%s/%s", r->domain, r->path);
	return xstrdup(str_starts(r->path, "library/") && !strchr(r->path + 8, '/') ? r->path + 8 : r->path);
}

char *ref_familiar(const struct ref *r)
{
	_cleanup_free_ char *name = ref_familiar_name(r);

	return r->tag ? xasprintf("%s:%s", name, r->tag) : xasprintf("%s@%s", name, r->digest);
}
