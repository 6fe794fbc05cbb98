#include "cli/progress.h"

#include "base/alloc.h"
#include "base/strv.h"
#include "cli/creds.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The screen line of id, counted from the bottom; a new one is added below. */
static size_t line_of(struct progress *p, const char *id)
{
	size_t n = strv_len(p->ids);

	for (size_t i = 0; i < n; i++)
		if (streq(p->ids[i], id))
			return n - i;
	strv_add(&p->ids, id);
	fprintf(p->out, "\n");
	return 1;
}

static void show(struct progress *p, const struct json *j, const char *id, const char *status)
{
	const char *bar = json_get_str(j, "progress");
	size_t up = 0;

	/* In a file or a pipe only states are shown, not their bars. */
	if (!p->tty && !str_empty(bar))
		return;
	if (p->tty && !str_empty(id) && json_get(j, "progressDetail")) {
		up = line_of(p, id);
		fprintf(p->out, "\033[%zuA\033[2K\r", up);
	} else {
		strv_free(TAKE_PTR(p->ids));
	}
	if (!str_empty(id))
		fprintf(p->out, "%s: ", id);
	fprintf(p->out, "%s%s%s", status, str_empty(bar) ? "" : " ", bar ?: "");
	if (up)
		fprintf(p->out, "\033[%zuB\r", up);
	else
		fprintf(p->out, "\n");
	fflush(p->out);
}

int progress_object(struct json *j, void *userdata, struct err *e)
{
	struct progress *p = userdata;
	const char *error = json_get_str(json_get(j, "errorDetail"), "message") ?: json_get_str(j, "error");
	const char *status = json_get_str(j, "status"), *stream = json_get_str(j, "stream");

	if (error)
		return err_msg(e, ERR_SYSTEM, -EIO, "%s", error);
	if (!p->out)
		return 0;
	if (stream) {
		fputs(stream, p->out);
		fflush(p->out);
	} else if (status) {
		show(p, j, json_get_str(j, "id"), status);
	}
	return 0;
}

void progress_done(struct progress *p)
{
	strv_free(p->ids);
}

int progress_post(struct cli *c, const char *target, const char *header, FILE *out, struct err *e)
{
	struct progress p = { .out = out, .tty = out && isatty(fileno(out)) };
	struct httpc_request req = {
		.method = "POST", .target = target, .content_type = "text/plain", .header = header };
	struct httpc *h;
	int r = api_open(c, &req, &h, NULL, e);

	if (r < 0)
		return r;
	r = api_objects(h, progress_object, &p, e);
	progress_done(&p);
	api_release(c, h);
	return r;
}

int progress_registry(struct cli *c, const char *target, const char *ref, FILE *out, struct err *e)
{
	_cleanup_free_ char *auth = creds_header(ref), *header = xasprintf("X-Registry-Auth: %s", auth);

	return progress_post(c, target, header, out, e);
}
