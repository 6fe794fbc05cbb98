/* What a container uses, with the totals of the kernel it runs on, as names and numbers:
 *
 *	system, online			time of all processors in ns, their number
 *	cpu.{total,user,system}		ns; cpu.percpu.N where the kernel keeps it
 *	cpu.{periods,throttled_periods,throttled_time}
 *	memory.{usage,max,failcnt,limit}, memory.stat.KEY
 *	pids.{current,limit}
 *	io.{bytes,count}.MAJOR:MINOR.OP
 *	net.IF.{rx,tx}_{bytes,packets,errors,dropped}
 */
#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "runtime/stats.h"
#include "task/local_task.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/sysinfo.h>
#include <unistd.h>

static void put(struct msg_stats_table *t, uint64_t v, const char *fmt, ...) _printf_(3, 4);

static void put(struct msg_stats_table *t, uint64_t v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	strv_take(&t->names, xvasprintf(fmt, ap));
	va_end(ap);
	strv_take(&t->values, xasprintf("%" PRIu64, v));
}

/* The first seven columns of the line "cpu" in /proc/stat, as dockerd adds them up. */
static uint64_t system_ns(void)
{
	_cleanup_free_ char *line = NULL;
	uint64_t v[7] = { 0 }, sum = 0, hz = (uint64_t)sysconf(_SC_CLK_TCK);

	if (fs_read_line(AT_FDCWD, "/proc/stat", &line) < 0 ||
	    sscanf(line,
		   "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
		   &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6]) < 4)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(v); i++)
		sum += v[i];
	return sum * (1000000000 / hz);
}

static void put_cpu(struct msg_stats_table *t, const struct rt_stats *s)
{
	put(t, system_ns(), "system");
	put(t, (uint64_t)get_nprocs(), "online");
	put(t, s->cpu.total_ns, "cpu.total");
	put(t, s->cpu.user_ns, "cpu.user");
	put(t, s->cpu.system_ns, "cpu.system");
	for (size_t i = 0; i < s->cpu.n_percpu; i++)
		put(t, s->cpu.percpu_ns[i], "cpu.percpu.%zu", i);
	put(t, s->cpu.periods, "cpu.periods");
	put(t, s->cpu.throttled_periods, "cpu.throttled_periods");
	put(t, s->cpu.throttled_ns, "cpu.throttled_time");
}

/* A limit that is none is the memory there is. */
static void put_memory(struct msg_stats_table *t, const struct rt_stats *s)
{
	struct sysinfo si = { 0 };
	uint64_t total;

	(void)sysinfo(&si);
	total = (uint64_t)si.totalram * si.mem_unit;
	put(t, s->memory.memory.usage, "memory.usage");
	put(t, s->memory.memory.max, "memory.max");
	put(t, s->memory.memory.failcnt, "memory.failcnt");
	put(t, MIN(s->memory.memory.limit, total), "memory.limit");
	for (size_t i = 0; i < s->memory.n_stat; i++)
		put(t, s->memory.stat[i].value, "memory.stat.%s", s->memory.stat[i].key);
}

static void put_io(struct msg_stats_table *t, const struct rt_ios *io, const char *what)
{
	for (size_t i = 0; i < io->n; i++)
		put(t, io->v[i].value, "io.%s.%" PRIu64 ":%" PRIu64 ".%s", what, io->v[i].major,
		    io->v[i].minor, io->v[i].op);
}

static void put_net(struct msg_stats_table *t, const struct rt_netif *n)
{
	const struct { const char *name; uint64_t v; } counters[] = {
		{ "rx_bytes", n->rx_bytes },	 { "rx_packets", n->rx_packets },
		{ "rx_errors", n->rx_errors },	 { "rx_dropped", n->rx_dropped },
		{ "tx_bytes", n->tx_bytes },	 { "tx_packets", n->tx_packets },
		{ "tx_errors", n->tx_errors },	 { "tx_dropped", n->tx_dropped },
	};

	for (size_t i = 0; i < ARRAY_SIZE(counters); i++)
		put(t, counters[i].v, "net.%s.%s", n->name, counters[i].name);
}

void stats_table(const struct rt_stats *s, struct sbuf *out)
{
	struct msg_stats_table t = { 0 };

	put_cpu(&t, s);
	put_memory(&t, s);
	put(&t, s->pids.current, "pids.current");
	put(&t, s->pids.limit, "pids.limit");
	put_io(&t, &s->io.service_bytes, "bytes");
	put_io(&t, &s->io.serviced, "count");
	for (size_t i = 0; i < s->n_net; i++)
		put_net(&t, &s->net[i]);
	msg_stats_table_encode(&t, out);
	msg_stats_table_done(&t);
}
