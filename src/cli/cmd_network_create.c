/* network create, rm, connect, disconnect. */
#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "cli/run_opts.h"
#include "cli/targets.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* "k=v" list as an object. */
static struct json *pairs(char *const *list)
{
	struct json *o = json_object();

	for (; list && *list; list++)
		parse_add_pair(o, *list);
	return o;
}

struct subnets { char **subnets, **gateways, **ranges, **aux; };

static int family_of(const char *ip)
{
	return strchr(ip, ':') ? AF_INET6 : AF_INET;
}

static bool contains(const char *subnet, const char *ip)
{
	_cleanup_free_ char *net = xstrndup(subnet, strcspn(subnet, "/"));
	_cleanup_free_ char *host = xstrndup(ip, strcspn(ip, "/"));
	uint8_t a[16], b[16];
	uint64_t prefix = family_of(subnet) == AF_INET ? 32 : 128, max = prefix;

	if (family_of(subnet) != family_of(ip))
		return false;
	if (inet_pton(family_of(net), net, a) != 1 || inet_pton(family_of(host), host, b) != 1)
		return true;		/* the daemon says what is wrong with it */
	if (strchr(subnet, '/') && (str_to_u64(strchr(subnet, '/') + 1, &prefix) < 0 || prefix > max))
		return true;
	for (uint64_t i = 0; i < prefix; i++)
		if ((a[i / 8] ^ b[i / 8]) & 0x80 >> i % 8)
			return false;
	return true;
}

/* Puts each value into the first subnet that contains it and has none of this kind. */
static int add_to_subnets(struct json *config, char *const *list, const char *key, const char *what)
{
	for (; list && *list; list++) {
		bool done = false;

		for (size_t i = 0; !done && i < json_len(config); i++) {
			struct json *c = json_at(config, i);

			done = contains(json_get_str(c, "Subnet"), *list) && !json_get(c, key);
			if (done)
				json_set_str(c, key, *list);
		}
		if (!done) {
			fprintf(stderr, "no matching subnet for %s %s\n", what, *list);
			return 1;
		}
	}
	return 0;
}

static int add_aux(struct json *config, char *const *list)
{
	for (; list && *list; list++) {
		const char *eq = strchr(*list, '='), *ip = eq ? eq + 1 : "";
		struct json *c = NULL;

		for (size_t i = 0; !c && i < json_len(config); i++)
			if (contains(json_get_str(json_at(config, i), "Subnet"), ip))
				c = json_at(config, i);
		if (!c) {
			fprintf(stderr, "no matching subnet for aux-address %s\n", ip);
			return 1;
		}
		parse_add_pair(parse_sub(c, "AuxiliaryAddresses"), *list);
	}
	return 0;
}

static int ipam_config(const struct subnets *s, struct json *ipam)
{
	struct json *config = json_set(ipam, "Config", json_array());

	for (char **v = s->subnets; v && *v; v++)
		json_set_str(json_add(config, json_object()), "Subnet", *v);
	if (add_to_subnets(config, s->ranges, "IPRange", "range") ||
	    add_to_subnets(config, s->gateways, "Gateway", "gateway"))
		return 1;
	return add_aux(config, s->aux);
}

int cmd_network_create(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *driver = xstrdup("bridge"), *ipam_driver = xstrdup("default"),
			    *scope = NULL;
	_cleanup_strv_ char **labels = NULL, **options = NULL, **ipam_options = NULL, **subnets = NULL,
			    **gateways = NULL, **ranges = NULL, **aux = NULL;
	_cleanup_json_ struct json *body = json_object(), *answer = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	bool internal = false, attachable = false, ipv6 = false, ipv4 = true, ingress = false;
	struct json *ipam;
	const struct opt opts[] = {
	    {0, "attachable", OPT_BOOL, &attachable, NULL, "Enable manual container attachment"},
	    {0, "aux-address", OPT_STRV, &aux, "map", "Auxiliary addresses that no container gets"},
	    {'d', "driver", OPT_STR, &driver, "string", "Driver to manage the network (default \"bridge\")"},
	    {0, "gateway", OPT_STRV, &gateways, "strings", "Gateway of the subnet"},
	    {0, "ingress", OPT_BOOL, &ingress, NULL, NULL},
	    {0, "internal", OPT_BOOL, &internal, NULL, "Restrict external access to the network"},
	    {0, "ip-range", OPT_STRV, &ranges, "strings", "Allocate container addresses from a sub-range"},
	    {0, "ipam-driver", OPT_STR, &ipam_driver, "string", NULL},
	    {0, "ipam-opt", OPT_STRV, &ipam_options, "map", NULL},
	    {0, "ipv4", OPT_BOOL, &ipv4, NULL, "Enable IPv4 (default true)"},
	    {0, "ipv6", OPT_BOOL, &ipv6, NULL, "Enable IPv6"},
	    {0, "label", OPT_STRV, &labels, "list", "Set metadata on a network"},
	    {'o', "opt", OPT_STRV, &options, "map", "Set driver specific options"},
	    {0, "scope", OPT_STR, &scope, "string", NULL},
	    {0, "subnet", OPT_STRV, &subnets, "strings", "Subnet in CIDR format"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 1, 1, &args))
		return c->exit_code;
	json_set_str(body, "Name", args[0]);
	json_set_str(body, "Driver", driver);
	json_set_str(body, "Scope", scope ?: "");
	json_set_bool(body, "EnableIPv4", ipv4);
	json_set_bool(body, "EnableIPv6", ipv6);
	ipam = json_set(body, "IPAM", json_object());
	json_set_str(ipam, "Driver", ipam_driver);
	json_set(ipam, "Options", pairs(ipam_options));
	if (ipam_config(&(struct subnets){subnets, gateways, ranges, aux}, ipam))
		return 1;
	json_set_bool(body, "Internal", internal);
	json_set_bool(body, "Attachable", attachable);
	json_set_bool(body, "Ingress", ingress);
	json_set(body, "Options", pairs(options));
	json_set(body, "Labels", pairs(labels));
	if (api_call(c, "POST", "/networks/create", body, &answer, &e) < 0)
		return cli_fail(&e);
	if (!str_empty(json_get_str(answer, "Warning")))
		fprintf(stderr, "WARNING: %s\n", json_get_str(answer, "Warning"));
	puts(json_get_str(answer, "Id") ?: "");
	return 0;
}

/* --- rm --- */

static char *rm_url(const char *name, void *userdata)
{
	return url_path("/networks/", name, "");
}

int cmd_network_rm(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL;
	bool force = false;
	const struct opt opts[] = {
		{ 'f', "force", OPT_BOOL, &force, NULL, "Do not error if the network does not exist" },
		OPT_END
	};

	if (!cli_parse(c, opts, argc, argv, 0, 1, ARGS_ANY, &args))
		return c->exit_code;
	return targets_call(c, args, "DELETE", rm_url, NULL, force ? TARGETS_IGNORE_MISSING : 0);
}

/* --- connect, disconnect --- */

static int change(struct cli *c, const char *network, const char *verb, const struct json *body)
{
	_cleanup_free_ char *url = url_path("/networks/", network, verb);
	_cleanup_err_ struct err e = ERR_INIT;

	return api_call(c, "POST", url, body, NULL, &e) < 0 ? cli_fail(&e) : 0;
}

int cmd_network_connect(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *ip = NULL, *ip6 = NULL, *priority = NULL, *mac = NULL;
	_cleanup_strv_ char **aliases = NULL, **links = NULL, **link_local = NULL, **driver_opts = NULL;
	_cleanup_json_ struct json *body = json_object();
	struct json *ep;
	int64_t prio = 0;
	const struct opt opts[] = {
	    {0, "alias", OPT_STRV, &aliases, "strings", "Add network-scoped alias for the container"},
	    {0, "driver-opt", OPT_STRV, &driver_opts, "strings", NULL},
	    {0, "gw-priority", OPT_STR, &priority, "int",
	     "Highest gateway priority provides the default gateway"},
	    {0, "ip", OPT_STR, &ip, "string", "IPv4 address (e.g., \"172.30.100.104\")"},
	    {0, "ip6", OPT_STR, &ip6, "string", "IPv6 address (e.g., \"2001:db8::33\")"},
	    {0, "link", OPT_STRV, &links, "list", NULL},
	    {0, "link-local-ip", OPT_STRV, &link_local, "strings", NULL},
	    {0, "mac-address", OPT_STR, &mac, "string", NULL},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 2, 2, &args))
		return c->exit_code;
	if (priority && str_to_i64(priority, &prio) < 0) {
		fprintf(stderr, "invalid argument \"%s\" for \"--gw-priority\" flag\n", priority);
		return 125;
	}
	json_set_str(body, "Container", args[1]);
	ep = json_set(body, "EndpointConfig", json_object());
	if (ip)
		json_set_str(parse_sub(ep, "IPAMConfig"), "IPv4Address", ip);
	if (ip6)
		json_set_str(parse_sub(ep, "IPAMConfig"), "IPv6Address", ip6);
	if (link_local)
		json_set_strv(parse_sub(ep, "IPAMConfig"), "LinkLocalIPs", link_local);
	if (aliases)
		json_set_strv(ep, "Aliases", aliases);
	if (links)
		json_set_strv(ep, "Links", links);
	if (mac)
		json_set_str(ep, "MacAddress", mac);
	if (driver_opts)
		json_set(ep, "DriverOpts", pairs(driver_opts));
	json_set_int(ep, "GwPriority", prio);
	return change(c, args[0], "/connect", body);
}

int cmd_network_disconnect(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL;
	_cleanup_json_ struct json *body = json_object();
	bool force = false;
	const struct opt opts[] = {
		{ 'f', "force", OPT_BOOL, &force, NULL, "Force the container to disconnect from a network" },
		OPT_END
	};

	if (!cli_parse(c, opts, argc, argv, 0, 2, 2, &args))
		return c->exit_code;
	json_set_str(body, "Container", args[1]);
	json_set_bool(body, "Force", force);
	return change(c, args[0], "/disconnect", body);
}
