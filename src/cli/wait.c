#include "cli/stream.h"

#include "base/alloc.h"
#include "base/strv.h"

#include <string.h>

int wait_open(struct cli *c, const char *id, const char *condition, struct httpc **ret, struct err *e)
{
	_cleanup_free_ char *suffix = xasprintf("/wait?condition=%s", condition),
			    *url = url_path("/containers/", id, suffix);
	struct httpc_request req = { .method = "POST", .target = url };

	return api_open(c, &req, ret, NULL, e);
}

static int code_of(const struct json *j, int *ret_code, struct err *e)
{
	const char *error = json_get_str(json_get(j, "Error"), "Message");

	if (!str_empty(error))
		return err_msg(e, ERR_SYSTEM, 0, "Error waiting for container: %s", error);
	*ret_code = json_get_int(j, "StatusCode", 0);
	return 0;
}

/* The daemon went away while we waited; containers outlive it, so ask the next one. */
static int wait_again(struct cli *c, const char *id, int *ret_code, struct err *e)
{
	_cleanup_free_ char *url = url_path("/containers/", id, "/wait");

	for (int tries = 0;; tries++) {
		_cleanup_json_ struct json *j = NULL;

		err_clear(e);
		if (api_call(c, "POST", url, NULL, &j, e) >= 0)
			return code_of(j, ret_code, e);
		if (e->kind == ERR_NOT_FOUND || tries == 100)
			return err_wrap(e, -EIO, "Error waiting for container");
		usleep(100000);
	}
}

int wait_result(struct cli *c, struct httpc *w, const char *id, int *ret_code, struct err *e)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT_MAX(1u << 20);
	_cleanup_json_ struct json *j = NULL;
	int r = httpc_read_all(w, &b);

	if (r < 0 || b.len == 0)
		return wait_again(c, id, ret_code, e);
	r = json_parse(b.buf, b.len, &j, e);
	return r < 0 ? err_wrap(e, r, "Error waiting for container") : code_of(j, ret_code, e);
}

int start_error_code(const struct err *e)
{
	static const struct { const char *words; int code; } rules[] = {
		{ "executable file not found", 127 },
		{ "no such file or directory", 127 },
		{ "system cannot find the file specified", 127 },
		{ "permission denied", 126 },
		{ "is a directory", 126 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		if (strstr(err_text(e), rules[i].words))
			return rules[i].code;
	return 125;
}
