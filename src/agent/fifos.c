/* FIFOs of the host in the guest.
 *
 * Theory of operation. There are two FIFOs, one on each side of the wall, and bytes go from one to the
 * other in the direction in which the container uses its own. Nobody may be in the way of others who use
 * the host's: a reader there takes bytes from them, a writer ends their waiting. So vmwp opens the host's
 * FIFO only while a process in the container has the guest's one open, in the same direction, and that has
 * to be found out here.
 *
 * At rest we have the guest's FIFO open ourselves, for reading and writing. So an open(2) in the container
 * succeeds at once, inotify tells of it, and /proc tells for which direction it was. A reader: we become the
 * one writer, the host's bytes come by a stream, and after their end we close, which is the reader's end of
 * file. Bytes that somebody has written: we become the one reader, and their end is the end of the stream.
 * Then we are at rest again. A reader that stays after the end of file waits for the next writer, as it may:
 * we have nothing open then, since a writer without bytes would look like one that is there. Nor have we once
 * the host's reader has gone, until no writer is left: his next write(2) fails, as it does in one FIFO.
 *
 * What remains different from one FIFO: an open(2) in the container does not wait for the other side, its
 * first read(2) does; up to a pipe's and a stream's worth of bytes are on their way; and a writer whose
 * reader has gone has to close before another reader hears of anybody. */
#include "agent/agent.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"
#include "proto/relay.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define FIFOS AGENT_RUN "/fifos"
#define LOOK_AGAIN_US 100000

struct fifo {
	struct agent *a;
	char *tag, *path;
	dev_t dev;
	ino_t ino;
	int hold;			/* open both ways, at rest */
	struct loop_source *written;	/* bytes are in it */
	struct relay *relay;		/* NULL at rest */
	bool inward;			/* from the host */
	bool leaving;			/* its reader has gone, the host's end is being closed */
	bool broken;			/* the host's reader has gone: nothing of it is open */
	bool stale;			/* a writer whose reader has left may still be there */
	int wd;
	uint64_t closed_at;		/* how much had been relayed when a reader closed it last */
};

/* --- who has it open --- */

/* not: the access mode that does not count. */
static bool is_user(const char *pid, const char *fd, unsigned not)
{
	_cleanup_free_ char *path = xasprintf("/proc/%s/fdinfo/%s", pid, fd), *text = NULL;
	const char *at;
	unsigned how = 0;

	at = fs_read(AT_FDCWD, path, 4096, &text, NULL) == 0 ? strstr(text, "flags:") : NULL;
	return at && sscanf(at, "flags: %o", &how) == 1 && (how & O_ACCMODE) != not;
}

static bool uses(const struct fifo *f, const char *pid, unsigned not)
{
	_cleanup_free_ char *path = xasprintf("/proc/%s/fd", pid);
	DIR *d = opendir(path);
	bool found = false;
	struct dirent *de;
	struct stat st;

	while (d && !found && (de = readdir(d)))
		found = fstatat(dirfd(d), de->d_name, &st, 0) == 0 && st.st_ino == f->ino &&
			st.st_dev == f->dev && is_user(pid, de->d_name, not);
	if (d)
		(void)closedir(d);
	return found;
}

/* A process of a container has executed some program. Others are ourselves, and what we have forked, which
 * has still open what we have. */
static bool is_of_container(const char *pid)
{
	_cleanup_free_ char *path = xasprintf("/proc/%s/exe", pid);
	struct stat own, st;

	return *pid >= '1' && *pid <= '9' && stat(path, &st) == 0 && stat("/proc/self/exe", &own) == 0 &&
	       (st.st_ino != own.st_ino || st.st_dev != own.st_dev);
}

static bool has_user(const struct fifo *f, unsigned not)
{
	DIR *d = opendir("/proc");
	bool found = false;
	struct dirent *de;

	while (d && !found && (de = readdir(d)))
		found = is_of_container(de->d_name) && uses(f, de->d_name, not);
	if (d)
		(void)closedir(d);
	return found;
}

static bool has_reader(const struct fifo *f)
{
	return has_user(f, O_WRONLY);
}

static bool has_writer(const struct fifo *f)
{
	return has_user(f, O_RDONLY);
}

/* --- its states --- */

static void on_over(struct relay *r, void *ud);
static void look_later(struct agent *a);
static void on_written(struct loop_source *s, int fd, uint32_t events, void *ud);

static int open_end(const struct fifo *f, int how)
{
	int fd = open(f->path, how | O_NONBLOCK | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static void let_go(struct fifo *f)
{
	loop_source_free(TAKE_PTR(f->written));
	fd_close(&f->hold);
}

/* The host's bytes have come, for a reader who was there or who is to come. */
static int open_to_write(void *ud)
{
	struct fifo *f = ud;
	int fd = has_reader(f) ? open_end(f, O_WRONLY) : -EAGAIN;

	if (fd >= 0) {
		let_go(f);
		f->leaving = false;
	}
	return fd;
}

#define NOT_CLOSED UINT64_MAX

/* Learns who has closed what up to now. */
static void read_events(struct agent *a)
{
	_Alignas(struct inotify_event) char buf[4096];
	ssize_t n;

	while ((n = read(a->inotify_fd, buf, sizeof buf)) > 0) {
		const struct inotify_event *v;

		for (char *p = buf; p < buf + n; p += sizeof *v + v->len) {
			struct hmap_iter it = {0};

			v = (const struct inotify_event *)p;
			while (v->mask & IN_CLOSE_NOWRITE && hmap_next(&a->fifos, &it)) {
				struct fifo *f = it.entry->value;

				if (f->wd == v->wd && f->relay && f->inward)
					f->closed_at = relay_written(f->relay);
			}
		}
	}
}

/* Whether a reader who was there while the host wrote is to be told of the end. One who has opened since the
 * last byte is none of those: he waits for the next writer. */
static bool owes_end(struct fifo *f)
{
	if (!f->inward || relay_is_deaf(f->relay) || relay_was_refused(f->relay) ||
	    (f->leaving && relay_is_closed(f->relay)))
		return false;
	/* The end of one who wrote to the reader before. */
	if (f->stale && !relay_written(f->relay))
		return false;
	/* The look takes a while, in which he may close and open again: what he has closed is read last. */
	if (!has_reader(f))
		return false;
	read_events(f->a);
	return relay_written(f->relay) != f->closed_at;
}

/* At rest. What we hold open comes before what is let go of: a process that has opened meanwhile must not see
 * the other end missing. */
static void rest(struct fifo *f)
{
	int r = 0;

	if (f->hold < 0)
		r = f->hold = open_end(f, O_RDWR);
	if (r >= 0 && !f->written)
		r = loop_add_io(f->a->loop, f->hold, EPOLLIN, on_written, f, &f->written);
	if (r < 0)
		log_warn("FIFO '%s' is not relayed any more: %s", f->tag, strerror(-r));
	relay_free(TAKE_PTR(f->relay));
	f->leaving = f->broken = false;
}

/* Not at rest any more: end takes the place of what we held. */
static void begin(struct fifo *f, uint32_t use, const struct relay_end *end)
{
	struct agent *a = f->a;
	int r;

	f->inward = use == PIPE_READ;
	f->leaving = false;
	f->closed_at = NOT_CLOSED;
	r = relay_new(a->loop, a->streams, pipe_announce(a, f->tag, use), end, on_over, f, &f->relay);
	if (r < 0)
		log_warn("FIFO '%s': %s", f->tag, strerror(-r));
	else
		let_go(f);
}

static void begin_inward(struct fifo *f)
{
	struct relay_end end = {open_end(f, O_WRONLY), RELAY_TO, open_to_write, f};

	begin(f, PIPE_READ, &end);
}

static void begin_outward(struct fifo *f)
{
	struct relay_end end = {open_end(f, O_RDONLY), RELAY_FROM, NULL, NULL};

	if (end.fd >= 0)
		begin(f, PIPE_WRITE, &end);
}

/* A reader that waited for another writer has gone. The host's end may have found one meanwhile: then its
 * bytes are for the next reader. */
static void leave(struct fifo *f)
{
	f->leaving = true;
	f->hold = open_end(f, O_RDWR);
	relay_leave(f->relay);
}

/* Somebody has opened or closed it. */
static void look(struct fifo *f)
{
	if (!f->a->greeted || !f->a->streams || f->broken)
		return;
	if (!f->relay && has_reader(f))
		begin_inward(f);
	else if (f->leaving)
		relay_retry(f->relay);
	else if (f->relay && f->inward && relay_is_closed(f->relay) && !has_reader(f))
		leave(f);
}

static void on_written(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct fifo *f = ud;

	/* Among themselves they need nobody between them. */
	look(f);
	if (!f->relay && f->a->greeted && f->a->streams)
		begin_outward(f);
}

/* The host's reader has gone. What he has not read goes with him. */
static void break_off(struct fifo *f)
{
	relay_free(TAKE_PTR(f->relay));
	f->broken = true;
	look_later(f->a);
}

static void on_over(struct relay *r, void *ud)
{
	struct fifo *f = ud;
	struct relay_end later = {-EBADF, RELAY_TO, open_to_write, f};
	bool refused = relay_was_refused(r), owed = owes_end(f);

	f->stale = relay_is_deaf(r) && relay_written(r);
	if (refused && !f->inward) {
		break_off(f);
	} else if (owed) {
		/* With our end closed the reader sees it. Should he stay, he waits for another writer. */
		relay_free(TAKE_PTR(f->relay));
		begin(f, PIPE_READ, &later);
	} else {
		rest(f);
	}
	if (!refused)
		look(f);
}

static void look_at_all(struct agent *a)
{
	struct hmap_iter it = {0};

	while (hmap_next(&a->fifos, &it))
		look(it.entry->value);
}

/* A broken one whose last writer has closed. The kernel tells of that before it drops what the FIFO still has
 * in it, which must not meet the next reader: only a second look may mend. */
static void mend(struct fifo *f)
{
	if (f->broken && !has_writer(f))
		rest(f);
}

static void on_again(struct loop_source *s, void *ud)
{
	struct agent *a = ud;
	struct hmap_iter it = {0};

	loop_source_free(TAKE_PTR(a->fifos_again));
	while (hmap_next(&a->fifos, &it))
		mend(it.entry->value);
	look_at_all(a);
}

static void look_later(struct agent *a)
{
	loop_source_free(TAKE_PTR(a->fifos_again));
	(void)loop_add_timer(a->loop, LOOK_AGAIN_US, 0, on_again, a, &a->fifos_again);
}

/* The event comes before the descriptor is in its table, and a shell moves it to another number next: who has
 * it open may not be seen yet, so that a second look follows. */
static void on_inotify(struct loop_source *s, int fd, uint32_t events, void *ud)
{
	struct agent *a = ud;

	read_events(a);
	look_at_all(a);
	look_later(a);
}

/* --- for the others --- */

void fifos_pump(struct agent *a)
{
	struct hmap_iter it = {0};

	while (hmap_next(&a->fifos, &it)) {
		struct fifo *f = it.entry->value;
		int n = 0;

		if (!f->relay && f->hold >= 0 && ioctl(f->hold, FIONREAD, &n) == 0 && n > 0)
			on_written(NULL, f->hold, EPOLLIN, f);
		if (f->relay && !f->inward)
			relay_pump(f->relay);
	}
}

void fifos_unlink(struct agent *a)
{
	struct hmap_iter it = {0};

	while (hmap_next(&a->fifos, &it))
		rest(it.entry->value);
}

static int watch_all(struct agent *a)
{
	if (a->inotify_fd >= 0)
		return 0;
	a->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	return a->inotify_fd < 0 ? -errno
				 : loop_add_io(a->loop, a->inotify_fd, EPOLLIN, on_inotify, a, NULL);
}

static int fifo_new(struct agent *a, const struct pipe_place *p, const char *path)
{
	struct stat st;
	struct fifo *f;
	int wd, r = fs_mkdir_p(FIFOS, 0700);

	if (r == 0)
		r = watch_all(a);
	if (r < 0)
		return r;
	if (mkfifo(path, 0600) < 0 || chmod(path, p->mode) < 0 || chown(path, p->uid, p->gid) < 0 ||
	    stat(path, &st) < 0)
		return -errno;
	wd = inotify_add_watch(a->inotify_fd, path, IN_OPEN | IN_CLOSE);
	if (wd < 0)
		return -errno;
	f = new0(struct fifo);
	*f = (struct fifo){.a = a, .tag = xstrdup(p->tag), .path = xstrdup(path), .dev = st.st_dev,
			   .ino = st.st_ino, .wd = wd, .hold = -EBADF};
	hmap_set(&a->fifos, p->tag, f);
	rest(f);
	return 0;
}

int fifo_path(struct agent *a, const char *source, char **ret, struct err *e)
{
	_cleanup_free_ char *path = NULL;
	struct pipe_place p;
	int r = pipe_place_parse(source, &p, e);

	if (r < 0)
		return r;
	path = path_join(FIFOS, p.tag);
	if (!hmap_get(&a->fifos, p.tag))
		r = fifo_new(a, &p, path);
	free(p.tag);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "make the FIFO '%s' in the guest", path);
	*ret = TAKE_PTR(path);
	return 0;
}
