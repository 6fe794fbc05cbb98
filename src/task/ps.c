/* Processes as rows of text, read from /proc: the same in the host and in the guest, so `top` looks
 * the same whichever wall a container has. */
#include "task/local_task.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/strv.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

struct stat_line { char state; int ppid, tty, nice; unsigned long long utime, stime, start, vsz; long rss; };

/* The fields of /proc/PID/stat after the command, which may itself contain ") ". */
static int parse_stat(char *text, struct stat_line *s)
{
	char *p = strrchr(text, ')');
	int n;

	if (!p)
		return -EINVAL;
	n = sscanf(p + 1,
		   " %c %d %*d %*d %d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %d %*d %*d %llu %llu %ld",
		   &s->state, &s->ppid, &s->tty, &s->utime, &s->stime, &s->nice, &s->start, &s->vsz, &s->rss);
	return n == 9 ? 0 : -EINVAL;
}

static uint64_t boot_time(void)
{
	_cleanup_free_ char *text = NULL;
	const char *p;
	unsigned long long t = 0;

	if (fs_read(AT_FDCWD, "/proc/stat", 1 << 20, &text, NULL) == 0 && (p = strstr(text, "\nbtime ")))
		(void)sscanf(p, "\nbtime %llu", &t);
	return t;
}

static char *command_line(int dir, const char *comm)
{
	_cleanup_free_ char *raw = NULL;
	size_t n = 0;

	if (fs_read(dir, "cmdline", 1 << 20, &raw, &n) < 0 || !n)
		return xasprintf("[%s]", comm);
	for (size_t i = 0; i + 1 < n; i++)
		if (!raw[i] || raw[i] == '\n')
			raw[i] = ' ';
	return TAKE_PTR(raw);
}

static int add_row(char ***rows, pid_t pid, uint64_t boot)
{
	char path[32];
	_cleanup_close_ int dir = -EBADF;
	_cleanup_free_ char *text = NULL, *comm = NULL, *status = NULL, *args = NULL;
	struct stat_line s;
	unsigned uid = 0, gid = 0;
	long hz = sysconf(_SC_CLK_TCK), page = sysconf(_SC_PAGESIZE) / 1024;
	const char *p;
	int r;

	snprintf(path, sizeof path, "/proc/%d", pid);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	r = fs_read(dir, "stat", 8192, &text, NULL);
	if (r == 0)
		r = parse_stat(text, &s);
	if (r == 0)
		r = fs_read_line(dir, "comm", &comm);
	if (r == 0)
		r = fs_read(dir, "status", 65536, &status, NULL);
	if (r < 0)
		return r;
	if ((p = strstr(status, "\nUid:")))
		(void)sscanf(p, "\nUid: %*u %u", &uid);
	if ((p = strstr(status, "\nGid:")))
		(void)sscanf(p, "\nGid: %*u %u", &gid);
	args = command_line(dir, comm);
	strv_addf(rows, "%d", pid);
	strv_addf(rows, "%d", s.ppid);
	strv_addf(rows, "%u", uid);
	strv_addf(rows, "%u", gid);
	strv_addf(rows, "%c", s.state);
	strv_addf(rows, "%d", s.tty);
	strv_addf(rows, "%llu", (unsigned long long)(boot + s.start / (unsigned long long)hz));
	strv_addf(rows, "%llu", (s.utime + s.stime) * 1000 / (unsigned long long)hz);
	strv_addf(rows, "%llu", s.vsz / 1024);
	strv_addf(rows, "%ld", s.rss * page);
	strv_addf(rows, "%d", s.nice);
	strv_add(rows, comm);
	strv_add(rows, args);
	return 0;
}

static int by_pid(const void *a, const void *b)
{
	return *(const pid_t *)a < *(const pid_t *)b ? -1 : 1;
}

char **ps_rows(const pid_t *pids, size_t n)
{
	_cleanup_free_ pid_t *sorted = xmemdup(pids, n * sizeof *pids);
	uint64_t boot = boot_time();
	char **rows = NULL;

	qsort(sorted, n, sizeof *sorted, by_pid);
	for (size_t i = 0; i < n; i++)
		(void)add_row(&rows, sorted[i], boot);
	return rows;
}
