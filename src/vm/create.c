/* CREATE: the container's files become disks of the machine, the machine runs, the agent is told.
 *
 * Files are opened here, with our rights, and known by device and inode: a layer that is attached already is
 * not attached again, and a container that is made anew in a running machine finds its scratch disk. */
#include "base/alloc.h"
#include "base/fd.h"
#include "base/strv.h"
#include "lib/json.h"
#include "lib/seccomp.h"
#include "vm/guest_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define DETACH_PATIENCE_US 5000000	/* for a guest to let go of a disk */

struct creating {
	struct list link;		/* of guest.held */
	struct guest *g;
	struct msg_create m;		/* as the agent will get it */
	backend_done_fn done;
	void *ud;
	size_t pending;			/* disks, and one while they are being counted */
	struct err err;			/* of the first that failed */
};

/* A disk on its way in, or out. name: in the request, its file, and its place once it has come. */
struct attaching {
	struct guest *g;
	struct creating *c;
	struct disk *disk;
	char **name;
};

static void creating_free(struct creating *c)
{
	err_clear(&c->err);
	msg_create_done(&c->m);
	free(c);
}

static void creating_fail(struct creating *c, int r, const struct err *e)
{
	disks_release(c->g, c->m.ctr);
	c->done(c->ud, r, e, NULL, 0);
	creating_free(c);
}

static void after_create(struct guest *g, const char *ctr, const char *exec, int r)
{
	struct gtask *t = gtask_find(g, ctr, exec);

	if (r < 0 && t)
		gtask_free(t);
	if (r < 0 && !*exec)
		disks_release(g, ctr);
}

/* The devices are there. */
static void send_create(void *ud, int r, const struct err *e, const void *p, size_t n)
{
	struct creating *c = ud;
	struct guest *g = c->g;
	struct forward *f;
	struct gtask *t;

	if (r < 0) {
		creating_fail(c, r, e);
		return;
	}
	t = new0(struct gtask);
	*t = (struct gtask){
	    .guest = g, .ctr = xstrdup(c->m.ctr), .exec = xstrdup(c->m.exec), .tty = c->m.flags & TASK_TTY};
	list_append(&g->tasks, &t->link);
	f = forward_new(g, c->m.ctr, c->m.exec, c->done, c->ud);
	forward_after(f, after_create);
	forward_quick(f);
	c->m.stream = g->next_stream;
	g->next_stream += 3;
	r = gtask_open_streams(t, c->m.stream);
	if (r < 0)
		forwarded(f, r, NULL, NULL, 0);
	else
		CONN_REQUEST(g->conn, CREATE, create, &c->m, -EBADF, forwarded, f);
	creating_free(c);
}

static void one_less(struct creating *c)
{
	if (--c->pending)
		return;
	if (c->err.kind)
		creating_fail(c, c->err.errnum ? -c->err.errnum : -EIO, &c->err);
	else
		link_ready(c->g, send_create, c);
}

static void on_attached(void *ud, int r, const struct err *e)
{
	struct attaching *a = ud;
	struct creating *c = a->c;

	if (r < 0) {
		disk_free(a->disk);
		/* Whoever waits for the guest is told why it has ended. */
		if (!c->err.kind && r != -EPIPE)
			err_msg(&c->err, ERR_SYSTEM, r, "%s", err_text(e));
	} else {
		a->disk->here = true;
		str_replace(a->name, a->disk->place);
	}
	free(a);
	one_less(c);
}

static struct disk *disk_find(struct guest *g, const struct stat *st, bool read_only)
{
	list_for_each(d, &g->disks, struct disk, link)
		if (!d->device && !d->leaving && d->dev == st->st_dev && d->ino == st->st_ino &&
		    d->read_only == read_only)
			return d;
	return NULL;
}

void disk_free(struct disk *d)
{
	list_remove(&d->link);
	strv_free(d->users);
	free(d);
}

static bool disks_leaving(const struct guest *g)
{
	list_for_each(d, &g->disks, struct disk, link)
		if (d->leaving && !d->stuck)
			return true;
	return false;
}

static void attach_all(struct creating *c);

static void release_held(struct guest *g)
{
	loop_source_free(TAKE_PTR(g->held_timer));
	for (struct creating *c; (c = list_first(&g->held, struct creating, link));) {
		list_remove(&c->link);
		attach_all(c);
	}
}

static void on_detached(void *ud, int r, const struct err *e)
{
	struct attaching *a = ud;
	struct guest *g = a->g;

	if (r == 0)
		disk_free(a->disk);
	else
		a->disk->stuck = true;
	free(a);
	if (!disks_leaving(g))
		release_held(g);
}

static void on_patience(struct loop_source *s, void *ud)
{
	struct guest *g = ud;

	list_for_each(d, &g->disks, struct disk, link)
		d->stuck |= d->leaving;
	release_held(g);
}

static void detach(struct guest *g, struct disk *d)
{
	struct attaching *a = new0(struct attaching);

	*a = (struct attaching){ .g = g, .disk = d };
	d->leaving = true;
	if (!g->held_timer)
		(void)loop_add_timer(g->loop, DETACH_PATIENCE_US, 0, on_patience, g, &g->held_timer);
	g->vmm->ops->remove_disk(g->vmm, d->place, on_detached, a);
}

void disks_release(struct guest *g, const char *ctr)
{
	list_for_each(d, &g->disks, struct disk, link) {
		if (!strv_has(d->users, ctr))
			continue;
		strv_remove(d->users, ctr);
		/* with the last container goes the machine */
		if (!*d->users && g->phase == GUEST_UP && !list_empty(&g->tasks))
			detach(g, d);
	}
}

static struct disk *disk_new(struct guest *g, const struct stat *st, bool read_only, const char *ctr)
{
	struct disk *d = new0(struct disk);

	d->dev = st->st_dev;
	d->ino = st->st_ino;
	d->read_only = read_only;
	strv_add(&d->users, ctr);
	list_append(&g->disks, &d->link);
	return d;
}

static void attach_disk(struct creating *c, int fd, struct disk *d, char **name)
{
	struct attaching *a = new0(struct attaching);
	struct vmm_disk what = {fd, d->read_only, d->device};

	*a = (struct attaching){ c->g, c, d, name };
	c->pending++;
	c->g->vmm->ops->add_disk(c->g->vmm, &what, d->place, on_attached, a);
}

/* Attaches the file *path, which the agent finds as a disk. */
static void attach(struct creating *c, char **path, bool read_only)
{
	_cleanup_close_ int fd =
	    open(*path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct disk *d;
	struct stat st;
	int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;

	/* Nothing but files the engine has made: a device here would be the host's (CVE-2026-24054). */
	if (r == 0 && !S_ISREG(st.st_mode))
		r = -EINVAL;
	if (r < 0) {
		if (!c->err.kind)
			err_set(&c->err, ERR_SYSTEM, r, "open disk '%s'", *path);
		return;
	}
	d = disk_find(c->g, &st, read_only);
	if (d) {
		if (!strv_has(d->users, c->m.ctr))
			strv_add(&d->users, c->m.ctr);
		str_replace(path, d->place);
		return;
	}
	attach_disk(c, fd, disk_new(c->g, &st, read_only, c->m.ctr), path);
}

/* A device of the host which the user has named: two words, of which the first becomes its place. One that
 * cannot be written is a disk that cannot. */
static void attach_device(struct creating *c, char **words)
{
	bool read_only = !streq(words[1], "rw");
	_cleanup_close_ int fd = open(words[0], (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	struct disk *d;
	struct stat st;
	int r, frozen = 0;

	if (!read_only && (fd < 0 ? errno == EROFS || errno == EACCES
				  : ioctl(fd, BLKROGET, &frozen) == 0 && frozen)) {
		read_only = true;
		fd_close(&fd);
		fd = open(words[0], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	}
	r = fd < 0 || fstat(fd, &st) < 0 ? -errno : S_ISBLK(st.st_mode) ? 0 : -ENOTBLK;
	if (r < 0) {
		if (!c->err.kind)
			err_set(&c->err, ERR_SYSTEM, r, "open device '%s'", words[0]);
		return;
	}
	d = new0(struct disk);
	d->read_only = read_only;
	d->device = true;
	strv_add(&d->users, c->m.ctr);
	list_append(&c->g->disks, &d->link);
	attach_disk(c, fd, d, &words[0]);
}

/* The container's seccomp profile is compiled here, where most often it lies in a cache: under software
 * emulation that would be the longest part of a start. */
static int compile_filter(struct json *linux_part, struct msg_create *m, struct err *e)
{
	_cleanup_seccomp_ struct seccomp_prog prog = {0};
	_cleanup_sbuf_ struct sbuf b = SBUF_INIT;
	struct json *profile = json_get(linux_part, "seccomp");
	int r;

	if (!profile || json_type(profile) == JSON_NULL)
		return 0;
	r = seccomp_prog_compile(profile, SECCOMP_CACHE, &prog, e);
	if (r == 0 && seccomp_prog_notifies(&prog))
		r = err_msg(e, ERR_INVALID, -EOPNOTSUPP,
			    "seccomp: SCMP_ACT_NOTIFY is not supported with hyperv isolation: the "
			    "listener cannot leave the virtual machine");
	if (r < 0)
		return r;
	json_del(linux_part, "seccomp");
	seccomp_prog_encode(&prog, &b);
	free(m->filter.p);
	m->filter = (struct bytes){.n = b.len};
	m->filter.p = (uint8_t *)sbuf_steal(&b);
	return 0;
}

/* Does what of the specification is done on the host; the agent gets the rest. */
static int host_part(struct guest *g, struct msg_create *m, struct err *e)
{
	_cleanup_json_ struct json *spec = NULL;
	int r = json_parse((const char *)m->spec.p, m->spec.n, &spec, e);

	if (r == 0)
		r = compile_filter(json_get(spec, "linux"), m, e);
	if (r == 0)
		r = group_limits(g, json_get(json_get(spec, "linux"), "resources"), e);
	if (r < 0)
		return r;
	free(m->spec.p);
	m->spec.p = (uint8_t *)json_dump(spec);
	m->spec.n = strlen((char *)m->spec.p);
	return 0;
}

static void attach_all(struct creating *c)
{
	for (char **l = c->m.lower; l && *l; l++)
		attach(c, l, true);
	if (*c->m.upper)
		attach(c, &c->m.upper, false);
	for (char **w = c->m.devices; w && w[0] && w[1]; w += 2)
		attach_device(c, w);
	one_less(c);
}

void guest_create(struct guest *g, const struct msg_create *m, backend_done_fn done, void *ud)
{
	_cleanup_sbuf_ struct sbuf copy = SBUF_INIT;
	struct creating *c;
	int r;

	if (*m->exec ? g->phase != GUEST_UP : g->phase < GUEST_STOPPED || g->phase > GUEST_UP) {
		refuse_gone(done, ud);
		return;
	}
	c = new0(struct creating);
	*c = (struct creating){ .g = g, .done = done, .ud = ud, .pending = 1 };
	msg_create_encode(m, &copy);
	(void)msg_create_decode(copy.buf, copy.len, &c->m);
	if (*m->exec) {
		send_create(c, 0, NULL, NULL, 0);
		return;
	}
	r = host_part(g, &c->m, &c->err);
	if (r < 0) {
		one_less(c);
		return;
	}
	/* The firmware repeats the request to let go of a slot when another slot changes: a disk that has
	 * come to the same slot meanwhile would be gone with the old one. */
	if (disks_leaving(g))
		list_append(&g->held, &c->link);
	else
		attach_all(c);
}
