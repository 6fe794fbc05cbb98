/* Byte streams with credit over a connection (the agent link): no stream can fill the link or the
 * peer's memory. Each side may send a stream at most STREAM_WINDOW bytes ahead of the peer's CREDITs. */
#pragma once

#include "proto/conn.h"

#define STREAM_WINDOW (128u << 10)

struct streams;		/* the streams of one connection */
struct stream;

struct stream_ops {
	/* n bytes arrived; they count as taken once the owner calls stream_taken (now or later). */
	void (*on_data)(struct stream *s, const void *p, size_t n, void *userdata);
	void (*on_eof)(struct stream *s, void *userdata);
	void (*on_writable)(struct stream *s,
			    void *userdata); /* credit came back after stream_write fell short */
	/* The peer takes no more of what we write; may be NULL. What it has yet to send still comes. */
	void (*on_stop)(struct stream *s, void *userdata);
};

int streams_new(struct conn *c, struct streams **ret);
void streams_free(struct streams *ss);		/* frees its streams, calls nothing */
/* To be called from conn_ops.on_frame for DATA, STREAM_EOF, STREAM_STOP, CREDIT. Unknown ids are ignored;
 * a peer that overruns its window gives -EPROTO: end the connection. */
int streams_frame(struct streams *ss, const struct frame *f);

int stream_open(struct streams *ss, uint32_t id, const struct stream_ops *ops, void *userdata,
		struct stream **ret);
void stream_free(struct stream *s);
size_t stream_write(struct stream *s, const void *p, size_t n);	/* bytes accepted, may be 0 */
void stream_eof(struct stream *s);
void stream_stop(struct stream *s);		/* tells the peer that nobody reads here any more */
void stream_taken(struct stream *s, size_t n);			/* gives n bytes of credit back to the peer */
