#include "cli/upload.h"

#include "base/fd.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

int upload_open(const char *path, int *ret_fd, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r = -errno;

	if (fd < 0) {
		/* Go's texts are C's with a small letter. */
		const char *why = strerror(-r);

		return err_msg(e, ERR_INVALID, r, "open %s: %c%s", path, tolower((unsigned char)*why),
			       why + 1);
	}
	*ret_fd = fd;
	return 0;
}

static int send_all(struct httpc *h, int fd)
{
	static char buf[256 << 10];

	for (;;) {
		ssize_t n = RETRY(read(fd, buf, sizeof(buf)));
		int r;

		if (n < 0)
			return -errno;
		r = httpc_send_chunk(h, buf, n);
		if (r < 0 || n == 0)
			return r;
	}
}

int upload(struct cli *c, const char *target, int fd, struct progress *p, struct err *e)
{
	struct httpc_request req = {
		.method = "POST", .target = target, .content_type = "application/x-tar", .chunked = true,
	};
	struct httpc *h;
	int r = api_open(c, &req, &h, NULL, e);

	if (r < 0)
		return r;
	r = send_all(h, fd);
	/* A daemon that refuses closes early, but says why. */
	if (r < 0 && r != -EPIPE && r != -ECONNRESET) {
		httpc_free(h);
		return err_set(e, ERR_SYSTEM, r, "sending the archive");
	}
	r = api_answer(c, h, NULL, e);
	if (r < 0)
		return r;
	r = api_objects(h, progress_object, p, e);
	api_release(c, h);
	return r;
}
