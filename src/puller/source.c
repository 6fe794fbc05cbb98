/* The bytes of a layer, perhaps before the last of them is there: at the end of what lies in the file a
 * reader looks again in a moment, until it has been said that the file is complete. */
#include "puller/puller.h"
#include "base/fd.h"

#include <errno.h>
#include <poll.h>
#include <sys/stat.h>

#define MOMENT_MS 10

static bool complete(struct source *s)
{
	if (s->arrivals && !arrivals_has(s->arrivals, s->hex))
		return false;
	if (!s->told && s->complete)
		s->complete(s->ud);
	s->told = true;
	return true;
}

/* False if no more will come. */
static bool moment(struct source *s)
{
	if (arrivals_over(s->arrivals))
		return arrivals_has(s->arrivals, s->hex);
	(void)poll(NULL, 0, MOMENT_MS);
	return true;
}

ssize_t source_read(void *source, void *buf, size_t n)
{
	struct source *s = source;

	for (;;) {
		/* Asked first: what is complete now has no further byte after the read. */
		bool all = complete(s);
		ssize_t got = RETRY(read(s->fd, buf, n));

		if (got != 0 || all)
			return got < 0 ? -errno : got;
		if (!moment(s))
			return -EPIPE;
	}
}

void source_wait(struct source *s, size_t n)
{
	struct stat st;

	while (!complete(s) && fstat(s->fd, &st) == 0 && (uint64_t)st.st_size < n && moment(s))
		;
}
