#include "cli/cp_path.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINKS_MAX 255

void cp_end_done(struct cp_end *p)
{
	free(p->path);
	free(p->rename);
	*p = (struct cp_end){ 0 };
}

void cp_plan_done(struct cp_plan *p)
{
	free(p->dir);
	free(p->from);
	free(p->to);
	*p = (struct cp_plan){ 0 };
}

void cp_split_arg(const char *arg, char **ret_container, char **ret_path)
{
	const char *colon = strchr(arg, ':');

	/* "./a:b" is a local file */
	if (*arg == '/' || *arg == '.' || !colon) {
		*ret_container = NULL;
		*ret_path = xstrdup(arg);
		return;
	}
	*ret_container = xstrndup(arg, (size_t)(colon - arg));
	*ret_path = xstrdup(colon + 1);
}

char *cp_base(const char *path)
{
	size_t n = strlen(path), from;

	while (n > 1 && path[n - 1] == '/')
		n--;
	if (!n)
		return xstrdup(".");
	if (n == 1 && *path == '/')
		return xstrdup("/");
	for (from = n; from && path[from - 1] != '/'; from--)
		;
	return xstrndup(path + from, n - from);
}

static bool names_current(const char *path)
{
	size_t n = strlen(path);

	return n && path[n - 1] == '.' && (n == 1 || path[n - 2] == '/');
}

static bool trailing_slash(const char *path)
{
	return *path && path[strlen(path) - 1] == '/';
}

bool cp_asserts_dir(const char *path)
{
	return trailing_slash(path) || names_current(path);
}

void cp_split(const char *path, char **ret_dir, char **ret_base)
{
	_cleanup_free_ char *clean = path_clean(path);
	const char *slash = strrchr(clean, '/');

	if (names_current(path)) {
		*ret_dir = TAKE_PTR(clean);
		*ret_base = xstrdup(".");
		return;
	}
	*ret_dir = !slash ? xstrdup(".")
		   : slash == clean ? xstrdup("/") : xstrndup(clean, (size_t)(slash - clean));
	*ret_base = cp_base(clean);
}

static char *keep_end(const char *clean, const char *original)
{
	bool slash = trailing_slash(clean);

	if (names_current(original) && !names_current(clean))
		return xasprintf("%s%s.", clean, slash ? "" : "/");
	return xasprintf("%s%s", clean, trailing_slash(original) && !slash ? "/" : "");
}

char *cp_absolute(const char *path)
{
	_cleanup_free_ char *cwd = *path == '/' ? NULL : getcwd(NULL, 0), *all = NULL, *clean = NULL;

	all = cwd ? path_join(cwd, path) : xstrdup(path);
	clean = path_clean(all);
	return keep_end(clean, path);
}

char *cp_rename(const char *path, char **resolved)
{
	char *end = keep_end(*resolved, path);
	_cleanup_free_ char *was = cp_base(path), *is = NULL;

	free(*resolved);
	*resolved = end;
	is = cp_base(end);
	return streq(was, is) ? NULL : TAKE_PTR(was);
}

static int real(const char *path, char **ret, struct err *e)
{
	*ret = realpath(path, NULL);
	return *ret ? 0 : err_set(e, ERR_NOT_FOUND, -errno, "lstat %s", path);
}

int cp_source(const char *path, bool follow, struct cp_end *ret, struct err *e)
{
	_cleanup_free_ char *resolved = NULL, *rename = NULL, *dir = NULL, *real_dir = NULL;
	const char *base = path_basename(path);
	struct stat st;
	int r;

	if (follow) {
		r = real(path, &resolved, e);
		if (r < 0)
			return r;
		rename = cp_rename(path, &resolved);
	} else {
		dir = xstrndup(path, (size_t)(base - path));
		r = real(*dir ? dir : ".", &real_dir, e);
		if (r < 0)
			return r;
		resolved = xasprintf("%s%s%s", real_dir, trailing_slash(real_dir) ? "" : "/", base);
		if (trailing_slash(path))
			rename = cp_rename(path, &resolved);
	}
	if (lstat(resolved, &st) < 0)
		return err_set(e, ERR_NOT_FOUND, -errno, "lstat %s", path);
	*ret = (struct cp_end){ TAKE_PTR(resolved), TAKE_PTR(rename), true, S_ISDIR(st.st_mode) };
	return 0;
}

int cp_destination(const char *path, struct cp_end *ret, struct err *e)
{
	_cleanup_free_ char *at = xstrdup(path), *parent = NULL, *base = NULL;
	struct stat st;

	for (unsigned i = 0; lstat(at, &st) == 0 && S_ISLNK(st.st_mode); i++) {
		char words[PATH_MAX], *next;
		ssize_t n = readlink(at, words, sizeof words - 1);

		if (n < 0 || i > LINKS_MAX)
			return err_set(e, ERR_SYSTEM, n < 0 ? -errno : -ELOOP, "readlink %s", path);
		words[n] = 0;
		parent = xstrndup(at, (size_t)(path_basename(at) - at));
		next = *words == '/' ? xstrdup(words) : path_join(parent, words);
		free(at);
		free(TAKE_PTR(parent));
		at = next;
	}
	if (stat(at, &st) == 0) {
		*ret = (struct cp_end){ .path = TAKE_PTR(at), .exists = true, .is_dir = S_ISDIR(st.st_mode) };
		return 0;
	}
	if (errno != ENOENT)
		return err_set(e, ERR_SYSTEM, -errno, "lstat %s", path);
	cp_split(at, &parent, &base);
	if (stat(parent, &st) < 0 || !S_ISDIR(st.st_mode))
		return err_msg(e, ERR_NOT_FOUND, -ENOENT,
			       "invalid output path: directory \"%s\" does not exist", parent);
	*ret = (struct cp_end){ .path = TAKE_PTR(at) };
	return 0;
}

int cp_plan_make(const struct cp_end *src, const struct cp_end *dst, struct cp_plan *ret, struct err *e)
{
	_cleanup_free_ char *src_dir = NULL, *src_base = NULL, *dst_dir = NULL, *dst_base = NULL;

	if (dst->exists && dst->is_dir) {
		*ret = (struct cp_plan){ .dir = xstrdup(dst->path) };
		return 0;
	}
	if (dst->exists && src->is_dir)
		return err_msg(e, ERR_INVALID, -EISDIR, "cannot copy directory");
	if (!src->is_dir && !dst->exists && cp_asserts_dir(dst->path))
		return err_msg(e, ERR_INVALID, -ENOTDIR, "no such directory");
	cp_split(dst->path, &dst_dir, &dst_base);
	cp_split(src->path, &src_dir, &src_base);
	*ret = (struct cp_plan){ TAKE_PTR(dst_dir), src->rename ? xstrdup(src->rename) : TAKE_PTR(src_base),
				 TAKE_PTR(dst_base) };
	return 0;
}
