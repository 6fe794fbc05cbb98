/* Sockets of published ports. What reaches a published port of the host is led to the container by the
 * daemon's nft maps; the supervisor binds the port, so that no other program takes it, and carries by
 * itself what the maps do not see: all of IPv6 (::1 and the host's addresses). */
#pragma once

#include "base/err.h"
#include "base/loop.h"
#include "proto/msg.h"

#include <netinet/in.h>

struct ports;

/* Binds what m asks for, all or nothing. A second call changes where the ports lead to, nothing else; to ""
 * means that they are given up. *p is made by the first call. ret_cells: proto, host address, host port,
 * container port of each socket; heap. -EADDRINUSE, in Docker's words, if a port is taken. */
int ports_publish(struct loop *l, struct ports **p, const struct msg_publish *m, char ***ret_cells,
		  struct err *e);
/* Closes the sockets and what runs through them; NULL is fine. */
void ports_free(struct ports *p);

/* --- port_relay.c: connections to the container, for one bound socket --- */

struct port_relay;

/* fd listens (stream) or is bound (datagrams), non-blocking; it is borrowed. target may change. */
int port_relay_new(struct loop *l, int fd, bool stream, const struct sockaddr_in *target,
		   struct port_relay **ret);
void port_relay_free(struct port_relay *r);
