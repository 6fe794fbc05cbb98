#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "cli/format.h"

#include <stdio.h>
#include <string.h>

static void str(const struct json *info, const char *label, const char *key)
{
	const char *v = json_get_str(info, key);

	if (!str_empty(v))
		printf(" %s: %s\n", label, v);
}

static void boolean(const struct json *info, const char *label, const char *key)
{
	printf(" %s: %s\n", label, json_get_bool(info, key, false) ? "true" : "false");
}

static void number(const struct json *info, const char *label, const char *key)
{
	printf(" %s: %lld\n", label, (long long)json_get_int(info, key, 0));
}

static void list_line(const struct json *list, const char *label)
{
	if (json_len(list) == 0)
		return;
	printf("  %s:", label);
	for (size_t i = 0; i < json_len(list); i++)
		printf(" %s", json_str(json_at(list, i)) ?: "");
	printf("\n");
}

static void keys_line(const struct json *o, const char *label)
{
	struct json_iter it = {0};

	if (json_len(o) == 0)
		return;
	printf(" %s:", label);
	while (json_next(o, &it))
		printf(" %s", it.key);
	printf("\n");
}

/* "name=seccomp,profile=builtin" as " seccomp" and "  Profile: builtin". */
static void security_options(const struct json *options)
{
	if (json_len(options) == 0)
		return;
	printf(" Security Options:\n");
	for (size_t i = 0; i < json_len(options); i++) {
		_cleanup_strv_ char **parts = strv_split(json_str(json_at(options, i)) ?: "", ",");

		for (char **p = parts; p && *p; p++) {
			char *eq = strchr(*p, '=');

			if (str_starts(*p, "name="))
				printf("  %s\n", *p + 5);
			else if (eq)
				printf("   %c%.*s: %s\n", **p & ~0x20, (int)(eq - *p - 1), *p + 1, eq + 1);
			else
				printf("  %s\n", *p);
		}
	}
}

static void commit(const struct json *info, const char *label, const char *key)
{
	const char *id = json_get_str(json_get(info, key), "ID");

	if (!str_empty(id))
		printf(" %s version: %s\n", label, id);
}

static void registries(const struct json *info)
{
	const struct json *conf = json_get(info, "RegistryConfig"),
			  *list = json_get(conf, "InsecureRegistryCIDRs");
	const struct json *mirrors = json_get(conf, "Mirrors");
	struct json_iter it = {0};

	if (json_len(list) > 0) {
		printf(" Insecure Registries:\n");
		while (json_next(json_get(conf, "IndexConfigs"), &it))
			if (!json_get_bool(it.value, "Secure", true))
				printf("  %s\n", it.key);
		for (size_t i = 0; i < json_len(list); i++)
			printf("  %s\n", json_str(json_at(list, i)) ?: "");
	}
	if (json_len(mirrors) > 0) {
		printf(" Registry Mirrors:\n");
		for (size_t i = 0; i < json_len(mirrors); i++)
			printf("  %s\n", json_str(json_at(mirrors, i)) ?: "");
	}
}

static void print_engine(const struct json *info)
{
	const struct json *status = json_get(info, "DriverStatus"), *plugins = json_get(info, "Plugins");

	number(info, "Containers", "Containers");
	printf(" ");
	number(info, "Running", "ContainersRunning");
	printf(" ");
	number(info, "Paused", "ContainersPaused");
	printf(" ");
	number(info, "Stopped", "ContainersStopped");
	number(info, "Images", "Images");
	str(info, "Server Version", "ServerVersion");
	str(info, "Storage Driver", "Driver");
	for (size_t i = 0; i < json_len(status); i++)
		printf("  %s: %s\n", json_str(json_at(json_at(status, i), 0)) ?: "",
		       json_str(json_at(json_at(status, i), 1)) ?: "");
	str(info, "Logging Driver", "LoggingDriver");
	str(info, "Cgroup Driver", "CgroupDriver");
	str(info, "Cgroup Version", "CgroupVersion");
	printf(" Plugins:\n");
	list_line(json_get(plugins, "Volume"), "Volume");
	list_line(json_get(plugins, "Network"), "Network");
	list_line(json_get(plugins, "Authorization"), "Authorization");
	list_line(json_get(plugins, "Log"), "Log");
	printf(" Swarm: %s\n", json_get_str(json_get(info, "Swarm"), "LocalNodeState") ?: "inactive");
	keys_line(json_get(info, "Runtimes"), "Runtimes");
	str(info, "Default Runtime", "DefaultRuntime");
	str(info, "Init Binary", "InitBinary");
	commit(info, "containerd", "ContainerdCommit");
	commit(info, "runc", "RuncCommit");
	commit(info, "init", "InitCommit");
}

static void print_host(const struct json *info)
{
	const struct json *labels = json_get(info, "Labels");
	_cleanup_free_ char *memory = size_human_bytes(json_get_int(info, "MemTotal", 0));

	security_options(json_get(info, "SecurityOptions"));
	str(info, "Kernel Version", "KernelVersion");
	str(info, "Operating System", "OperatingSystem");
	str(info, "OSType", "OSType");
	str(info, "Architecture", "Architecture");
	number(info, "CPUs", "NCPU");
	printf(" Total Memory: %s\n", memory);
	str(info, "Name", "Name");
	str(info, "ID", "ID");
	str(info, "Docker Root Dir", "DockerRootDir");
	boolean(info, "Debug Mode", "Debug");
	str(info, "HTTP Proxy", "HttpProxy");
	str(info, "HTTPS Proxy", "HttpsProxy");
	str(info, "No Proxy", "NoProxy");
	if (json_len(labels) > 0)
		printf(" Labels:\n");
	for (size_t i = 0; i < json_len(labels); i++)
		printf("  %s\n", json_str(json_at(labels, i)) ?: "");
	boolean(info, "Experimental", "ExperimentalBuild");
	registries(info);
	boolean(info, "Live Restore Enabled", "LiveRestoreEnabled");
	printf("\n");
}

int cmd_info(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char *format = NULL, **args = NULL;
	_cleanup_json_ struct json *info = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_tmpl_ struct tmpl *t = NULL;
	const struct json *warnings;
	int r;
	const struct opt opts[] = {
		{ 'f', "format", OPT_STR, &format, "string", "Format output: 'json' or a Go template" },
		OPT_END
	};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args))
		return c->exit_code;
	if (!str_empty(format) && (r = object_format_open(format, &t)) != 0)
		return r;
	r = api_call(c, "GET", "/info", NULL, &info, &e);
	if (t && r >= 0) {
		struct json *client = json_object();

		json_set_bool(client, "Debug", c->debug);
		json_set_str(client, "Version", INSULA_VERSION);
		json_set_str(client, "Context", c->context);
		json_set(client, "Plugins", json_array());
		json_set_null(client, "Warnings");
		json_set(info, "ClientInfo", client);
		return object_format_print(t, "system.dockerInfo", info);
	}
	printf("Client:\n Version:    %s\n Context:    %s\n Debug Mode: %s\n\nServer:\n", INSULA_VERSION,
	       c->context, c->debug ? "true" : "false");
	if (r >= 0) {
		print_engine(info);
		print_host(info);
	}
	fflush(stdout);
	if (r < 0)
		return cli_fail(&e);
	warnings = json_get(info, "Warnings");
	for (size_t i = 0; i < json_len(warnings); i++)
		fprintf(stderr, "%s\n", json_str(json_at(warnings, i)) ?: "");
	return 0;
}
