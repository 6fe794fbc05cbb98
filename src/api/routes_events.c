#include "api/routes_events.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "base/timefmt.h"
#include "engine/events.h"
#include "engine/filters.h"
#include <stdio.h>
#include <string.h>

#define PENDING_MAX                                                                                          \
	(1u << 20) /* a listener that does not read loses its connection, not the daemon its memory */

struct stream {
	struct request *req;
	struct event_listener *listener;
	struct loop_source *timer;
	struct filters filters;
	uint64_t until_ns;	/* 0 = for ever */
	bool overrun;		/* the client has not read: it is cut off */
};

static void stream_free(struct stream *s)
{
	events_unlisten(s->listener);
	loop_source_free(s->timer);
	filters_done(&s->filters);
	free(s);
}

static void on_gone(struct request *r)
{
	stream_free(r->userdata);
}

static void stream_end(struct stream *s)
{
	struct request *r = s->req;
	bool overrun = s->overrun;

	stream_free(s);
	if (overrun)
		resp_stream_abort(r);
	else
		resp_stream_end(r);
}

static void on_until(struct loop_source *src, void *userdata)
{
	stream_end(userdata);
}

/* "busybox:1" -> "busybox"; a colon before the last slash belongs to a registry's port. */
static char *strip_tag(const char *ref)
{
	const char *slash = strrchr(ref, '/'), *colon = strchr(slash ? slash : ref, ':');

	return colon ? xstrndup(ref, (size_t)(colon - ref)) : xstrdup(ref);
}

static bool match_image(const struct filters *f, const struct json *ev, const char *id,
			const struct json *attributes)
{
	const char *key = streq(json_get_str(ev, "Type"), "image") ? "name" : "image";
	const char *name = json_get_str(attributes, key);
	_cleanup_free_ char *bare = name ? strip_tag(name) : NULL;

	if (!filters_has(f, "image"))
		return true;
	return filters_match(f, "image", id) || filters_match(f, "image", name) ||
	       filters_match(f, "image", bare);
}

/* The object that an event is about, by id (prefix) or name. */
static bool match_object(const struct filters *f, const char *type, const char *id, const char *name)
{
	return filters_match_prefix(f, type, id) || filters_match_prefix(f, type, name);
}

static bool match_event(const struct filters *f, const char *action)
{
	static const char *const families[] = {"health_status", "exec_create", "exec_start"};
	_cleanup_strv_ char **wanted = filters_values(f, "event");

	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		if (strv_has(wanted, families[i]))	/* "exec_start: sh" is asked for as exec_start */
			return filters_match_prefix(f, "event", action);
	return filters_match(f, "event", action);
}

static bool matches(const struct filters *f, const struct json *ev)
{
	static const char *const objects[] = {"container", "network", "volume", "plugin", "service",
					      "node",	   "secret",  "config", "daemon"};
	const struct json *actor = json_get(ev, "Actor"), *attributes = json_get(actor, "Attributes");
	const char *id = json_get_str(actor, "ID"), *name = json_get_str(attributes, "name");

	for (size_t i = 0; i < ARRAY_SIZE(objects); i++)
		if (!match_object(f, objects[i], id, name))
			return false;
	return match_event(f, json_get_str(ev, "Action")) &&
	       filters_match(f, "type", json_get_str(ev, "Type")) &&
	       filters_match(f, "scope", json_get_str(ev, "scope")) && match_image(f, ev, id, attributes) &&
	       filters_match_labels(f, "label", attributes);
}

static void on_event(void *userdata, const struct json *event, uint64_t time_ns)
{
	struct stream *s = userdata;
	_cleanup_free_ char *text = NULL;
	_cleanup_sbuf_ struct sbuf line = SBUF_INIT;

	if (s->overrun || (s->until_ns && time_ns > s->until_ns) || !matches(&s->filters, event))
		return;
	if (resp_stream_pending(s->req) > PENDING_MAX) {
		s->overrun = true;	/* the timer ends it: the listener may be inside events_listen */
		if (s->timer)
			(void)loop_timer_set(s->timer, 1, 0);
		else
			(void)loop_add_timer(s->req->engine->loop, 1, 0, on_until, s, &s->timer);
		return;
	}
	text = json_dump(event);
	sbuf_puts(&line, text);
	sbuf_putc(&line, '\n');
	resp_stream_write(s->req, line.buf, line.len);
}

/* Zero for an absent time. */
static int time_param(struct request *r, const char *key, uint64_t *ret, struct err *e)
{
	const char *v = http_query_get(&r->query, key);

	*ret = 0;
	if (str_empty(v) || streq(v, "0"))
		return 0;
	if (time_parse_since(v, now_real_ns(), ret) < 0)
		return err_set(e, ERR_INVALID, 0,
			       "invalid value for \"%s\": failed to parse value as time or duration: \"%s\"",
			       key, v);
	return 0;
}

void route_events(struct request *r, struct engine *e)
{
	static const char *const allowed[] = {"config", "container", "daemon", "event",  "image",
					      "label",  "network",   "node",   "plugin", "scope",
					      "secret", "service",   "type",   "volume", NULL};
	_cleanup_filters_ struct filters f = {0};
	_cleanup_err_ struct err err = ERR_INIT;
	uint64_t since, until, now = now_real_ns();
	struct stream *s;

	if (time_param(r, "since", &since, &err) < 0 || time_param(r, "until", &until, &err) < 0 ||
	    filters_parse(http_query_get(&r->query, "filters"), allowed, &f, &err) < 0) {
		resp_error(r, &err);
		return;
	}
	if (since && until && until < since) {
		resp_errorf(r, ERR_INVALID, "until time (%llu) cannot be before since time (%llu)",
			    (unsigned long long)(until / 1000000000),
			    (unsigned long long)(since / 1000000000));
		return;
	}
	s = new0(struct stream);
	*s = (struct stream){.req = r, .filters = f, .until_ns = until};
	f.keys = NULL;
	r->gone = on_gone;
	r->userdata = s;
	/* the head goes out before the first event: clients wait for it */
	resp_stream_begin(r, 200, "application/json");
	s->listener = events_listen(e, since, on_event, s);
	if (until && until <= now)
		stream_end(s);
	else if (until && !s->timer)
		(void)loop_add_timer(e->loop, (until - now) / 1000, 0, on_until, s, &s->timer);
}
