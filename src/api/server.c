#include "api/conn.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

static void on_sweep(struct loop_source *src, void *userdata);

const char *server_date(struct server *s)
{
	uint64_t now_s = now_real_ns() / 1000000000;

	if (now_s != s->date_s) {
		time_t t = (time_t)now_s;
		struct tm tm;

		gmtime_r(&t, &tm);
		strftime(s->date, sizeof s->date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
		s->date_s = now_s;
	}
	return s->date;
}

static void accept_set(struct server *s, bool on)
{
	if (s->stopping)
		on = false;
	if (s->accepting == on)
		return;
	s->accepting = on;
	list_for_each(l, &s->listeners, struct listener, link)
		(void)loop_io_set(l->io, on ? EPOLLIN : 0);
}

static void sweep_set(struct server *s, bool on)
{
	if (on && !s->sweep)
		(void)loop_add_timer(s->loop, CONN_SWEEP_US, CONN_SWEEP_US, on_sweep, s, &s->sweep);
	else if (!on && s->sweep)
		loop_source_free(TAKE_PTR(s->sweep));
}

/* Runs while there are connections, or while accepting is held up. */
static void on_sweep(struct loop_source *src, void *userdata)
{
	struct server *s = userdata;
	uint64_t now = now_mono_us();

	list_for_each(c, &s->conns, struct hconn, link)
		hconn_sweep(c, now);
	accept_set(s, s->n_conns < CONN_MAX + CONN_REFUSED_MAX);
	if (s->n_conns == 0) {
		sweep_set(s, false);
		malloc_trim(0);
	}
}

static void on_accept(struct loop_source *src, int fd, uint32_t events, void *userdata)
{
	struct listener *l = userdata;
	struct server *s = l->server;

	for (int i = 0; i < 16 && s->n_conns < CONN_MAX + CONN_REFUSED_MAX; i++) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		struct hconn *c;

		if (client < 0) {
			/* out of descriptors: the sweep tries again */
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
				log_warn("api: accept: %s", strerror(errno));
				accept_set(s, false);
				sweep_set(s, true);
			}
			return;
		}
		c = hconn_new(s, client, l->watch_only);
		sweep_set(s, true);
		if (c && s->n_conns > CONN_MAX) {
			hconn_refuse(c, 429, "too many connections");
			hconn_schedule(c);
		}
	}
	if (s->n_conns >= CONN_MAX + CONN_REFUSED_MAX)
		accept_set(s, false);
}

void server_conn_gone(struct server *s)
{
	if (s->n_conns < CONN_MAX + CONN_REFUSED_MAX)
		accept_set(s, true);
}

struct server *server_new(struct engine *e)
{
	struct server *s = new0(struct server);

	*s = (struct server){.engine = e, .loop = e->loop, .accepting = true, .refs = 1};
	list_init(&s->listeners);
	list_init(&s->conns);
	list_init(&s->ready);
	return s;
}

static void listener_free(struct listener *l)
{
	loop_source_free(l->io);
	fd_close(&l->fd);
	list_remove(&l->link);
	free(l);
}

int server_listen(struct server *s, int fd, bool watch_only)
{
	struct listener *l = new0(struct listener);
	int r = fd_set_nonblock(fd, true);

	*l = (struct listener){.server = s, .fd = fd, .watch_only = watch_only};
	if (r >= 0)
		r = loop_add_io(s->loop, fd, EPOLLIN, on_accept, l, &l->io);
	list_append(&s->listeners, &l->link);
	if (r < 0)
		listener_free(l);
	return r;
}

void server_stop(struct server *s)
{
	s->stopping = true;
	accept_set(s, false);
	list_for_each(c, &s->conns, struct hconn, link)
		if (c->state == CONN_HEAD && c->in.len == 0)
			hconn_close(c);
}

size_t server_busy(const struct server *s)
{
	return s->busy;
}

size_t server_connections(const struct server *s)
{
	return s->n_conns;
}

void server_unref(struct server *s)
{
	if (--s->refs == 0)
		free(s);
}

void server_free(struct server *s)
{
	if (!s)
		return;
	s->stopping = true;
	for (struct hconn *c; (c = list_first(&s->conns, struct hconn, link));)
		hconn_close(c);
	sweep_set(s, false);
	list_for_each(l, &s->listeners, struct listener, link)
		listener_free(l);
	server_unref(s);
}
