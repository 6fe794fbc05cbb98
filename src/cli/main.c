/* insula: the command line. docker's commands, options, output and exit codes, plus `insula vm`. */
#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/strv.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define CTR "CONTAINER [CONTAINER...]"

const struct verb verbs[] = {
    {"container run|run", cmd_run, "[OPTIONS] IMAGE [COMMAND] [ARG...]",
     "Create and run a new container from an image", true},
    {"container exec|exec", cmd_exec, "[OPTIONS] CONTAINER COMMAND [ARG...]",
     "Execute a command in a running container", true},
    {"container ls|container list|container ps|ps", cmd_ps, "[OPTIONS]", "List containers", true},
    {"image pull|pull", cmd_pull, "[OPTIONS] NAME[:TAG|@DIGEST]", "Download an image from a registry", true},
    {"image push|push", cmd_push, "[OPTIONS] NAME[:TAG]", "Upload an image to a registry", true},
    {"image ls|image list|images", cmd_images, "[OPTIONS] [REPOSITORY[:TAG]]", "List images", true},
    {"login", cmd_login, "[OPTIONS] [SERVER]", "Authenticate to a registry", true},
    {"logout", cmd_logout, "[SERVER]", "Log out from a registry", true},
    {"version", cmd_version, "[OPTIONS]", "Show the insula version information", true},
    {"system info|info", cmd_info, "[OPTIONS]", "Display system-wide information", true},

    {"container attach|attach", cmd_attach, "[OPTIONS] CONTAINER",
     "Attach local standard input, output, and error streams to a running container"},
    {"container commit|commit", cmd_commit, "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
     "Create a new image from a container's changes"},
    {"container cp|cp", cmd_cp, "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n"
     "       insula cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
     "Copy files/folders between a container and the local filesystem"},
    {"container create|create", cmd_create, "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a new container"},
    {"container diff|diff", cmd_diff, "CONTAINER",
     "Inspect changes to files or directories on a container's filesystem"},
    {"container export|export", cmd_export, "[OPTIONS] CONTAINER",
     "Export a container's filesystem as a tar archive"},
    {"container inspect", cmd_inspect_container, "[OPTIONS] " CTR,
     "Display detailed information on one or more containers"},
    {"container kill|kill", cmd_kill, "[OPTIONS] " CTR, "Kill one or more running containers"},
    {"container logs|logs", cmd_logs, "[OPTIONS] CONTAINER", "Fetch the logs of a container"},
    {"container pause|pause", cmd_pause, CTR, "Pause all processes within one or more containers"},
    {"container port|port", cmd_port, "CONTAINER [PRIVATE_PORT[/PROTO]]",
     "List port mappings or a specific mapping for the container"},
    {"container prune", cmd_container_prune, "[OPTIONS]", "Remove all stopped containers"},
    {"container rename|rename", cmd_rename, "CONTAINER NEW_NAME", "Rename a container"},
    {"container restart|restart", cmd_restart, "[OPTIONS] " CTR, "Restart one or more containers"},
    {"container rm|container remove|rm", cmd_rm, "[OPTIONS] " CTR, "Remove one or more containers"},
    {"container start|start", cmd_start, "[OPTIONS] " CTR, "Start one or more stopped containers"},
    {"container stats|stats", cmd_stats, "[OPTIONS] [CONTAINER...]",
     "Display a live stream of container(s) resource usage statistics"},
    {"container stop|stop", cmd_stop, "[OPTIONS] " CTR, "Stop one or more running containers"},
    {"container top|top", cmd_top, "CONTAINER [ps OPTIONS]", "Display the running processes of a container"},
    {"container unpause|unpause", cmd_unpause, CTR,
     "Unpause all processes within one or more containers"},
    {"container update|update", cmd_update, "[OPTIONS] " CTR,
     "Update configuration of one or more containers"},
    {"container wait|wait", cmd_wait, CTR,
     "Block until one or more containers stop, then print their exit codes"},

    {"image history|history", cmd_history, "[OPTIONS] IMAGE", "Show the history of an image"},
    {"image import|import", cmd_import, "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
     "Import the contents from a tarball to create a filesystem image"},
    {"image inspect", cmd_inspect_image, "[OPTIONS] IMAGE [IMAGE...]",
     "Display detailed information on one or more images"},
    {"image load|load", cmd_load, "[OPTIONS]", "Load an image from a tar archive or STDIN"},
    {"image prune", cmd_image_prune, "[OPTIONS]", "Remove unused images"},
    {"image save|save", cmd_save, "[OPTIONS] IMAGE [IMAGE...]",
     "Save one or more images to a tar archive (streamed to STDOUT by default)"},
    {"image rm|image remove|rmi", cmd_rmi, "[OPTIONS] IMAGE [IMAGE...]", "Remove one or more images"},
    {"image search-by-tag|search-by-tag", cmd_search_by_tag, "[OPTIONS] REPOSITORY[:PATTERN]",
     "List the tags that a repository has in its registry"},
    {"image tag|tag", cmd_tag, "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
     "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"},

    {"network connect", cmd_network_connect, "[OPTIONS] NETWORK CONTAINER",
      "Connect a container to a network"},
    {"network create", cmd_network_create, "[OPTIONS] NETWORK", "Create a network"},
    {"network disconnect", cmd_network_disconnect, "[OPTIONS] NETWORK CONTAINER",
     "Disconnect a container from a network"},
    {"network inspect", cmd_inspect_network, "[OPTIONS] NETWORK [NETWORK...]",
     "Display detailed information on one or more networks"},
    {"network ls|network list", cmd_network_ls, "[OPTIONS]", "List networks"},
    {"network prune", cmd_network_prune, "[OPTIONS]", "Remove all unused networks"},
    {"network rm|network remove", cmd_network_rm, "NETWORK [NETWORK...]", "Remove one or more networks"},
    {"volume create", cmd_volume_create, "[OPTIONS] [VOLUME]", "Create a volume"},
    {"volume inspect", cmd_inspect_volume, "[OPTIONS] VOLUME [VOLUME...]",
     "Display detailed information on one or more volumes"},
    {"volume ls|volume list", cmd_volume_ls, "[OPTIONS]", "List volumes"},
    {"volume prune", cmd_volume_prune, "[OPTIONS]", "Remove unused local volumes"},
    {"volume rm|volume remove", cmd_volume_rm, "[OPTIONS] VOLUME [VOLUME...]", "Remove one or more volumes"},

    {"inspect", cmd_inspect, "[OPTIONS] NAME|ID [NAME|ID...]",
     "Return low-level information on insula objects"},
    {"system df", cmd_system_df, "[OPTIONS]", "Show insula disk usage"},
    {"system events|events", cmd_events, "[OPTIONS]", "Get real time events from the server"},
    {"system prune", cmd_system_prune, "[OPTIONS]", "Remove unused data"},
    {"system dial-stdio", cmd_system_dial_stdio, "",
     "Proxy the standard streams to the daemon: what ssh:// contexts run"},
    {"context create", cmd_context_create, "[OPTIONS] CONTEXT", "Create a context", .offline = true},
    {"context export", cmd_context_export, "CONTEXT [FILE|-]",
     "Export a context to a tar archive FILE or a tar stream on STDOUT", .offline = true},
    {"context import", cmd_context_import, "CONTEXT FILE|-", "Import a context from a tar file",
     .offline = true},
    {"context inspect", cmd_context_inspect, "[OPTIONS] [CONTEXT] [CONTEXT...]",
     "Display detailed information on one or more contexts", .offline = true},
    {"context ls|context list", cmd_context_ls, "[OPTIONS]", "List contexts", .offline = true},
    {"context rm|context remove", cmd_context_rm, "[OPTIONS] CONTEXT [CONTEXT...]",
     "Remove one or more contexts", .offline = true},
    {"context show", cmd_context_show, "", "Print the name of the current context", .offline = true},
    {"context update", cmd_context_update, "[OPTIONS] CONTEXT", "Update a context", .offline = true},
    {"context use", cmd_context_use, "CONTEXT", "Set the current docker context", .offline = true},
    {"vm prepare", cmd_vm_prepare, "[OPTIONS]",
     "Fetch the guest kernel and make what hyperv containers boot"},
    {"vm ls|vm list", cmd_vm_ls, "[OPTIONS]", "List the templates that virtual machines start from"},
    {"vm rm|vm remove", cmd_vm_rm, "TEMPLATE [TEMPLATE...]", "Remove one or more templates"},
    {"vm status", cmd_vm_status, "", "Show whether and how hyperv isolation works here"},
    {NULL},
};

/* docker has them; insula will. */
static const char *const later[] = {"build",
				    "builder",
				    "buildx",
				    "checkpoint",
				    "compose",
				    "config",
				    "manifest",
				    "node",
				    "plugin",
				    "search",
				    "secret",
				    "service",
				    "stack",
				    "swarm",
				    "trust",
				    "image build",
				    "volume update",
				    NULL};

static int unknown(const char *path)
{
	const char *space = strchr(path, ' ');

	if (strv_has((char *const *)later, path)) {
		fprintf(stderr, "insula: '%s' is not yet supported\n", path);
		return 1;
	}
	fprintf(stderr, "insula: unknown command: insula %s\n\n", path);
	cli_suggest(path, stderr);
	if (space)
		fprintf(stderr, "Usage:  insula %.*s\n\n", (int)(space - path), path);
	fprintf(stderr, "Run 'insula %.*s%s--help' for more information\n",
		space ? (int)(space - path) : 0, path, space ? " " : "");
	return 1;
}

static int run_verb(struct cli *c, const char *path, int argc, char **argv)
{
	_cleanup_err_ struct err e = ERR_INIT;

	c->path = path;
	c->verb = verb_find(path);
	if (!c->verb->offline && !c->complete && cli_resolve_host(c, &e) < 0)
		return cli_fail(&e);
	return c->verb->fn(c, argc, argv);
}

/* argv[0] is the first word behind the global options. */
int cli_dispatch(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char *path = NULL;

	if (verb_find(argv[0]))
		return run_verb(c, argv[0], argc, argv);
	if (!cli_is_group(argv[0]))
		return unknown(argv[0]);
	if (argc < 2 || streq(argv[1], "--help") || streq(argv[1], "-h") || streq(argv[1], "help")) {
		cli_help_group(argv[0]);
		return 0;
	}
	path = xasprintf("%s %s", argv[0], argv[1]);
	return verb_find(path) ? run_verb(c, path, argc - 1, argv + 1) : unknown(path);
}

/* __complete WORD...: what may stand in place of the last word, one a line. */
static int complete(struct cli *c, int argc, char **argv)
{
	const char *last = argc > 0 ? argv[argc - 1] : "";

	c->complete = true;
	if (argc >= 2 && *last == '-')
		return cli_dispatch(c, argc, argv);
	if (argc <= 1)
		cli_list_names(NULL);
	else if (argc == 2 && cli_is_group(argv[0]))
		cli_list_names(argv[0]);
	return 0;
}

static int help(struct cli *c, int argc, char **argv)
{
	char *words[4] = { NULL };
	char dashes[] = "--help";
	int n = 0;

	if (argc < 2) {
		cli_help_top(stdout);
		return 0;
	}
	for (; n < argc - 1 && n < 2; n++)
		words[n] = argv[n + 1];
	if (!verb_find(words[0]) && !cli_is_group(words[0])) {
		fprintf(stderr, "unknown help topic: %s\n", words[0]);
		return 1;
	}
	words[n] = dashes;
	return cli_dispatch(c, n + 1, words);
}

static int usage_error(const char *error)
{
	fprintf(
	    stderr,
	    "%s\n\nUsage:  insula [OPTIONS] COMMAND [ARG...]\n\nRun 'insula --help' for more information\n",
	    error);
	return 125;
}

struct globals {
	char *host, *context, *config, *log_level;
	bool debug, help, version;
};

static int run(struct cli *c, const struct globals *g, char **args)
{
	int argc = strv_len(args);

	if (g->version) {
		printf("insula version %s\n", INSULA_VERSION);
		return 0;
	}
	if (g->help || argc == 0) {
		cli_help_top(stdout);
		return 0;
	}
	if (g->config)
		setenv("DOCKER_CONFIG", g->config, 1);
	c->debug = g->debug;
	if (streq(args[0], "__complete"))
		return complete(c, argc - 1, args + 1);
	if (streq(args[0], "help"))
		return help(c, argc, args);
	c->given_host = g->host;
	c->given_context = g->context;
	return cli_dispatch(c, argc, args);
}

int main(int argc, char **argv)
{
	struct globals g = {0};
	struct cli c = {0};
	_cleanup_free_ char **args = NULL, *error = NULL;
	int code;
	const struct opt opts[] = {
		{ 0, "config", OPT_STR, &g.config, "string" },
		{ 'c', "context", OPT_STR, &g.context, "string" },
		{ 'D', "debug", OPT_BOOL, &g.debug },
		{ 'H', "host", OPT_STR, &g.host, "list" },
		{ 'l', "log-level", OPT_STR, &g.log_level, "string" },
		{ 'v', "version", OPT_BOOL, &g.version },
		{ 'h', "help", OPT_BOOL, &g.help },
		OPT_END
	};

	signal(SIGPIPE, SIG_DFL);
	/* A command lives for a moment: it need not give memory back in between. */
	mallopt(M_TRIM_THRESHOLD, INT_MAX);
	mallopt(M_TOP_PAD, 1 << 20);
	log_init("insula", LOG_LVL_WARN);
	if (opt_parse(opts, argc, argv, true, &args, &error) < 0)
		code = usage_error(error);
	else
		code = run(&c, &g, args);
	httpc_free(c.idle);
	free(c.host);
	free(c.socket);
	free(c.context);
	free(g.host);
	free(g.context);
	free(g.config);
	free(g.log_level);
	if (fflush(stdout) != 0 && code == 0)
		code = 1;
	return code;
}
