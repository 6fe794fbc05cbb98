#include "cli/cli.h"

#include "base/alloc.h"
#include "base/strv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The groups, for the lists and for `insula GROUP`. */
static const struct { const char *name, *help; } groups[] = {
	{ "container", "Manage containers" },
	{ "context", "Manage contexts: which daemon is spoken to" },
	{ "image", "Manage images" },
	{ "network", "Manage networks" },
	{ "system", "Manage insula" },
	{ "vm", "Manage the virtual machines of hyperv isolation" },
	{ "volume", "Manage volumes" },
};

/* Walks the paths of a verb: the next one of *p into buf; false at the end. */
static bool next_path(const char **p, char *buf, size_t size)
{
	size_t n = strcspn(*p, "|");

	if (!**p || n >= size)
		return false;
	memcpy(buf, *p, n);
	buf[n] = 0;
	*p += n + ((*p)[n] == '|');
	return true;
}

const struct verb *verb_find(const char *path)
{
	char buf[64];

	for (const struct verb *v = verbs; v->paths; v++)
		for (const char *p = v->paths; next_path(&p, buf, sizeof(buf));)
			if (streq(buf, path))
				return v;
	return NULL;
}

struct entry { char name[64]; const char *help; };

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

/* The first name of each verb within the group (NULL = top level), sorted. */
static size_t collect(const char *group, int common, struct entry *ret, size_t max)
{
	size_t n = 0, len = group ? strlen(group) : 0;
	char buf[64];

	for (const struct verb *v = verbs; v->paths && n < max; v++) {
		if (common >= 0 && v->common != common)
			continue;
		for (const char *p = v->paths; next_path(&p, buf, sizeof(buf));) {
			const char *space = strchr(buf, ' ');

			if (group ? (!space || strncmp(buf, group, len) || buf[len] != ' ') : !!space)
				continue;
			strcpy(ret[n].name, space ? space + 1 : buf);
			ret[n++].help = v->help;
			break;
		}
	}
	if (common != 1)
		qsort(ret, n, sizeof(*ret), by_name);
	return n;
}

static void print_entries(FILE *f, const struct entry *e, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fprintf(f, "  %-11s %s\n", e[i].name, e[i].help);
}

void cli_help_top(FILE *f)
{
	struct entry e[64];

	fprintf(f, "Usage:  insula [OPTIONS] COMMAND\n\n"
		"Containers that each choose their wall: process or hyperv isolation\n\nCommon Commands:\n");
	print_entries(f, e, collect(NULL, 1, e, ARRAY_SIZE(e)));
	fprintf(f, "\nManagement Commands:\n");
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
		fprintf(f, "  %-11s %s\n", groups[i].name, groups[i].help);
	fprintf(f, "\nCommands:\n");
	print_entries(f, e, collect(NULL, 0, e, ARRAY_SIZE(e)));
	fprintf(f, "\nGlobal Options:\n"
		   "  -c, --context string   Name of the docker context to use to connect to the daemon\n"
		   "  -D, --debug            Enable debug mode\n"
		   "  -H, --host string      Daemon socket to connect to (default "
		   "\"unix:///run/insula/insula.sock\")\n"
		   "      --help             Print usage\n"
		   "  -v, --version          Print version information and quit\n"
		   "\nRun 'insula COMMAND --help' for more information on a command.\n");
}

bool cli_is_group(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
		if (streq(groups[i].name, name))
			return true;
	return false;
}

void cli_list_names(const char *group)
{
	struct entry e[64];
	size_t n = collect(group, -1, e, ARRAY_SIZE(e));

	for (size_t i = 0; i < n; i++)
		puts(e[i].name);
	for (size_t i = 0; !group && i < ARRAY_SIZE(groups); i++)
		puts(groups[i].name);
}

/* Levenshtein's distance; names are short. */
static size_t distance(const char *a, const char *b)
{
	size_t row[64], n = strlen(b);

	if (n >= ARRAY_SIZE(row))
		return SIZE_MAX;
	for (size_t k = 0; k <= n; k++)
		row[k] = k;
	for (size_t i = 0; a[i]; i++) {
		size_t corner = row[0];

		row[0] = i + 1;
		for (size_t k = 0; k < n; k++) {
			size_t change = corner + (a[i] != b[k]);

			corner = row[k + 1];
			row[k + 1] = 1 + (row[k] < row[k + 1] ? row[k] : row[k + 1]);
			row[k + 1] = MIN(row[k + 1], change);
		}
	}
	return row[n];
}

static bool resembles(const char *typed, const char *name)
{
	return distance(typed, name) <= MIN((size_t)2, strlen(typed) / 2) || str_starts(name, typed);
}

void cli_suggest(const char *path, FILE *f)
{
	const char *space = strchr(path, ' '), *typed = space ? space + 1 : path;
	_cleanup_free_ char *group = space ? xstrndup(path, (size_t)(space - path)) : NULL;
	struct entry e[64];
	size_t n = collect(group, -1, e, ARRAY_SIZE(e) - ARRAY_SIZE(groups));
	bool any = false;

	for (size_t i = 0; !group && i < ARRAY_SIZE(groups); i++)
		snprintf(e[n++].name, sizeof e->name, "%s", groups[i].name);
	for (size_t i = 0; i < n; i++) {
		if (!resembles(typed, e[i].name))
			continue;
		fprintf(f, "%s\tinsula %s%s%s\n", any ? "" : "Did you mean this?\n", group ? group : "",
			group ? " " : "", e[i].name);
		any = true;
	}
	if (any)
		fputc('\n', f);
}

void cli_help_group(const char *group)
{
	struct entry e[64];

	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		if (!streq(groups[i].name, group))
			continue;
		printf("Usage:  insula %s COMMAND\n\n%s\n\nCommands:\n", group, groups[i].help);
		print_entries(stdout, e, collect(group, -1, e, ARRAY_SIZE(e)));
		printf("\nRun 'insula %s COMMAND --help' for more information on a command.\n", group);
	}
}

static void print_usage_line(const struct cli *c, FILE *f)
{
	fprintf(f, "Usage:  insula %s%s%s\n", c->path, *c->verb->usage ? " " : "", c->verb->usage);
}

static void print_help(const struct cli *c, const struct opt *opts)
{
	const char *p = c->verb->paths, *sep = "";
	bool any = false;
	char buf[64];

	print_usage_line(c, stdout);
	printf("\n%s\n", c->verb->help);
	if (strchr(p, '|')) {
		printf("\nAliases:\n  ");
		for (; next_path(&p, buf, sizeof(buf)); sep = ", ")
			printf("%sinsula %s", sep, buf);
		printf("\n");
	}
	for (const struct opt *o = opts; o->long_name; o++)
		any |= o->help != NULL;
	if (any) {
		printf("\n");
		opt_print_help(opts);
	}
}

static void print_options(const struct opt *opts)
{
	for (const struct opt *o = opts; o->long_name; o++) {
		if (!o->help)
			continue;
		printf("--%s\n", o->long_name);
		if (o->short_name)
			printf("-%c\n", o->short_name);
	}
}

static bool check_count(struct cli *c, int n, int min, int max)
{
	const char *s = min == 1 ? "" : "s";
	bool see = max == ARGS_ANY;

	if (n >= min && (max == ARGS_ANY || n <= max))
		return true;
	fprintf(stderr, "insula: 'insula %s' ", c->path);
	if (max == 0)
		fprintf(stderr, "accepts no arguments");
	else if (max == ARGS_ANY)
		fprintf(stderr, "requires at least %d argument%s", min, s);
	else if (min == max)
		fprintf(stderr, "requires %d argument%s", min, s);
	else if (min == 0)
		fprintf(stderr, "requires at most %d argument%s", max, max == 1 ? "" : "s");
	else
		fprintf(stderr, "requires at least %d and at most %d arguments", min, max);
	fprintf(stderr, "\n\n");
	print_usage_line(c, stderr);
	fprintf(stderr, "\n%s 'insula %s --help' for more information\n", see ? "See" : "Run", c->path);
	c->exit_code = 1;
	return false;
}

bool cli_parse(struct cli *c, const struct opt *opts, int argc, char **argv, unsigned flags, int min, int max,
	       char ***ret_args)
{
	_cleanup_free_ struct opt *all = NULL;
	_cleanup_free_ char **args = NULL, *error = NULL;
	bool help = false, short_help = false, own_h = false;
	size_t n = 0;
	int count = 0, r;

	while (opts[n].long_name)
		own_h |= opts[n++].short_name == 'h';
	all = new_array(struct opt, n + 3);
	memcpy(all, opts, n * sizeof(*opts));
	all[n++] = (struct opt){ .long_name = "help", .type = OPT_BOOL, .target = &help };
	if (!own_h)
		all[n++] = (struct opt){ 'h', "help ", OPT_BOOL, .target = &short_help };
	if (c->complete) {
		print_options(all);
		printf("--help\n");
		c->exit_code = 0;
		return false;
	}
	r = opt_parse(all, argc, argv, flags & PARSE_STOP, &args, &error);
	if (short_help)
		fprintf(stderr, "Flag shorthand -h has been deprecated, use --help\n");
	if (r >= 0 && (help || short_help)) {
		/* run and create have -h for the host name, so docker lists --help there. */
		if (own_h)
			all[n - 1].help = "Print usage";
		print_help(c, all);
		c->exit_code = 0;
		return false;
	}
	if (r < 0) {
		fprintf(stderr, "%s\n\n", error);
		print_usage_line(c, stderr);
		fprintf(stderr, "\nRun 'insula %s --help' for more information\n", c->path);
		c->exit_code = 125;
		return false;
	}
	while (args[count])
		count++;
	if (!check_count(c, count, min, max))
		return false;
	*ret_args = TAKE_PTR(args);
	return true;
}

int opt_filter(const struct opt *o, const char *value, char **why)
{
	struct json **filters = o->target, *set;
	const char *eq = strchr(value, '=');
	_cleanup_free_ char *key = NULL;
	size_t n;

	if (!*value)
		return 0;
	if (!eq) {
		*why = xstrdup("bad format of filter (expected name=value)");
		return -EINVAL;
	}
	key = xstrndup(value, eq - value);
	n = strlen(key);
	while (n > 0 && key[n - 1] == ' ')
		key[--n] = 0;
	for (char *p = key; *p; p++)
		*p |= *p >= 'A' && *p <= 'Z' ? 0x20 : 0;
	if (!*filters)
		*filters = json_object();
	set = json_get(*filters, key);
	if (!set)
		set = json_set(*filters, key, json_object());
	json_set_bool(set, eq + 1, true);
	return 0;
}

int cli_fail_run(const struct cli *c, const char *msg)
{
	fprintf(stderr, "insula: %s\n\nRun 'insula %s --help' for more information\n", msg, c->path);
	return 125;
}

int cli_fail(const struct err *e)
{
	fprintf(stderr, "%s\n", err_text(e));
	return 1;
}
