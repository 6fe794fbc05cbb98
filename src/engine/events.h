/* Events: a ring of the last ones and listeners (GET /events). */
#pragma once

#include "engine/engine.h"

int events_open(struct engine *e);
void events_close(struct engine *e);
/* type "container", "image", ...; attributes: object of strings, taken over, may be NULL. */
void event_emit(struct engine *e, const char *type, const char *action, const char *actor_id,
		struct json *attributes);

/* Objects of a type were pruned. */
void event_prune(struct engine *e, const char *type, uint64_t freed);

typedef void (*event_fn)(void *userdata, const struct json *event, uint64_t time_ns);
struct event_listener;
/* Replays stored events since since_ns (0 = none), then calls fn for each new one. */
struct event_listener *events_listen(struct engine *e, uint64_t since_ns, event_fn fn, void *ud);
void events_unlisten(struct event_listener *l);
