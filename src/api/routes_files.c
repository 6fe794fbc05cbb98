/* Files of containers: archive (cp), changes (diff), export. The data goes through a socket pair between the
 * client's connection and the container's supervisor, as fast as the slower side takes it. */
#include "api/routes_containers.h"

#include "api/transfer.h"
#include "base/alloc.h"
#include "base/base64.h"
#include "base/fd.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "oci/image_spec.h"
#include "oci/ref.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

struct archive {
	struct request *req;
	struct container *c;	/* referenced */
	char *path;
};

static void archive_free(struct archive *a)
{
	container_unref(a->c);
	free(a->path);
	free(a);
}

/* ---- the stat of a path, as a header ---- */

/* The bits of Go's os.FileMode, which are not those of st_mode. */
static uint32_t go_mode(mode_t m)
{
	static const struct { mode_t type; uint32_t bits; } types[] = {
		{ S_IFDIR, 1u << 31 }, { S_IFLNK, 1u << 27 }, { S_IFBLK, 1u << 26 }, { S_IFIFO, 1u << 25 },
		{ S_IFSOCK, 1u << 24 }, { S_IFCHR, 1u << 26 | 1u << 21 },
	};
	uint32_t bits = m & 0777;

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if ((m & S_IFMT) == types[i].type)
			bits |= types[i].bits;
	return bits | (m & S_ISUID ? 1u << 23 : 0) | (m & S_ISGID ? 1u << 22 : 0) |
	       (m & S_ISVTX ? 1u << 20 : 0);
}

static void stat_header(struct request *r, const struct msg_file_stat *st)
{
	_cleanup_json_ struct json *j = json_object();
	uint64_t ns = st->mtime_s * 1000000000 + st->mtime_ns;
	/* for time_rfc3339 0 is no time at all; archives are full of it */
	_cleanup_free_ char *time = ns ? time_rfc3339(ns) : xstrdup("1970-01-01T00:00:00Z");
	_cleanup_free_ char *text = NULL, *value = NULL;

	json_set_str(j, "name", st->name);
	json_set_int(j, "size", (int64_t)st->size);
	json_set_int(j, "mode", go_mode(st->mode));
	json_set_str(j, "mtime", time);
	json_set_str(j, "linkTarget", st->target);
	text = json_dump(j);
	value = base64_encode(text, strlen(text));
	resp_header(r, "X-Docker-Container-Path-Stat", value);
}

/* ---- archive ---- */

static void fail(struct archive *a, const struct err *e)
{
	if (e->kind == ERR_NOT_FOUND && e->errnum == ENOENT)
		resp_errorf(a->req, ERR_NOT_FOUND, "Could not find the file %s in container %s", a->path,
			    req_param(a->req, 0));
	else
		resp_error(a->req, e);
}

static void got_stat(void *ud, int n, const struct err *e, void *result)
{
	struct archive *a = ud;
	const struct files_args args = {.op = FILES_GET, .path = a->path, .fd = -EBADF};

	if (n < 0) {
		fail(a, e);
	} else {
		stat_header(a->req, result);
		if (streq(a->req->head.method, "HEAD"))
			resp_status(a->req, 200);
		else
			transfer_out(a->req, a->c, &args, "application/x-tar", "archive-path");
	}
	archive_free(a);
}

static struct archive *archive_new(struct request *r, struct engine *e)
{
	struct container *c = request_container(r, e);
	const char *path = http_query_get(&r->query, "path");
	struct archive *a;

	if (!c)
		return NULL;
	if (str_empty(path)) {
		resp_errorf(r, ERR_INVALID, "bad parameter: path cannot be empty");
		return NULL;
	}
	a = new0(struct archive);
	*a = (struct archive){.req = r, .c = container_ref(c), .path = xstrdup(path)};
	return a;
}

static void get_archive(struct request *r, struct engine *e)
{
	struct archive *a = archive_new(r, e);
	struct files_args args = {.op = FILES_STAT, .fd = -EBADF};

	if (!a)
		return;
	args.path = a->path;
	container_files(a->c, &args, got_stat, a);
}

static void put_done(void *ud, int n, const struct err *e, void *result)
{
	struct archive *a = ud;

	if (n < 0) {
		fail(a, e);
	} else {
		container_tell(a->c, "extract-to-dir");
		resp_status(a->req, 200);
	}
	archive_free(a);
}

static void put_archive(struct request *r, struct engine *e)
{
	struct archive *a = archive_new(r, e);
	struct files_args args = {.op = FILES_PUT, .fd = -EBADF};

	if (!a)
		return;
	args.path = a->path;
	if (http_query_bool(&r->query, "noOverwriteDirNonDir", false))
		args.flags |= FILES_KEEP_TYPES;
	if (http_query_bool(&r->query, "copyUIDGID", false))
		args.flags |= FILES_OWNER;
	transfer_in(r, a->c, &args, put_done, a);
}

static void export(struct request *r, struct engine *e)
{
	struct container *c = request_container(r, e);
	const struct files_args args = {.op = FILES_EXPORT, .fd = -EBADF};

	if (c)
		transfer_out(r, c, &args, "application/octet-stream", "export");
}

/* ---- changes ---- */

static int by_path(const void *a, const void *b)
{
	return strcmp(*(char *const *)a + 1, *(char *const *)b + 1);
}

/* "A/path\0C/other\0" -> [{"Path":, "Kind":}], null if there is nothing. */
static struct json *changes_json(const struct sbuf *data)
{
	static const char kinds[] = "CAD";
	_cleanup_free_ const char **list = NULL;
	struct json *out = NULL;
	size_t n = 0, room = 0;

	for (const char *p = data->buf; p && p < data->buf + data->len; p += strlen(p) + 1) {
		if (n == room)
			list = xrealloc(list, room = room ? room * 2 : 64, sizeof *list);
		list[n++] = p;
	}
	if (n)
		qsort(list, n, sizeof *list, by_path);
	for (size_t i = 0; i < n; i++) {
		const char *kind = *list[i] ? strchr(kinds, *list[i]) : NULL;
		struct json *o;

		if (!kind)
			continue;
		if (!out)
			out = json_array();
		o = json_add(out, json_object());
		json_set_str(o, "Path", list[i] + 1);
		json_set_int(o, "Kind", kind - kinds);
	}
	return out;
}

static void got_changes(void *ud, int n, const struct err *e, const struct sbuf *data)
{
	struct request *r = ud;

	if (n < 0)
		resp_error(r, e);
	else
		resp_json(r, 200, changes_json(data));
}

static void changes(struct request *r, struct engine *e)
{
	struct container *c = request_container(r, e);
	const struct files_args args = {.op = FILES_CHANGES, .fd = -EBADF};

	if (c)
		transfer_collect(e, c, &args, got_changes, r);
}

/* ---- commit ---- */

static void committed(void *ud, int n, const struct err *e, void *result)
{
	struct json *j;

	if (n < 0) {
		resp_error(ud, e);
		return;
	}
	j = json_object();
	json_set_str(j, "Id", result);
	resp_json(ud, 201, j);
}

/* What the body has of a config replaces the container's; then the changes. */
static int commit_config(struct request *r, struct container *c, struct json **ret, struct err *err)
{
	_cleanup_json_ struct json *config = container_image_config(c);
	struct json_iter it = {0};
	int n = 0;

	while (json_next(r->body, &it))
		if (json_type(it.value) == JSON_STR ? *json_str(it.value) : json_len(it.value) > 0)
			json_set(config, it.key, json_ref(it.value));
	for (size_t i = 0; n == 0 && r->query.keys && r->query.keys[i]; i++)
		if (streq(r->query.keys[i], "changes") && *r->query.values[i])
			n = image_change_apply(config, r->query.values[i], err);
	if (n == 0)
		*ret = TAKE_PTR(config);
	return n;
}

/* "repo", "tag" -> "repo:tag"; "" without a repository. */
static int commit_name(struct request *r, char **ret, struct err *err)
{
	const char *repo = http_query_get(&r->query, "repo"), *tag = http_query_get(&r->query, "tag");
	_cleanup_ref_ struct ref ref = {0};
	_cleanup_free_ char *name = NULL;
	int n;

	if (str_empty(repo)) {
		*ret = xstrdup("");
		return 0;
	}
	name = xasprintf("%s:%s", repo, str_empty(tag) ? "latest" : tag);
	n = ref_parse(name, &ref, err);
	if (n == 0)
		*ret = TAKE_PTR(name);
	return n;
}

static void commit(struct request *r, struct engine *e)
{
	_cleanup_err_ struct err err = ERR_INIT;
	_cleanup_free_ char *name = NULL;
	struct commit_args a = {
		.author = http_query_get(&r->query, "author"),
		.comment = http_query_get(&r->query, "comment"),
		.pause = http_query_bool(&r->query, "pause", true),
	};
	struct container *c;

	if (container_find(e, http_query_get(&r->query, "container") ?: "", &c, &err) < 0 ||
	    commit_name(r, &name, &err) < 0 || commit_config(r, c, &a.config, &err) < 0) {
		resp_error(r, &err);
		return;
	}
	a.name = name;
	container_commit(c, &a, committed, r);
}

const struct route routes_files[] = {
	{"POST", "/commit", commit, BODY_JSON},
	{"GET", "/containers/{id}/archive", get_archive},
	{"PUT", "/containers/{id}/archive", put_archive, BODY_STREAM},
	{"GET", "/containers/{id}/export", export},
	{"GET", "/containers/{id}/changes", changes},
	{NULL},
};
