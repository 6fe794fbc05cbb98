/* While layers are unpacked insula-registry may still be writing them. insulad says which are complete, a
 * line each, and closes the pipe when the registry's process has ended. */
#include "puller/puller.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/sbuf.h"

#include <pthread.h>
#include <string.h>

#define LINE (64 + 1)
#define LINES_MAX 1024		/* more blobs than a manifest may have */

struct arrivals {
	int fd;
	char **complete;
	bool over;
	pthread_mutex_t lock;
	pthread_cond_t change;
};

static void take_lines(struct arrivals *a, struct sbuf *b)
{
	pthread_mutex_lock(&a->lock);
	for (; b->len >= LINE && strv_len(a->complete) < LINES_MAX; sbuf_consume(b, LINE))
		strv_take(&a->complete, xstrndup(b->buf, LINE - 1));
	pthread_cond_broadcast(&a->change);
	pthread_mutex_unlock(&a->lock);
}

static void *reader(void *ud)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT_MAX(LINE * LINES_MAX);
	struct arrivals *a = ud;
	char chunk[4096];
	ssize_t n;

	while ((n = RETRY(read(a->fd, chunk, sizeof chunk))) > 0) {
		sbuf_add(&b, chunk, (size_t)n);
		take_lines(a, &b);
	}
	pthread_mutex_lock(&a->lock);
	a->over = true;
	pthread_cond_broadcast(&a->change);
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

struct arrivals *arrivals_new(int fd)
{
	struct arrivals *a = new0(struct arrivals);
	pthread_t t;

	*a = (struct arrivals){ .fd = fd, .lock = PTHREAD_MUTEX_INITIALIZER,
				.change = PTHREAD_COND_INITIALIZER };
	/* It lives as long as the process: nothing is freed under it. */
	if (pthread_create(&t, NULL, reader, a) != 0)
		abort();
	pthread_detach(t);
	return a;
}

bool arrivals_has(struct arrivals *a, const char *hex)
{
	bool has;

	pthread_mutex_lock(&a->lock);
	has = strv_has(a->complete, hex);
	pthread_mutex_unlock(&a->lock);
	return has;
}

bool arrivals_wait(struct arrivals *a, const char *hex)
{
	bool has;

	pthread_mutex_lock(&a->lock);
	while (!(has = strv_has(a->complete, hex)) && !a->over)
		pthread_cond_wait(&a->change, &a->lock);
	pthread_mutex_unlock(&a->lock);
	return has;
}

bool arrivals_over(struct arrivals *a)
{
	bool over;

	pthread_mutex_lock(&a->lock);
	over = a->over;
	pthread_mutex_unlock(&a->lock);
	return over;
}

void arrivals_wait_end(struct arrivals *a)
{
	pthread_mutex_lock(&a->lock);
	while (!a->over)
		pthread_cond_wait(&a->change, &a->lock);
	pthread_mutex_unlock(&a->lock);
}
