#include "cli/run_opts.h"

#include "base/alloc.h"
#include "base/strv.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

static bool is_user_defined(const char *name)
{
	static const char *const built_in[] = { "", "default", "bridge", "host", "none" };

	for (size_t i = 0; i < ARRAY_SIZE(built_in); i++)
		if (streq(name, built_in[i]))
			return false;
	return !str_starts(name, "container:");
}

static bool is_mac(const char *s)
{
	for (size_t i = 0; i < 17; i++)
		if (i % 3 == 2 ? s[i] != ':' && s[i] != '-' : !isxdigit((unsigned char)s[i]))
			return false;
	return !s[17];
}

/* The long form: "name=n,alias=a,ip=1.2.3.4,driver-opt=k=v". */
static int long_network(const char *spec, char **ret_name, struct json *ep, struct err *e)
{
	const char *p = spec;

	while (p) {
		_cleanup_free_ char *field = parse_csv_field(&p);
		char *eq = strchr(field, '=');

		if (!eq)
			return err_msg(e, ERR_INVALID, 0, "invalid field %s", field);
		*eq++ = 0;
		if (streq(field, "name")) {
			str_replace(ret_name, eq);
		} else if (streq(field, "alias")) {
			json_add_str(json_get(ep, "Aliases") ?: json_set(ep, "Aliases", json_array()), eq);
		} else if (streq(field, "ip")) {
			json_set_str(parse_sub(ep, "IPAMConfig"), "IPv4Address", eq);
		} else if (streq(field, "ip6")) {
			json_set_str(parse_sub(ep, "IPAMConfig"), "IPv6Address", eq);
		} else if (streq(field, "mac-address")) {
			json_set_str(ep, "MacAddress", eq);
		} else if (streq(field, "driver-opt")) {
			parse_add_pair(parse_sub(ep, "DriverOpts"), eq);
		} else {
			return err_msg(e, ERR_INVALID, 0, "invalid field key %s", field);
		}
	}
	return *ret_name ? 0 : err_msg(e, ERR_INVALID, 0, "network name must be specified");
}

/* The options of the first network that stand outside its name. */
static int endpoint_options(const struct run_opts *o, const char *name, struct json *ep, struct err *e)
{
	if (o->aliases && !is_user_defined(name))
		return err_msg(e, ERR_INVALID, 0,
			       "network-scoped aliases are only supported for user-defined networks");
	if (o->aliases)
		json_set_strv(ep, "Aliases", o->aliases);
	if (o->ip)
		json_set_str(parse_sub(ep, "IPAMConfig"), "IPv4Address", o->ip);
	if (o->ip6)
		json_set_str(parse_sub(ep, "IPAMConfig"), "IPv6Address", o->ip6);
	if (o->link_local_ips)
		json_set_strv(parse_sub(ep, "IPAMConfig"), "LinkLocalIPs", o->link_local_ips);
	if (o->links && is_user_defined(name))
		json_set_strv(ep, "Links", o->links);
	if (o->mac && !is_mac(o->mac))
		return err_msg(e, ERR_INVALID, 0, "%s is not a valid mac address", o->mac);
	if (o->mac)
		json_set_str(ep, "MacAddress", o->mac);
	return 0;
}

int parse_networks(const struct run_opts *o, struct json *body, struct json *host, struct err *e)
{
	struct json *endpoints = parse_sub(parse_sub(body, "NetworkingConfig"), "EndpointsConfig");
	char *default_network[] = { (char *)"default", NULL };
	char *const *list = o->networks ?: default_network;

	for (size_t i = 0; list[i]; i++) {
		_cleanup_json_ struct json *ep = json_object();
		_cleanup_free_ char *name = NULL;
		int r = 0;

		if (strchr(list[i], '='))
			r = long_network(list[i], &name, ep, e);
		else
			name = xstrdup(list[i]);
		if (r < 0)
			return r;
		if (!*name)
			return err_msg(e, ERR_INVALID, 0, "no name set for network");
		if (i == 0) {
			json_set_str(host, "NetworkMode", name);
			r = endpoint_options(o, name, ep, e);
			if (r < 0)
				return r;
		}
		if (i > 0 || json_len(ep) > 0)
			json_set(endpoints, name, TAKE_PTR(ep));
	}
	return 0;
}
