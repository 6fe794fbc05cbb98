#include "engine/top.h"

#include "base/alloc.h"
#include "base/hash.h"
#include "base/strv.h"
#include "proto/msg.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

/* A process, as parsed from its row. */
struct row {
	const char *pid, *ppid, *state, *nice, *comm, *args;
	uint64_t uid, gid, tty, start, cpu_ms, vsz, rss;
};

struct ctx { const struct top_input *in; struct sbuf out; };

typedef void (*column_fn)(struct ctx *x, const struct row *r);

static void col_pid(struct ctx *x, const struct row *r) { sbuf_puts(&x->out, r->pid); }
static void col_ppid(struct ctx *x, const struct row *r) { sbuf_puts(&x->out, r->ppid); }
static void col_stat(struct ctx *x, const struct row *r) { sbuf_puts(&x->out, r->state); }
static void col_nice(struct ctx *x, const struct row *r) { sbuf_puts(&x->out, r->nice); }
static void col_comm(struct ctx *x, const struct row *r) { sbuf_puts(&x->out, r->comm); }
static void col_args(struct ctx *x, const struct row *r) { sbuf_puts(&x->out, *r->args ? r->args : r->comm); }
static void col_uid(struct ctx *x, const struct row *r)
{
	sbuf_printf(&x->out, "%llu", (unsigned long long)r->uid);
}
static void col_gid(struct ctx *x, const struct row *r)
{
	sbuf_printf(&x->out, "%llu", (unsigned long long)r->gid);
}
static void col_vsz(struct ctx *x, const struct row *r)
{
	sbuf_printf(&x->out, "%llu", (unsigned long long)r->vsz);
}
static void col_rss(struct ctx *x, const struct row *r)
{
	sbuf_printf(&x->out, "%llu", (unsigned long long)r->rss);
}

/* The name of a uid in the passwd text, else the number. */
static void col_user(struct ctx *x, const struct row *r)
{
	for (const char *line = x->in->passwd; line && *line;) {
		const char *end = strchrnul(line, '\n'), *name_end = memchr(line, ':', (size_t)(end - line));
		const char *uid = name_end ? memchr(name_end + 1, ':', (size_t)(end - name_end - 1)) : NULL;

		if (uid && strtoull(uid + 1, NULL, 10) == r->uid && uid[1] >= '0' && uid[1] <= '9') {
			sbuf_add(&x->out, line, (size_t)(name_end - line));
			return;
		}
		line = *end ? end + 1 : NULL;
	}
	col_uid(x, r);
}

/* Device numbers of terminals, as in /proc/PID/stat. */
static void col_tty(struct ctx *x, const struct row *r)
{
	unsigned long long major = (r->tty >> 8) & 0xfff,
			   minor = (r->tty & 0xff) | ((r->tty >> 12) & 0xfff00);

	if (major >= 136 && major <= 143)
		sbuf_printf(&x->out, "pts/%llu", (major - 136) * 256 + minor);
	else if (major == 4 && minor < 64)
		sbuf_printf(&x->out, "tty%llu", minor);
	else if (major == 4)
		sbuf_printf(&x->out, "ttyS%llu", minor - 64);
	else if (major == 5 && minor == 1)
		sbuf_puts(&x->out, "console");
	else
		sbuf_putc(&x->out, '?');
}

static void add_time(struct ctx *x, uint64_t s, const char *fmt)
{
	time_t t = (time_t)s;
	struct tm tm;
	char buf[64] = "";

	localtime_r(&t, &tm);
	/* the formats are the literals below */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	strftime(buf, sizeof buf, fmt, &tm);
#pragma GCC diagnostic pop
	sbuf_puts(&x->out, buf);
}

static void col_stime(struct ctx *x, const struct row *r)
{
	uint64_t age = x->in->now_s > r->start ? x->in->now_s - r->start : 0;

	add_time(x, r->start, age < 86400 ? "%H:%M" : age < 365 * 86400 ? "%b%d" : "%Y");
}

static void col_lstart(struct ctx *x, const struct row *r) { add_time(x, r->start, "%a %b %e %H:%M:%S %Y"); }

static void add_clock(struct ctx *x, uint64_t s)
{
	if (s >= 86400)
		sbuf_printf(&x->out, "%llu-", (unsigned long long)(s / 86400));
	sbuf_printf(&x->out, "%02u:%02u:%02u", (unsigned)(s / 3600 % 24), (unsigned)(s / 60 % 60),
		    (unsigned)(s % 60));
}

static void col_time(struct ctx *x, const struct row *r) { add_clock(x, r->cpu_ms / 1000); }

static void col_bsdtime(struct ctx *x, const struct row *r)
{
	uint64_t s = r->cpu_ms / 1000;

	sbuf_printf(&x->out, "%llu:%02u", (unsigned long long)(s / 60), (unsigned)(s % 60));
}

static uint64_t age_s(const struct ctx *x, const struct row *r)
{
	return x->in->now_s > r->start ? x->in->now_s - r->start : 0;
}

static void col_etime(struct ctx *x, const struct row *r)
{
	uint64_t s = age_s(x, r);

	if (s >= 3600)
		add_clock(x, s);
	else
		sbuf_printf(&x->out, "%02u:%02u", (unsigned)(s / 60), (unsigned)(s % 60));
}

static void col_etimes(struct ctx *x, const struct row *r)
{
	sbuf_printf(&x->out, "%llu", (unsigned long long)age_s(x, r));
}

/* Per mille of one processor since the start. */
static uint64_t cpu_share(const struct ctx *x, const struct row *r)
{
	uint64_t age = age_s(x, r);

	return age ? r->cpu_ms / age : 0;
}

static void col_c(struct ctx *x, const struct row *r)
{
	sbuf_printf(&x->out, "%llu", (unsigned long long)MIN(cpu_share(x, r) / 10, (uint64_t)99));
}

static void col_pcpu(struct ctx *x, const struct row *r)
{
	uint64_t v = MIN(cpu_share(x, r), (uint64_t)9999);

	sbuf_printf(&x->out, "%u.%u", (unsigned)(v / 10), (unsigned)(v % 10));
}

static void col_pmem(struct ctx *x, const struct row *r)
{
	uint64_t v = x->in->memory_kb ? MIN(r->rss * 1000 / x->in->memory_kb, (uint64_t)999) : 0;

	sbuf_printf(&x->out, "%u.%u", (unsigned)(v / 10), (unsigned)(v % 10));
}

static const struct column { const char *names; const char *title; column_fn fn; } columns[] = {
	{"pid tgid", "PID", col_pid},		{"ppid", "PPID", col_ppid},
	{"user euser uname ruser", "USER", col_user},	{"uid euid ruid", "UID", col_uid},
	{"gid egid rgid", "GID", col_gid},	{"tty tt tname", "TT", col_tty},
	{"stat state s", "S", col_stat},	{"nice ni", "NI", col_nice},
	{"comm ucmd ucomm fname", "COMMAND", col_comm},	{"args cmd command", "COMMAND", col_args},
	{"vsz vsize", "VSZ", col_vsz},		{"rss rssize rsz", "RSS", col_rss},
	{"stime start bsdstart start_time", "STIME", col_stime}, {"lstart", "STARTED", col_lstart},
	{"time cputime", "TIME", col_time},	{"bsdtime", "TIME", col_bsdtime},
	{"etime", "ELAPSED", col_etime},	{"etimes", "ELAPSED", col_etimes},
	{"c", "C", col_c},			{"pcpu %cpu", "%CPU", col_pcpu},
	{"pmem %mem", "%MEM", col_pmem},
};

/* Titles that differ by the name asked for. */
static const char *const other_titles[][2] = {
    {"cmd", "CMD"},       {"stat", "STAT"},      {"tty", "TT"},           {"tname", "TTY"},
    {"start", "STARTED"}, {"bsdstart", "START"}, {"start_time", "START"}, {"euser", "EUSER"},
    {"ruser", "RUSER"},   {"tgid", "TGID"},
};

/* What is to be printed. */
struct layout { const struct column *col[64]; char *title[64]; size_t n; };

static const struct column *find_column(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		_cleanup_strv_ char **names = strv_split(columns[i].names, " ");

		if (strv_has(names, name))
			return &columns[i];
	}
	return NULL;
}

static int add_column(struct layout *l, const char *name, const char *title, struct err *err)
{
	const struct column *c = find_column(name);

	if (!c)
		return err_msg(err, ERR_INVALID, 0, "ps: error: unknown user-defined format specifier \"%s\"",
			       name);
	if (l->n >= ARRAY_SIZE(l->col))
		return err_msg(err, ERR_INVALID, 0, "ps: error: too many columns");
	for (size_t i = 0; !title && i < ARRAY_SIZE(other_titles); i++)
		if (streq(other_titles[i][0], name))
			title = other_titles[i][1];
	l->col[l->n] = c;
	l->title[l->n++] = xstrdup(title ? title : c->title);
	return 0;
}

/* "pid,args", "pid,comm=NAME": a title given by the user ends the list, as in ps. */
static int add_list(struct layout *l, const char *list, struct err *err)
{
	const char *eq = strchr(list, '=');
	_cleanup_free_ char *head = eq ? xstrndup(list, (size_t)(eq - list)) : xstrdup(list);
	_cleanup_strv_ char **names = strv_split(head, ", ");
	size_t n = strv_len(names);
	int r = n ? 0 : err_msg(err, ERR_INVALID, 0, "ps: error: improper list");

	for (size_t i = 0; r == 0 && i < n; i++) {
		const char *title = eq && i + 1 == n ? eq + 1 : NULL;

		/* the PID column is found by its title: another must not pass for it */
		if (title && str_starts(title, "PID") && !streq(names[i], "pid"))
			return err_msg(err, ERR_INVALID, 0, "specifying \"%s=%s\" is not allowed", names[i],
				       title);
		r = add_column(l, names[i], title, err);
	}
	return r;
}

static const struct { const char *name, *list; } formats[] = {
	{"default", "pid|tname|time|comm=CMD"},
	{"f", "user=UID|pid|ppid|c|stime|tname|time|cmd"},
	{"j", "pid|ppid|tname|time|comm=CMD"},
	{"l", "stat=S|uid|pid|ppid|c|nice|vsz=SZ|tname|time|comm=CMD"},
	{"u", "user|pid|pcpu|pmem|vsz|rss|tname|stat|bsdstart|bsdtime|args"},
	{"bsd", "pid|tname|stat|bsdtime|args"},
};

static void use_format(struct layout *l, const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		_cleanup_strv_ char **v = NULL;

		if (!streq(formats[i].name, name))
			continue;
		v = strv_split(formats[i].list, "|,");
		for (char **p = v; *p; p++) {
			_cleanup_free_ char *key = xstrndup(*p, strcspn(*p, "="));

			(void)add_column(l, key, (*p)[strlen(key)] ? *p + strlen(key) + 1 : NULL, NULL);
		}
	}
}

/* One word of options. value: the next word; *used is set if it was an option's argument. */
static int parse_word(struct layout *l, const char *w, const char *value, const char **format, bool *used,
		      struct err *err)
{
	bool dash = *w == '-';

	if (!strncmp(w, "--", 2))
		return err_msg(err, ERR_INVALID, 0, "ps: error: unsupported option \"%s\"", w);
	for (const char *p = w + dash; *p; p++) {
		if (*p == 'o' || (dash && *p == 'O')) {
			const char *list = p[1] ? p + 1 : value;

			*used = !p[1];
			if (!list)
				return err_msg(err, ERR_INVALID, 0,
					       "ps: error: format specification must follow -o");
			*format = "";
			return add_list(l, list, err);
		}
		if (strchr(dash ? "fFjl" : "ujl", *p))
			*format = *p == 'j' ? "j" : *p == 'l' ? "l" : *p == 'u' ? "u" : "f";
		else if (dash && *p == 'u' && p == w + 1 + strspn(w + 1, "ax"))
			*format = "u";		/* ps takes "-aux" as "aux" */
		else if (!strchr(dash ? "eAadwxNTH" : "axwe", *p))
			return err_msg(err, ERR_INVALID, 0, "ps: error: unsupported option \"%s%c\"",
				       dash ? "-" : "", *p);
		else if (!dash && !**format)
			*format = "bsd";
	}
	return 0;
}

static int parse_args(const char *args, struct layout *l, struct err *err)
{
	_cleanup_strv_ char **words = strv_split(args, " \t");
	const char *format = "";
	int r = 0;

	for (char **w = words; r == 0 && w && *w; w++) {
		bool used = false;

		r = parse_word(l, *w, w[1], &format, &used, err);
		if (used)
			w++;
	}
	if (r == 0 && l->n == 0)
		use_format(l, *format ? format : "default");
	return r;
}

static void row_parse(char *const *c, struct row *r)
{
	const struct { size_t i; uint64_t *to;
	} numbers[] = {
	    {2, &r->uid},    {3, &r->gid}, {5, &r->tty}, {6, &r->start},
	    {7, &r->cpu_ms}, {8, &r->vsz}, {9, &r->rss},
	};

	*r = (struct row){
	    .pid = c[0], .ppid = c[1], .state = c[4], .nice = c[10], .comm = c[11], .args = c[12]};
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (str_to_u64(c[numbers[i].i], numbers[i].to) < 0)
			*numbers[i].to = 0;
}

static struct json *print_rows(const struct top_input *in, const struct layout *l)
{
	struct json *rows = json_array();
	struct ctx x = {.in = in};
	size_t n = strv_len(in->cells) / MSG_PS_COLUMNS;

	for (size_t i = 0; i < n; i++) {
		struct json *cells = json_add(rows, json_array());
		struct row r;

		row_parse(in->cells + i * MSG_PS_COLUMNS, &r);
		for (size_t k = 0; k < l->n; k++) {
			l->col[k]->fn(&x, &r);
			json_add_str(cells, sbuf_str(&x.out));
			sbuf_reset(&x.out);
		}
	}
	sbuf_done(&x.out);
	return rows;
}

int top_format(const char *args, const struct top_input *in, struct json **ret, struct err *err)
{
	struct layout l = {.n = 0};
	bool has_pid = false;
	int r = parse_args(args, &l, err);

	for (size_t i = 0; i < l.n; i++)
		has_pid |= streq(l.title[i], "PID");
	if (r == 0 && !has_pid)
		r = err_msg(err, ERR_INVALID, 0, "Couldn't find PID field in ps output");
	if (r == 0) {
		struct json *j = json_object(), *titles = json_set(j, "Titles", json_array());

		for (size_t i = 0; i < l.n; i++)
			json_add_str(titles, l.title[i]);
		json_set(j, "Processes", print_rows(in, &l));
		*ret = j;
	}
	for (size_t i = 0; i < l.n; i++)
		free(l.title[i]);
	return r;
}
