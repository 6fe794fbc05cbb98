#include "cli/env.h"

#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define FILE_MAX (16u << 20)

/* What a bare NAME means. */
enum bare {
	BARE_IS_EMPTY /* labels */,
	BARE_OR_SKIP /* files of variables */,
	BARE_OR_UNSET /* -e: takes it away */
};

static void add(char ***v, const char *s, enum bare bare)
{
	const char *value = bare == BARE_IS_EMPTY || strchr(s, '=') ? NULL : getenv(s);

	if (value)
		strv_addf(v, "%s=%s", s, value);
	else if (bare != BARE_OR_SKIP || strchr(s, '='))
		strv_add(v, s);
}

/* One NAME=value per line; blank lines and lines that begin with # are skipped. */
static int read_lines(const char *path, enum bare bare, char ***v, struct err *e)
{
	_cleanup_free_ char *text = NULL;
	size_t n;
	char *save = NULL;
	int r = fs_read(AT_FDCWD, path, FILE_MAX, &text, &n);

	if (r < 0) {
		const char *why = strerror(-r);

		return err_msg(e, ERR_INVALID, r, "open %s: %c%s", path, tolower((unsigned char)*why),
			       why + 1);
	}
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		size_t len;

		while (isspace((unsigned char)*line))
			line++;
		len = strlen(line);
		if (len > 0 && line[len - 1] == '\r')
			line[--len] = 0;
		if (!len || *line == '#')
			continue;
		if (*line == '=')
			return err_msg(e, ERR_INVALID, 0, "no variable name on line '%s'", line);
		for (const char *p = line; *p && *p != '='; p++)
			if (isspace((unsigned char)*p))
				return err_msg(e, ERR_INVALID, 0, "variable '%.*s' contains whitespaces",
					       (int)strcspn(line, "="), line);
		add(v, line, bare);
	}
	return 0;
}

static int collect(char *const *files, char *const *list, enum bare in_file, enum bare in_list, char ***ret,
		   struct err *e)
{
	_cleanup_strv_ char **v = NULL;

	for (; files && *files; files++) {
		int r = read_lines(*files, in_file, &v, e);

		if (r < 0)
			return r;
	}
	for (; list && *list; list++)
		add(&v, *list, in_list);
	*ret = TAKE_PTR(v);
	return 0;
}

int env_collect(char *const *files, char *const *list, char ***ret_env, struct err *e)
{
	return collect(files, list, BARE_OR_SKIP, BARE_OR_UNSET, ret_env, e);
}

int labels_collect(char *const *files, char *const *list, char ***ret_labels, struct err *e)
{
	return collect(files, list, BARE_IS_EMPTY, BARE_IS_EMPTY, ret_labels, e);
}
