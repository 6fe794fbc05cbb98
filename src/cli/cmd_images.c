#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "cli/format.h"

#include <string.h>

/* A row's fields, each made only if the format shows it. */
struct row { const struct json *image; const char *repo, *tag, *digest; bool no_trunc; };

static char *not_available(const struct row *r)
{
	return xstrdup("N/A");
}

static char *created_at(const struct row *r)
{
	return text_time(json_get_int(r->image, "Created", 0));
}

static char *created_since(const struct row *r)
{
	return text_ago(json_get_int(r->image, "Created", 0));
}

static char *digest(const struct row *r)
{
	return xstrdup(r->digest ?: "<none>");
}

static char *id(const struct row *r)
{
	const char *full = json_get_str(r->image, "Id");
	char buf[13];

	return xstrdup(r->no_trunc ? full : short_id(full, buf));
}

static char *repository(const struct row *r)
{
	return xstrdup(r->repo ?: "<none>");
}

static char *size(const struct row *r)
{
	return size_human((double)json_get_int(r->image, "Size", 0));
}

static char *tag(const struct row *r)
{
	return xstrdup(r->tag ?: "<none>");
}

static char *virtual_size(const struct row *r)
{
	return text_size4((double)json_get_int(r->image, "Size", 0));
}

static const struct field fields[] = {
    {"Containers", "CONTAINERS"},
    {"CreatedAt", "CREATED AT"},
    {"CreatedSince", "CREATED"},
    {"Digest", "DIGEST"},
    {"ID", "IMAGE ID"},
    {"Repository", "REPOSITORY"},
    {"SharedSize", "SHARED SIZE"},
    {"Size", "SIZE"},
    {"Tag", "TAG"},
    {"UniqueSize", "UNIQUE SIZE"},
    {"VirtualSize", "SIZE"},
    {NULL, NULL},
};

/* One for each of the fields. */
static char *(*const makers[])(const struct row *r) = {
    not_available, created_at, created_since, digest, id, repository, not_available, size, tag, not_available,
    virtual_size,
};

struct rows { struct list *list; bool wanted[ARRAY_SIZE(makers)]; bool digests, no_trunc; };

static void add_row(const struct rows *rows, const struct json *image, const char *repo, const char *tag,
		    const char *digest)
{
	const struct row r = { image, repo, tag, digest, rows->no_trunc };
	struct json *row = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(makers); i++) {
		_cleanup_free_ char *text = rows->wanted[i] ? makers[i](&r) : NULL;

		if (text)
			json_set_str(row, fields[i].name, text);
	}
	list_add(rows->list, row);
}

/* "repo:tag" at its last colon behind the last slash, "repo@digest" at the @. Heap; *ret_rest points into s.
 */
static char *split_repo(const char *s, const char **ret_rest)
{
	const char *slash = strrchr(s, '/'), *cut = strchr(s, '@');

	if (!cut)
		cut = strrchr(slash ?: s, ':');
	*ret_rest = cut ? cut + 1 : NULL;
	return cut ? xstrndup(s, cut - s) : xstrdup(s);
}

/* One row per tag (and digest, if those are shown); a repository that only has digests gets its own. */
static void add_image(const struct rows *rows, const struct json *image)
{
	_cleanup_strv_ char **tags = json_get_strv(image, "RepoTags"),
			    **digs = json_get_strv(image, "RepoDigests");
	_cleanup_strv_ char **seen = NULL;
	const char *tag, *dig;

	for (char **t = tags; t && *t; t++) {
		_cleanup_free_ char *repo = split_repo(*t, &tag);
		bool any = false;

		strv_add(&seen, repo);
		for (char **d = rows->digests ? digs : NULL; d && *d; d++) {
			_cleanup_free_ char *other = split_repo(*d, &dig);

			if (!streq(other, repo))
				continue;
			add_row(rows, image, repo, tag, dig);
			any = true;
		}
		if (!any)
			add_row(rows, image, repo, tag, NULL);
	}
	for (char **d = digs; d && *d; d++) {
		_cleanup_free_ char *repo = split_repo(*d, &dig);

		if (strv_has(seen, repo))
			continue;
		add_row(rows, image, repo, NULL, rows->digests ? dig : NULL);
		if (!rows->digests)
			strv_add(&seen, repo);
	}
	if (!tags && !digs)
		add_row(rows, image, NULL, NULL, NULL);
}

static int add_rows(struct json *image, void *ud, struct err *e)
{
	add_image(ud, image);
	return 0;
}

/* What the makers read. */
static const char *const keys[] = {"Id", "RepoTags", "RepoDigests", "Created", "Size", NULL};

int cmd_images(struct cli *c, int argc, char **argv)
{
	static struct list_spec spec = {
		.fields = fields, .quiet = "{{.ID}}", .go_type = "*formatter.imageContext",
	};
	bool all = false, digests = false, no_trunc = false, quiet = false;
	_cleanup_free_ char *format = NULL, **args = NULL, *filters_text = NULL;
	_cleanup_json_ struct json *filters = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_list_ struct list list = {0};
	struct rows rows = {.list = &list};
	const struct opt opts[] = {
	    {'a', "all", OPT_BOOL, &all, NULL, "Show all images (default hides intermediate images)"},
	    {0, "digests", OPT_BOOL, &digests, NULL, "Show digests"},
	    {'f', "filter", OPT_CALL, &filters, "filter", "Filter output based on conditions provided",
	     opt_filter},
	    {0, "format", OPT_STR, &format, "string",
	     "Format output: 'table', 'table TEMPLATE', 'json' or a Go template"},
	    {0, "no-trunc", OPT_BOOL, &no_trunc, NULL, "Don't truncate output"},
	    {'q', "quiet", OPT_BOOL, &quiet, NULL, "Only show image IDs"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 0, 1, &args))
		return c->exit_code;
	spec.table = digests ? "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
			     : "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
	if (!list_open(&list, &spec, format, quiet))
		return 1;
	if (args[0]) {
		_cleanup_free_ char *f = xasprintf("reference=%s", args[0]);
		const struct opt target = { .target = &filters };

		(void)opt_filter(&target, f, NULL);
	}
	filters_text = filters ? json_dump(filters) : NULL;
	sbuf_puts(&url, "/images/json");
	url_query(&url, "all", all ? "1" : NULL);
	url_query(&url, "filters", filters_text);
	rows.digests = digests || tmpl_uses(list.tmpl, "Digest");
	rows.no_trunc = no_trunc;
	list_wanted(&list, rows.wanted);
	if (api_list(c, sbuf_str(&url), keys, add_rows, &rows, &e) < 0)
		return cli_fail(&e);
	return list_end(&list);
}
