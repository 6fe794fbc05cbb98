/* Where the daemon listens. */
#pragma once

#include "engine/config.h"

/* The API socket: the one that the service manager passed (socket activation, *ret_activated), or a new one
 * with the configured mode and group (NULL = "insula" or "docker" if such a group exists, "" = none). */
int daemon_listen(const struct daemon_config *c, int *ret_fd, bool *ret_activated, struct err *e);
/* The socket of those who only watch (ro+unix://); -EBADF if none is configured. */
int daemon_listen_monitor(const struct daemon_config *c, int *ret_fd, struct err *e);
/* --docker-socket: a link for tools that look only there. What is somebody else's is left alone, with a
 * warning. */
void docker_socket_link(const struct daemon_config *c);
void docker_socket_unlink(const struct daemon_config *c);
