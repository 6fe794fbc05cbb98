#include "registry/registry.h"
#include "base/alloc.h"
#include "base/sock.h"
#include "base/strv.h"

#include <errno.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int send_locked(struct json *message)
{
	_cleanup_free_ char *text = json_dump(message);
	ssize_t n = sock_send_fds(FD_LINK, text, strlen(text), NULL, 0);

	json_free(message);
	/* insulad has ended, or has no use for this any more. */
	if (n < 0)
		_exit(1);
	return 0;
}

void link_send(struct json *message)
{
	pthread_mutex_lock(&lock);
	(void)send_locked(message);
	pthread_mutex_unlock(&lock);
}

static struct json *new_message(const char *op)
{
	struct json *o = json_object();

	json_set_str(o, "op", op);
	return o;
}

int link_blob(const char *kind, const struct descriptor *d, struct json *extra, struct blob_slot *ret,
	      struct err *e)
{
	struct json *o = new_message("blob");
	_cleanup_json_ struct json *answer = NULL;
	char *buf = xmalloc(LINK_MESSAGE_MAX);
	struct json_iter it = { 0 };
	int fd = -EBADF, r = 0;
	size_t n_fds = 1;
	ssize_t n;

	json_set_str(o, "kind", kind);
	json_set_str(o, "digest", d->digest);
	json_set_str(o, "mediaType", d->media_type ?: "");
	json_set_int(o, "size", d->size);
	while (json_next(extra, &it))
		json_set(o, it.key, json_ref(it.value));
	json_free(extra);
	pthread_mutex_lock(&lock);
	send_locked(o);
	n = sock_recv_fds(FD_LINK, buf, LINK_MESSAGE_MAX, &fd, &n_fds);
	pthread_mutex_unlock(&lock);
	if (n <= 0)
		_exit(1);
	r = json_parse(buf, (size_t)n, &answer, e);
	free(buf);
	if (r == 0 && json_get_str(answer, "error"))
		r = err_msg(e, ERR_SYSTEM, -EIO, "%s", json_get_str(answer, "error"));
	*ret = (struct blob_slot){ n_fds ? fd : -EBADF, json_get_bool(answer, "have", false) };
	if (r == 0 && !n_fds && !ret->have)
		r = err_msg(e, ERR_SYSTEM, -EPROTO, "insulad gave no file for blob %s", d->digest);
	return r;
}

void link_done(const char *digest)
{
	struct json *o = new_message("done");

	json_set_str(o, "digest", digest);
	link_send(o);
}

void link_layers(void)
{
	link_send(new_message("layers"));
}

void link_status(const char *id, const char *status, int64_t current, int64_t total)
{
	struct json *o = new_message("status");

	if (id)
		json_set_str(o, "id", id);
	json_set_str(o, "status", status);
	if (total >= 0) {
		json_set_int(o, "current", current);
		json_set_int(o, "total", total);
	}
	link_send(o);
}
