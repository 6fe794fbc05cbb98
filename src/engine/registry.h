/* insula-registry at work for the daemon: one process a call, spoken to over a socket (registry/registry.h
 * has the messages). What it says is a stranger's word. */
#pragma once

#include "engine/engine.h"
#include "oci/ref.h"

struct registry_call;
struct registry_ops {
	/* A blob, done or status message. A blob wants registry_reply. */
	void (*message)(void *ud, const struct json *m);
	/* Ends it, once. result: its last message. */
	void (*done)(void *ud, int r, const struct err *e, const struct json *result);
};

/* The request of an operation, with this daemon's settings and the client's credentials (may be NULL). */
struct json *registry_request(struct engine *e, const char *op, const struct ref *ref, const char *actions,
			      const struct json *auth);
int registry_call(struct engine *e, const struct json *request, const struct registry_ops *ops, void *ud,
		  struct registry_call **ret, struct err *err);
/* Answers a blob message: fd (borrowed) or, with fd < 0, {"have": true} or the error. */
void registry_reply(struct registry_call *c, int fd, const char *error);
/* Ends the process; done does not run. */
void registry_cancel(struct registry_call *c);
