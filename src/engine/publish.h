/* Publishing the ports of running containers, see publish.c. */
#pragma once

#include "base/sbuf.h"
#include "engine/container.h"

/* Watches our table, so that it comes back when somebody flushes all rules. */
int publish_open(struct engine *e, struct err *err);
void publish_close(struct engine *e);
struct nft *publish_nft(struct engine *e);	/* the daemon's socket; NULL on a kernel without nf_tables */
/* Adoption is over: rules and maps become what the running containers need. */
void publish_adopt(struct engine *e);
/* Binds and publishes the ports of c: they lead to the interface that has the default route; without one
 * nothing is published. Returns 1 if there is nothing to do, 0 if done will run. Its supervisor is
 * connected. */
int publish_start(struct container *c, const struct nics *nics, engine_done_fn done, void *ud,
		  struct err *err);
/* The same while c runs and its interfaces have become these: if the default route has gone elsewhere the
 * ports follow it. */
int publish_follow(struct container *c, const struct nics *nics, engine_done_fn done, void *ud,
		   struct err *err);
/* Takes them back: no more connections reach c. Its supervisor closes the sockets. Any number of times. */
void publish_stop(struct container *c);
/* Makes the maps what the running containers are. Called when rules were loaded. */
void publish_sync(struct engine *e);
bool publish_any(const struct engine *e);	/* a running container has published ports */
/* Maps of our tables, keyed by protocol . address . port, and by protocol . port. */
#define PUBLISH_MAP_AT "ports_at"
#define PUBLISH_MAP_ANY "ports_any"
/* 127.0.0.1 can lead to containers of the bridge; not before its rules are loaded. */
void publish_bridge_open(const char *bridge);
