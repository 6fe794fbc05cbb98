/* attach with logs=1: what a container has written so far, for a connection that was taken over. */
#pragma once

#include "engine/container.h"

/* fd: all has been sent; -1: the client has left (fd is closed). */
typedef void (*history_fn)(void *userdata, int fd);
/* Sends the log of c as flags (ATTACH_STDOUT, ATTACH_STDERR, ATTACH_MUX) say. fd is non-blocking. */
void history_send(struct engine *e, struct container *c, int fd, uint32_t flags, history_fn done, void *ud);
