/* What every verb of the program `insula` shares: the verb table, options and usage errors in Docker's
 * words, and calls to the daemon. */
#pragma once

#include "base/err.h"
#include "base/opt.h"
#include "base/sbuf.h"
#include "lib/httpc.h"
#include "lib/json.h"
#include <stdio.h>

struct verb;

struct cli {
	const struct verb *verb;	/* running now */
	const char *path;		/* as typed, without the program's name: "container ls" */
	bool complete;			/* print the verb's option names instead of running it */
	bool debug;
	int exit_code;			/* for when cli_parse says no */

	const char *given_host, *given_context;	/* of the command line */
	char *host;			/* "unix:///run/insula/insula.sock" */
	char *socket;			/* its path */
	char *context;			/* "default" or the name of a docker context */
	bool default_host;		/* nobody chose it: the daemon may be started there */
	struct httpc *idle;		/* keep-alive connection without an answer outstanding */
};

typedef int (*verb_fn)(struct cli *c, int argc, char **argv);

/* One row per verb. paths: all its names, the first is the canonical one, separated by '|'. */
struct verb {
	const char *paths;
	verb_fn fn;			/* argv[0] is the last word of the path; returns the exit code */
	const char *usage;		/* behind the path: "[OPTIONS] IMAGE [COMMAND] [ARG...]" */
	const char *help;
	bool common;			/* listed among the common commands */
	bool offline;			/* it speaks to no daemon: which one is not asked */
};
extern const struct verb verbs[];	/* ends with paths == NULL */

/* main.c */
int cli_dispatch(struct cli *c, int argc, char **argv);

/* usage.c */
enum { ARGS_ANY = -1, PARSE_STOP = 1 << 0 };
/* Parses the verb's options and checks the number of arguments (max ARGS_ANY = no limit). False: --help was
 * answered, or the error was printed; return c->exit_code. *ret_args is argv's pointers in a heap vector
 * (free the vector only). --help is added to the table. */
bool cli_parse(struct cli *c, const struct opt *opts, int argc, char **argv, unsigned flags, int min, int max,
	       char ***ret_args);
/* The command lists of `insula --help` and `insula GROUP --help`. */
void cli_help_top(FILE *f);
void cli_help_group(const char *group);
bool cli_is_group(const char *name);
/* "Did you mean this?" with the names that path ("psx", "container lsx") may have been meant for, if any. */
void cli_suggest(const char *path, FILE *f);
/* Names for completion, one a line: of a group, or (NULL) of the top level and the groups. */
void cli_list_names(const char *group);
const struct verb *verb_find(const char *path);
/* OPT_CALL targets. */
int opt_filter(const struct opt *o, const char *value, char **why);	/* target: struct json ** */
/* Prints "insula: msg\n\nRun 'insula PATH --help' for more information" (run and its kin) and gives 125. */
int cli_fail_run(const struct cli *c, const char *msg);
/* Prints the message of e and gives 1. */
int cli_fail(const struct err *e);

/* client.c */
/* Decides host, socket and context from -H, --context, the environment and docker's configuration. */
int cli_resolve_host(struct cli *c, struct err *e);
/* Where the daemon is if nobody says otherwise; heap. */
char *cli_default_host(void);
/* Where ~/.docker is. Heap, NULL without a home. */
char *cli_config_dir(void);
/* Connects, starting the daemon where that is ours to do: the descriptor, or < 0 and e. */
int cli_dial(struct cli *c, struct err *e);
int cli_connect(struct cli *c, struct httpc **ret, struct err *e);

/* A complete call: answer below 400 parsed into *ret_json (may be NULL; NULL result for an empty body).
 * body is borrowed. Errors carry "Error response from daemon: ..." and the kind of the status. */
int api_call(struct cli *c, const char *method, const char *target, const struct json *body,
	     struct json **ret_json, struct err *e);
/* With one header more ("Name: value"; may be NULL). */
int api_call_with(struct cli *c, const char *method, const char *target, const char *header,
		  const struct json *body, struct json **ret_json, struct err *e);
/* A call whose answer is read piece by piece from *ret. Give the connection back with api_release. */
int api_open(struct cli *c, const struct httpc_request *req, struct httpc **ret,
	     const struct http_head **ret_head, struct err *e);
/* Reads the rest of a request that was sent in pieces: the head of the answer, or the error in it. */
int api_answer(struct cli *c, struct httpc *h, const struct http_head **ret_head, struct err *e);
void api_release(struct cli *c, struct httpc *h);
/* A stream of JSON values (progress, events, wait): fn is called for each until it returns < 0. */
typedef int (*api_object_fn)(struct json *j, void *userdata, struct err *e);
int api_objects(struct httpc *h, api_object_fn fn, void *userdata, struct err *e);
/* GET of an array of objects: fn is called for each as above; the array is never there as a tree. keys: the
 * members that fn looks at, which are all that it gets (NULL: everything). */
int api_list(struct cli *c, const char *target, const char *const *keys, api_object_fn fn, void *userdata,
	     struct err *e);
/* "&key=escaped" (or "?key=..." for the first); NULL values are left out. */
void url_query(struct sbuf *url, const char *key, const char *value);
/* "/prefix/<escaped name>suffix", heap. */
char *url_path(const char *prefix, const char *name, const char *suffix);

/* autostart.c */
/* Starts insulad for c->socket and waits until it accepts. */
int cli_start_daemon(struct cli *c, int *ret_fd, struct err *e);
/* A program of this installation: beside the CLI's in the build tree, else in PREFIX/<installed>. Heap; NULL
 * if absent. */
char *cli_find_program(const char *in_build_tree, const char *installed);
