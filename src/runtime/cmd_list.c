/* list and ps. */
#include "runtime/tool.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/sbuf.h"
#include "base/strv.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

char **tool_ids(void)
{
	DIR *d = opendir(runtime_root);
	struct dirent *de;
	char **ids = NULL;

	while (d && (de = readdir(d)))
		if (rt_id_valid(de->d_name))
			strv_add(&ids, de->d_name);
	if (d)
		closedir(d);
	if (ids)
		qsort(ids, strv_len(ids), sizeof *ids, by_name);
	return ids;
}

static void print_row(const struct state *s)
{
	const char *status = state_status(s);
	_cleanup_free_ char *owner = state_owner(s);

	printf("%-20s  %-10d  %-10s  %-30s  %-30s  %s\n", s->id, streq(status, "stopped") ? 0 : s->pid,
	       status, s->bundle, s->created, owner);
}

static struct json *list_entry(const struct state *s)
{
	struct json *j = state_object(s);
	_cleanup_free_ char *owner = state_owner(s);

	json_set_str(j, "owner", owner);
	return j;
}

int cmd_list(int argc, char **argv, struct err *e)
{
	bool quiet = false;
	char *format = NULL;
	const struct opt opts[] = {{'q', "quiet", OPT_BOOL, &quiet, NULL, "Ids only"},
				   {'f', "format", OPT_STR, &format, "table|json", "Output (table)"},
				   OPT_END};
	_cleanup_json_ struct json *all = json_array();
	_cleanup_free_ char **args = NULL, *text = NULL;
	_cleanup_strv_ char **ids = NULL;
	int r = tool_parse(opts, argc, argv, 0, &args, e);
	bool json = streq(format, "json");

	if (r == 0 && format && !json && !streq(format, "table"))
		r = tool_usage(e, "invalid format option");
	if (r < 0)
		return r;
	ids = tool_ids();
	if (!quiet && !json)
		printf("%-20s  %-10s  %-10s  %-30s  %-30s  %s\n", "ID", "PID", "STATUS", "BUNDLE", "CREATED",
		       "OWNER");
	for (char **id = ids; id && *id; id++) {
		_cleanup_state_ struct state s = { 0 };

		if (state_read(*id, &s, NULL) < 0)
			continue;	/* under construction, or going away */
		if (quiet)
			puts(s.id);
		else if (json)
			json_add(all, list_entry(&s));
		else
			print_row(&s);
	}
	if (json && !quiet)
		puts(text = json_dump(all));
	return 0;
}

/* --- ps --- */

static int pids_of(const char *id, pid_t **ret, size_t *ret_n, struct err *e)
{
	_cleanup_state_ struct state s = { 0 };
	struct rt_container *c;
	int r = tool_open(id, &s, &c, NULL, e);

	if (r < 0)
		return r;
	r = rt_pids(c, ret, ret_n, e);
	rt_free(c);
	return r;
}

static char *find_program(const char *name)
{
	_cleanup_strv_ char **dirs = NULL;
	const char *path = getenv("PATH");

	dirs = strv_split(path ? path : "/usr/bin:/bin", ":");
	for (char **d = dirs; d && *d; d++) {
		char *full = path_join(*d, name);

		if (access(full, X_OK) == 0)
			return full;
		free(full);
	}
	return NULL;
}

/* What the host's ps prints with these arguments. */
static int run_ps(char **args, char **ret, struct err *e)
{
	_cleanup_free_ char *path = find_program("ps");
	_cleanup_strv_ char **argv = NULL;
	_cleanup_sbuf_ struct sbuf out = SBUF_INIT_MAX(64 << 20);
	_cleanup_proc_ struct proc p = PROC_INIT;
	_cleanup_close_ int in = -EBADF, child = -EBADF;
	int pair[2], r, code;
	ssize_t n;

	if (!path)
		return err_msg(e, ERR_SYSTEM, -ENOENT, "exec: \"ps\": executable file not found in $PATH");
	strv_add(&argv, "ps");
	if (*args)
		strv_extend(&argv, args);
	else
		strv_add(&argv, "-ef");
	r = fd_pipe(pair, 0);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "run ps");
	in = pair[0];
	child = pair[1];
	struct fd_map fds[] = { { child, 1 } };

	r = proc_spawn(&(struct spawn_args){ .path = path, .argv = argv, .envp = environ, .fds = fds,
					     .n_fds = 1, .keep_stderr = true }, &p);
	fd_close(&child);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "run ps");
	do {
		char buf[4096];

		n = RETRY(read(in, buf, sizeof buf));
		if (n > 0)
			sbuf_add(&out, buf, (size_t)n);
	} while (n > 0);
	r = proc_wait(&p, &code);
	if (r < 0 || code)
		return err_msg(e, ERR_SYSTEM, -EIO, "ps ended with status %d", code);
	*ret = xstrdup(sbuf_str(&out));
	return 0;
}

/* The title line, and each line whose PID column holds one of these. */
static int print_lines(char *text, const pid_t *pids, size_t n, struct err *e)
{
	char *save = NULL, *title = strtok_r(text, "\n", &save);
	_cleanup_strv_ char **columns = title ? strv_split(title, " \t") : NULL;
	size_t column = 0;

	while (columns && columns[column] && !streq(columns[column], "PID"))
		column++;
	if (!columns || !columns[column])
		return err_msg(e, ERR_INVALID, 0, "couldn't find PID field in ps output");
	puts(title);
	for (char *line; (line = strtok_r(NULL, "\n", &save));) {
		_cleanup_strv_ char **words = strv_split(line, " \t");
		int64_t pid;

		if (strv_len(words) <= column || str_to_i64(words[column], &pid) < 0)
			continue;
		for (size_t i = 0; i < n; i++)
			if (pids[i] == pid)
				puts(line);
	}
	return 0;
}

int cmd_ps(int argc, char **argv, struct err *e)
{
	char *format = NULL;
	const struct opt opts[] = {{'f', "format", OPT_STR, &format, "table|json", "Output (table)"},
				   OPT_END};
	_cleanup_free_ char **args = NULL, *text = NULL;
	_cleanup_free_ pid_t *pids = NULL;
	size_t n;
	int r = tool_parse(opts, argc, argv, SIZE_MAX, &args, e);

	if (r == 0 && format && !streq(format, "json") && !streq(format, "table"))
		r = tool_usage(e, "invalid format option");
	if (r == 0)
		r = pids_of(args[0], &pids, &n, e);
	if (r < 0)
		return r;
	if (streq(format, "json")) {
		_cleanup_json_ struct json *a = json_array();

		for (size_t i = 0; i < n; i++)
			json_add(a, json_new_int(pids[i]));
		puts(text = json_dump(a));
		return 0;
	}
	r = run_ps(args + 1, &text, e);
	return r == 0 ? print_lines(text, pids, n, e) : r;
}
