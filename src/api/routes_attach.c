/* POST /containers/{id}/attach: the client's connection goes to the container's supervisor. */
#include "api/routes_containers.h"

#include "api/history.h"
#include "base/alloc.h"
#include "base/strv.h"
#include "base/tty.h"
#include <string.h>

#define DEFAULT_KEYS "ctrl-p,ctrl-q"

struct attaching {
	struct engine *engine;
	struct container *c;		/* referenced */
	bool stream, logs;
	uint32_t flags;
	unsigned char keys[16];
	size_t n_keys;
	struct bytes preread;		/* what came with the head, while the log is sent */
};

static void attach(void *ud, int fd)
{
	struct attaching *a = ud;
	const struct attach_args args = {
	    .fd = fd,
	    .preread = a->preread.p,
	    .n_preread = a->preread.n,
	    .flags = a->flags,
	    .keys = a->keys,
	    .n_keys = a->n_keys,
	};

	if (a->stream && fd >= 0)
		container_attach(a->c, &args);
	else if (fd >= 0)
		close(fd);
	container_unref(a->c);
	free(a->preread.p);
	free(a);
}

static void hijacked(void *ud, int fd, const void *preread, size_t n)
{
	struct attaching *a = ud;

	a->preread = (struct bytes){xmemdup(preread, n), n};
	if (a->logs && fd >= 0)
		history_send(a->engine, a->c, fd, a->flags, attach, a);
	else
		attach(a, fd);
}

void route_container_attach(struct request *r, struct engine *e)
{
	static const struct { const char *key; uint32_t flag; } streams[] = {
		{"stdin", ATTACH_STDIN}, {"stdout", ATTACH_STDOUT}, {"stderr", ATTACH_STDERR},
	};
	struct container *c = request_container(r, e);
	struct attaching *a;
	const char *keys;

	if (!c)
		return;
	keys = http_query_get(&r->query, "detachKeys");
	a = new0(struct attaching);
	if (tty_parse_detach_keys(str_empty(keys) ? DEFAULT_KEYS : keys, a->keys, &a->n_keys) < 0) {
		resp_errorf(r, ERR_INVALID, "Invalid detach keys (%s) provided", keys);
		free(a);
		return;
	}
	a->engine = e;
	a->c = container_ref(c);
	a->logs = http_query_bool(&r->query, "logs", false);
	a->stream = http_query_bool(&r->query, "stream", false);
	a->flags = container_tty(c) ? 0 : ATTACH_MUX;
	for (size_t i = 0; i < ARRAY_SIZE(streams); i++)
		if (http_query_bool(&r->query, streams[i].key, false))
			a->flags |= streams[i].flag;
	resp_hijack(r, !container_tty(c), hijacked, a);
}
