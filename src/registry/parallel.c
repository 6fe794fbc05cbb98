#include "registry/registry.h"

struct work {
	int (*fn)(void *ud, size_t i, struct web *w, struct err *e);
	void *ud;
	size_t n, next;
	pthread_mutex_t lock;
	int r;			/* of the first that failed */
	struct err e;
};

static bool take_one(struct work *q, size_t *ret)
{
	bool more;

	pthread_mutex_lock(&q->lock);
	more = q->r == 0 && q->next < q->n;
	if (more)
		*ret = q->next++;
	pthread_mutex_unlock(&q->lock);
	return more;
}

static void *worker(void *arg)
{
	struct work *q = arg;
	struct web *w = web_new();
	size_t i;

	while (take_one(q, &i)) {
		_cleanup_err_ struct err e = ERR_INIT;
		int r = q->fn(q->ud, i, w, &e);

		pthread_mutex_lock(&q->lock);
		if (r < 0 && q->r == 0) {
			q->r = r;
			err_move(&q->e, &e);
		}
		pthread_mutex_unlock(&q->lock);
	}
	web_free(w);
	return NULL;
}

int in_parallel(size_t n, int (*fn)(void *ud, size_t i, struct web *w, struct err *e), void *ud,
		struct err *e)
{
	struct work q = { .fn = fn, .ud = ud, .n = n, .lock = PTHREAD_MUTEX_INITIALIZER };
	pthread_t threads[PARALLEL];
	size_t started = 0;

	while (started < PARALLEL && started < n && pthread_create(&threads[started], NULL, worker, &q) == 0)
		started++;
	if (!started)
		worker(&q);
	for (size_t i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	if (q.r < 0)
		err_move(e, &q.e);
	return q.r;
}
