/* The guest's memory, as far as the host has a say in it.
 *
 * A machine begins with its base, and gets more when little is left (vm/memory.c). Nobody watches the clock
 * for that: all containers together may use what there is but for a reserve (memory.high of their group). At
 * that line the kernel drops what is cache, tells us, and makes who goes on allocating wait, the longer the
 * further beyond the line. So what is faster than the host does not meet the OOM killer, and an idle machine
 * stays asleep. Once all has come that may come, there is no line.
 *
 * Once memory has come the host hears of it once a second, if something has changed: it takes back what was
 * freed. */
#include "agent/agent.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define MB (1ull << 20)
#define BLOCK (128 * MB)		/* in which the kernel takes memory in */
#define PAGE 4096ull
#define BIND_DELAY_US 200000
#define TICK_US 1000000
#define TICK_WANTED_US 100000
#define PATIENCE (30 * 1000000 / TICK_WANTED_US)
#define CHANGE (16 * MB)		/* less is not worth telling */
#define CONTAINERS "/sys/fs/cgroup/insula/"

struct memory {
	uint64_t base, own;		/* of all there is at boot, what the machine itself uses */
	uint64_t line;			/* of the containers; UINT64_MAX = none */
	uint64_t most;
	bool expected, now, bound;
	unsigned waited;		/* ticks for more that did not come */
	struct msg_memory told;
	int events_fd;
	struct loop_source *events, *timer;
};

/* What is kept for the time until more has come. */
static uint64_t reserve(uint64_t total)
{
	return MAX(128 * MB, total / 8);
}

static int read_total(uint64_t *ret_total, uint64_t *ret_free, uint64_t *ret_available)
{
	_cleanup_free_ char *text = NULL;
	unsigned long long total, unused, available;
	int r = fs_read(AT_FDCWD, "/proc/meminfo", 4096, &text, NULL);

	if (r == 0 && sscanf(text, "MemTotal: %llu kB MemFree: %llu kB MemAvailable: %llu kB", &total,
			     &unused, &available) != 3)
		r = -EBADMSG;
	if (r < 0)
		return r;
	*ret_total = (uint64_t)total << 10;
	*ret_free = (uint64_t)unused << 10;
	*ret_available = (uint64_t)available << 10;
	return 0;
}

static uint64_t zone_pages(const char *zone, const char *word)
{
	const char *p = strstr(zone, word);

	return p ? strtoull(p + strlen(word), NULL, 10) : 0;
}

/* What has come is a zone of its own, which nothing that cannot be moved is in. */
static void read_zone(struct msg_memory *m)
{
	_cleanup_free_ char *text = NULL;
	const char *zone;
	uint64_t managed, unused;

	if (fs_read(AT_FDCWD, "/proc/zoneinfo", 1 << 20, &text, NULL) < 0 ||
	    !(zone = strstr(text, "zone  Movable")))
		return;
	managed = zone_pages(zone, "\n        managed ");
	unused = zone_pages(zone, "\n  pages free     ");
	m->come = managed * PAGE;
	m->used = (managed - MIN(unused, managed)) * PAGE;
}

static void draw_line(struct memory *y, const struct msg_memory *m)
{
	uint64_t total = y->base + m->come;
	uint64_t kept = y->own + m->come / 64 /* its page structures */ + reserve(total);
	_cleanup_free_ char *text = NULL;
	uint64_t line = total - MIN(kept, total / 2);

	if (m->come + BLOCK > y->most || y->waited >= PATIENCE)
		line = UINT64_MAX;
	if (line == y->line)
		return;
	y->line = line;
	text = line == UINT64_MAX ? xstrdup("max") : xasprintf("%llu", (unsigned long long)line);
	if (fs_write(AT_FDCWD, CONTAINERS "memory.high", text) < 0)
		log_warn("the containers' memory is not held at %s", text);
}

static bool changed(uint64_t a, uint64_t b)
{
	return (a > b ? a - b : b - a) >= CHANGE;
}

static void tell(struct agent *a, const struct msg_memory *m)
{
	struct msg_memory *told = &a->memory->told;

	if (!a->greeted || (!m->wanted && !changed(m->come, told->come) && !changed(m->used, told->used) &&
			    !changed(m->spare, told->spare)))
		return;
	*told = *m;
	CONN_EVENT(a->conn, MEMORY, memory, m);
}

/* Not before it is needed, or the container has started: it takes the processor for a while. */
static void bind_device(struct memory *y)
{
	if (!y->bound)
		guest_bind(VIRTIO_ID_MEM);
	y->bound = true;
}

static void look(struct agent *a)
{
	struct memory *y = a->memory;
	struct msg_memory m = { 0 };
	uint64_t total, unused, available, keep;

	if (read_total(&total, &unused, &available) < 0)
		return;
	if (y->bound)
		read_zone(&m);
	keep = reserve(total);
	m.spare = unused - MIN(2 * keep, unused);
	m.wanted = m.come + BLOCK <= y->most && available < keep + keep / 2;
	y->waited = m.wanted && m.come <= y->told.come ? y->waited + 1 : 0;
	draw_line(y, &m);
	if (m.wanted)
		bind_device(y);
	tell(a, &m);
	if (y->bound)
		loop_timer_set(y->timer, m.wanted && y->waited < PATIENCE ? TICK_WANTED_US : TICK_US, 0);
}

static void on_timer(struct loop_source *s, void *userdata)
{
	struct agent *a = userdata;
	struct memory *y = a->memory;

	if (y->events)
		(void)loop_io_set(y->events, EPOLLPRI);
	if (y->now)
		bind_device(y);
	look(a);
}

/* The containers are at the line, or something else has happened to their memory. */
static void on_event(struct loop_source *s, int fd, uint32_t events, void *userdata)
{
	char text[512];
	struct agent *a = userdata;

	if (pread(fd, text, sizeof text, 0) < 0)	/* what has been read is no event any more */
		return;
	(void)loop_io_set(s, 0);	/* no more of them than of looks */
	loop_timer_set(a->memory->timer, TICK_US, 0);
	look(a);
}

int memory_init(struct agent *a)
{
	struct memory *y = a->memory = new0(struct memory);
	uint64_t unused, available;
	char text[512];
	int r = read_total(&y->base, &unused, &available);

	if (r < 0)
		return r;
	*y = (struct memory){ .base = y->base, .own = y->base - MIN(available, y->base), .most = UINT64_MAX };
	draw_line(y, &(struct msg_memory){ 0 });
	r = loop_add_timer(a->loop, 0, 0, on_timer, a, &y->timer);
	if (r < 0)
		return r;
	(void)loop_timer_set(y->timer, 0, 0);
	y->events_fd = open(CONTAINERS "memory.events", O_RDONLY | O_CLOEXEC);
	if (y->events_fd < 0)
		return 0;	/* a kernel that does not account for memory */
	/* One that was never read is an event. */
	(void)!pread(y->events_fd, text, sizeof text, 0);
	return loop_add_io(a->loop, y->events_fd, EPOLLPRI, on_event, a, &y->events);
}

void memory_expect(struct agent *a, uint64_t most, bool now)
{
	struct memory *y = a->memory;

	if (y->expected)
		return;
	y->expected = true;
	y->most = most;
	y->now = now;
	draw_line(y, &(struct msg_memory){ 0 });
	if (now)
		loop_timer_set(y->timer, BIND_DELAY_US, 0);
}
