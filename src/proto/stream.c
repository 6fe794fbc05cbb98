#include "proto/stream.h"
#include "base/alloc.h"
#include "base/hash.h"

#include <errno.h>

struct stream {
	struct streams *owner;
	struct list link;
	uint32_t id;
	const struct stream_ops *ops;
	void *userdata;
	size_t credit;		/* bytes we may still send */
	size_t window;		/* bytes the peer may still send */
	size_t untold;		/* taken, but not yet told to the peer */
	bool starved, eof_sent, eof_seen, stop_sent, stop_seen;
};

struct streams {
	struct conn *conn;
	struct list all;
};

int streams_new(struct conn *c, struct streams **ret)
{
	struct streams *ss = new0(struct streams);

	ss->conn = c;
	list_init(&ss->all);
	*ret = ss;
	return 0;
}

void streams_free(struct streams *ss)
{
	if (!ss)
		return;
	list_for_each(s, &ss->all, struct stream, link)
		stream_free(s);
	free(ss);
}

int stream_open(struct streams *ss, uint32_t id, const struct stream_ops *ops, void *userdata,
		struct stream **ret)
{
	struct stream *s;

	list_for_each(o, &ss->all, struct stream, link)
		if (o->id == id)
			return -EEXIST;
	s = new0(struct stream);
	*s = (struct stream){
	    .owner = ss,
	    .id = id,
	    .ops = ops,
	    .userdata = userdata,
	    .credit = STREAM_WINDOW,
	    .window = STREAM_WINDOW,
	};
	list_append(&ss->all, &s->link);
	*ret = s;
	return 0;
}

void stream_free(struct stream *s)
{
	if (!s)
		return;
	list_remove(&s->link);
	free(s);
}

size_t stream_write(struct stream *s, const void *p, size_t n)
{
	size_t sent = 0;

	if (s->eof_sent)
		return n;
	while (sent < n && s->credit) {
		size_t chunk = MIN(n - sent, s->credit);

		chunk = MIN(chunk, (size_t)FRAME_DATA_MAX);
		conn_send(s->owner->conn, MSG_DATA, 0, s->id, (const char *)p + sent, chunk, -1);
		s->credit -= chunk;
		sent += chunk;
	}
	s->starved = sent < n;
	return sent;
}

void stream_eof(struct stream *s)
{
	if (s->eof_sent)
		return;
	s->eof_sent = true;
	conn_send(s->owner->conn, MSG_STREAM_EOF, 0, s->id, NULL, 0, -1);
}

void stream_stop(struct stream *s)
{
	if (s->stop_sent)
		return;
	s->stop_sent = true;
	conn_send(s->owner->conn, MSG_STREAM_STOP, 0, s->id, NULL, 0, -1);
}

void stream_taken(struct stream *s, size_t n)
{
	struct msg_credit m;

	s->untold += n;
	/* Told in quarters of the window, not byte by byte. */
	if (s->untold < STREAM_WINDOW / 4)
		return;
	m = (struct msg_credit){ .bytes = (uint32_t)s->untold };
	s->window += s->untold;
	s->untold = 0;
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;

	msg_credit_encode(&m, &b);
	conn_send(s->owner->conn, MSG_CREDIT, 0, s->id, b.buf, b.len, -1);
}

static int on_credit(struct stream *s, const struct frame *f)
{
	struct msg_credit m;
	int r = msg_credit_decode(f->payload, f->len, &m);

	if (r < 0)
		return r;
	if (m.bytes > STREAM_WINDOW - s->credit)
		return -EPROTO;
	s->credit += m.bytes;
	if (s->starved) {
		s->starved = false;
		s->ops->on_writable(s, s->userdata);
	}
	return 0;
}

int streams_frame(struct streams *ss, const struct frame *f)
{
	struct stream *s = NULL;

	list_for_each(o, &ss->all, struct stream, link)
		if (o->id == f->stream) {
			s = o;
			break;
		}
	if (!s)
		return 0;
	switch (f->type) {
	case MSG_DATA:
		if (f->len > s->window || s->eof_seen)
			return -EPROTO;
		s->window -= f->len;
		if (f->len)
			s->ops->on_data(s, f->payload, f->len, s->userdata);
		return 0;
	case MSG_STREAM_EOF:
		if (!s->eof_seen) {
			s->eof_seen = true;
			s->ops->on_eof(s, s->userdata);
		}
		return 0;
	case MSG_STREAM_STOP:
		if (!s->stop_seen && s->ops->on_stop) {
			s->stop_seen = true;
			s->ops->on_stop(s, s->userdata);
		}
		return 0;
	case MSG_CREDIT:
		return on_credit(s, f);
	}
	return -EPROTO;
}
