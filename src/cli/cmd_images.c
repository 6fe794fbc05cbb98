#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "cli/format.h"

#include <string.h>

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

static void add_row(struct json *rows, const struct json *image, const char *repo, const char *tag,
		    const char *digest, bool no_trunc)
{
	struct json *row = json_add(rows, json_object());
	int64_t created = json_get_int(image, "Created", 0);
	double bytes = json_get_int(image, "Size", 0);
	_cleanup_free_ char *at = text_time(created), *since = text_ago(created), *size = size_human(bytes),
			    *size4 = text_size4(bytes);
	const char *id = json_get_str(image, "Id");
	char buf[13];

	json_set_str(row, "Containers", "N/A");
	json_set_str(row, "CreatedAt", at);
	json_set_str(row, "CreatedSince", since);
	json_set_str(row, "Digest", digest ?: "<none>");
	json_set_str(row, "ID", no_trunc ? id : short_id(id, buf));
	json_set_str(row, "Repository", repo ?: "<none>");
	json_set_str(row, "SharedSize", "N/A");
	json_set_str(row, "Size", size);
	json_set_str(row, "Tag", tag ?: "<none>");
	json_set_str(row, "UniqueSize", "N/A");
	json_set_str(row, "VirtualSize", size4);
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
static void add_image(struct json *rows, const struct json *image, bool digests, bool no_trunc)
{
	_cleanup_strv_ char **tags = json_get_strv(image, "RepoTags"),
			    **digs = json_get_strv(image, "RepoDigests");
	_cleanup_strv_ char **seen = NULL;
	const char *tag, *dig;

	for (char **t = tags; t && *t; t++) {
		_cleanup_free_ char *repo = split_repo(*t, &tag);
		bool any = false;

		strv_add(&seen, repo);
		for (char **d = digests ? digs : NULL; d && *d; d++) {
			_cleanup_free_ char *other = split_repo(*d, &dig);

			if (!streq(other, repo))
				continue;
			add_row(rows, image, repo, tag, dig, no_trunc);
			any = true;
		}
		if (!any)
			add_row(rows, image, repo, tag, NULL, no_trunc);
	}
	for (char **d = digs; d && *d; d++) {
		_cleanup_free_ char *repo = split_repo(*d, &dig);

		if (strv_has(seen, repo))
			continue;
		add_row(rows, image, repo, NULL, digests ? dig : NULL, no_trunc);
		if (!digests)
			strv_add(&seen, repo);
	}
	if (!tags && !digs)
		add_row(rows, image, NULL, NULL, NULL, no_trunc);
}

int cmd_images(struct cli *c, int argc, char **argv)
{
	static struct list_spec spec = {
		.fields = fields, .quiet = "{{.ID}}", .go_type = "*formatter.imageContext",
	};
	bool all = false, digests = false, no_trunc = false, quiet = false;
	_cleanup_free_ char *format = NULL, **args = NULL, *filters_text = NULL;
	_cleanup_json_ struct json *filters = NULL, *answer = NULL, *rows = NULL;
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_list_ struct list list = {0};
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
	if (api_call(c, "GET", sbuf_str(&url), NULL, &answer, &e) < 0)
		return cli_fail(&e);
	rows = json_array();
	for (size_t i = 0; i < json_len(answer); i++)
		add_image(rows, json_at(answer, i), digests || tmpl_uses(list.tmpl, "Digest"), no_trunc);
	return list_print(&list, rows);
}
