/* Theory of operation.
 *
 * Every source is one heap object; epoll's data pointer is the source. Freeing a source during a
 * round only marks it dead and takes it out of epoll: events of this round that already name it are
 * skipped, and the memory goes when the round is over. Signals share one signalfd; timers and
 * children have a descriptor each. Deferred calls run after the events of a round, those they defer
 * in turn run in the next one, so nobody can starve the descriptors. */
#include "base/loop.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/hash.h"

#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

enum source_kind { SRC_IO, SRC_TIMER, SRC_SIGNAL, SRC_CHILD, SRC_SIGNALFD };

struct loop_source {
	struct loop *loop;
	enum source_kind kind;
	int fd;			/* IO, CHILD: the caller's; TIMER: ours */
	int signo;
	uint32_t events;
	bool dead;
	void *userdata;
	union {
		loop_io_fn io;
		loop_timer_fn timer;
		loop_signal_fn signal;
		loop_child_fn child;
	} fn;
	struct list link;
};

struct deferred { loop_defer_fn fn; void *userdata; struct list link; };

struct loop {
	int epfd, sigfd;
	sigset_t sigs;
	bool running, exiting;
	int exit_code;
	struct list sources, graveyard, deferred;
	struct loop_source sig_source;
};

uint64_t now_mono_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t now_real_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

int loop_new(struct loop **ret)
{
	struct loop *l = new0(struct loop);

	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	l->sigfd = -EBADF;
	if (l->epfd < 0) {
		int r = -errno;

		free(l);
		return r;
	}
	sigemptyset(&l->sigs);
	list_init(&l->sources);
	list_init(&l->graveyard);
	list_init(&l->deferred);
	*ret = l;
	return 0;
}

static void bury(struct loop *l)
{
	list_for_each(s, &l->graveyard, struct loop_source, link) {
		list_remove(&s->link);
		free(s);
	}
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	list_for_each(s, &l->sources, struct loop_source, link)
		loop_source_free(s);
	bury(l);
	list_for_each(d, &l->deferred, struct deferred, link)
		free(d);
	fd_close(&l->sigfd);
	fd_close(&l->epfd);
	free(l);
}

static struct loop_source *source_new(struct loop *l, enum source_kind kind, int fd, void *userdata)
{
	struct loop_source *s = new0(struct loop_source);

	*s = (struct loop_source){ .loop = l, .kind = kind, .fd = fd, .userdata = userdata };
	list_append(&l->sources, &s->link);
	return s;
}

static int source_watch(struct loop_source *s, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = s };
	int op = !s->events ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;

	/* A silenced source leaves epoll, for epoll reports errors and hang-ups even with an empty mask. */
	if (events == s->events)
		return 0;
	if (epoll_ctl(s->loop->epfd, op, s->fd, &ev) < 0)
		return -errno;
	s->events = events;
	return 0;
}

static int source_finish(struct loop_source *s, int r, struct loop_source **ret)
{
	if (r < 0) {
		loop_source_free(s);
		return r;
	}
	if (ret)
		*ret = s;
	return 0;
}

int loop_add_io(struct loop *l, int fd, uint32_t events, loop_io_fn fn, void *userdata,
		struct loop_source **ret)
{
	struct loop_source *s = source_new(l, SRC_IO, fd, userdata);

	s->fn.io = fn;
	return source_finish(s, source_watch(s, events), ret);
}

int loop_io_set(struct loop_source *s, uint32_t events)
{
	return s->dead ? 0 : source_watch(s, events);
}

int loop_timer_set(struct loop_source *s, uint64_t delay_us, uint64_t period_us)
{
	struct itimerspec it = {
		.it_value = { (time_t)(delay_us / 1000000), (long)(delay_us % 1000000) * 1000 },
		.it_interval = { (time_t)(period_us / 1000000), (long)(period_us % 1000000) * 1000 },
	};

	return timerfd_settime(s->fd, 0, &it, NULL) < 0 ? -errno : 0;
}

int loop_add_timer(struct loop *l, uint64_t delay_us, uint64_t period_us, loop_timer_fn fn, void *userdata,
		   struct loop_source **ret)
{
	struct loop_source *s = source_new(l, SRC_TIMER, -EBADF, userdata);
	int r = 0;

	s->fn.timer = fn;
	s->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (s->fd < 0)
		r = -errno;
	if (r == 0)
		r = loop_timer_set(s, delay_us ? delay_us : 1, period_us);
	if (r == 0)
		r = source_watch(s, EPOLLIN);
	return source_finish(s, r, ret);
}

int loop_add_signal(struct loop *l, int signo, loop_signal_fn fn, void *userdata, struct loop_source **ret)
{
	struct loop_source *s = source_new(l, SRC_SIGNAL, -EBADF, userdata);
	int fd, r = 0;

	s->fn.signal = fn;
	s->signo = signo;
	sigaddset(&l->sigs, signo);
	if (sigprocmask(SIG_BLOCK, &l->sigs, NULL) < 0)
		r = -errno;
	fd = signalfd(l->sigfd >= 0 ? l->sigfd : -1, &l->sigs, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		r = -errno;
	else if (l->sigfd < 0) {
		l->sigfd = fd;
		l->sig_source = (struct loop_source){ .loop = l, .kind = SRC_SIGNALFD, .fd = fd };
		r = source_watch(&l->sig_source, EPOLLIN);
	}
	return source_finish(s, r, ret);
}

int loop_add_child(struct loop *l, int pidfd, loop_child_fn fn, void *userdata, struct loop_source **ret)
{
	struct loop_source *s = source_new(l, SRC_CHILD, pidfd, userdata);

	s->fn.child = fn;
	return source_finish(s, source_watch(s, EPOLLIN), ret);
}

void loop_defer(struct loop *l, loop_defer_fn fn, void *userdata)
{
	struct deferred *d = new0(struct deferred);

	d->fn = fn;
	d->userdata = userdata;
	list_append(&l->deferred, &d->link);
}

void loop_source_free(struct loop_source *s)
{
	if (!s || s->dead)
		return;
	s->dead = true;
	if (s->events && s->fd >= 0)
		(void)epoll_ctl(s->loop->epfd, EPOLL_CTL_DEL, s->fd, NULL);
	if (s->kind == SRC_TIMER)
		fd_close(&s->fd);
	list_remove(&s->link);
	list_append(&s->loop->graveyard, &s->link);
}

static void dispatch_signals(struct loop *l)
{
	struct signalfd_siginfo si;

	while (read(l->sigfd, &si, sizeof si) == sizeof si)
		list_for_each(s, &l->sources, struct loop_source, link)
			if (s->kind == SRC_SIGNAL && !s->dead && s->signo == (int)si.ssi_signo) {
				s->fn.signal(s, &si, s->userdata);
				break;
			}
}

static void dispatch_child(struct loop_source *s)
{
	siginfo_t si = { 0 };

	if (waitid(P_PIDFD, (id_t)s->fd, &si, WEXITED | WNOHANG) < 0) {
		/* Not our child (or reaped elsewhere): it is gone, its status unknown. */
		si.si_code = CLD_KILLED;
		si.si_status = SIGKILL;
	} else if (!si.si_pid) {
		return;
	}
	(void)source_watch(s, 0);
	s->fn.child(s, &si, s->userdata);
}

static void dispatch(struct loop_source *s, uint32_t events)
{
	uint64_t ticks;

	if (s->dead)
		return;
	switch (s->kind) {
	case SRC_IO:
		s->fn.io(s, s->fd, events, s->userdata);
		break;
	case SRC_TIMER:
		if (read(s->fd, &ticks, sizeof ticks) == sizeof ticks)
			s->fn.timer(s, s->userdata);
		break;
	case SRC_CHILD:
		dispatch_child(s);
		break;
	case SRC_SIGNALFD:
		dispatch_signals(s->loop);
		break;
	case SRC_SIGNAL:
		break;
	}
}

static void run_deferred(struct loop *l)
{
	struct list batch;

	if (list_empty(&l->deferred))
		return;
	batch = l->deferred;
	batch.next->prev = &batch;
	batch.prev->next = &batch;
	list_init(&l->deferred);
	for (struct deferred *d; (d = list_first(&batch, struct deferred, link));) {
		list_remove(&d->link);
		d->fn(d->userdata);
		free(d);
	}
}

int loop_run_once(struct loop *l, int timeout_ms)
{
	struct epoll_event ev[32];
	int n;

	if (!list_empty(&l->deferred))
		timeout_ms = 0;
	n = (int)RETRY(epoll_wait(l->epfd, ev, ARRAY_SIZE(ev), timeout_ms));
	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++)
		dispatch(ev[i].data.ptr, ev[i].events);
	run_deferred(l);
	bury(l);
	return 0;
}

int loop_run(struct loop *l)
{
	l->exiting = false;
	while (!l->exiting) {
		int r = loop_run_once(l, -1);

		if (r < 0)
			return r;
	}
	return l->exit_code;
}

void loop_exit(struct loop *l, int code)
{
	l->exiting = true;
	l->exit_code = code;
}
