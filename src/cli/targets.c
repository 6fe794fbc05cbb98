#include "cli/targets.h"

#include "base/alloc.h"
#include "base/strv.h"

#include <stdio.h>

enum { PARALLEL = 50 };

struct call {
	struct httpc *http;
	struct err err;
};

static void send_one(struct cli *c, struct call *call, const char *method, const char *url)
{
	struct httpc_request req = { .method = method, .target = url };
	int r = cli_connect(c, &call->http, &call->err);

	if (r < 0)
		return;
	r = httpc_send(call->http, &req);
	if (r < 0) {
		err_set(&call->err, ERR_SYSTEM, r, "error during connect: %s", c->host);
		httpc_free(TAKE_PTR(call->http));
	}
}

int targets_call(struct cli *c, char *const *names, const char *method, char *(*url)(const char *, void *),
		 void *userdata, unsigned flags)
{
	_cleanup_strv_ char **errors = NULL;
	int code = 0;

	while (*names) {
		struct call calls[PARALLEL] = {0};
		size_t n = MIN(strv_len(names), (size_t)PARALLEL);

		for (size_t i = 0; i < n; i++) {
			_cleanup_free_ char *target = url(names[i], userdata);

			send_one(c, &calls[i], method, target);
		}
		for (size_t i = 0; i < n; i++) {
			struct err *e = &calls[i].err;

			if (!e->kind && api_answer(c, calls[i].http, NULL, e) >= 0) {
				httpc_free(calls[i].http);
				printf("%s\n", names[i]);
			} else if (e->kind == ERR_NOT_FOUND && (flags & TARGETS_IGNORE_MISSING)) {
				fflush(stdout);
				fprintf(stderr, "%s\n", err_text(e));
			} else {
				strv_add(&errors, err_text(e));
				code = 1;
			}
			err_clear(e);
		}
		names += n;
	}
	fflush(stdout);
	for (char **p = errors; p && *p; p++)
		fprintf(stderr, "%s\n", *p);
	return code;
}
