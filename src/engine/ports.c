#include "engine/ports.h"

#include "base/alloc.h"
#include "base/strv.h"
#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

/* "80", "80-90", "80/tcp", "80-90/UDP" */
struct port_text { unsigned first, last; char proto[8]; };

static int number(const char *s, size_t n, unsigned *ret)
{
	_cleanup_free_ char *text = xstrndup(s, n);
	uint64_t v;

	if (str_to_u64(text, &v) < 0 || v > 65535)
		return -1;
	*ret = (unsigned)v;
	return 0;
}

static int port_text(const char *s, struct port_text *ret)
{
	static const char *const known[] = {"tcp", "udp", "sctp"};
	size_t n = strcspn(s, "/"), dash = MIN(strcspn(s, "-"), n);
	struct port_text t = {.proto = "tcp"};
	bool fine = !s[n];

	for (size_t i = 0; s[n] && i < ARRAY_SIZE(known); i++)
		if (!strcasecmp(s + n + 1, known[i])) {
			strcpy(t.proto, known[i]);
			fine = true;
		}
	if (!fine || number(s, dash, &t.first) < 0)
		return -1;
	t.last = t.first;
	if (dash < n && number(s + dash + 1, n - dash - 1, &t.last) < 0)
		return -1;
	*ret = t;
	return t.last < t.first ? -1 : 0;
}

void port_maps_done(struct port_maps *m)
{
	for (size_t i = 0; i < m->n; i++) {
		free(m->v[i].proto);
		free(m->v[i].host);
	}
	free(m->v);
	*m = (struct port_maps){0};
}

static struct port_map *maps_add(struct port_maps *m, const char *proto, unsigned port, const char *host)
{
	m->v = xrealloc(m->v, m->n + 1, sizeof *m->v);
	m->v[m->n] = (struct port_map){.proto = xstrdup(proto), .host = xstrdup(host), .port = port};
	return &m->v[m->n++];
}

static int bad(const char *what, struct err *err)
{
	return err_msg(err, ERR_INVALID, 0, "invalid port specification: \"%s\"", what ? what : "");
}

static int check_host(const char *host, const char *proto, struct err *err)
{
	struct in6_addr any;

	if (!*host || inet_pton(AF_INET, host, &any) == 1)
		return 0;
	if (inet_pton(AF_INET6, host, &any) != 1)
		return err_msg(err, ERR_INVALID, 0, "invalid IP address: %s", host);
	if (streq(proto, "sctp"))
		return err_msg(err, ERR_INVALID, 0,
			       "[%s]: SCTP ports are published at IPv4 addresses only: name one of these",
			       host);
	return 0;
}

static int binding_parse(const struct port_text *t, const struct json *b, const char *default_ip,
			 struct port_maps *out, struct err *err)
{
	const char *host = json_get_str(b, "HostIp"), *port = json_get_str(b, "HostPort");
	struct port_text range = {0};
	struct port_map *m;
	int r;

	if (str_empty(host))
		host = default_ip ? default_ip : "";
	r = check_host(host, t->proto, err);
	if (r < 0)
		return r;
	if (!str_empty(port) && (strchr(port, '/') || port_text(port, &range) < 0))
		return bad(port, err);
	if (!range.first && range.last)
		return bad(port, err);
	m = maps_add(out, t->proto, t->first, host);
	m->first = range.first;
	m->last = range.last;
	return 0;
}

static bool bound(const struct json *bindings, const char *proto, unsigned port)
{
	struct json_iter it = {0};
	struct port_text t;

	while (json_next(bindings, &it))
		if (json_len(it.value) && port_text(it.key, &t) == 0 && t.first == port &&
		    streq(t.proto, proto))
			return true;
	return false;
}

static int exposed_parse(const struct json *exposed, const struct json *bindings, const char *default_ip,
			 bool publish, struct port_maps *out, struct err *err)
{
	struct json_iter it = {0};
	struct port_text t;

	while (json_next(exposed, &it)) {
		if (port_text(it.key, &t) < 0 || !t.first)
			return bad(it.key, err);
		for (unsigned p = t.first; publish && p <= t.last; p++)
			if (!bound(bindings, t.proto, p))
				maps_add(out, t.proto, p, default_ip ? default_ip : "");
	}
	return 0;
}

int ports_parse(const struct json *config, const struct json *hc, const char *default_ip,
		struct port_maps *ret, struct err *err)
{
	_cleanup_port_maps_ struct port_maps out = {0};
	const struct json *bindings = json_get(hc, "PortBindings");
	struct json_iter it = {0};
	int r = 0;

	while (r == 0 && json_next(bindings, &it)) {
		struct port_text t;

		if (port_text(it.key, &t) < 0 || !t.first || t.last != t.first)
			return bad(it.key, err);
		for (size_t i = 0; i < json_len(it.value) && r == 0; i++)
			r = binding_parse(&t, json_at(it.value, i), default_ip, &out, err);
	}
	if (r == 0)
		r = exposed_parse(json_get(config, "ExposedPorts"), bindings, default_ip,
				  json_get_bool(hc, "PublishAllPorts", false), &out, err);
	if (r < 0)
		return r;
	*ret = out;
	out = (struct port_maps){0};
	return 0;
}

/* ---- what is told ---- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "80/tcp" of all that is published or exposed, once each, in order. */
static char **all_ports(const struct json *config, const struct json *published)
{
	struct json *seen = json_object();
	struct json_iter it = {0};
	char **v = NULL;

	while (json_next(published, &it))
		json_set_bool(seen, it.key, true);
	it = (struct json_iter){0};
	while (json_next(json_get(config, "ExposedPorts"), &it)) {
		struct port_text t;

		if (port_text(it.key, &t) < 0)
			continue;
		for (unsigned p = t.first; p <= t.last; p++) {
			_cleanup_free_ char *key = xasprintf("%u/%s", p, t.proto);

			json_set_bool(seen, key, true);
		}
	}
	it = (struct json_iter){0};
	while (json_next(seen, &it))
		strv_add(&v, it.key);
	json_free(seen);
	if (v)
		qsort(v, strv_len(v), sizeof *v, by_text);
	return v;
}

struct json *ports_inspect(const struct json *config, const struct json *published)
{
	_cleanup_strv_ char **v = all_ports(config, published);
	struct json *out = json_object();

	for (char **p = v; p && *p; p++) {
		const struct json *list = json_get(published, *p);

		json_set(out, *p, list ? json_copy(list) : NULL);
	}
	return out;
}

void ports_summary(struct json_writer *w, const struct json *config, const struct json *published)
{
	_cleanup_strv_ char **v = all_ports(config, published);

	jw_array(w, "Ports");
	for (char **p = v; p && *p; p++) {
		const struct json *list = json_get(published, *p);
		struct port_text t = {0};

		(void)port_text(*p, &t);
		for (size_t i = 0; i < MAX(json_len(list), (size_t)1); i++) {
			const struct json *b = json_at(list, i);
			uint64_t host;

			jw_object(w, NULL);
			if (b)
				jw_str(w, "IP", json_get_str(b, "HostIp"));
			jw_int(w, "PrivatePort", t.first);
			if (b && str_to_u64(json_get_str(b, "HostPort"), &host) == 0)
				jw_int(w, "PublicPort", (int64_t)host);
			jw_str(w, "Type", t.proto);
			jw_end(w);
		}
	}
	jw_end(w);
}

/* ---- filters ---- */

int ports_filter_check(const char *value, struct err *err)
{
	struct port_text t;

	if (port_text(value, &t) < 0)
		return err_msg(err, ERR_INVALID, 0, "invalid port specification: \"%s\"", value);
	return 0;
}

bool ports_filter_match(const char *value, const char *port)
{
	struct port_text want, is;

	return port_text(value, &want) == 0 && port_text(port, &is) == 0 && streq(want.proto, is.proto) &&
	       is.first >= want.first && is.first <= want.last;
}
