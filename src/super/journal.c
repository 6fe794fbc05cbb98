#include "super/journal.h"

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/macro.h"
#include "base/sbuf.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define PRIORITY_ERR 3
#define PRIORITY_INFO 6

struct journal {
	int fd;
	char *fields;
	bool lost;
};

int journal_open(const char *path, const char *fields, struct journal **ret)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -EBADF;
	struct journal *j;

	if (strlen(path) >= sizeof sun.sun_path)
		return -ENAMETOOLONG;
	strcpy(sun.sun_path, path);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof sun) < 0)
		return -errno;
	j = new0(struct journal);
	*j = (struct journal){.fd = TAKE_FD(fd), .fields = xstrdup(fields)};
	*ret = j;
	return 0;
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	fd_close(&j->fd);
	free(j->fields);
	free(j);
}

void journal_send(struct journal *j, bool is_err, const void *p, size_t n)
{
	bool whole = n && ((const char *)p)[n - 1] == '\n';
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	uint64_t len;

	n -= whole;
	len = htole64(n);
	sbuf_puts(&b, j->fields);
	sbuf_printf(&b, "PRIORITY=%d\n", is_err ? PRIORITY_ERR : PRIORITY_INFO);
	if (!whole)
		sbuf_puts(&b, "CONTAINER_PARTIAL_MESSAGE=true\n");
	/* the form for values that may hold anything */
	sbuf_puts(&b, "MESSAGE\n");
	sbuf_add(&b, &len, sizeof len);
	sbuf_add(&b, p, n);
	sbuf_putc(&b, '\n');
	if (send(j->fd, b.buf, b.len, MSG_NOSIGNAL) < 0 && !j->lost) {
		log_warn("write to the journal: %s: lines are lost there", strerror(errno));
		j->lost = true;
	}
}
