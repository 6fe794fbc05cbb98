/* Reading usage out of a container's control groups: one table per file format, v1 and v2. */
#include "runtime/cgroup.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/strv.h"
#include "runtime/stats.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static char *read_text(const struct cgroup *cg, const char *controller, const char *file)
{
	const struct cgroup_hier *h = cgroup_hier_of(cg, controller);
	_cleanup_free_ char *path = h ? cgroup_file(cg, h, file) : NULL;
	char *text;

	return path && fs_read(AT_FDCWD, path, 1 << 20, &text, NULL) == 0 ? text : NULL;
}

/* "max" is no limit. An absent file leaves the value as it is. */
static void read_value(const struct cgroup *cg, const char *controller, const char *file, uint64_t *ret)
{
	_cleanup_free_ char *text = read_text(cg, controller, file);

	if (!text)
		return;
	text[strcspn(text, "\n")] = 0;
	if (streq(text, "max"))
		*ret = UINT64_MAX;
	else
		(void)str_to_u64(text, ret);
}

/* "key value" lines: calls fn for each. */
static void each_pair(const struct cgroup *cg, const char *controller, const char *file,
		      void (*fn)(const char *key, uint64_t value, void *ud), void *ud)
{
	_cleanup_free_ char *text = read_text(cg, controller, file);

	for (char *save = NULL, *l = text ? strtok_r(text, "\n", &save) : NULL; l;
	     l = strtok_r(NULL, "\n", &save)) {
		char *space = strchr(l, ' ');
		uint64_t v;

		if (!space)
			continue;
		*space = 0;
		if (str_to_u64(space + 1, &v) == 0)
			fn(l, v, ud);
	}
}

/* --- cpu --- */

static void cpu_pair(const char *key, uint64_t v, void *ud)
{
	struct rt_stats *s = ud;
	const struct { const char *key; uint64_t *to, factor; } keys[] = {
		{ "usage_usec", &s->cpu.total_ns, 1000 },
		{ "user_usec", &s->cpu.user_ns, 1000 },
		{ "system_usec", &s->cpu.system_ns, 1000 },
		{ "nr_periods", &s->cpu.periods, 1 },
		{ "nr_throttled", &s->cpu.throttled_periods, 1 },
		{ "throttled_usec", &s->cpu.throttled_ns, 1000 },
		{ "throttled_time", &s->cpu.throttled_ns, 1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (streq(key, keys[i].key))
			*keys[i].to = v * keys[i].factor;
}

static void read_percpu(const struct cgroup *cg, struct rt_stats *s)
{
	_cleanup_free_ char *text = read_text(cg, "cpuacct", "cpuacct.usage_percpu");
	_cleanup_strv_ char **words = text ? strv_split(text, " \n") : NULL;
	size_t n = strv_len(words);

	if (!n)
		return;
	s->cpu.percpu_ns = new_array(uint64_t, n);
	for (size_t i = 0; i < n; i++)
		(void)str_to_u64(words[i], &s->cpu.percpu_ns[i]);
	s->cpu.n_percpu = n;
}

static void read_cpu(const struct cgroup *cg, struct rt_stats *s)
{
	each_pair(cg, "cpu", "cpu.stat", cpu_pair, s);
	if (cg->unified)
		return;
	read_value(cg, "cpuacct", "cpuacct.usage", &s->cpu.total_ns);
	read_value(cg, "cpuacct", "cpuacct.usage_user", &s->cpu.user_ns);
	read_value(cg, "cpuacct", "cpuacct.usage_sys", &s->cpu.system_ns);
	read_percpu(cg, s);
}

/* --- memory --- */

static void memory_pair(const char *key, uint64_t v, void *ud)
{
	struct rt_stats *s = ud;

	s->memory.stat = xrealloc(s->memory.stat, s->memory.n_stat + 1, sizeof *s->memory.stat);
	s->memory.stat[s->memory.n_stat++] = (struct rt_stat_item){ xstrdup(key), v };
}

struct pick { const char *key; uint64_t *to; };

static void pick_pair(const char *key, uint64_t v, void *ud)
{
	const struct pick *p = ud;

	if (streq(key, p->key))
		*p->to = v;
}

static void read_usage1(const struct cgroup *cg, const char *prefix, struct rt_usage *u)
{
	const struct { const char *file; uint64_t *to; } files[] = {
		{ "usage_in_bytes", &u->usage }, { "max_usage_in_bytes", &u->max },
		{ "failcnt", &u->failcnt }, { "limit_in_bytes", &u->limit },
	};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *file = xasprintf("%s.%s", prefix, files[i].file);

		read_value(cg, "memory", file, files[i].to);
	}
}

static void read_memory(const struct cgroup *cg, struct rt_stats *s)
{
	each_pair(cg, "memory", "memory.stat", memory_pair, s);
	if (!cg->unified) {
		read_usage1(cg, "memory", &s->memory.memory);
		read_usage1(cg, "memory.memsw", &s->memory.swap);
		read_usage1(cg, "memory.kmem", &s->memory.kernel);
		read_usage1(cg, "memory.kmem.tcp", &s->memory.kernel_tcp);
		each_pair(cg, "memory", "memory.oom_control", pick_pair,
			  &(struct pick){ "oom_kill", &s->memory.oom_kills });
		return;
	}
	read_value(cg, "memory", "memory.current", &s->memory.memory.usage);
	read_value(cg, "memory", "memory.peak", &s->memory.memory.max);
	read_value(cg, "memory", "memory.max", &s->memory.memory.limit);
	read_value(cg, "memory", "memory.swap.current", &s->memory.swap.usage);
	read_value(cg, "memory", "memory.swap.peak", &s->memory.swap.max);
	read_value(cg, "memory", "memory.swap.max", &s->memory.swap.limit);
	each_pair(cg, "memory", "memory.events", pick_pair,
		  &(struct pick){ "max", &s->memory.memory.failcnt });
	each_pair(cg, "memory", "memory.events", pick_pair,
		  &(struct pick){ "oom_kill", &s->memory.oom_kills });
}

/* --- block devices --- */

static void add_io(struct rt_ios *to, uint64_t major, uint64_t minor, const char *op, uint64_t value)
{
	struct rt_io *io;

	to->v = xrealloc(to->v, to->n + 1, sizeof *to->v);
	io = &to->v[to->n++];
	*io = (struct rt_io){ .major = major, .minor = minor, .value = value };
	snprintf(io->op, sizeof io->op, "%s", op);
}

/* "8:0 Read 4096", and a last line "Total N". */
static bool read_io1(const struct cgroup *cg, const char *file, struct rt_ios *to)
{
	_cleanup_free_ char *text = read_text(cg, "blkio", file);

	for (char *save = NULL, *l = text ? strtok_r(text, "\n", &save) : NULL; l;
	     l = strtok_r(NULL, "\n", &save)) {
		unsigned long long major, minor, value;
		char op[12];

		if (sscanf(l, "%llu:%llu %11s %llu", &major, &minor, op, &value) == 4)
			add_io(to, major, minor, op, value);
	}
	return to->n > 0;
}

/* "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6" */
static void read_io2(const struct cgroup *cg, struct rt_stats *s)
{
	const struct { const char *key, *op; struct rt_ios *to; } keys[] = {
		{ "rbytes=", "read", &s->io.service_bytes }, { "wbytes=", "write", &s->io.service_bytes },
		{ "rios=", "read", &s->io.serviced }, { "wios=", "write", &s->io.serviced },
	};
	_cleanup_free_ char *text = read_text(cg, "io", "io.stat");

	for (char *save = NULL, *l = text ? strtok_r(text, "\n", &save) : NULL; l;
	     l = strtok_r(NULL, "\n", &save)) {
		_cleanup_strv_ char **words = strv_split(l, " ");
		unsigned long long major, minor;

		if (sscanf(l, "%llu:%llu ", &major, &minor) != 2)
			continue;
		for (char **w = words + 1; *w; w++)
			for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
				uint64_t v;

				if (str_starts(*w, keys[i].key) &&
				    str_to_u64(*w + strlen(keys[i].key), &v) == 0)
					add_io(keys[i].to, major, minor, keys[i].op, v);
			}
	}
}

static void read_io(const struct cgroup *cg, struct rt_stats *s)
{
	if (cg->unified) {
		read_io2(cg, s);
		return;
	}
	/* The scheduler in charge of the disk counts; without one, the throttling layer does. */
	if (!read_io1(cg, "blkio.bfq.io_service_bytes_recursive", &s->io.service_bytes))
		(void)read_io1(cg, "blkio.throttle.io_service_bytes_recursive", &s->io.service_bytes);
	if (!read_io1(cg, "blkio.bfq.io_serviced_recursive", &s->io.serviced))
		(void)read_io1(cg, "blkio.throttle.io_serviced_recursive", &s->io.serviced);
}

/* --- huge pages, pressure, interfaces --- */

static void read_hugetlb(const struct cgroup *cg, struct rt_stats *s)
{
	const char *end = cg->unified ? ".max" : ".limit_in_bytes";
	const struct cgroup_hier *h = cgroup_hier_of(cg, "hugetlb");
	_cleanup_free_ char *dir = h ? cgroup_file(cg, h, "") : NULL;
	DIR *d = dir ? opendir(dir) : NULL;
	struct dirent *de;

	while (d && (de = readdir(d))) {
		_cleanup_free_ char *size = NULL, *usage = NULL, *max = NULL, *failcnt = NULL;
		struct rt_hugetlb *t;

		if (!str_starts(de->d_name, "hugetlb.") || !str_ends(de->d_name, end) ||
		    strstr(de->d_name, ".rsvd."))
			continue;
		size = xstrndup(de->d_name + 8, strlen(de->d_name) - 8 - strlen(end));
		if (strchr(size, '.'))
			continue;
		usage = xasprintf("hugetlb.%s.%s", size, cg->unified ? "current" : "usage_in_bytes");
		max = xasprintf("hugetlb.%s.max_usage_in_bytes", size);
		failcnt = xasprintf("hugetlb.%s.failcnt", size);
		s->hugetlb = xrealloc(s->hugetlb, s->n_hugetlb + 1, sizeof *s->hugetlb);
		t = &s->hugetlb[s->n_hugetlb++];
		*t = (struct rt_hugetlb){ .page_size = TAKE_PTR(size) };
		read_value(cg, "hugetlb", usage, &t->u.usage);
		read_value(cg, "hugetlb", max, &t->u.max);
		read_value(cg, "hugetlb", failcnt, &t->u.failcnt);
		read_value(cg, "hugetlb", de->d_name, &t->u.limit);
	}
	if (d)
		closedir(d);
}

/* "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" */
static void read_psi(const struct cgroup *cg, const char *file, struct rt_psi *some, struct rt_psi *full)
{
	_cleanup_free_ char *text = cg->unified ? read_text(cg, "", file) : NULL;

	for (char *save = NULL, *l = text ? strtok_r(text, "\n", &save) : NULL; l;
	     l = strtok_r(NULL, "\n", &save)) {
		unsigned long long v[7];
		char kind[8];

		if (sscanf(l, "%7s avg10=%llu.%2llu avg60=%llu.%2llu avg300=%llu.%2llu total=%llu", kind,
			   &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6]) == 8)
			*(streq(kind, "full") ? full : some) = (struct rt_psi){
				v[0] * 100 + v[1], v[2] * 100 + v[3], v[4] * 100 + v[5], v[6],
			};
	}
}

/* The interfaces as seen through /proc/PID/net/dev: two lines of titles, then "eth0: 16 numbers". */
void cgroup_stats_net(pid_t pid, struct rt_stats *s)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/net/dev", pid), *text = NULL;

	if (fs_read(AT_FDCWD, path, 1 << 20, &text, NULL) < 0)
		return;
	for (char *save = NULL, *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		unsigned long long v[8];
		char name[32];

		if (sscanf(l, " %31[^:]: %llu %llu %llu %llu %*u %*u %*u %*u %llu %llu %llu %llu", name,
			   &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) != 9 ||
		    streq(name, "lo"))
			continue;
		s->net = xrealloc(s->net, s->n_net + 1, sizeof *s->net);
		s->net[s->n_net++] = (struct rt_netif){
			xstrdup(name), v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7],
		};
	}
}

void cgroup_stats(const struct cgroup *cg, struct rt_stats *ret)
{
	struct rt_stats s = { .pids.limit = UINT64_MAX };

	s.memory.memory.limit = s.memory.swap.limit = s.memory.kernel.limit = s.memory.kernel_tcp.limit =
		UINT64_MAX;
	read_cpu(cg, &s);
	read_memory(cg, &s);
	read_value(cg, "pids", "pids.current", &s.pids.current);
	read_value(cg, "pids", "pids.max", &s.pids.limit);
	read_io(cg, &s);
	read_hugetlb(cg, &s);
	read_psi(cg, "cpu.pressure", &s.cpu.psi_some, &s.cpu.psi_full);
	read_psi(cg, "memory.pressure", &s.memory.psi_some, &s.memory.psi_full);
	read_psi(cg, "io.pressure", &s.io.psi_some, &s.io.psi_full);
	*ret = s;
}

uint64_t rt_stats_memory(const struct rt_stats *s, const char *key)
{
	for (size_t i = 0; i < s->memory.n_stat; i++)
		if (streq(s->memory.stat[i].key, key))
			return s->memory.stat[i].value;
	return 0;
}

void rt_stats_done(struct rt_stats *s)
{
	free(s->cpu.percpu_ns);
	for (size_t i = 0; i < s->memory.n_stat; i++)
		free(s->memory.stat[i].key);
	free(s->memory.stat);
	free(s->io.service_bytes.v);
	free(s->io.serviced.v);
	for (size_t i = 0; i < s->n_hugetlb; i++)
		free(s->hugetlb[i].page_size);
	free(s->hugetlb);
	for (size_t i = 0; i < s->n_net; i++)
		free(s->net[i].name);
	free(s->net);
}
