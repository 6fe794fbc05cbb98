/* `cp`: what Docker's command does, step by step, since it decides which name something arrives under. */
#include "cli/cmds.h"

#include "base/alloc.h"
#include "base/base64.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/timefmt.h"
#include "base/strv.h"
#include "cli/cp_path.h"
#include "lib/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GO_MODE_DIR (1u << 31)
#define GO_MODE_LINK (1u << 27)
#define GO_MODE_ODD (1u << 26 | 1u << 25 | 1u << 24 | 1u << 21)	/* devices, pipes, sockets */

struct cp {
	struct cli *c;
	const char *container;
	const char *shown;		/* of the destination, for the last line */
	bool archive, follow, quiet;
	uint64_t bytes;
};

struct ctr_stat { uint32_t mode; char *target; };

static void archive_url(struct cp *x, const char *path, struct sbuf *url)
{
	_cleanup_free_ char *base = url_path("/containers/", x->container, "/archive");

	sbuf_puts(url, base);
	url_query(url, "path", path);
}

static int parse_stat(const struct http_head *head, struct ctr_stat *ret, struct err *e)
{
	const char *value = http_header_get(head, "X-Docker-Container-Path-Stat");
	_cleanup_free_ char *text = NULL;
	_cleanup_json_ struct json *j = NULL;
	size_t n;
	int r = value ? base64_decode(value, &text, &n) : -EBADMSG;

	if (r == 0)
		r = json_parse(text, n, &j, NULL);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "unable to decode container path stat header");
	ret->mode = (uint32_t)json_get_int(j, "mode", 0);
	ret->target = xstrdup(json_get_str(j, "linkTarget") ?: "");
	return 0;
}

static int ctr_stat(struct cp *x, const char *path, struct ctr_stat *ret, struct err *e)
{
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	struct httpc_request req = { .method = "HEAD" };
	const struct http_head *head;
	struct httpc *h;
	int r;

	archive_url(x, path, &url);
	req.target = sbuf_str(&url);
	r = api_open(x->c, &req, &h, &head, e);
	if (r < 0)
		return r;
	r = parse_stat(head, ret, e);
	api_release(x->c, h);
	return r;
}

static int said(struct cp *x)
{
	_cleanup_free_ char *size = size_human((double)x->bytes);

	if (!x->quiet)
		fprintf(stderr, "Successfully copied %s to %s\n", size, x->shown);
	return 0;
}

/* ---- out of a container ---- */

static _noreturn_ void unpacker(int fd, const struct cp_plan *plan)
{
	_cleanup_err_ struct err e = ERR_INIT;
	struct ustar_reader *in = ustar_reader_new(fd);
	struct tree_unpack u = {
		.dest = "/", .keep_types = true, .own_ids = true, .from = plan->from, .to = plan->to,
		.root = open(plan->dir, O_PATH | O_DIRECTORY | O_CLOEXEC),
	};
	int r = u.root < 0 ? err_set(&e, ERR_SYSTEM, -errno, "open %s", plan->dir) : tree_unpack(&u, in, &e);

	if (r < 0)
		fprintf(stderr, "%s\n", err_text(&e));
	ustar_reader_free(in);
	_exit(r < 0 ? 1 : 0);
}

/* The archive goes through a pipe to a process that unpacks it: neither has to hold it. */
static int receive(struct cp *x, struct httpc *h, const struct cp_plan *plan, struct err *e)
{
	_cleanup_proc_ struct proc p = PROC_INIT;
	int fds[2], code, r = fd_pipe(fds, 0);

	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "open a pipe");
	r = proc_fork(&p);
	if (r == 0) {
		close(fds[1]);
		unpacker(fds[0], plan);
	}
	close(fds[0]);
	if (r > 0)
		r = httpc_copy(h, fds[1], &x->bytes);
	close(fds[1]);
	if (p.pidfd < 0)
		return err_set(e, ERR_SYSTEM, r, "start a process");
	if (proc_wait(&p, &code) < 0 || code)
		return -EIO;		/* it has said why */
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "unexpected end of the archive") : 0;
}

static int from_container(struct cp *x, const char *src, const char *dst, struct err *e)
{
	_cleanup_(cp_end_done) struct cp_end from = { .path = xstrdup(src) }, to = { 0 };
	_cleanup_(cp_plan_done) struct cp_plan plan = { 0 };
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	_cleanup_httpc_ struct httpc *h = NULL;
	struct httpc_request req = { .method = "GET" };
	struct ctr_stat st = { 0 };
	const struct http_head *head;
	int r = streq(dst, "-") ? 0 : cp_destination(dst, &to, e);

	if (r < 0)
		return r;
	/* What cannot be followed is copied as it is. */
	if (x->follow && ctr_stat(x, src, &st, NULL) == 0 && st.mode & GO_MODE_LINK) {
		free(from.path);
		from.path = xstrdup(st.target);
		from.rename = cp_rename(src, &from.path);
	}
	free(TAKE_PTR(st.target));
	archive_url(x, from.path, &url);
	req.target = sbuf_str(&url);
	r = api_open(x->c, &req, &h, &head, e);
	if (r == 0)
		r = parse_stat(head, &st, e);
	free(st.target);
	if (r < 0)
		return r;
	if (streq(dst, "-")) {
		r = httpc_copy(h, STDOUT_FILENO, &x->bytes);
		return r < 0 ? err_set(e, ERR_SYSTEM, r, "unexpected end of the archive") : 0;
	}
	from.is_dir = st.mode & GO_MODE_DIR;
	r = cp_plan_make(&from, &to, &plan, e);
	if (r < 0)
		return r;
	/* The link's own name instead of that of its target. */
	if (from.rename && !plan.from)
		plan.to = xstrdup(from.rename);
	if (from.rename) {
		free(plan.from);
		plan.from = cp_base(from.path);
	}
	r = receive(x, h, &plan, e);
	return r < 0 ? r : said(x);
}

/* ---- into a container ---- */

static _noreturn_ void packer(int fd, const char *dir, const char *base, const char *as)
{
	_cleanup_err_ struct err e = ERR_INIT;
	struct ustar_writer w = { .fd = fd };
	struct tree_pack p = { .w = &w };
	int at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = at < 0 ? err_set(&e, ERR_SYSTEM, -errno, "open %s", dir) : tree_pack(&p, at, base, as, &e);

	if (r == 0)
		r = ustar_put_end(&w);
	if (r < 0 && r != -EPIPE)
		fprintf(stderr, "%s\n", e.kind ? err_text(&e) : strerror(-r));
	_exit(r < 0 ? 1 : 0);
}

static int pump_in(struct cp *x, int fd, struct httpc *h)
{
	static char buf[256 << 10];

	for (;;) {
		ssize_t n = RETRY(read(fd, buf, sizeof(buf)));
		int r = n < 0 ? -errno : httpc_send_chunk(h, buf, (size_t)n);

		if (n <= 0 || r < 0)
			return r;
		x->bytes += (uint64_t)n;
	}
}

static int send_archive(struct cp *x, int fd, const char *dir, struct err *e)
{
	_cleanup_sbuf_ struct sbuf url = SBUF_INIT;
	struct httpc_request req = { .method = "PUT", .content_type = "application/x-tar", .chunked = true };
	struct httpc *h;
	int r, sent;

	archive_url(x, dir, &url);
	url_query(&url, "noOverwriteDirNonDir", "true");
	url_query(&url, "copyUIDGID", x->archive ? "true" : NULL);
	req.target = sbuf_str(&url);
	r = api_open(x->c, &req, &h, NULL, e);
	if (r < 0)
		return r;
	sent = pump_in(x, fd, h);
	/* A daemon that refuses closes early, but says why. */
	if (sent < 0 && sent != -EPIPE && sent != -ECONNRESET) {
		httpc_free(h);
		return err_set(e, ERR_SYSTEM, sent, "sending the archive");
	}
	r = api_answer(x->c, h, NULL, e);
	if (r == 0)
		api_release(x->c, h);
	return r;
}

static int send_tree(struct cp *x, const struct cp_end *src, const struct cp_plan *plan, struct err *e)
{
	_cleanup_free_ char *dir = NULL, *base = NULL;
	_cleanup_proc_ struct proc p = PROC_INIT;
	int fds[2], code, r = fd_pipe(fds, 0);
	const char *as;

	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "open a pipe");
	cp_split(src->path, &dir, &base);
	as = plan->to ? plan->to : src->rename ? src->rename : base;
	/* The local root as a whole has no name to begin with. */
	r = proc_fork(&p);
	if (r == 0) {
		close(fds[0]);
		packer(fds[1], dir, streq(base, "/") ? "." : base, as);
	}
	close(fds[1]);
	if (r > 0)
		r = send_archive(x, fds[0], plan->dir, e);
	else
		err_set(e, ERR_SYSTEM, r, "start a process");
	close(fds[0]);
	if (p.pidfd >= 0 && (proc_wait(&p, &code) < 0 || code) && r == 0)
		r = -EIO;		/* it has said why */
	return r;
}

/* Where in the container: behind a symbolic link, if there is one. */
static int ctr_destination(struct cp *x, const char *path, struct cp_end *ret, struct err *e)
{
	struct ctr_stat st = { 0 };
	bool known = ctr_stat(x, path, &st, NULL) == 0;
	_cleanup_free_ char *dir = NULL, *base = NULL;

	ret->path = xstrdup(path);
	if (known && st.mode & GO_MODE_LINK) {
		_cleanup_free_ char *target = TAKE_PTR(st.target);

		free(ret->path);
		cp_split(path, &dir, &base);
		ret->path = *target == '/' ? TAKE_PTR(target) : path_join(dir, target);
		known = ctr_stat(x, ret->path, &st, NULL) == 0;
	}
	free(st.target);
	if (known && st.mode & GO_MODE_ODD)
		return err_msg(e, ERR_INVALID, -EINVAL,
			       "destination \"%s:%s\" must be a directory or a regular file", x->container,
			       path);
	ret->exists = known;
	ret->is_dir = known && st.mode & GO_MODE_DIR;
	return 0;
}

static int to_container(struct cp *x, const char *src, const char *dst, struct err *e)
{
	_cleanup_(cp_end_done) struct cp_end from = { 0 }, to = { 0 };
	_cleanup_(cp_plan_done) struct cp_plan plan = { 0 };
	_cleanup_free_ char *local = streq(src, "-") ? NULL : cp_absolute(src);
	int r = local ? cp_source(local, x->follow, &from, e) : 0;

	if (r == 0)
		r = ctr_destination(x, dst, &to, e);
	if (r < 0)
		return r;
	if (!local && !to.is_dir)
		return err_msg(e, ERR_INVALID, -ENOTDIR, "destination \"%s:%s\" must be a directory",
			       x->container, dst);
	if (!local)
		return send_archive(x, STDIN_FILENO, to.path, e);
	r = cp_plan_make(&from, &to, &plan, e);
	if (r == 0)
		r = send_tree(x, &from, &plan, e);
	return r < 0 ? r : said(x);
}

int cmd_cp(struct cli *c, int argc, char **argv)
{
	_cleanup_free_ char **args = NULL, *from = NULL, *to = NULL, *src = NULL, *dst = NULL;
	_cleanup_err_ struct err e = ERR_INIT;
	struct cp x = { .c = c, .quiet = !isatty(STDOUT_FILENO) };
	int r;
	const struct opt opts[] = {
	    {'a', "archive", OPT_BOOL, &x.archive, NULL, "Archive mode (copy all uid/gid information)"},
	    {'L', "follow-link", OPT_BOOL, &x.follow, NULL, "Always follow symbol link in SRC_PATH"},
	    {'q', "quiet", OPT_BOOL, &x.quiet, NULL,
	     "Suppress progress output during copy. Progress output is automatically suppressed if no "
	     "terminal is attached"},
	    OPT_END};

	if (!cli_parse(c, opts, argc, argv, 0, 2, 2, &args))
		return c->exit_code;
	if (!*args[0] || !*args[1])
		r = err_msg(&e, ERR_INVALID, 0, "%s can not be empty", *args[0] ? "destination" : "source");
	else {
		cp_split_arg(args[0], &from, &src);
		cp_split_arg(args[1], &to, &dst);
		x.container = from ? from : to;
		x.shown = args[1];
		if (from && to)
			r = err_msg(&e, ERR_INVALID, 0, "copying between containers is not supported");
		else if (!from && !to)
			r = err_msg(&e, ERR_INVALID, 0, "must specify at least one container source");
		else
			r = from ? from_container(&x, src, dst, &e) : to_container(&x, src, dst, &e);
	}
	if (r < 0 && e.kind)
		return cli_fail(&e);
	return r < 0;
}
