#include "registry/registry.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define CERT_MAX (1u << 20)

/* 127.0.0.0/8, ::1, localhost: with or without a port. */
static bool is_loopback(const char *host)
{
	_cleanup_free_ char *name = xstrdup(host);
	char *colon = strrchr(name, ':');
	struct in_addr in;

	if (str_starts(name, "[::1]"))
		return true;
	if (colon)
		*colon = 0;
	return streq(name, "localhost") ||
	       (inet_pton(AF_INET, name, &in) == 1 && ntohl(in.s_addr) >> 24 == 127);
}

static char *read_pem(const char *dir, const char *host, const char *name)
{
	_cleanup_free_ char *path = xasprintf("%s/%s/%s", dir, host, name);
	char *text = NULL;
	size_t n;

	return fs_read(AT_FDCWD, path, CERT_MAX, &text, &n) < 0 ? NULL : text;
}

/* The first directory that has something for the host counts. */
static void read_tls(struct endpoint *p, char *const *dirs)
{
	p->tls.insecure = p->insecure;
	for (; dirs && *dirs; dirs++) {
		p->tls.ca = read_pem(*dirs, p->host, "ca.crt");
		p->tls.cert = read_pem(*dirs, p->host, "client.cert");
		p->tls.key = read_pem(*dirs, p->host, "client.key");
		if (p->tls.ca || p->tls.cert)
			break;
	}
	/* Who names an authority wants it to be asked. */
	if (p->tls.ca)
		p->tls.insecure = p->insecure = false;
}

static void init(struct endpoint *p, const struct json *request, const char *host)
{
	const struct json *auth = json_get(request, "auth");
	_cleanup_strv_ char **insecure = json_get_strv(request, "insecure"),
			    **dirs = json_get_strv(request, "certs");

	p->host = xstrdup(streq(host, "docker.io") ? "registry-1.docker.io" : host);
	p->insecure = is_loopback(p->host) || strv_has(insecure, p->host);
	p->path = json_get_str(request, "path") ?: "";
	p->actions = json_get_str(request, "actions") ?: "pull";
	p->from = json_get_str(request, "from");
	if (!p->mirror) {
		p->user = json_get_str(auth, "username");
		p->password = json_get_str(auth, "password");
		p->identity = json_get_str(auth, "identitytoken");
		p->registry_token = json_get_str(auth, "registrytoken");
	}
	pthread_mutex_init(&p->lock, NULL);
	read_tls(p, dirs);
}

/* "https://mirror.example:5000/" -> host and scheme. */
static int init_mirror(struct endpoint *p, const struct json *request, const char *url, struct err *e)
{
	const char *host = strstr(url, "://");
	_cleanup_free_ char *name = NULL;

	if (!host || (!str_starts(url, "http://") && !str_starts(url, "https://")))
		return err_msg(e, ERR_INVALID, -EINVAL, "invalid mirror: \"%s\" is not an http or https URL",
			       url);
	name = xstrndup(host + 3, strcspn(host + 3, "/"));
	p->mirror = true;
	init(p, request, name);
	p->insecure |= str_starts(url, "http://");
	p->base = xstrndup(url, (size_t)(host + 3 - url) + strlen(name));
	return 0;
}

int endpoints_read(const struct json *request, struct endpoint **ret, size_t *ret_n, struct err *e)
{
	const char *domain = json_get_str(request, "domain");
	_cleanup_strv_ char **mirrors = json_get_strv(request, "mirrors");
	size_t n = 0;
	struct endpoint *v;

	if (!domain)
		return err_msg(e, ERR_INVALID, -EINVAL, "the request names no registry");
	v = new_array(struct endpoint, strv_len(mirrors) + 1);
	for (char **m = streq(domain, "docker.io") ? mirrors : NULL; m && *m; m++)
		if (init_mirror(&v[n], request, *m, e) == 0)
			n++;
		else
			err_clear(e);
	init(&v[n++], request, domain);
	*ret = v;
	*ret_n = n;
	return 0;
}

void endpoints_free(struct endpoint *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(v[i].host);
		free(v[i].base);
		free(v[i].tls.ca);
		free(v[i].tls.cert);
		free(v[i].tls.key);
		free(v[i].authorization);
		pthread_mutex_destroy(&v[i].lock);
	}
	free(v);
}

static int probe(struct endpoint *p, struct web *w, const char *scheme, struct web_answer *a, struct err *e)
{
	_cleanup_free_ char *base = xasprintf("%s://%s", scheme, p->host), *url = xasprintf("%s/v2/", base);
	struct web_request q = { .method = "GET", .url = url, .tls = &p->tls };
	int r = 0;

	for (unsigned n = 1;; n++) {
		r = web_call(w, &q, a, e);
		if (r == 0 || !a->transient || !endpoint_wait(a, n))
			break;
		err_clear(e);
		web_answer_done(a);
	}
	if (r == 0)
		p->base = TAKE_PTR(base);
	return r;
}

int endpoint_probe(struct endpoint *p, struct web *w, struct err *e)
{
	_cleanup_web_answer_ struct web_answer a = { 0 }, b = { 0 };
	_cleanup_err_ struct err first = ERR_INIT;
	int r;

	if (p->base)
		return 0;
	r = probe(p, w, "https", &a, &first);
	if (r < 0 && p->insecure)
		return probe(p, w, "http", &b, e);
	if (r < 0)
		err_move(e, &first);
	return r;
}
