/* `insula context export` and `import`: a tar archive of docker's with meta.json and tls/ENDPOINT/FILE. */
#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"
#include "cli/contexts.h"
#include "lib/ustar.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define META "meta.json"
#define TLS "tls"
#define IMPORT_MAX (10u << 20)

/* ---- export ---- */

static int put(struct ustar_writer *w, const char *path, mode_t mode, const char *data, size_t n)
{
	const struct ustar_entry t = { .path = (char *)path, .mode = mode, .size = n };
	int r = ustar_put(w, &t);

	return r == 0 && n ? ustar_put_data(w, data, n) : r;
}

/* The directory and what is in it: certificates and keys, in a directory for each endpoint. */
static int put_tree(struct ustar_writer *w, const char *dir, const char *path, unsigned depth)
{
	_cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_strv_ char **names = NULL;
	int r = put(w, path, S_IFDIR | 0700, NULL, 0);

	if (r == 0 && fd >= 0)
		r = fs_list(fd, &names);
	for (char **n = names; r == 0 && n && *n; n++) {
		_cleanup_free_ char *below = path_join(dir, *n), *to = path_join(path, *n), *data = NULL;
		size_t len;

		if (depth == 0) {
			r = put_tree(w, below, to, 1);
			continue;
		}
		r = fs_read(fd, *n, IMPORT_MAX, &data, &len);
		if (r == 0)
			r = put(w, to, S_IFREG | 0600, data, len);
	}
	return r;
}

static int write_archive(int fd, const struct json *context, const char *tls)
{
	_cleanup_(ustar_writer_done) struct ustar_writer w = { .fd = fd };
	_cleanup_free_ char *text = json_dump(context);
	int r = put(&w, META, S_IFREG | 0644, text, strlen(text));

	if (r == 0)
		r = put_tree(&w, tls, TLS, 0);
	return r == 0 ? ustar_put_end(&w) : r;
}

static int export(const char *name, const char *to, struct err *e)
{
	_cleanup_json_ struct json *context = NULL;
	_cleanup_free_ char *tls = NULL;
	_cleanup_close_ int fd = -EBADF;
	bool out = streq(to, "-");
	int r = context_find(name, &context, e);

	if (r == 0)
		r = context_dir(TLS, name, &tls, e);
	if (r < 0)
		return r;
	if (out && isatty(STDOUT_FILENO))
		return err_msg(e, ERR_INVALID, 0,
			       "cowardly refusing to export to a terminal, specify a file path");
	fd = out ? dup(STDOUT_FILENO) : open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open '%s'", to);
	r = write_archive(fd, context, tls);
	if (r < 0 && !out)
		(void)unlink(to);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "write '%s'", to) : 0;
}

int cmd_context_export(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *own = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	const struct opt opts[] = {OPT_END};
	const char *to;

	if (!cli_parse(c, opts, argc, argv, 0, 1, 2, &args))
		return c->exit_code;
	own = xasprintf("%s.dockercontext", args[0]);
	to = args[1] ?: own;
	if (export(args[0], to, &e) < 0)
		return cli_fail(&e);
	if (!streq(to, "-"))
		fprintf(stderr, "Written file \"%s\"\n", to);
	return 0;
}

/* ---- import ---- */

struct file { char *endpoint, *name; struct sbuf data; };
struct import { struct json *context; struct file *files; size_t n, total; };

static void import_done(struct import *m)
{
	json_free(m->context);
	for (size_t i = 0; i < m->n; i++) {
		free(m->files[i].endpoint);
		free(m->files[i].name);
		sbuf_done(&m->files[i].data);
	}
	free(m->files);
}

/* All of it is read before anything is written, and all of it together has a limit. */
static int read_data(struct ustar_reader *r, struct import *m, struct sbuf *to, struct err *e)
{
	char buf[16384];
	ssize_t n;

	while ((n = ustar_data(r, buf, sizeof buf)) > 0) {
		m->total += (size_t)n;
		if (m->total > IMPORT_MAX)
			return err_msg(e, ERR_INVALID, -EFBIG, "the context is larger than %u bytes",
				       IMPORT_MAX);
		sbuf_add(to, buf, (size_t)n);
	}
	return n < 0 ? err_set(e, ERR_SYSTEM, (int)n, "read the archive") : 0;
}

static bool name_fits(const char *s)
{
	return *s && !streq(s, ".") && !streq(s, "..");
}

static int read_tls(struct ustar_reader *r, const char *path, struct import *m, struct err *e)
{
	_cleanup_strv_ char **parts = strv_split(path, "/");
	struct file *f;

	if (strv_len(parts) != 3 || !name_fits(parts[1]) || !name_fits(parts[2]))
		return err_msg(e, ERR_INVALID, 0, "invalid context: %s: unexpected tls file", path);
	m->files = xrealloc(m->files, m->n + 1, sizeof *m->files);
	f = &m->files[m->n++];
	*f = (struct file){xstrdup(parts[1]), xstrdup(parts[2]), SBUF_INIT_MAX(IMPORT_MAX)};
	return read_data(r, m, &f->data, e);
}

static int read_entry(struct ustar_reader *r, const struct ustar_entry *t, struct import *m, struct err *e)
{
	_cleanup_sbuf_ struct sbuf text = SBUF_INIT_MAX(IMPORT_MAX);
	_cleanup_free_ char *path = xstrdup(t->path);
	int n;

	if (S_ISDIR(t->mode))
		return 0;
	if (!S_ISREG(t->mode) || t->link || (!streq(path, META) && !str_starts(path, TLS "/")))
		return err_msg(e, ERR_INVALID, 0, "%s: unexpected context file", path);
	if (!streq(path, META))
		return read_tls(r, path, m, e);
	json_free(TAKE_PTR(m->context));
	n = read_data(r, m, &text, e);
	if (n == 0)
		n = json_parse_foreign(sbuf_str(&text), text.len, &m->context, e);
	if (n == 0 && !context_host(m->context))
		n = err_msg(e, ERR_INVALID, 0, "invalid context: %s names no docker endpoint", path);
	return n;
}

static int read_archive(int fd, struct import *m, struct err *e)
{
	struct ustar_reader *r = ustar_reader_new(fd);
	const struct ustar_entry *t;
	int n;

	while ((n = ustar_next(r, &t, e)) > 0) {
		n = read_entry(r, t, m, e);
		if (n < 0)
			break;
	}
	ustar_reader_free(r);
	if (n == 0 && !m->context)
		n = err_msg(e, ERR_INVALID, 0, "invalid context: no metadata found");
	return n;
}

static int save_file(const char *tls, const struct file *f, struct err *e)
{
	_cleanup_free_ char *dir = path_join(tls, f->endpoint), *path = path_join(dir, f->name);
	int r = fs_mkdir_p(dir, 0700);

	if (r == 0)
		r = fs_write_atomic(AT_FDCWD, path, sbuf_str(&f->data), f->data.len, 0600, true);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "write '%s'", path) : 0;
}

static int save(const char *name, const struct import *m, struct err *e)
{
	_cleanup_free_ char *tls = NULL;
	int r;

	json_set_str(m->context, "Name", name);
	r = context_dir(TLS, name, &tls, e);
	for (size_t i = 0; r == 0 && i < m->n; i++)
		r = save_file(tls, &m->files[i], e);
	return r == 0 ? context_save(m->context, e) : r;
}

static int import(const char *name, const char *from, struct err *e)
{
	__attribute__((cleanup(import_done))) struct import m = {0};
	_cleanup_close_ int fd = -EBADF;
	int r = context_check_new(name, e);

	if (r < 0)
		return r;
	fd = streq(from, "-") ? dup(STDIN_FILENO) : open(from, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(e, ERR_SYSTEM, -errno, "open '%s'", from);
	r = read_archive(fd, &m, e);
	return r < 0 ? r : save(name, &m, e);
}

int cmd_context_import(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	const struct opt opts[] = {OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 2, 2, &args))
		return c->exit_code;
	if (import(args[0], args[1], &e) < 0)
		return cli_fail(&e);
	printf("%s\n", args[0]);
	fflush(stdout);
	fprintf(stderr, "Successfully imported context \"%s\"\n", args[0]);
	return 0;
}
