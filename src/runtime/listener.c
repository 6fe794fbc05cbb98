/* Seccomp's notifications: the listener of a filter goes to the agent that the configuration names, with the
 * state of the process, as the specification has it (config-linux.md, "Container Process State"). */
#include "runtime/internal.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/sock.h"
#include "base/strv.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Whether somebody has bound the socket, without a connection that the agent would see: asked with the wrong
 * type, the kernel says EPROTOTYPE if there is one, and ECONNREFUSED if not. */
static int probe(const char *path)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	if (fd < 0)
		return -errno;
	if (strlen(path) >= sizeof a.sun_path)
		return -ENAMETOOLONG;
	memcpy(a.sun_path, path, strlen(path));
	if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
		return -EPROTOTYPE;
	return errno == EPROTOTYPE ? 0 : -errno;
}

int listener_check(const struct rt_container *c, struct err *e)
{
	int r;

	if (!seccomp_prog_notifies(&c->seccomp))
		return 0;
	if (str_empty(c->listener))
		return err_msg(e, ERR_INVALID, 0,
			       "linux.seccomp.listenerPath: must be set with SCMP_ACT_NOTIFY");
	r = probe(c->listener);
	return r < 0 ? err_set(e, ERR_SYSTEM, r, "linux.seccomp.listenerPath: '%s'", c->listener) : 0;
}

void listener_copy(struct rt_container *c, const struct json *profile)
{
	str_replace(&c->listener, json_get_str(profile, "listenerPath"));
	str_replace(&c->listener_metadata, json_get_str(profile, "listenerMetadata"));
}

int listener_send(const struct rt_container *c, pid_t pid, int listener, struct err *e)
{
	struct hook_state st = { c->id, pid == c->init.pid ? "created" : "running", c->bundle, c->init.pid,
				 c->annotations };
	_cleanup_json_ struct json *o = json_object();
	_cleanup_free_ char *text = NULL;
	_cleanup_close_ int fd = -EBADF;
	ssize_t n;

	json_set_str(o, "ociVersion", "1.2.0");
	json_add_str(json_set(o, "fds", json_array()), "seccompFd");
	json_set_int(o, "pid", pid);
	if (c->listener_metadata)
		json_set_str(o, "metadata", c->listener_metadata);
	json_set(o, "state", hook_state_json(&st));
	text = json_dump(o);
	fd = sock_connect_unix(c->listener);
	n = fd < 0 ? fd : sock_send_fds(fd, text, strlen(text), &listener, 1);
	if (n >= 0 && (size_t)n < strlen(text))
		n = fd_write_full(fd, text + n, strlen(text) - (size_t)n);
	return n < 0 ? err_set(e, ERR_SYSTEM, (int)n, "linux.seccomp.listenerPath: '%s'", c->listener) : 0;
}
