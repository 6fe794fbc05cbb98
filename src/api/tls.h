/* tcp:// hosts: insula-tls listens there and lets clients with a certificate in (src/tls). */
#pragma once

#include "engine/config.h"

struct tls_gate;

/* Starts insula-tls and waits until it listens. NULL in *ret if no tcp:// host is configured. */
int tls_gate_start(const struct daemon_config *c, struct engine *e, struct tls_gate **ret, struct err *err);
/* Ends it, and with it the connections of its clients. */
void tls_gate_free(struct tls_gate *g);
