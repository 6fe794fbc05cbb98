/* Carries bytes between a descriptor and a stream, as fast as the slower side takes them: both ways for a
 * socket, one way for a FIFO. The end of either direction is passed on (shutdown or close, STREAM_EOF); when
 * all have ended it is over. */
#pragma once

#include "proto/stream.h"

struct relay;

enum relay_way {
	RELAY_BOTH,		/* a socket */
	RELAY_FROM,		/* what is read from fd goes to the stream */
	RELAY_TO,		/* what comes from the stream is written to fd */
};

/* open, if fd is -EBADF (RELAY_TO only): makes it when there is something to be written. -EAGAIN: it cannot
 * be yet, relay_retry() asks again; any other error: nobody will take it. */
struct relay_end { int fd; enum relay_way way; int (*open)(void *userdata); void *userdata; };
#define RELAY_SOCKET(fd) (&(struct relay_end){ fd, RELAY_BOTH, NULL, NULL })

/* over runs once, from the loop, unless the relay is freed before. Takes the descriptor over. */
int relay_new(struct loop *l, struct streams *ss, uint32_t stream, const struct relay_end *end,
	      void (*over)(struct relay *r, void *userdata), void *userdata, struct relay **ret);
void relay_retry(struct relay *r);
/* Passes on now what can be read now, without waiting for the loop. */
void relay_pump(struct relay *r);
/* Whether nobody takes what is written to fd any more. */
bool relay_is_deaf(const struct relay *r);
/* Bytes that fd has taken. */
uint64_t relay_written(const struct relay *r);
/* Whether RELAY_TO has nothing open yet. */
bool relay_is_closed(const struct relay *r);
/* Whether the other side never had anything to relay, or takes no more. */
bool relay_was_refused(const struct relay *r);
/* RELAY_TO: what nobody writes at the other side is not waited for any more. */
void relay_leave(struct relay *r);
/* The stream has come to its end: writes what is left of it to a FIFO, waiting so long at most. */
void relay_finish(struct relay *r, int timeout_ms);
void relay_free(struct relay *r);
