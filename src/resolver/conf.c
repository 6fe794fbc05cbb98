#include "resolver/resolver.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <string.h>

#define CONF_MAX (64u << 10)
#define CHECK_US 1000000
#define TIMEOUT_DEFAULT 3
#define TIMEOUT_MAX 10
#define ATTEMPTS_MAX 5

static int host_parse(const char *s, struct addr *ret)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&ret->ss;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&ret->ss;
	_cleanup_free_ char *host = xstrndup(s, strcspn(s, "%"));

	*ret = (struct addr){0};
	if (!strchr(s, '%') && inet_pton(AF_INET, s, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		ret->len = sizeof(*v4);
		return 0;
	}
	if (inet_pton(AF_INET6, host, &v6->sin6_addr) != 1)
		return -EINVAL;
	v6->sin6_family = AF_INET6;
	if (s[strlen(host)] == '%') {
		v6->sin6_scope_id = if_nametoindex(s + strlen(host) + 1);
		if (!v6->sin6_scope_id)
			return -EINVAL;
	}
	ret->len = sizeof(*v6);
	return 0;
}

static void set_port(struct addr *a, uint16_t port)
{
	if (a->ss.ss_family == AF_INET)
		((struct sockaddr_in *)&a->ss)->sin_port = htons(port);
	else
		((struct sockaddr_in6 *)&a->ss)->sin6_port = htons(port);
}

int addr_parse(const char *s, struct addr *ret)
{
	_cleanup_free_ char *host = NULL;
	const char *port = NULL;
	uint64_t n = 0;
	struct addr a;
	int r;

	if (*s == '[') {
		size_t k = strcspn(s, "]");

		if (!s[k] || (s[k + 1] && s[k + 1] != ':'))
			return -EINVAL;
		host = xstrndup(s + 1, k - 1);
		port = s[k + 1] ? s + k + 2 : NULL;
	} else {
		const char *colon = strchr(s, ':');

		/* More than one colon: an IPv6 address without a port. */
		if (colon && strchr(colon + 1, ':'))
			colon = NULL;
		host = colon ? xstrndup(s, (size_t)(colon - s)) : xstrdup(s);
		port = colon ? colon + 1 : NULL;
	}
	if (port && (str_to_u64(port, &n) < 0 || n > 65535))
		return -EINVAL;
	r = host_parse(host, &a);
	if (r < 0)
		return r;
	set_port(&a, (uint16_t)n);
	*ret = a;
	return 0;
}

bool addr_same_host(const struct addr *a, const struct addr *b)
{
	const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)&a->ss,
				  *b6 = (const struct sockaddr_in6 *)&b->ss;

	if (a->ss.ss_family != b->ss.ss_family)
		return false;
	if (a->ss.ss_family == AF_INET)
		return ((const struct sockaddr_in *)&a->ss)->sin_addr.s_addr ==
		       ((const struct sockaddr_in *)&b->ss)->sin_addr.s_addr;
	return a6->sin6_scope_id == b6->sin6_scope_id && !memcmp(&a6->sin6_addr, &b6->sin6_addr, 16);
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
	/* sin_port and sin6_port are at the same place. */
	return addr_same_host(a, b) && ((const struct sockaddr_in *)&a->ss)->sin_port ==
					       ((const struct sockaddr_in *)&b->ss)->sin_port;
}

int addr_server(const char *s, struct addr *ret)
{
	int r = host_parse(s, ret);

	if (r == 0)
		set_port(ret, DNS_PORT);
	return r;
}

static void add_server(struct conf *c, const char *word, const struct addr *skip, size_t n_skip)
{
	struct addr a;

	if (c->n_servers == SERVERS_MAX || addr_server(word, &a) < 0)
		return;
	for (size_t i = 0; i < n_skip; i++)
		if (addr_equal(&a, &skip[i]))
			return;
	c->servers[c->n_servers++] = a;
}

static void add_option(struct conf *c, const char *word)
{
	uint64_t n;

	if (str_starts(word, "timeout:") && str_to_u64(word + 8, &n) >= 0 && n)
		c->timeout_s = (unsigned)MIN(n, (uint64_t)TIMEOUT_MAX);
	else if (str_starts(word, "attempts:") && str_to_u64(word + 9, &n) >= 0 && n)
		c->attempts = (unsigned)MIN(n, (uint64_t)ATTEMPTS_MAX);
}

void conf_parse(struct conf *c, char *text, const struct addr *skip, size_t n_skip)
{
	char *save = NULL;

	c->n_servers = 0;
	c->timeout_s = TIMEOUT_DEFAULT;
	c->attempts = 2;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		_cleanup_strv_ char **words = NULL;

		line[strcspn(line, "#;")] = 0;
		words = strv_split(line, " \t\r");
		if (strv_len(words) < 2)
			continue;
		if (streq(words[0], "nameserver"))
			add_server(c, words[1], skip, n_skip);
		else if (streq(words[0], "options"))
			for (size_t i = 1; words[i]; i++)
				add_option(c, words[i]);
	}
	/* As libc does: without any the local host is asked. */
	if (!c->n_servers)
		add_server(c, "127.0.0.1", skip, n_skip);
}

void conf_refresh(struct conf *c, const struct addr *skip, size_t n_skip)
{
	_cleanup_free_ char *text = NULL;
	uint64_t now = now_mono_us();
	struct stat st;
	size_t n;

	if (c->checked_us && now - c->checked_us < CHECK_US)
		return;
	if (stat(c->path, &st) < 0) {
		/* Between two versions of the file the old one stands. */
		if (!c->checked_us)
			conf_parse(c, (char[]){""}, skip, n_skip);
		c->checked_us = now;
		return;
	}
	if (c->checked_us && st.st_ino == c->ino && st.st_size == c->size &&
	    st.st_mtim.tv_sec == c->mtime.tv_sec && st.st_mtim.tv_nsec == c->mtime.tv_nsec)
		goto out;
	if (fs_read(AT_FDCWD, c->path, CONF_MAX, &text, &n) < 0)
		goto out;
	conf_parse(c, text, skip, n_skip);
	c->ino = st.st_ino;
	c->size = st.st_size;
	c->mtime = st.st_mtim;
	log_debug("%s: %zu servers", c->path, c->n_servers);
out:
	c->checked_us = now;
}
