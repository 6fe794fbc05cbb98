#include "registry/registry.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/strv.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define REQUEST_MAX (1u << 20)

static const struct {
	const char *op;
	int (*run)(const struct json *request, struct err *e);
} operations[] = {
    {"pull", registry_pull},
    {"push", registry_push},
    {"lookup", registry_lookup},
    {"tags", registry_tags},
    {"login", registry_login},
};

static int read_request(struct json **ret, struct err *e)
{
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT_MAX(REQUEST_MAX);
	char chunk[4096];
	ssize_t n;

	while ((n = RETRY(read(FD_REQUEST, chunk, sizeof chunk))) > 0)
		sbuf_add(&b, chunk, (size_t)n);
	if (n < 0 || !sbuf_ok(&b))
		return err_msg(e, ERR_INVALID, -EBADMSG, "the request cannot be read");
	return json_parse(sbuf_str(&b), b.len, ret, e);
}

static int run(struct err *e)
{
	_cleanup_json_ struct json *request = NULL;
	int r = read_request(&request, e);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(operations); i++)
		if (streq(json_get_str(request, "op"), operations[i].op))
			return operations[i].run(request, e);
	return r < 0 ? r : err_msg(e, ERR_INVALID, -EINVAL, "the request names no operation");
}

int main(int argc, char **argv)
{
	_cleanup_err_ struct err e = ERR_INIT;
	struct json *o;
	int r;

	log_init("insula-registry", LOG_LVL_INFO);
	if (argc != 1) {
		fprintf(stderr, "insula-registry is started by insulad only\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	web_init();
	r = run(&e);
	if (r == 0)
		return 0;
	o = json_object();
	json_set_str(o, "op", "error");
	json_set_str(o, "error", err_text(&e));
	json_set_int(o, "kind", e.kind);
	link_send(o);
	return 1;
}
