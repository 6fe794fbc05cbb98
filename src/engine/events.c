#include "engine/events.h"

#include "base/alloc.h"
#include "base/hash.h"
#include <inttypes.h>
#include <string.h>

#define EVENTS_KEPT 256		/* as moby keeps */

/* Kept as text: a tree takes several times the memory, and few events are ever replayed. */
struct stored { char *text; uint64_t time_ns; };

struct events {
	struct stored ring[EVENTS_KEPT];
	size_t next;			/* where the next one goes: the oldest */
	struct list listeners;
	unsigned emitting;		/* depth: listeners that leave meanwhile are only marked */
};

struct event_listener {
	struct list link;
	struct events *events;
	event_fn fn;			/* NULL = has left */
	void *userdata;
};

int events_open(struct engine *e)
{
	e->events = new0(struct events);
	list_init(&e->events->listeners);
	return 0;
}

void events_close(struct engine *e)
{
	struct events *ev = e->events;

	if (!ev)
		return;
	for (size_t i = 0; i < EVENTS_KEPT; i++)
		free(ev->ring[i].text);
	list_for_each(l, &ev->listeners, struct event_listener, link) {
		list_remove(&l->link);
		free(l);
	}
	free(ev);
	e->events = NULL;
}

/* Fields of API versions before 1.52 (status, id, from) come first, as moby writes them. */
static struct json *event_json(const char *type, const char *action, const char *actor_id,
			       struct json *attributes, uint64_t time_ns)
{
	bool container = !strcmp(type, "container"), image = !strcmp(type, "image");
	struct json *j = json_object(), *actor;

	if (!attributes)
		attributes = json_object();
	if (container || image) {
		json_set_str(j, "status", action);
		json_set_str(j, "id", actor_id);
	}
	if (container && json_get_str(attributes, "image"))
		json_set_str(j, "from", json_get_str(attributes, "image"));
	json_set_str(j, "Type", type);
	json_set_str(j, "Action", action);
	actor = json_set(j, "Actor", json_object());
	json_set_str(actor, "ID", actor_id);
	json_set(actor, "Attributes", attributes);
	json_set_str(j, "scope", "local");
	json_set_int(j, "time", (int64_t)(time_ns / 1000000000));
	json_set_int(j, "timeNano", (int64_t)time_ns);
	return j;
}

static void bury_listeners(struct events *ev)
{
	list_for_each(l, &ev->listeners, struct event_listener, link)
		if (!l->fn) {
			list_remove(&l->link);
			free(l);
		}
}

void event_emit(struct engine *e, const char *type, const char *action, const char *actor_id,
		struct json *attributes)
{
	struct events *ev = e->events;
	uint64_t now = now_real_ns();
	_cleanup_json_ struct json *j = event_json(type, action, actor_id, attributes, now);
	struct stored *slot = &ev->ring[ev->next];

	free(slot->text);
	*slot = (struct stored){json_dump(j), now};
	ev->next = (ev->next + 1) % EVENTS_KEPT;

	ev->emitting++;
	list_for_each(l, &ev->listeners, struct event_listener, link)
		if (l->fn)
			l->fn(l->userdata, j, now);
	if (--ev->emitting == 0)
		bury_listeners(ev);
}

void event_prune(struct engine *e, const char *type, uint64_t freed)
{
	_cleanup_free_ char *bytes = xasprintf("%" PRIu64, freed);
	struct json *a = json_object();

	json_set_str(a, "reclaimed", bytes);
	event_emit(e, type, "prune", "", a);
}

static void replay(struct events *ev, struct event_listener *l, uint64_t since_ns)
{
	for (size_t i = 0; i < EVENTS_KEPT && l->fn; i++) {
		const struct stored *s = &ev->ring[(ev->next + i) % EVENTS_KEPT];
		_cleanup_json_ struct json *j = NULL;

		if (s->text && s->time_ns >= since_ns && json_parse(s->text, strlen(s->text), &j, NULL) >= 0)
			l->fn(l->userdata, j, s->time_ns);
	}
}

struct event_listener *events_listen(struct engine *e, uint64_t since_ns, event_fn fn, void *ud)
{
	struct event_listener *l = new0(struct event_listener);

	*l = (struct event_listener){.events = e->events, .fn = fn, .userdata = ud};
	list_append(&e->events->listeners, &l->link);
	if (since_ns > 0) {
		e->events->emitting++;	/* fn may leave while it is called */
		replay(e->events, l, since_ns);
		e->events->emitting--;
	}
	return l;
}

void events_unlisten(struct event_listener *l)
{
	if (!l)
		return;
	l->fn = NULL;
	if (l->events->emitting == 0) {
		list_remove(&l->link);
		free(l);
	}
}
