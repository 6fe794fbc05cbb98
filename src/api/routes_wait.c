/* POST /containers/{id}/wait. The head is sent at once: clients start the container only after they have read
 * it. */
#include "api/routes_containers.h"

#include "base/alloc.h"
#include "base/strv.h"
#include <stdio.h>
#include <string.h>

static void waited(void *ud, int exit_code)
{
	struct request *r = ud;
	char text[64];
	int n = snprintf(text, sizeof text, "{\"StatusCode\":%d}\n", exit_code);

	r->gone = NULL;
	resp_stream_write(r, text, (size_t)n);
	resp_stream_end(r);
}

static void on_gone(struct request *r)
{
	container_wait_cancel(r->userdata);
}

static const struct { const char *name; enum wait_condition cond;
} conditions[] = {
    {"", WAIT_NOT_RUNNING},
    {"not-running", WAIT_NOT_RUNNING},
    {"next-exit", WAIT_NEXT_EXIT},
    {"removed", WAIT_REMOVED},
};

void route_container_wait(struct request *r, struct engine *e)
{
	struct container *c = request_container(r, e);
	struct container_wait *w;
	const char *s;

	if (!c)
		return;
	s = http_query_get(&r->query, "condition") ?: "";
	for (size_t i = 0; i < ARRAY_SIZE(conditions); i++) {
		if (!streq(conditions[i].name, s))
			continue;
		resp_stream_begin(r, 200, "application/json");
		w = container_wait_add(c, conditions[i].cond, waited, r);
		if (w) {		/* else it has been answered */
			r->userdata = w;
			r->gone = on_gone;
		}
		return;
	}
	resp_errorf(r, ERR_INVALID, "invalid condition: \"%s\"", s);
}
