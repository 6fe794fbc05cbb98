#include "engine/health.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/sock.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "engine/container_int.h"
#include "engine/exec.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>

#define SECOND 1000000000ll
#define LOG_MAX 5
#define OUTPUT_MAX 4096
#define STREAM_MAX (64u << 10)

struct health {
	struct container *c;		/* it owns us */
	const char *status;
	unsigned streak;
	struct json *log;		/* the last results */
	struct loop_source *timer;	/* of the next check */
	struct probe *probe;		/* under way */
	char *last;			/* the exec of the one before */
};

/* One check. It may outlive its container's run, and then leads to nothing. */
struct probe {
	struct health *h;		/* NULL: nobody waits for it any more */
	struct engine *engine;
	char *exec;
	uint64_t start_ns;
	int fd;				/* its output: Docker's frames */
	struct loop_source *io;
	struct loop_source *timeout;
	struct sbuf in;
	bool preparing;			/* the supervisor's answer is to come, to on_prepared */
	bool ended, late;
	int exit_code;
};

static const char *const states[] = { "none", "starting", "healthy", "unhealthy" };

static const struct json *config_of(const struct container *c)
{
	return json_get(ctr_config(c), "Healthcheck");
}

static bool has_check(const struct container *c)
{
	const char *kind = json_str(json_at(json_get(config_of(c), "Test"), 0));

	return kind && !streq(kind, "NONE");
}

static int64_t setting(const struct health *h, const char *key, int64_t def)
{
	int64_t v = json_get_int(config_of(h->c), key, 0);

	return v > 0 ? v : def;
}

int health_config_check(const struct json *config, struct err *err)
{
	static const char *const times[] = { "Interval", "Timeout", "StartPeriod", "StartInterval" };
	const struct json *h = json_get(config, "Healthcheck");

	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		int64_t v = json_get_int(h, times[i], 0);

		if (v && v < 1000000)
			return err_msg(err, ERR_INVALID, 0, "%s in Healthcheck cannot be less than 1ms",
				       times[i]);
	}
	if (json_get_int(h, "Retries", 0) < 0)
		return err_msg(err, ERR_INVALID, 0, "Retries in Healthcheck cannot be negative");
	return 0;
}

/* ---- results ---- */

static bool in_start_period(const struct health *h, uint64_t at_ns)
{
	return at_ns - h->c->started_ns < (uint64_t)setting(h, "StartPeriod", 0);
}

static void set_status(struct health *h, const char *status)
{
	_cleanup_free_ char *action = xasprintf("health_status: %s", status);

	if (streq(h->status, status))
		return;
	h->status = status;
	container_event(h->c, action, NULL);
}

static void add_result(struct health *h, uint64_t start_ns, int code, const char *output)
{
	_cleanup_free_ char *from = time_rfc3339(start_ns), *to = time_rfc3339(now_real_ns());
	struct json *log = json_array(), *o;
	size_t n = json_len(h->log);

	for (size_t i = n >= LOG_MAX ? n + 1 - LOG_MAX : 0; i < n; i++)
		json_add(log, json_ref(json_at(h->log, i)));
	o = json_add(log, json_object());
	json_set_str(o, "Start", from);
	json_set_str(o, "End", to);
	json_set_int(o, "ExitCode", code);
	json_set_str(o, "Output", output);
	json_free(h->log);
	h->log = log;
}

static void schedule(struct health *h);

/* What is well and stays so is not written down each time: of a daemon that dies the last results are lost,
 * not what they amount to. */
static void result(struct health *h, uint64_t start_ns, int code, const char *output)
{
	const char *before = h->status;
	unsigned streak = h->streak;

	add_result(h, start_ns, code, output);
	if (code == 0) {
		h->streak = 0;
		set_status(h, "healthy");
	} else if (!streq(h->status, "starting") || !in_start_period(h, start_ns)) {
		if (++h->streak >= (unsigned)setting(h, "Retries", 3))
			set_status(h, "unhealthy");
	}
	if (!streq(before, h->status) || streak != h->streak)
		container_save(h->c);
	schedule(h);
}

/* ---- a check ---- */

static void probe_free(struct probe *p)
{
	if (p->h)
		p->h->probe = NULL;
	loop_source_free(p->io);
	loop_source_free(p->timeout);
	fd_close(&p->fd);
	sbuf_done(&p->in);
	free(p->exec);
	free(p);
}

/* What the command has said: the frames without their heads. */
static char *output_of(const struct probe *p)
{
	struct sbuf out = SBUF_INIT;

	for (size_t at = 0; at + 8 <= p->in.len && out.len < OUTPUT_MAX;) {
		const unsigned char *f = (const unsigned char *)p->in.buf + at;
		size_t n = (size_t)f[4] << 24 | (size_t)f[5] << 16 | (size_t)f[6] << 8 | f[7];

		n = MIN(n, p->in.len - at - 8);
		sbuf_add(&out, f + 8, MIN(n, OUTPUT_MAX - out.len));
		at += 8 + n;
	}
	return out.len ? sbuf_steal(&out) : xstrdup("");
}

static char *duration_text(int64_t ns)
{
	return ns % SECOND ? xasprintf("%gs", (double)ns / SECOND)
			   : xasprintf("%llds", (long long)(ns / SECOND));
}

/* Once the command has ended and all it has said is here. */
static void probe_maybe_over(struct probe *p)
{
	_cleanup_free_ char *said = NULL, *text = NULL, *limit = NULL;
	struct health *h = p->h;
	uint64_t start_ns = p->start_ns;
	int code = p->exit_code;

	if (!p->ended || p->io || p->preparing)
		return;
	if (!h) {
		probe_free(p);
		return;
	}
	said = output_of(p);
	if (p->late) {
		limit = duration_text(setting(h, "Timeout", 30 * SECOND));
		text = xasprintf("Health check exceeded timeout (%s)%s%s", limit, *said ? ": " : "", said);
		code = -1;
	}
	probe_free(p);
	result(h, start_ns, code, text ? text : said);
}

static void on_output(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct probe *p = ud;
	char buf[4096];
	ssize_t n = RETRY(read(fd, buf, sizeof buf));

	if (n > 0) {
		/* more than enough is read and dropped: the command must not wait for us */
		if (p->in.len + (size_t)n <= STREAM_MAX)
			sbuf_add(&p->in, buf, (size_t)n);
		return;
	}
	if (n < 0 && errno == EAGAIN)
		return;
	loop_source_free(TAKE_PTR(p->io));
	probe_maybe_over(p);
}

static void on_exited(void *ud, int code)
{
	struct probe *p = ud;

	p->ended = true;
	p->exit_code = code;
	loop_source_free(TAKE_PTR(p->timeout));
	probe_maybe_over(p);
}

static void ignore(void *ud, int r, const struct err *e, const void *p, size_t n)
{
}

/* Again and again until it has ended: at the first time it may not have been there yet. */
static void on_timeout(struct loop_source *s, void *ud)
{
	struct probe *p = ud;
	struct container *c = p->h ? p->h->c : NULL;

	p->late = true;
	if (c && ctr_conn(c)) {
		struct msg_kill m = {.sandbox = c->sandbox, .ctr = c->id, .exec = p->exec, .signo = SIGKILL};

		CONN_REQUEST(ctr_conn(c), KILL, kill, &m, -1, ignore, NULL);
	}
}

/* It could not even be made. */
static void probe_failed(struct probe *p, const char *why)
{
	_cleanup_free_ char *text = xstrdup(why);
	struct health *h = p->h;
	uint64_t start_ns = p->start_ns;

	probe_free(p);
	if (h)
		result(h, start_ns, -1, text);
}

static void on_started(void *ud, int r, const struct err *e, void *res)
{
	/* its end is told in any case */
}

static void on_prepared(void *ud, int r, const struct err *e, void *res)
{
	struct probe *p = ud;
	int pair[2];

	p->preparing = false;
	if (p->ended) {		/* with its container */
		probe_maybe_over(p);
		return;
	}
	if (r >= 0)
		r = sock_pair(pair);
	if (r < 0) {
		exec_on_exit(p->engine, p->exec, NULL, NULL);
		exec_forget(p->engine, p->exec);
		probe_failed(p, e && e->kind ? err_text(e) : strerror(-r));
		return;
	}
	p->fd = pair[0];
	(void)fd_set_nonblock(p->fd, true);
	(void)loop_add_io(p->engine->loop, p->fd, EPOLLIN, on_output, p, &p->io);
	exec_start(p->engine, p->exec, pair[1], NULL, 0, on_started, NULL);
}

/* The ExecConfig of the check. */
static struct json *exec_config(const struct container *c)
{
	const struct json *test = json_get(config_of(c), "Test");
	_cleanup_strv_ char **shell = json_get_strv(ctr_config(c), "Shell");
	struct json *j = json_object(), *cmd = json_set(j, "Cmd", json_array());

	if (streq(json_str(json_at(test, 0)), "CMD-SHELL")) {
		for (char **s = shell; s && *s; s++)
			json_add_str(cmd, *s);
		if (!shell) {
			json_add_str(cmd, "/bin/sh");
			json_add_str(cmd, "-c");
		}
	}
	for (size_t i = 1; i < json_len(test); i++)
		json_add_str(cmd, json_str(json_at(test, i)));
	json_set_bool(j, "AttachStdout", true);
	json_set_bool(j, "AttachStderr", true);
	return j;
}

static void check_now(struct loop_source *s, void *ud)
{
	struct health *h = ud;
	_cleanup_json_ struct json *config = NULL;
	_cleanup_err_ struct err err = ERR_INIT;
	const struct exec_start how = {.detach = false};
	const char *id;
	struct exec *x;
	struct probe *p;

	if (h->c->status != CTR_RUNNING || h->probe)
		return;
	if (h->c->paused) {
		schedule(h);
		return;
	}
	exec_forget(h->c->engine, h->last ?: "");
	config = exec_config(h->c);
	if (exec_create(h->c, config, &id, &err) < 0 || exec_find(h->c->engine, id, &x, &err) < 0) {
		result(h, now_real_ns(), -1, err_text(&err));
		return;
	}
	p = new0(struct probe);
	*p = (struct probe){.h = h, .engine = h->c->engine, .exec = xstrdup(id), .start_ns = now_real_ns(),
			    .fd = -EBADF};
	h->probe = p;
	str_replace(&h->last, id);
	p->preparing = true;
	exec_on_exit(p->engine, p->exec, on_exited, p);
	(void)loop_add_timer(p->engine->loop, (uint64_t)setting(h, "Timeout", 30 * SECOND) / 1000,
			     SECOND / 1000, on_timeout, p, &p->timeout);
	exec_prepare(x, &how, on_prepared, p);
}

static void schedule(struct health *h)
{
	bool soon = streq(h->status, "starting") && in_start_period(h, now_real_ns());
	int64_t ns = soon ? setting(h, "StartInterval", 5 * SECOND) : setting(h, "Interval", 30 * SECOND);

	if (h->c->status != CTR_RUNNING)
		return;
	if (h->timer)
		(void)loop_timer_set(h->timer, MAX((uint64_t)ns / 1000, (uint64_t)1), 0);
	else
		(void)loop_add_timer(h->c->engine->loop, MAX((uint64_t)ns / 1000, (uint64_t)1), 0, check_now,
				     h, &h->timer);
}

/* ---- life ---- */

void health_stop(struct container *c)
{
	struct health *h = c->health;

	if (!h)
		return;
	loop_source_free(TAKE_PTR(h->timer));
	if (h->probe) {
		h->probe->h = NULL;
		h->probe = NULL;
	}
}

void health_free(struct health *h)
{
	if (!h)
		return;
	loop_source_free(h->timer);
	if (h->probe)
		h->probe->h = NULL;
	json_free(h->log);
	free(h->last);
	free(h);
}

static struct health *health_new(struct container *c)
{
	if (!c->health) {
		c->health = new0(struct health);
		*c->health = (struct health){.c = c, .status = "starting", .log = json_array()};
	}
	return c->health;
}

void health_start(struct container *c, bool adopted)
{
	struct health *h;

	if (!has_check(c))
		return;
	h = health_new(c);
	health_stop(c);
	if (!adopted) {
		h->status = "starting";
		h->streak = 0;
	}
	schedule(h);
}

const char *health_status(const struct container *c)
{
	return c->health ? c->health->status : "none";
}

struct json *health_json(const struct container *c)
{
	struct json *j;

	if (!c->health)
		return NULL;
	j = json_object();
	json_set_str(j, "Status", c->health->status);
	json_set_int(j, "FailingStreak", c->health->streak);
	json_set(j, "Log", json_copy(c->health->log));
	return j;
}

void health_load(struct container *c, const struct json *j)
{
	const char *status = json_get_str(j, "Status");
	struct health *h;

	for (size_t i = 1; status && i < ARRAY_SIZE(states); i++) {
		if (!streq(states[i], status))
			continue;
		h = health_new(c);
		h->status = states[i];
		h->streak = (unsigned)json_get_int(j, "FailingStreak", 0);
		if (json_type(json_get(j, "Log")) == JSON_ARRAY) {
			json_free(h->log);
			h->log = json_copy(json_get(j, "Log"));
		}
	}
}
