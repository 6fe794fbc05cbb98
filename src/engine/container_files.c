/* /etc/hosts, /etc/hostname, /etc/resolv.conf and /.dockerenv of a container. */
#include "engine/container_int.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "engine/network.h"
#include <fcntl.h>
#include <string.h>
#include <sys/utsname.h>

char *ctr_hostname(const struct container *c)
{
	const char *name = json_get_str(ctr_config(c), "Hostname");
	struct utsname u = {0};

	if (!str_empty(name))
		return xstrdup(name);
	if ((ctr_host_network(c) || ns_host_uts(c)) && uname(&u) == 0)
		return xstrdup(u.nodename);
	return xstrndup(c->id, 12);
}

/* Where a container finds the host. */
static const char *gateway_of(const struct msg_sandbox *sb)
{
	for (size_t i = 0; i < sb->nics.n; i++)
		for (char **g = sb->nics.v[i].gateways; g && *g; g++)
			if (!strchr(*g, ':'))
				return *g;
	return "127.0.0.1";
}

static void add_extra_hosts(const struct container *c, const struct msg_sandbox *sb, struct sbuf *b)
{
	const struct json *v = json_get(ctr_host(c), "ExtraHosts");

	for (size_t i = 0; i < json_len(v); i++) {
		const char *s = json_str(json_at(v, i)), *colon = strchr(s, ':'), *ip = colon + 1;

		if (streq(ip, "host-gateway"))
			ip = gateway_of(sb);
		sbuf_printf(b, "%s\t%.*s\n", ip, (int)(colon - s), s);
	}
}

static char *hosts_text(const struct container *c, const struct msg_sandbox *sb, const char *hostname)
{
	const char *domain = json_get_str(ctr_config(c), "Domainname");
	_cleanup_free_ char *host = NULL;
	struct sbuf b = SBUF_INIT;

	if (ctr_host_network(c) && fs_read(AT_FDCWD, "/etc/hosts", 1 << 20, &host, NULL) >= 0) {
		sbuf_puts(&b, host);
	} else {
		sbuf_puts(
		    &b,
		    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n"
		    "ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
	}
	add_extra_hosts(c, sb, &b);
	for (size_t i = 0; i < sb->nics.n; i++)
		for (char **a = sb->nics.v[i].addresses; a && *a; a++) {
			sbuf_printf(&b, "%.*s\t", (int)strcspn(*a, "/"), *a);
			if (!str_empty(domain))
				sbuf_printf(&b, "%s.%s ", hostname, domain);
			sbuf_printf(&b, "%s\n", hostname);
		}
	return sbuf_steal(&b);
}

/* A network of it on which names resolve: its own servers are asked by insula-resolver
 * (container_dns_servers); NULL. Nobody answers on a network that has no bridge of ours. */
static const char *network_with_names(const struct container *c)
{
	struct json_iter it = {0};
	bool ipv6;

	while (json_next(ctr_attachments(c), &it))
		if (!network_name_builtin(it.key) && network_bridge(c->engine, it.key, &ipv6))
			return it.key;
	return NULL;
}

/* The network's file, with the lines that --dns, --dns-search and --dns-option replace. */
static char *resolv_text(const struct container *c)
{
	static const struct { const char *field, *word; } kinds[] = {
		{"Dns", "nameserver"}, {"DnsSearch", "search"}, {"DnsOptions", "options"},
	};
	const char *names = network_with_names(c);
	_cleanup_free_ char *network = names ? xstrdup(names) : ctr_main_network(c),
			    *base = network_resolv_conf(c->engine, network ?: "");
	size_t first = names != NULL;
	_cleanup_strv_ char **lines = strv_split(base ? base : "", "\n");
	struct sbuf b = SBUF_INIT;

	for (char **l = lines; l && *l; l++) {
		bool replaced = false;

		for (size_t i = first; i < ARRAY_SIZE(kinds); i++)
			replaced |=
			    json_len(json_get(ctr_host(c), kinds[i].field)) && str_starts(*l, kinds[i].word);
		if (!replaced)
			sbuf_printf(&b, "%s\n", *l);
	}
	for (size_t i = first; i < ARRAY_SIZE(kinds); i++) {
		_cleanup_strv_ char **v = json_get_strv(ctr_host(c), kinds[i].field);
		_cleanup_free_ char *joined = v && i > 0 ? strv_join(v, " ") : NULL;

		/* --dns-search=. means: none */
		if (joined && !streq(joined, "."))
			sbuf_printf(&b, "%s %s\n", kinds[i].word, joined);
		for (char **p = v; i == 0 && p && *p; p++)
			sbuf_printf(&b, "%s %s\n", kinds[i].word, *p);
	}
	return sbuf_steal(&b) ?: xstrdup("");
}

char **spec_files(const struct container *c, const struct msg_sandbox *sb)
{
	_cleanup_free_ char *hostname = ctr_hostname(c), *hosts = hosts_text(c, sb, hostname),
			    *resolv = resolv_text(c);
	char **v = NULL;

	strv_add(&v, "dockerenv");
	strv_add(&v, "");
	strv_add(&v, "hosts");
	strv_add(&v, hosts);
	strv_add(&v, "hostname");
	strv_addf(&v, "%s\n", hostname);
	strv_add(&v, "resolv.conf");
	strv_add(&v, resolv);
	return v;
}
