/* Connections of TLS clients to the daemon's socket. */
#pragma once

#include "base/hash.h"
#include "base/loop.h"
#include "lib/tls.h"

#define RELAYS_MAX 512			/* half of what insulad takes */

struct gate {
	struct loop *loop;
	struct tls_server *tls;
	const char *socket;		/* of the daemon */
	struct list relays;
	size_t n_relays;
};

/* Takes fd, a client's connection, over. */
void relay_new(struct gate *g, int fd, const char *from);
/* Ends those whose handshake takes too long. */
void relays_sweep(struct gate *g);
