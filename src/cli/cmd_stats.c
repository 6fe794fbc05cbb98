/* `stats`: one stream of samples for each container, a table of all of them once a second. */
#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "cli/format.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct field fields[] = {
    {"BlockIO", "BLOCK I/O"},	{"CPUPerc", "CPU %"}, {"Container", "CONTAINER"},
    {"ID", "CONTAINER ID"},	{"MemPerc", "MEM %"}, {"MemUsage", "MEM USAGE / LIMIT"},
    {"Name", "NAME"},		{"NetIO", "NET I/O"}, {"PIDs", "PIDS"},
    {NULL, NULL},
};

static const struct list_spec spec = {
    .fields = fields,
    .table = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t"
	     "{{.PIDs}}",
    .quiet = "{{.ID}}",
    .go_type = "*container.statsContext",
};

struct source {
	char *name;
	struct httpc *h;
	struct sbuf in;
	bool wanted;		/* still among those to show */
};

struct sources { struct source **v; size_t n; };

static void source_free(struct source *s)
{
	httpc_free(s->h);
	sbuf_done(&s->in);
	free(s->name);
	free(s);
}

static void sources_drop(struct sources *all, size_t i)
{
	source_free(all->v[i]);
	memmove(&all->v[i], &all->v[i + 1], (--all->n - i) * sizeof *all->v);
}

static int source_open(struct cli *c, struct sources *all, const char *name, struct err *e)
{
	_cleanup_free_ char *path = url_path("/containers/", name, "/stats?stream=1");
	struct httpc_request req = { .method = "GET", .target = path };
	struct source *s = new0(struct source);
	int r;

	s->name = xstrdup(name);
	s->wanted = true;
	r = api_open(c, &req, &s->h, NULL, e);
	if (r < 0) {
		source_free(s);
		return r;
	}
	all->v = xrealloc(all->v, all->n + 1, sizeof *all->v);
	all->v[all->n++] = s;
	return 0;
}

/* The next sample; NULL at the end of the stream. */
static struct json *source_next(struct source *s)
{
	for (;;) {
		char *end = s->in.len ? memchr(s->in.buf, '\n', s->in.len) : NULL;
		struct json *j = NULL;
		char buf[8192];
		ssize_t n;

		if (end) {
			(void)json_parse(s->in.buf, (size_t)(end - s->in.buf), &j, NULL);
			sbuf_consume(&s->in, (size_t)(end - s->in.buf) + 1);
			return j;
		}
		n = httpc_read(s->h, buf, sizeof buf);
		if (n <= 0)
			return NULL;
		sbuf_add(&s->in, buf, (size_t)n);
		if (!sbuf_ok(&s->in))
			return NULL;
	}
}

/* ---- a row ---- */

static double cpu_percent(const struct json *now, const struct json *before)
{
	const struct json *usage = json_get(now, "cpu_usage"), *was = json_get(before, "cpu_usage");
	double cpu = (double)json_get_int(usage, "total_usage", 0) -
		     (double)json_get_int(was, "total_usage", 0);
	double all = (double)json_get_int(now, "system_cpu_usage", 0) -
		     (double)json_get_int(before, "system_cpu_usage", 0);
	int64_t n = json_get_int(now, "online_cpus", 0);

	if (!n)
		n = (int64_t)json_len(json_get(usage, "percpu_usage"));
	return cpu > 0 && all > 0 ? cpu / all * (double)n * 100 : 0;
}

/* Without the page cache that could be given back at once. */
static double memory_used(const struct json *m)
{
	const struct json *stats = json_get(m, "stats");
	int64_t usage = json_get_int(m, "usage", 0), v = json_get_int(stats, "total_inactive_file", 0);

	if (v && v < usage)
		return (double)(usage - v);
	v = json_get_int(stats, "inactive_file", 0);
	return (double)(v < usage ? usage - v : usage);
}

static void add_net(const struct json *nets, double *rx, double *tx)
{
	struct json_iter it = { 0 };

	while (json_next(nets, &it)) {
		*rx += (double)json_get_int(it.value, "rx_bytes", 0);
		*tx += (double)json_get_int(it.value, "tx_bytes", 0);
	}
}

static void add_block(const struct json *list, double *rd, double *wr)
{
	for (size_t i = 0; i < json_len(list); i++) {
		const struct json *o = json_at(list, i);
		const char *op = json_get_str(o, "op") ?: "";
		double v = (double)json_get_int(o, "value", 0);

		if (*op == 'r' || *op == 'R')
			*rd += v;
		else if (*op == 'w' || *op == 'W')
			*wr += v;
	}
}

static void set_pair(struct json *row, const char *key, double a, double b, char *(*text)(double))
{
	_cleanup_free_ char *x = text(a), *y = text(b), *both = xasprintf("%s / %s", x, y);

	json_set_str(row, key, both);
}

static struct json *row_of(const struct source *s, const struct json *j, bool trunc)
{
	const struct json *mem = json_get(j, "memory_stats");
	const char *id = json_get_str(j, "id") ?: "", *name = json_get_str(j, "name") ?: "";
	double rx = 0, tx = 0, rd = 0, wr = 0, used = memory_used(mem);
	double limit = (double)json_get_int(mem, "limit", 0);
	_cleanup_free_ char *cpu = xasprintf("%.2f%%", cpu_percent(json_get(j, "cpu_stats"),
								      json_get(j, "precpu_stats")));
	_cleanup_free_ char *part = xasprintf("%.2f%%", limit > 0 ? used / limit * 100 : 0);
	_cleanup_free_ char *pids =
	    xasprintf("%" PRId64, json_get_int(json_get(j, "pids_stats"), "current", 0));
	struct json *row = json_object();
	char buf[13];

	add_net(json_get(j, "networks"), &rx, &tx);
	add_block(json_get(json_get(j, "blkio_stats"), "io_service_bytes_recursive"), &rd, &wr);
	set_pair(row, "BlockIO", rd, wr, size_human);
	json_set_str(row, "CPUPerc", cpu);
	json_set_str(row, "Container", s->name);
	json_set_str(row, "ID", trunc ? short_id(id, buf) : id);
	json_set_str(row, "MemPerc", part);
	set_pair(row, "MemUsage", used, limit, size_human_bytes);
	json_set_str(row, "Name", *name == '/' ? name + 1 : name);
	set_pair(row, "NetIO", rx, tx, size_human);
	json_set_str(row, "PIDs", pids);
	return row;
}

/* ---- all ---- */

/* Opens streams of what has come, and marks those that are still there. */
static int follow_all(struct cli *c, struct sources *all, bool stopped, struct err *e)
{
	_cleanup_json_ struct json *list = NULL;
	int r = api_call(c, "GET", stopped ? "/containers/json?all=1" : "/containers/json", NULL, &list, e);

	if (r < 0)
		return r;
	for (size_t k = 0; k < all->n; k++)
		all->v[k]->wanted = false;
	for (size_t i = 0; i < json_len(list); i++) {
		const char *id = json_get_str(json_at(list, i), "Id");
		bool known = false;

		for (size_t k = 0; k < all->n; k++)
			if (streq(all->v[k]->name, id))
				known = all->v[k]->wanted = true;
		/* one that has just gone is none */
		if (!known)
			(void)source_open(c, all, id, NULL);
	}
	for (size_t k = all->n; k--;)
		if (!all->v[k]->wanted)
			sources_drop(all, k);
	return 0;
}

static struct json *sample_all(struct sources *all, bool trunc)
{
	struct json *rows = json_array();

	for (size_t k = 0; k < all->n;) {
		_cleanup_json_ struct json *j = source_next(all->v[k]);

		if (j)
			json_add(rows, row_of(all->v[k++], j, trunc));
		else
			sources_drop(all, k);
	}
	return rows;
}

struct stats { struct sources all; bool stopped, stream, trunc, given; };

static int show(struct cli *c, struct stats *x, struct list *l)
{
	_cleanup_err_ struct err e = ERR_INIT;
	bool first = true;

	for (;;) {
		_cleanup_json_ struct json *rows = NULL;
		int code;

		if (!x->given && follow_all(c, &x->all, x->stopped, &e) < 0)
			return cli_fail(&e);
		if (x->given && !x->all.n && !first)
			return 0;
		/* The first sample has nothing to be compared with. */
		rows = sample_all(&x->all, x->trunc);
		if (first && !x->stream) {
			json_free(rows);
			rows = sample_all(&x->all, x->trunc);
		}
		first = false;
		if (x->stream)
			fputs("\033[2J\033[H", stdout);
		code = list_print(l, rows);
		fflush(stdout);
		if (code || !x->stream || ferror(stdout))
			return code;
		if (!x->all.n)
			usleep(500000);
	}
}

int cmd_stats(struct cli *c, int argc, char **argv)
{
	struct stats x = { .trunc = true, .stream = true };
	bool no_stream = false, no_trunc = false;
	_cleanup_free_ char **args = NULL, *format = NULL;
	_cleanup_list_ struct list l = { 0 };
	_cleanup_err_ struct err e = ERR_INIT;
	int code = 0;
	const struct opt opts[] = {
	    {'a', "all", OPT_BOOL, &x.stopped, NULL, "Show all containers (default shows just running)"},
	    {0, "format", OPT_STR, &format, "string",
	     "Format output using a Go template, or 'table', or 'json'"},
	    {0, "no-stream", OPT_BOOL, &no_stream, NULL,
	     "Disable streaming stats and only pull the first result"},
	    {0, "no-trunc", OPT_BOOL, &no_trunc, NULL, "Do not truncate output"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 0, ARGS_ANY, &args))
		return c->exit_code;
	if (!list_open(&l, &spec, format, false))
		return 1;
	x.stream = !no_stream;
	x.trunc = !no_trunc;
	x.given = args[0];
	for (char **a = args; !code && *a; a++)
		if (source_open(c, &x.all, *a, &e) < 0)
			code = cli_fail(&e);
	if (!code)
		code = show(c, &x, &l);
	while (x.all.n)
		sources_drop(&x.all, x.all.n - 1);
	free(x.all.v);
	return code;
}
