/* A scratch disk that fails: the host's is full, or broken.
 *
 * Once ext4 could not write its journal it takes nothing more, but does not say so to whoever goes on
 * writing: the pages stay in memory, can never be written, and the writer waits for room among them, for
 * ever. A file system that is shut down answers with an error at once. The container has the rest of its
 * machine still, and finds what had reached the disk when it is started again. */
#include "agent/agent.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/strv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <unistd.h>

#define EXT4_IOC_SHUTDOWN _IOR('X', 125, uint32_t)
#ifndef FAN_FS_ERROR
#define FAN_FS_ERROR 0x00008000
#endif

/* The file system in which the error was, as it is told. */
static bool read_fsid(const struct fanotify_event_metadata *m, fsid_t *ret)
{
	const struct fanotify_event_info_fid *fid;
	size_t at = m->metadata_len;

	while (at + sizeof(struct fanotify_event_info_header) <= m->event_len) {
		const struct fanotify_event_info_header *h = (const void *)((const char *)m + at);

		if (h->info_type == FAN_EVENT_INFO_TYPE_FID && at + sizeof *fid <= m->event_len) {
			fid = (const void *)h;
			memcpy(ret, &fid->fsid, sizeof *ret);
			return true;
		}
		if (!h->len)
			return false;
		at += h->len;
	}
	return false;
}

static void on_errors(struct loop_source *s, int fd, uint32_t events, void *userdata)
{
	_Alignas(struct fanotify_event_metadata) char buf[4096];
	struct fanotify_event_metadata *m = (void *)buf;
	struct agent *a = userdata;
	ssize_t n = read(fd, buf, sizeof buf);

	for (; n > 0 && FAN_EVENT_OK(m, n); m = FAN_EVENT_NEXT(m, n)) {
		fsid_t id;

		if (read_fsid(m, &id))
			rootfs_failed(a, &id);
	}
}

int failing_init(struct agent *a)
{
	int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY);

	if (fd < 0)
		return 0;	/* a kernel that cannot tell: its errors are as late as they are */
	a->errors_fd = fd;
	return loop_add_io(a->loop, fd, EPOLLIN, on_errors, a, NULL);
}

void failing_watch(struct agent *a, const char *dir)
{
	if (a->errors_fd >= 0 &&
	    fanotify_mark(a->errors_fd, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_FS_ERROR, AT_FDCWD, dir) < 0)
		log_debug("errors of '%s' are not told: %s", dir, strerror(errno));
}

bool failing_check(const char *dir, const void *fsid)
{
	_cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint32_t how = 2;	/* EXT4_GOING_FLAGS_NOLOGFLUSH: what is in memory is lost */
	struct statfs s;

	if (fd < 0 || fstatfs(fd, &s) < 0 || memcmp(&s.f_fsid, fsid, sizeof s.f_fsid) != 0)
		return false;
	if (ioctl(fd, EXT4_IOC_SHUTDOWN, &how) < 0)
		log_warn("'%s' has failed, and is not shut down: %s", dir, strerror(errno));
	else
		log_warn("'%s' has failed, and is shut down", dir);
	return true;
}
