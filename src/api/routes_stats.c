/* GET /containers/{id}/stats: a sample a second, or one. The numbers come from where the container runs: its
 * share of the processors is one of those that its own kernel has. */
#include "api/routes_containers.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "proto/msg.h"
#include <errno.h>
#include <string.h>

#define PERIOD_US 1000000
#define PENDING_MAX (256u << 10)	/* of a client that does not read: samples are left out */

struct follower {
	struct request *req;		/* NULL: the client has left */
	struct container *c;		/* referenced */
	struct container_wait *removed;
	struct loop_source *timer;
	bool stream, one_shot, asked;
	struct json *cpu;		/* of the last sample, with its time */
	char *read;
};

static void follower_free(struct follower *f)
{
	container_wait_cancel(f->removed);
	loop_source_free(f->timer);
	json_free(f->cpu);
	free(f->read);
	container_unref(f->c);
	free(f);
}

/* ---- the document ---- */

/* Docker's name for each plain number of a stats_table, and where it stands. */
static const struct { const char *name; const char *path[3]; } places[] = {
	{ "system", { "cpu_stats", "system_cpu_usage" } },
	{ "online", { "cpu_stats", "online_cpus" } },
	{ "cpu.total", { "cpu_stats", "cpu_usage", "total_usage" } },
	{ "cpu.user", { "cpu_stats", "cpu_usage", "usage_in_usermode" } },
	{ "cpu.system", { "cpu_stats", "cpu_usage", "usage_in_kernelmode" } },
	{ "cpu.periods", { "cpu_stats", "throttling_data", "periods" } },
	{ "cpu.throttled_periods", { "cpu_stats", "throttling_data", "throttled_periods" } },
	{ "cpu.throttled_time", { "cpu_stats", "throttling_data", "throttled_time" } },
	{ "memory.usage", { "memory_stats", "usage" } },
	{ "memory.max", { "memory_stats", "max_usage" } },
	{ "memory.failcnt", { "memory_stats", "failcnt" } },
	{ "memory.limit", { "memory_stats", "limit" } },
	{ "pids.current", { "pids_stats", "current" } },
	{ "pids.limit", { "pids_stats", "limit" } },
};

static struct json *object_at(struct json *o, const char *key)
{
	return json_get(o, key) ?: json_set(o, key, json_object());
}

/* "8:0.Read" of bytes or count. */
static void put_io(struct json *doc, const char *list, const char *what, uint64_t v)
{
	struct json *io = json_get(object_at(doc, "blkio_stats"), list), *o;
	const char *colon = strchr(what, ':'), *dot = colon ? strchr(colon, '.') : NULL;
	_cleanup_free_ char *major = NULL, *minor = NULL;
	uint64_t a, b;

	if (!dot)
		return;
	major = xstrndup(what, (size_t)(colon - what));
	minor = xstrndup(colon + 1, (size_t)(dot - colon - 1));
	if (str_to_u64(major, &a) < 0 || str_to_u64(minor, &b) < 0)
		return;
	if (json_type(io) != JSON_ARRAY)
		io = json_set(object_at(doc, "blkio_stats"), list, json_array());
	o = json_add(io, json_object());
	json_set(o, "major", json_new_uint(a));
	json_set(o, "minor", json_new_uint(b));
	json_set_str(o, "op", dot + 1);
	json_set(o, "value", json_new_uint(v));
}

static void put_net(struct json *doc, const char *what, uint64_t v)
{
	const char *dot = strrchr(what, '.');
	_cleanup_free_ char *name = dot ? xstrndup(what, (size_t)(dot - what)) : NULL;

	if (name)
		json_set(object_at(object_at(doc, "networks"), name), dot + 1, json_new_uint(v));
}

static void put_number(struct json *doc, const char *name, uint64_t v)
{
	struct json *cpu;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		const char *const *p = places[i].path;
		struct json *o;

		if (!streq(places[i].name, name))
			continue;
		o = object_at(doc, p[0]);
		if (p[2])
			o = object_at(o, p[1]);
		json_set(o, p[2] ? p[2] : p[1], json_new_uint(v));
		return;
	}
	if (str_starts(name, "memory.stat."))
		json_set(object_at(object_at(doc, "memory_stats"), "stats"), name + 12, json_new_uint(v));
	else if (str_starts(name, "net."))
		put_net(doc, name + 4, v);
	else if (str_starts(name, "io.bytes."))
		put_io(doc, "io_service_bytes_recursive", name + 9, v);
	else if (str_starts(name, "io.count."))
		put_io(doc, "io_serviced_recursive", name + 9, v);
	else if (str_starts(name, "cpu.percpu.")) {
		cpu = object_at(object_at(doc, "cpu_stats"), "cpu_usage");
		json_add(json_get(cpu, "percpu_usage") ?: json_set(cpu, "percpu_usage", json_array()),
			 json_new_uint(v));
	}
}

static struct json *no_cpu(void)
{
	struct json *j = json_object(), *usage = json_set(j, "cpu_usage", json_object());
	struct json *throttling = json_set(j, "throttling_data", json_object());

	json_set_int(usage, "total_usage", 0);
	json_set_int(usage, "usage_in_kernelmode", 0);
	json_set_int(usage, "usage_in_usermode", 0);
	json_set_int(throttling, "periods", 0);
	json_set_int(throttling, "throttled_periods", 0);
	json_set_int(throttling, "throttled_time", 0);
	return j;
}

/* table NULL: the container does not run, and only who it is is known. */
static struct json *document(const struct follower *f, const struct msg_stats_table *table)
{
	static const char *const io[] = {
		"io_service_bytes_recursive", "io_serviced_recursive", "io_queue_recursive",
		"io_service_time_recursive", "io_wait_time_recursive", "io_merged_recursive",
		"io_time_recursive", "sectors_recursive",
	};
	_cleanup_free_ char *now = time_rfc3339(table ? now_real_ns() : 0), *zero = time_rfc3339(0);
	_cleanup_free_ char *name = xasprintf("/%s", container_name(f->c));
	struct json *j = json_object(), *blkio;

	json_set_str(j, "name", name);
	json_set_str(j, "id", container_id(f->c));
	json_set_str(j, "read", now);
	json_set_str(j, "preread", f->read ? f->read : zero);
	json_set(j, "pids_stats", json_object());
	blkio = json_set(j, "blkio_stats", json_object());
	for (size_t i = 0; i < ARRAY_SIZE(io); i++)
		json_set_null(blkio, io[i]);
	json_set_int(j, "num_procs", 0);
	json_set(j, "storage_stats", json_object());
	json_set(j, "cpu_stats", no_cpu());
	json_set(j, "precpu_stats", f->cpu ? json_copy(f->cpu) : no_cpu());
	json_set(j, "memory_stats", json_object());
	for (size_t i = 0; table && table->names && table->names[i]; i++) {
		uint64_t v;

		if (str_to_u64(table->values[i], &v) == 0)
			put_number(j, table->names[i], v);
	}
	return j;
}

/* ---- the stream ---- */

static void end(struct follower *f)
{
	struct request *r = f->req;

	if (r) {
		r->gone = NULL;
		resp_stream_end(r);
	}
	follower_free(f);
}

static void send(struct follower *f, struct json *j)
{
	_cleanup_free_ char *text = NULL;

	if (resp_stream_pending(f->req) > PENDING_MAX)
		return;
	text = json_dump(j);
	resp_stream_write(f->req, text, strlen(text));
	resp_stream_write(f->req, "\n", 1);
}

static void sampled(void *ud, int n, const struct err *e, void *result)
{
	struct follower *f = ud;
	struct json *j;
	bool last;

	f->asked = false;
	if (!f->req) {
		follower_free(f);
		return;
	}
	j = document(f, n < 0 ? NULL : result);
	/* A single answer has the difference of two samples, unless it is to be had at once. */
	last = !f->stream && (f->one_shot || f->cpu || n < 0);
	if (f->stream || last)
		send(f, j);
	json_free(f->cpu);
	f->cpu = n < 0 ? NULL : json_copy(json_get(j, "cpu_stats"));
	str_replace(&f->read, n < 0 ? NULL : json_get_str(j, "read"));
	json_free(j);
	if (last)
		end(f);
}

static void on_timer(struct loop_source *s, void *ud)
{
	struct follower *f = ud;

	if (f->asked)
		return;		/* it is late with the last one */
	f->asked = true;
	container_stats(f->c, sampled, f);
}

static void on_gone(struct request *r)
{
	struct follower *f = r->userdata;

	f->req = NULL;
	if (!f->asked)
		follower_free(f);
}

static void on_removed(void *ud, int code)
{
	struct follower *f = ud;

	f->removed = NULL;
	if (f->asked) {
		f->stream = false;		/* the sample that is under way is the last */
		f->one_shot = true;
	} else {
		end(f);
	}
}

void route_container_stats(struct request *r, struct engine *e)
{
	struct container *c = request_container(r, e);
	struct follower *f;

	if (!c)
		return;
	f = new0(struct follower);
	*f = (struct follower){.req = r, .c = container_ref(c),
			       .stream = http_query_bool(&r->query, "stream", true),
			       .one_shot = http_query_bool(&r->query, "one-shot", false)};
	if (f->stream && f->one_shot) {
		resp_errorf(r, ERR_INVALID, "cannot have stream=true and one-shot=true");
		follower_free(f);
		return;
	}
	if (loop_add_timer(e->loop, 1, PERIOD_US, on_timer, f, &f->timer) < 0) {
		resp_errorf(r, ERR_SYSTEM, "start a timer");
		follower_free(f);
		return;
	}
	r->userdata = f;
	r->gone = on_gone;
	resp_stream_begin(r, 200, "application/json");
	f->removed = container_wait_add(c, WAIT_REMOVED, on_removed, f);
}
