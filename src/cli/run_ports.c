#include "cli/run_opts.h"

#include "base/alloc.h"
#include "base/strv.h"

#include <errno.h>
#include <string.h>

/* "80" or "80-90". */
static int port_range(const char *s, unsigned *ret_first, unsigned *ret_last)
{
	const char *dash = strchr(s, '-');
	_cleanup_free_ char *first = dash ? xstrndup(s, dash - s) : xstrdup(s);
	uint64_t a, b;

	if (str_to_u64(first, &a) < 0 || a > 65535)
		return -EINVAL;
	b = a;
	if (dash && (str_to_u64(dash + 1, &b) < 0 || b > 65535 || b < a))
		return -EINVAL;
	*ret_first = a;
	*ret_last = b;
	return 0;
}

/* Cuts "/proto" off; tcp if there is none. */
static int split_proto(char *s, const char **ret_proto, const char *spec, struct err *e)
{
	static const char *const known[] = { "tcp", "udp", "sctp" };
	char *slash = strchr(s, '/');

	*ret_proto = "tcp";
	if (!slash)
		return 0;
	*slash = 0;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (!strcasecmp(slash + 1, known[i])) {
			*ret_proto = known[i];
			return 0;
		}
	}
	return err_msg(e, ERR_INVALID, 0, "invalid proto: %s", slash + 1);
}

int parse_expose(const char *spec, struct json *exposed, struct err *e)
{
	_cleanup_free_ char *s = xstrdup(spec);
	const char *proto;
	unsigned first, last;
	int r = split_proto(s, &proto, spec, e);

	if (r < 0)
		return r;
	if (strchr(s, ':'))
		return err_msg(e, ERR_INVALID, 0, "invalid port format for --expose: %s", spec);
	if (port_range(s, &first, &last) < 0)
		return err_msg(e, ERR_INVALID, 0, "invalid range format for --expose: %s, error: "
			       "strconv.ParseUint: parsing \"%s\": invalid syntax", s, s);
	for (unsigned p = first; p <= last; p++) {
		_cleanup_free_ char *key = xasprintf("%u/%s", p, proto);

		json_set(exposed, key, json_object());
	}
	return 0;
}

/* The parts of ip:host:container; s is cut. */
static void split_publish(char *s, const char **ret_ip, const char **ret_host, const char **ret_ctr)
{
	char *colon = strrchr(s, ':');

	*ret_ip = *ret_host = "";
	*ret_ctr = s;
	if (!colon)
		return;
	*colon = 0;
	*ret_ctr = colon + 1;
	*ret_host = s;
	colon = strrchr(s, ':');
	if (!colon)
		return;
	*colon = 0;
	*ret_host = colon + 1;
	*ret_ip = s;
	if (*s == '[' && colon > s && colon[-1] == ']') {
		colon[-1] = 0;
		*ret_ip = s + 1;
	}
}

int parse_publish(const char *spec, struct json *exposed, struct json *bindings, struct err *e)
{
	_cleanup_free_ char *s = xstrdup(spec);
	const char *proto, *ip, *host, *ctr;
	unsigned first, last, host_first = 0, host_last = 0;
	int r = split_proto(s, &proto, spec, e);

	if (r < 0)
		return r;
	split_publish(s, &ip, &host, &ctr);
	if (!*ctr)
		return err_msg(e, ERR_INVALID, 0, "no port specified: %s<empty>", spec);
	if (port_range(ctr, &first, &last) < 0)
		return err_msg(e, ERR_INVALID, 0, "invalid containerPort: %s", ctr);
	if (*host && port_range(host, &host_first, &host_last) < 0)
		return err_msg(e, ERR_INVALID, 0, "invalid hostPort: %s", host);
	if (*ip && !parse_is_ip(ip))
		return err_msg(e, ERR_INVALID, 0, "invalid IP address: %s", ip);
	/* A host range for one container port means: any free one of them. */
	if (*host && host_last - host_first != last - first && first != last)
		return err_msg(e, ERR_INVALID, 0,
			       "invalid ranges specified for container and host Ports: %s and %s", ctr, host);
	for (unsigned p = first; p <= last; p++) {
		_cleanup_free_ char *key = xasprintf("%u/%s", p, proto), *port = NULL;
		struct json *list = json_get(bindings, key), *b;

		if (*host && first == last && host_last != host_first)
			port = xasprintf("%u-%u", host_first, host_last);
		else
			port = *host ? xasprintf("%u", host_first + (p - first)) : xstrdup("");
		if (!list)
			list = json_set(bindings, key, json_array());
		b = json_add(list, json_object());
		json_set_str(b, "HostIp", ip);
		json_set_str(b, "HostPort", port);
		json_set(exposed, key, json_object());
	}
	return 0;
}
