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
	(void)loop_io_set(s->listen_io, on ? EPOLLIN : 0);
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
	accept_set(s, s->n_conns < CONN_MAX);
	if (s->n_conns == 0) {
		sweep_set(s, false);
		malloc_trim(0);
	}
}

static void on_accept(struct loop_source *src, int fd, uint32_t events, void *userdata)
{
	struct server *s = userdata;

	for (int i = 0; i < 16 && s->n_conns < CONN_MAX; i++) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (client < 0) {
			/* out of descriptors: the sweep tries again */
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
				log_warn("api: accept: %s", strerror(errno));
				accept_set(s, false);
				sweep_set(s, true);
			}
			return;
		}
		hconn_new(s, client);
		sweep_set(s, true);
	}
	if (s->n_conns >= CONN_MAX)
		accept_set(s, false);
}

void server_conn_gone(struct server *s)
{
	if (s->n_conns < CONN_MAX)
		accept_set(s, true);
}

int server_new(struct engine *e, int listen_fd, struct server **ret)
{
	struct server *s = new0(struct server);
	int r;

	*s = (struct server){
	    .engine = e, .loop = e->loop, .listen_fd = listen_fd, .accepting = true, .refs = 1};
	list_init(&s->conns);
	list_init(&s->ready);
	r = fd_set_nonblock(listen_fd, true);
	if (r >= 0)
		r = loop_add_io(s->loop, listen_fd, EPOLLIN, on_accept, s, &s->listen_io);
	if (r < 0) {
		free(s);
		return r;
	}
	*ret = s;
	return 0;
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
	loop_source_free(TAKE_PTR(s->listen_io));
	fd_close(&s->listen_fd);
	server_unref(s);
}
