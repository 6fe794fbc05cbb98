#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "cli/format.h"

#include <stdio.h>
#include <string.h>

static const struct field fields[] = {
    {"Command", "COMMAND"},   {"CreatedAt", "CREATED AT"},
    {"ID", "CONTAINER ID"},   {"Image", "IMAGE"},
    {"Labels", "LABELS"},     {"LocalVolumes", "LOCAL VOLUMES"},
    {"Mounts", "MOUNTS"},     {"Names", "NAMES"},
    {"Networks", "NETWORKS"}, {"Platform", "PLATFORM"},
    {"Ports", "PORTS"},       {"RunningFor", "CREATED"},
    {"Size", "SIZE"},         {"State", "STATE"},
    {"Status", "STATUS"},     {NULL, NULL},
};

/* Go's strconv.Quote. */
static char *quote(const char *s)
{
	static const char from[] = "\a\b\f\n\r\t\v\\\"", to[] = "abfnrtv\\\"";
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	sbuf_putc(&b, '"');
	for (; *s; s++) {
		const char *at = strchr(from, *s);

		if (at)
			sbuf_printf(&b, "\\%c", to[at - from]);
		else if ((unsigned char)*s < 0x20 || *s == 0x7f)
			sbuf_printf(&b, "\\x%02x", *s);
		else
			sbuf_putc(&b, *s);
	}
	sbuf_putc(&b, '"');
	return xstrdup(sbuf_str(&b));
}

static char *image_text(const struct json *ctr, bool no_trunc)
{
	const char *image = json_get_str(ctr, "Image") ?: "", *id = json_get_str(ctr, "ImageID") ?: "";
	const char *at = strstr(image, "@sha256:"), *colon;
	char a[13], b[13];

	if (!*image)
		return xstrdup("<no image>");
	if (no_trunc)
		return xstrdup(image);
	if (*id && streq(short_id(image, a), short_id(id, b)))
		return xstrdup(b);
	/* name:tag@digest is shown as name:tag. */
	colon = at ? memrchr(image, ':', at - image) : NULL;
	if (colon && !memchr(colon, '/', at - colon))
		return xstrndup(image, at - image);
	return xstrdup(image);
}

static char *names_text(const struct json *ctr, bool no_trunc)
{
	_cleanup_strv_ char **v = NULL, **all = json_get_strv(ctr, "Names");

	for (char **n = all; n && *n; n++) {
		const char *name = **n == '/' ? *n + 1 : *n;

		if (no_trunc || !strchr(name, '/'))
			strv_add(&v, name);
	}
	return v ? strv_join(v, ",") : xstrdup("");
}

struct port { int private, public; const char *ip, *type; };

static int port_order(const void *pa, const void *pb)
{
	const struct port *a = pa, *b = pb;

	if (a->private != b->private)
		return a->private - b->private;
	if (strcmp(a->ip, b->ip))
		return strcmp(a->ip, b->ip);
	return a->public != b->public ? a->public - b->public : strcmp(a->type, b->type);
}

static void add_port(struct sbuf *b, const char *ip, const char *host, const char *ctr, const char *type)
{
	sbuf_puts(b, b->len ? ", " : "");
	if (*ip)
		sbuf_printf(b, strchr(ip, ':') ? "[%s]:%s->" : "%s:%s->", ip, host);
	sbuf_printf(b, "%s/%s", ctr, type);
}

/* Neighbouring ports that map to themselves (or to nothing) are shown as ranges, the mappings at the end. */
static char *ports_text(const struct json *ctr, bool no_trunc)
{
	const struct json *list = json_get(ctr, "Ports");
	size_t n = json_len(list), n_groups = 0;
	_cleanup_free_ struct port *p = new_array(struct port, n + 1);
	_cleanup_free_ struct { struct port *key; int last; } *groups = xcalloc(n + 1, sizeof(*groups));
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	char host[16], range[32];

	for (size_t i = 0; i < n; i++) {
		const struct json *j = json_at(list, i);

		p[i] = (struct port){
			json_get_int(j, "PrivatePort", 0), json_get_int(j, "PublicPort", 0),
			json_get_str(j, "IP") ?: "", json_get_str(j, "Type") ?: "tcp",
		};
	}
	qsort(p, n, sizeof(*p), port_order);
	for (size_t i = 0; i < n; i++) {
		size_t g = 0;

		if (*p[i].ip && p[i].public != p[i].private)
			continue;
		while (g < n_groups &&
		       !(streq(groups[g].key->ip, p[i].ip) && streq(groups[g].key->type, p[i].type)))
			g++;
		if (g < n_groups && p[i].private == groups[g].last + 1) {
			groups[g].last++;
			continue;
		}
		if (g < n_groups) {
			snprintf(range, sizeof(range),
				 groups[g].last > groups[g].key->private ? "%d-%d" : "%d",
				 groups[g].key->private, groups[g].last);
			add_port(&b, groups[g].key->ip, range, range, groups[g].key->type);
		} else {
			n_groups++;
		}
		groups[g].key = &p[i];
		groups[g].last = p[i].private;
	}
	for (size_t g = 0; g < n_groups; g++) {
		snprintf(range, sizeof(range), groups[g].last > groups[g].key->private ? "%d-%d" : "%d",
			 groups[g].key->private, groups[g].last);
		add_port(&b, groups[g].key->ip, range, range, groups[g].key->type);
	}
	for (size_t i = 0; i < n; i++) {
		if (!*p[i].ip || p[i].public == p[i].private)
			continue;
		snprintf(host, sizeof(host), "%d", p[i].public);
		snprintf(range, sizeof(range), "%d", p[i].private);
		add_port(&b, p[i].ip, host, range, p[i].type);
	}
	return xstrdup(sbuf_str(&b));
}

static char *mounts_text(const struct json *ctr, bool no_trunc)
{
	const struct json *mounts = json_get(ctr, "Mounts");
	_cleanup_strv_ char **v = NULL;

	for (size_t i = 0; i < json_len(mounts); i++) {
		const struct json *m = json_at(mounts, i);
		const char *name = json_get_str(m, "Name");

		if (str_empty(name))
			name = json_get_str(m, "Source") ?: "";
		strv_take(&v, no_trunc ? xstrdup(name) : text_ellipsis(name, 15));
	}
	return v ? strv_join(v, ",") : xstrdup("");
}

static char *local_volumes(const struct json *ctr, bool no_trunc)
{
	const struct json *mounts = json_get(ctr, "Mounts");
	int n = 0;

	for (size_t i = 0; i < json_len(mounts); i++)
		n += streq(json_get_str(json_at(mounts, i), "Driver"), "local");
	return xasprintf("%d", n);
}

static char *networks_text(const struct json *ctr, bool no_trunc)
{
	const struct json *networks = json_get(json_get(ctr, "NetworkSettings"), "Networks");
	_cleanup_strv_ char **v = NULL;
	struct json_iter it = {0};

	while (json_next(networks, &it))
		strv_add(&v, it.key);
	return v ? strv_join(v, ",") : xstrdup("");
}

static char *size_text(const struct json *ctr, bool no_trunc)
{
	_cleanup_free_ char *rw = size_human(json_get_int(ctr, "SizeRw", 0));
	int64_t root = json_get_int(ctr, "SizeRootFs", 0);
	_cleanup_free_ char *virt = size_human(root);

	return root > 0 ? xasprintf("%s (virtual %s)", rw, virt) : xstrdup(rw);
}

static char *command_text(const struct json *ctr, bool no_trunc)
{
	const char *command = json_get_str(ctr, "Command") ?: "";
	_cleanup_free_ char *cut = no_trunc ? xstrdup(command) : text_ellipsis(command, 20);

	return quote(cut);
}

static char *created_at(const struct json *ctr, bool no_trunc)
{
	return text_time(json_get_int(ctr, "Created", 0));
}

static char *running_for(const struct json *ctr, bool no_trunc)
{
	return text_ago(json_get_int(ctr, "Created", 0));
}

static char *id_text(const struct json *ctr, bool no_trunc)
{
	const char *id = json_get_str(ctr, "Id");
	char buf[13];

	return xstrdup(no_trunc ? id : short_id(id, buf));
}

static char *labels_text(const struct json *ctr, bool no_trunc)
{
	return text_labels(json_get(ctr, "Labels"));
}

static char *state_text(const struct json *ctr, bool no_trunc)
{
	return xstrdup(json_get_str(ctr, "State") ?: "");
}

static char *status_text(const struct json *ctr, bool no_trunc)
{
	return xstrdup(json_get_str(ctr, "Status") ?: "");
}

/* One for each of the fields: what makes it (NULL: there is nothing to say), and of which members. */
static const struct {
	char *(*make)(const struct json *ctr, bool no_trunc);
	const char *from[2];
} makers[] = {
    {command_text, {"Command"}},	{created_at, {"Created"}},    {id_text, {"Id"}},
    {image_text, {"Image", "ImageID"}},	{labels_text, {"Labels"}},    {local_volumes, {"Mounts"}},
    {mounts_text, {"Mounts"}},		{names_text, {"Names"}},      {networks_text, {"NetworkSettings"}},
    {NULL},				{ports_text, {"Ports"}},      {running_for, {"Created"}},
    {size_text, {"SizeRw", "SizeRootFs"}}, {state_text, {"State"}},	{status_text, {"Status"}},
};
_Static_assert(ARRAY_SIZE(makers) == ARRAY_SIZE(fields) - 1, "a maker for each field");

/* The members that the wanted fields are made of. */
static void find_keys(const bool *wanted, bool labels, const char **ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(makers); i++)
		for (size_t k = 0; wanted[i] && k < ARRAY_SIZE(makers[i].from); k++)
			if (makers[i].from[k])
				*ret++ = makers[i].from[k];
	*ret++ = labels ? "Labels" : NULL;
	*ret = NULL;
}

/* wanted: for each field, whether it is shown; NULL = all. */
static struct json *make_row(const struct json *ctr, bool no_trunc, const bool *wanted)
{
	struct json *row = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(makers); i++) {
		_cleanup_free_ char *text = NULL;

		if (wanted && !wanted[i])
			continue;
		text = makers[i].make ? makers[i].make(ctr, no_trunc) : NULL;
		json_set_str(row, fields[i].name, text);
	}
	json_set(row, "$labels", json_ref(json_get(ctr, "Labels")));
	return row;
}

struct json *container_row(const struct json *ctr)
{
	return make_row(ctr, false, NULL);
}

struct ps { struct list *list; bool no_trunc, wanted[ARRAY_SIZE(makers)]; };

static int add_container(struct json *ctr, void *ud, struct err *e)
{
	struct ps *p = ud;

	list_add(p->list, make_row(ctr, p->no_trunc, p->wanted));
	return 0;
}

int cmd_ps(struct cli *c, int argc, char **argv)
{
	static struct list_spec spec = {
		.fields = fields, .quiet = "{{.ID}}", .go_type = "*formatter.ContainerContext",
		.method = list_label_method,
	};
	bool all = false, latest = false, quiet = false, size = false;
	_cleanup_free_ char *format = NULL, **args = NULL, *filters_text = NULL, *limit = NULL;
	_cleanup_json_ struct json *filters = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_list_ struct list list = {0};
	const char *keys[2 * ARRAY_SIZE(makers) + 2];
	struct ps ps = {.list = &list};
	int64_t last = -1;
	const struct opt opts[] = {
	    {'a', "all", OPT_BOOL, &all, NULL, "Show all containers (default shows just running)"},
	    {'f', "filter", OPT_CALL, &filters, "filter", "Filter output based on conditions provided",
	     opt_filter},
	    {0, "format", OPT_STR, &format, "string",
	     "Format output: 'table', 'table TEMPLATE', 'json' or a Go template"},
	    {'n', "last", OPT_INT, &last, "int",
	     "Show n last created containers (includes all states) (default -1)"},
	    {'l', "latest", OPT_BOOL, &latest, NULL,
	     "Show the latest created container (includes all states)"},
	    {0, "no-trunc", OPT_BOOL, &ps.no_trunc, NULL, "Don't truncate output"},
	    {'q', "quiet", OPT_BOOL, &quiet, NULL, "Only display container IDs"},
	    {'s', "size", OPT_BOOL, &size, NULL, "Display total file sizes"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 0, &args))
		return c->exit_code;
	spec.table =
	    size ? "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"
		   "\t{{.Size}}"
		 : "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
	if (!list_open(&list, &spec, format, quiet))
		return 1;
	if (latest && last < 0)
		last = 1;
	limit = last > 0 ? xasprintf("%lld", (long long)last) : NULL;
	filters_text = filters ? json_dump(filters) : NULL;
	sbuf_puts(&url, "/containers/json");
	url_query(&url, "all", all ? "1" : NULL);
	url_query(&url, "limit", limit);
	url_query(&url, "size", size || tmpl_uses(list.tmpl, "Size") ? "1" : NULL);
	url_query(&url, "filters", filters_text);
	list_wanted(&list, ps.wanted);
	find_keys(ps.wanted, tmpl_reads(list.tmpl, "Label"), keys);
	if (api_list(c, sbuf_str(&url), keys, add_container, &ps, &e) < 0)
		return cli_fail(&e);
	return list_end(&list);
}
