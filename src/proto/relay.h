/* Carries bytes both ways between a socket and a stream, as fast as the slower side takes them. The end of
 * either direction is passed on (shutdown, STREAM_EOF); when both have ended it is over. */
#pragma once

#include "proto/stream.h"

struct relay;

/* over runs once, from the loop, unless the relay is freed before. Takes fd over. */
int relay_new(struct loop *l, struct streams *ss, uint32_t stream, int fd,
	      void (*over)(struct relay *r, void *userdata), void *userdata, struct relay **ret);
void relay_free(struct relay *r);
