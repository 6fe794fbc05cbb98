#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"

#include <stdio.h>
#include <string.h>

static void print_binding(const char *port, const struct json *b)
{
	const char *ip = json_get_str(b, "HostIp") ?: "", *host = json_get_str(b, "HostPort") ?: "";

	if (port)
		printf("%s -> ", port);
	printf(strchr(ip, ':') ? "[%s]:%s\n" : "%s:%s\n", ip, host);
}

static int by_port(const void *a, const void *b)
{
	return strverscmp(*(const char *const *)a, *(const char *const *)b);
}

static void print_all(const struct json *ports)
{
	size_t n = 0;
	_cleanup_free_ const char **keys = new_array(const char *, json_len(ports) + 1);
	struct json_iter it = {0};

	while (json_next(ports, &it))
		keys[n++] = it.key;
	qsort(keys, n, sizeof(*keys), by_port);
	for (size_t i = 0; i < n; i++) {
		const struct json *list = json_get(ports, keys[i]);

		for (size_t k = 0; k < json_len(list); k++)
			print_binding(keys[i], json_at(list, k));
	}
}

int cmd_port(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *path = NULL, *key = NULL;
	_cleanup_json_ struct json *ctr = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	const struct json *ports, *list;
	const struct opt opts[] = { OPT_END };

	if (!cli_parse(c, opts, argc, argv, 0, 1, 2, &args))
		return c->exit_code;
	path = url_path("/containers/", args[0], "/json");
	if (api_call(c, "GET", path, NULL, &ctr, &e) < 0)
		return cli_fail(&e);
	ports = json_get(json_get(ctr, "NetworkSettings"), "Ports");
	if (!args[1]) {
		print_all(ports);
		return 0;
	}
	key = strchr(args[1], '/') ? xstrdup(args[1]) : xasprintf("%s/tcp", args[1]);
	list = json_get(ports, key);
	if (json_len(list) == 0) {
		fprintf(stderr, "Error: No public port '%s' published for %s\n", args[1], args[0]);
		return 1;
	}
	for (size_t i = 0; i < json_len(list); i++)
		print_binding(NULL, json_at(list, i));
	return 0;
}
