#include "api/registry_auth.h"
#include "base/alloc.h"
#include "base/base64.h"
#include "base/strv.h"

#include <string.h>

struct json *registry_auth(const struct request *r)
{
	const char *header = http_header_get(&r->head, "X-Registry-Auth");
	_cleanup_free_ char *text = NULL;
	struct json *auth = NULL;
	size_t n;

	if (str_empty(header) || base64_url_decode(header, &text, &n) < 0 ||
	    json_parse(text, n, &auth, NULL) < 0)
		return NULL;
	if (json_type(auth) == JSON_OBJECT && json_len(auth))
		return auth;
	json_free(auth);
	return NULL;
}

void stream_line(struct request *r, bool *begun, const struct json *line)
{
	_cleanup_free_ char *text = json_dump(line), *full = xasprintf("%s\r\n", text);

	if (!*begun)
		resp_stream_begin(r, 200, "application/json");
	*begun = true;
	resp_stream_write(r, full, strlen(full));
}

void stream_status(struct request *r, bool *begun, const char *status)
{
	_cleanup_json_ struct json *o = json_object();

	json_set_str(o, "status", status);
	stream_line(r, begun, o);
}

void stream_fail(struct request *r, bool begun, const struct err *e)
{
	_cleanup_json_ struct json *o = NULL;

	if (!begun) {
		resp_error(r, e);
		return;
	}
	o = json_object();
	json_set_str(json_set(o, "errorDetail", json_object()), "message", err_text(e));
	json_set_str(o, "error", err_text(e));
	stream_line(r, &begun, o);
	resp_stream_end(r);
}
