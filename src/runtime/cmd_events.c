/* events: what a container uses, once or at intervals, and a note each time it runs out of memory. The
 * documents are runc's, line by line. */
#include "runtime/tool.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/loop.h"
#include "base/strv.h"
#include "base/timefmt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

#define DEFAULT_INTERVAL_NS 5000000000ull

/* runc leaves zeros out. */
static void put(struct json *o, const char *key, uint64_t v)
{
	if (v)
		json_set(o, key, json_new_uint(v));
}

static struct json *usage_json(const struct rt_usage *u)
{
	struct json *o = json_object();

	json_set(o, "limit", json_new_uint(u->limit));
	put(o, "usage", u->usage);
	put(o, "max", u->max);
	json_set(o, "failcnt", json_new_uint(u->failcnt));
	return o;
}

static struct json *psi_line(const struct rt_psi *p)
{
	struct json *o = json_object();

	json_set(o, "avg10", json_new_double((double)p->avg10 / 100));
	json_set(o, "avg60", json_new_double((double)p->avg60 / 100));
	json_set(o, "avg300", json_new_double((double)p->avg300 / 100));
	json_set(o, "total", json_new_uint(p->total));
	return o;
}

static void put_psi(struct json *to, const struct rt_psi *some, const struct rt_psi *full)
{
	struct json *o;

	if (!some->total && !full->total)
		return;
	o = json_set(to, "psi", json_object());
	json_set(o, "some", psi_line(some));
	json_set(o, "full", psi_line(full));
}

static struct json *cpu_json(const struct rt_stats *s)
{
	struct json *o = json_object(), *u = json_set(o, "usage", json_object()),
		    *t = json_set(o, "throttling", json_object());

	put(u, "total", s->cpu.total_ns);
	if (s->cpu.n_percpu) {
		struct json *a = json_set(u, "percpu", json_array());

		for (size_t i = 0; i < s->cpu.n_percpu; i++)
			json_add(a, json_new_uint(s->cpu.percpu_ns[i]));
	}
	json_set(u, "kernel", json_new_uint(s->cpu.system_ns));
	json_set(u, "user", json_new_uint(s->cpu.user_ns));
	put(t, "periods", s->cpu.periods);
	put(t, "throttledPeriods", s->cpu.throttled_periods);
	put(t, "throttledTime", s->cpu.throttled_ns);
	put_psi(o, &s->cpu.psi_some, &s->cpu.psi_full);
	return o;
}

static struct json *memory_json(const struct rt_stats *s)
{
	struct json *o = json_object(), *raw;
	uint64_t cache = rt_stats_memory(s, "total_cache");

	put(o, "cache", cache ? cache : rt_stats_memory(s, "file"));
	json_set(o, "usage", usage_json(&s->memory.memory));
	json_set(o, "swap", usage_json(&s->memory.swap));
	json_set(o, "kernel", usage_json(&s->memory.kernel));
	json_set(o, "kernelTCP", usage_json(&s->memory.kernel_tcp));
	raw = json_set(o, "raw", json_object());
	for (size_t i = 0; i < s->memory.n_stat; i++)
		json_set(raw, s->memory.stat[i].key, json_new_uint(s->memory.stat[i].value));
	put_psi(o, &s->memory.psi_some, &s->memory.psi_full);
	return o;
}

static void put_ios(struct json *to, const char *key, const struct rt_ios *ios)
{
	struct json *a;

	if (!ios->n)
		return;
	a = json_set(to, key, json_array());
	for (size_t i = 0; i < ios->n; i++) {
		struct json *o = json_add(a, json_object());

		put(o, "major", ios->v[i].major);
		put(o, "minor", ios->v[i].minor);
		json_set_str(o, "op", ios->v[i].op);
		put(o, "value", ios->v[i].value);
	}
}

static void put_net(struct json *data, const struct rt_stats *s)
{
	struct json *a = json_set(data, "network_interfaces", json_array());

	for (size_t i = 0; i < s->n_net; i++) {
		const struct rt_netif *n = &s->net[i];
		const struct { const char *key; uint64_t v; } counters[] = {
			{ "RxBytes", n->rx_bytes }, { "RxPackets", n->rx_packets },
			{ "RxErrors", n->rx_errors }, { "RxDropped", n->rx_dropped },
			{ "TxBytes", n->tx_bytes }, { "TxPackets", n->tx_packets },
			{ "TxErrors", n->tx_errors }, { "TxDropped", n->tx_dropped },
		};
		struct json *o = json_add(a, json_object());

		json_set_str(o, "Name", n->name);
		for (size_t k = 0; k < ARRAY_SIZE(counters); k++)
			json_set(o, counters[k].key, json_new_uint(counters[k].v));
	}
}

static struct json *stats_json(const struct rt_stats *s)
{
	struct json *data = json_object(), *o;

	json_set(data, "cpu", cpu_json(s));
	json_set(data, "memory", memory_json(s));
	o = json_set(data, "pids", json_object());
	put(o, "current", s->pids.current);
	if (s->pids.limit != UINT64_MAX)
		put(o, "limit", s->pids.limit);
	o = json_set(data, "blkio", json_object());
	put_ios(o, "ioServiceBytesRecursive", &s->io.service_bytes);
	put_ios(o, "ioServicedRecursive", &s->io.serviced);
	put_psi(o, &s->io.psi_some, &s->io.psi_full);
	o = json_set(data, "hugetlb", json_object());
	for (size_t i = 0; i < s->n_hugetlb; i++)
		json_set(o, s->hugetlb[i].page_size, usage_json(&s->hugetlb[i].u));
	put_net(data, s);
	return data;
}

/* --- the stream --- */

struct watch {
	struct rt_container *c;
	struct loop *loop;
	int oom;		/* eventfd (v1) or inotify (v2), -EBADF = none */
	uint64_t kills;		/* seen on v2 */
};

static void print_event(const struct rt_container *c, const char *type, struct json *data)
{
	_cleanup_json_ struct json *o = json_object();
	_cleanup_free_ char *text = NULL;

	json_set_str(o, "type", type);
	json_set_str(o, "id", c->id);
	if (data)
		json_set(o, "data", data);
	puts(text = json_dump(o));
	fflush(stdout);
}

static int print_stats(struct rt_container *c, struct err *e)
{
	_cleanup_rt_stats_ struct rt_stats s = { 0 };
	int r = rt_stats(c, &s, e);

	if (r == 0)
		print_event(c, "stats", stats_json(&s));
	return r;
}

static void on_interval(struct loop_source *src, void *ud)
{
	struct watch *w = ud;

	if (print_stats(w->c, NULL) < 0)
		loop_exit(w->loop, 0);
}

static void on_oom(struct loop_source *src, int fd, uint32_t events, void *ud)
{
	char buf[4096];
	struct watch *w = ud;
	uint64_t kills = 0;

	(void)!read(fd, buf, sizeof buf);
	if (!proc_alive(&w->c->init)) {
		loop_exit(w->loop, 0);
		return;
	}
	/* v1's eventfd speaks of nothing else; memory.events changes for other reasons too. */
	if (w->c->cg->unified) {
		kills = cgroup_oom_kills(w->c->cg);
		if (kills <= w->kills)
			return;
		w->kills = kills;
	}
	print_event(w->c, "oom", NULL);
}

static void on_end(struct loop_source *src, int fd, uint32_t events, void *ud)
{
	struct watch *w = ud;

	loop_exit(w->loop, 0);
}

int cmd_events(int argc, char **argv, struct err *e)
{
	bool stats = false;
	char *interval = NULL;
	uint64_t ns = DEFAULT_INTERVAL_NS;
	const struct opt opts[] = {{0, "stats", OPT_BOOL, &stats, NULL, "Print once and end"},
				   {0, "interval", OPT_STR, &interval, "duration", "Time between two (5s)"},
				   OPT_END};
	_cleanup_state_ struct state s = { 0 };
	_cleanup_free_ char **args = NULL;
	_cleanup_loop_ struct loop *loop = NULL;
	struct loop_source *timer = NULL, *oom = NULL, *end = NULL;
	struct watch w = { .oom = -EBADF };
	int r = tool_parse(opts, argc, argv, 1, &args, e);

	if (r == 0 && interval && (time_parse_duration(interval, &ns) < 0 || !ns))
		r = tool_usage(e, "duration interval must be greater than 0");
	if (r == 0)
		r = tool_open(args[0], &s, &w.c, NULL, e);
	if (r < 0)
		return r;
	r = print_stats(w.c, e);
	if (r < 0 || stats) {
		rt_free(w.c);
		return r;
	}
	w.oom = cgroup_watch_oom(w.c->cg);
	w.kills = cgroup_oom_kills(w.c->cg);
	r = loop_new(&loop);
	w.loop = loop;
	if (r == 0)
		r = loop_add_timer(loop, ns / 1000, ns / 1000, on_interval, &w, &timer);
	if (r == 0 && w.oom >= 0)
		r = loop_add_io(loop, w.oom, EPOLLIN, on_oom, &w, &oom);
	if (r == 0)
		r = loop_add_io(loop, w.c->init.pidfd, EPOLLIN, on_end, &w, &end);
	r = r < 0 ? err_set(e, ERR_SYSTEM, r, "watch container '%s'", args[0]) : loop_run(loop);
	loop_source_free(timer);
	loop_source_free(oom);
	loop_source_free(end);
	fd_close(&w.oom);
	rt_free(w.c);
	return r;
}
