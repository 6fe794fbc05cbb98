/* GET /containers/{id}/logs. The log file is read a piece at a time, as the client takes it; a follower is
 * woken by inotify and ends when the container has ended: the supervisor closes the log before it tells of
 * the exit, so what is in the file then is all. */
#include "api/routes_containers.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "engine/logs.h"
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>

#define PENDING_HIGH (256u << 10)	/* then wait until the client has read */
#define WATCHED (IN_MODIFY | IN_ATTRIB)	/* the second: it was moved on, a new one is there */
#define ENTRIES_PER_STEP 4096		/* then let others have their turn */

struct follower {
	struct request *req;
	struct container *c;		/* referenced */
	struct log_reader *reader;
	struct container_wait *wait;
	struct loop_source *io, *timer;
	int inotify;
	char *path;			/* what is watched */
	bool out, err, stamps, details, mux, follow;
	bool blocked;			/* the client is behind */
	uint64_t since_ns, until_ns;
};

static void follower_free(struct follower *f)
{
	container_wait_cancel(f->wait);
	loop_source_free(f->io);
	loop_source_free(f->timer);
	fd_close(&f->inotify);
	log_reader_free(f->reader);
	container_unref(f->c);
	free(f->path);
	free(f);
}

static void on_gone(struct request *r)
{
	follower_free(r->userdata);
}

static void finish(struct follower *f)
{
	struct request *r = f->req;

	r->gone = NULL;
	follower_free(f);
	resp_stream_end(r);
}

/* As the value of a form: Go's QueryEscape. */
static void put_escaped(struct sbuf *b, const char *s)
{
	_cleanup_free_ char *escaped = http_url_encode(s);

	for (const char *p = escaped; *p; p++) {
		bool space = str_starts(p, "%20");

		sbuf_putc(b, space ? '+' : *p);
		p += space ? 2 : 0;
	}
}

/* "name=value,name=value ". */
static void put_details(struct sbuf *b, const struct log_entry *e)
{
	_cleanup_json_ struct json *attrs = NULL;
	struct json_iter it = {0};
	const char *comma = "";

	if (e->attrs && json_parse(e->attrs, e->n_attrs, &attrs, NULL) < 0)
		return;
	while (json_next(attrs, &it)) {
		sbuf_puts(b, comma);
		put_escaped(b, it.key);
		sbuf_putc(b, '=');
		put_escaped(b, json_str(it.value) ?: "");
		comma = ",";
	}
	sbuf_putc(b, ' ');
}

static void put_entry(struct follower *f, const struct log_entry *e)
{
	_cleanup_sbuf_ struct sbuf before = SBUF_INIT;
	char stamp[40];
	size_t n;
	uint8_t head[8] = {e->err ? 2 : 1};

	if (f->stamps) {
		time_rfc3339_fixed(e->time_ns, stamp);
		sbuf_printf(&before, "%s ", stamp);
	}
	if (f->details)
		put_details(&before, e);
	n = before.len + e->n;
	for (int i = 0; i < 4; i++)
		head[4 + i] = (uint8_t)(n >> (24 - 8 * i));
	if (f->mux)
		resp_stream_write(f->req, head, sizeof head);
	if (before.len)
		resp_stream_write(f->req, before.buf, before.len);
	resp_stream_write(f->req, e->text, e->n);
}

/* False: beyond `until`, which ends it all. */
static bool take_entry(struct follower *f, const struct log_entry *e)
{
	if (f->until_ns && e->time_ns > f->until_ns)
		return false;
	if (e->time_ns >= f->since_ns && (e->err ? f->err : f->out))
		put_entry(f, e);
	return true;
}

static void go_on(struct loop_source *s, void *ud);

static void again_soon(struct follower *f)
{
	if (f->timer)
		(void)loop_timer_set(f->timer, 1, 0);
	else
		(void)loop_add_timer(f->req->engine->loop, 1, 0, go_on, f, &f->timer);
}

static void step(struct follower *f)
{
	struct log_entry e;

	for (unsigned i = 0; i < ENTRIES_PER_STEP; i++) {
		int n;

		if (resp_stream_pending(f->req) > PENDING_HIGH) {
			f->blocked = true;
			return;
		}
		n = log_reader_next(f->reader, &e);
		if (n == -EAGAIN)
			break;
		if (n == 0 && f->follow)
			return;
		if (n <= 0 || !take_entry(f, &e)) {
			finish(f);
			return;
		}
	}
	again_soon(f);
}

static void go_on(struct loop_source *s, void *ud)
{
	step(ud);
}

static void on_drain(struct request *r)
{
	struct follower *f = r->userdata;

	if (f->blocked) {
		f->blocked = false;
		step(f);
	}
}

static void on_change(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct follower *f = ud;
	char buf[4096];

	while (RETRY(read(fd, buf, sizeof buf)) > 0)
		;
	/* a new file may stand at the path; for the same one this changes nothing */
	(void)inotify_add_watch(fd, f->path, WATCHED);
	if (!f->blocked)
		step(f);
}

static void on_exit_of_container(void *ud, int code)
{
	struct follower *f = ud;

	f->wait = NULL;
	f->follow = false;
	if (!f->blocked)
		again_soon(f);
}

/* Wakes on every write of the supervisor. */
static int watch(struct follower *f, const char *path)
{
	int r;

	f->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (f->inotify < 0)
		return -errno;
	f->path = xstrdup(path);
	if (inotify_add_watch(f->inotify, path, WATCHED) < 0)
		return -errno;
	r = loop_add_io(f->req->engine->loop, f->inotify, EPOLLIN, on_change, f, &f->io);
	if (r >= 0)
		f->wait = container_wait_add(f->c, WAIT_NEXT_EXIT, on_exit_of_container, f);
	return r;
}

static int parse_time(struct request *r, const char *key, uint64_t *ret, struct err *err)
{
	const char *s = http_query_get(&r->query, key);

	*ret = 0;
	if (str_empty(s) || streq(s, "0") || time_parse_since(s, now_real_ns(), ret) == 0)
		return 0;
	return err_msg(err, ERR_INVALID, 0,
		       "invalid value for \"%s\": failed to parse value as time or duration: %s", key, s);
}

static int parse_args(struct request *r, struct follower *f, int64_t *ret_tail, struct err *err)
{
	const char *tail = http_query_get(&r->query, "tail");
	int n;

	f->out = http_query_bool(&r->query, "stdout", false);
	f->err = http_query_bool(&r->query, "stderr", false);
	f->stamps = http_query_bool(&r->query, "timestamps", false);
	f->details = http_query_bool(&r->query, "details", false);
	f->follow = http_query_bool(&r->query, "follow", false);
	if (!f->out && !f->err)
		return err_msg(err, ERR_INVALID, 0, "Bad parameters: you must choose at least one stream");
	*ret_tail = -1;
	/* as Docker: what is no number means all */
	if (!str_empty(tail) && str_to_i64(tail, ret_tail) < 0)
		*ret_tail = -1;
	n = parse_time(r, "since", &f->since_ns, err);
	return n < 0 ? n : parse_time(r, "until", &f->until_ns, err);
}

static int open_log(struct request *r, struct follower *f, struct err *err)
{
	_cleanup_free_ char *path = container_log_path(f->c);
	int64_t tail;
	int n = parse_args(r, f, &tail, err);

	if (n < 0)
		return n;
	if (!*path)
		return err_msg(err, ERR_NOT_IMPLEMENTED, 0,
			       "configured logging driver does not support reading");
	n = log_reader_open(path, tail, &f->reader);
	if (n < 0)
		return err_set(err, ERR_SYSTEM, n, "open the log of container %s", container_id(f->c));
	f->follow = f->follow && container_running(f->c);
	if (f->follow) {
		n = watch(f, path);
		if (n < 0)
			return err_set(err, ERR_SYSTEM, n, "follow the log of container %s",
				       container_id(f->c));
	}
	return 0;
}

void route_container_logs(struct request *r, struct engine *e)
{
	struct container *c = request_container(r, e);
	_cleanup_err_ struct err err = ERR_INIT;
	struct follower *f;

	if (!c)
		return;
	f = new0(struct follower);
	*f = (struct follower){.req = r, .c = container_ref(c), .inotify = -EBADF, .mux = !container_tty(c)};
	if (open_log(r, f, &err) < 0) {
		follower_free(f);
		resp_error(r, &err);
		return;
	}
	resp_stream_begin(r, 200, f->mux && r->api_minor >= 42 ? "application/vnd.docker.multiplexed-stream"
							       : "application/vnd.docker.raw-stream");
	r->userdata = f;
	r->gone = on_gone;
	resp_stream_on_drain(r, on_drain);
	again_soon(f);
}
