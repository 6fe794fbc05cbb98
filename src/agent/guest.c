/* The request GUEST: makes this machine a particular one. After a template's restore it is the first
 * that happens; nothing may draw random numbers, look at the clock or touch a device before it.
 *
 * Devices. Disks and the NIC that were there at boot have their driver, in a template too, where something
 * else stands behind them than now: the size that the kernel knows of a disk is then the place holder's,
 * larger than any, and the file system on it knows better; what a NIC can do is what any tap can. Shares and
 * memory have been left without a driver (boot.c): they are bound here, only as far as the request needs
 * them, since what they can do is not the same each time.
 * What is missing then was added while the machine stood still, and is found by a PCI rescan. That is much
 * the slower way under software emulation: enabling a new PCI device makes the kernel interpret the
 * firmware's interrupt routing method, 0.15 s for each. */
#include "agent/agent.h"
#include "base/alloc.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define DEVICE_DEADLINE_US (10 * 1000000ull)
#define ENTROPY_MAX 4096
#define VIRTIO_DEVICES "/sys/bus/virtio/devices"

struct guest_wait {
	struct pending *p;
	struct msg_guest m;
	struct loop_source *deadline;
};

/* Clones of a template share the state of the random number generator: writing to /dev/random alone
 * would leave it as it is until the next reseed, minutes later. */
static int set_entropy(struct bytes *b)
{
	_cleanup_close_ int fd = -EBADF;
	struct rand_pool_info *info;
	int r = 0;

	if (!b->n)
		return 0;
	if (b->n > ENTROPY_MAX)
		return -EINVAL;
	fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	info = xmalloc(sizeof(*info) + b->n);
	info->entropy_count = (int)b->n * 8;
	info->buf_size = (int)b->n;
	memcpy(info->buf, b->p, b->n);
	if (ioctl(fd, RNDADDENTROPY, info) < 0 || ioctl(fd, RNDRESEEDCRNG, 0) < 0)
		r = -errno;
	explicit_bzero(info, sizeof(*info) + b->n);
	explicit_bzero(b->p, b->n);
	free(info);
	return r;
}

static int set_clock(uint64_t ns)
{
	struct timespec ts = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};

	return ns && clock_settime(CLOCK_REALTIME, &ts) < 0 ? -errno : 0;
}

static int set_identity(struct msg_guest *m, struct err *e)
{
	int r;

	r = set_entropy(&m->entropy);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "seed the guest's random number generator");
	r = set_clock(m->time_ns);
	if (r < 0)
		return err_set(e, ERR_SYSTEM, r, "set the guest's clock");
	if (!str_empty(m->hostname) && sethostname(m->hostname, strlen(m->hostname)) < 0)
		return err_set(e, ERR_SYSTEM, -errno, "set the guest's host name '%s'", m->hostname);
	return 0;
}

/* What is still missing: the virtio type, 0 if all is there; how many of it, and the name of one. */
static unsigned missing(struct agent *a, const struct msg_guest *m, size_t *ret_n, char **ret_name)
{
	_cleanup_free_ char *mac = NULL;
	size_t n = 0;

	for (size_t i = 0; i < strv_len(m->disks); i++) {
		_cleanup_free_ char *path = NULL;

		if (disk_find(m->disks[i], &path) < 0 && !n++)
			*ret_name = xasprintf("disk '%s'", m->disks[i]);
	}
	*ret_n = n;
	if (n)
		return VIRTIO_ID_BLOCK;
	*ret_n = 1;
	for (size_t i = 0; i < strv_len(m->tags); i++)
		if (share_mount(a, m->tags[i]) < 0) {
			*ret_name = xasprintf("share '%s'", m->tags[i]);
			return VIRTIO_ID_FS;
		}
	*ret_n = net_missing(&m->nics, &mac);
	if (*ret_n)
		*ret_name = xasprintf("network interface '%s'", mac);
	return *ret_n ? VIRTIO_ID_NET : 0;
}

static int by_number(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return x < y ? -1 : x > y;
}

/* The numbers N of the devices virtioN, in the order in which the bus was scanned. */
static size_t virtio_devices(unsigned *ret, size_t max)
{
	DIR *d = opendir(VIRTIO_DEVICES);
	struct dirent *de;
	size_t n = 0;

	if (!d)
		return 0;
	while (n < max && (de = readdir(d)))
		if (sscanf(de->d_name, "virtio%u", &ret[n]) == 1)
			n++;
	(void)closedir(d);
	qsort(ret, n, sizeof(*ret), by_number);
	return n;
}

/* Binds up to max devices of this virtio type that have no driver. How many it were. */
static size_t bind_devices(unsigned type, size_t max)
{
	unsigned numbers[256];
	size_t n = virtio_devices(numbers, ARRAY_SIZE(numbers)), bound = 0;

	for (size_t i = 0; i < n && bound < max; i++) {
		_cleanup_free_ char *name = xasprintf("virtio%u", numbers[i]), *line = NULL;
		_cleanup_free_ char *driver = xasprintf(VIRTIO_DEVICES "/%s/driver", name);
		_cleanup_free_ char *id = xasprintf(VIRTIO_DEVICES "/%s/device", name);

		if (fs_exists(driver) || fs_read_line(AT_FDCWD, id, &line) < 0 ||
		    strtoul(line, NULL, 16) != type)
			continue;
		/* A device that its driver refuses is passed over. */
		(void)fs_write(AT_FDCWD, "/sys/bus/virtio/drivers_probe", name);
		bound += fs_exists(driver);
	}
	return bound;
}

void guest_bind(unsigned type)
{
	(void)bind_devices(type, SIZE_MAX);
}

/* True once all that the request names is there. */
static bool bind_missing(struct agent *a, const struct msg_guest *m)
{
	for (;;) {
		_cleanup_free_ char *name = NULL;
		size_t n = 0;
		unsigned type = missing(a, m, &n, &name);

		if (!type)
			return true;
		if (!bind_devices(type, n))
			return false;
	}
}

static void wait_end(struct agent *a, int r, struct err *e)
{
	struct guest_wait *w = TAKE_PTR(a->wait);

	loop_source_free(w->deadline);
	memory_expect(a, w->m.memory_most, w->m.memory);
	pending_reply(w->p, r, e, NULL, 0);
	msg_guest_done(&w->m);
	free(w);
}

void guest_poke(struct agent *a)
{
	_cleanup_err_ struct err e = ERR_INIT;
	int r;

	if (!a->wait || !bind_missing(a, &a->wait->m))
		return;
	r = net_configure(a, &a->wait->m.nics, &e);
	wait_end(a, r, &e);
}

static void on_deadline(struct loop_source *s, void *userdata)
{
	struct agent *a = userdata;
	_cleanup_err_ struct err e = ERR_INIT;
	_cleanup_free_ char *name = NULL;
	size_t n;

	if (missing(a, &a->wait->m, &n, &name))
		wait_end(a, err_set(&e, ERR_SYSTEM, -ETIMEDOUT, "%s did not appear in the guest", name), &e);
	else
		guest_poke(a);
}

void guest_request(struct agent *a, uint32_t seq, const struct frame *f)
{
	_cleanup_err_ struct err e = ERR_INIT;
	struct guest_wait *w;
	struct msg_guest m;
	int r;

	r = msg_guest_decode(f->payload, f->len, &m);
	if (r < 0) {
		conn_reply(a->conn, seq, r, NULL, NULL, 0);
		return;
	}
	if (a->wait)
		r = err_msg(&e, ERR_CONFLICT, -EBUSY,
			    "another request of this kind is still waiting for devices");
	if (r >= 0)
		r = set_identity(&m, &e);
	if (r < 0) {
		conn_reply(a->conn, seq, r, &e, NULL, 0);
		msg_guest_done(&m);
		return;
	}
	w = new0(struct guest_wait);
	*w = (struct guest_wait){.p = pending_new(a, seq, MSG_GUEST, "", ""), .m = m};
	a->wait = w;
	r = loop_add_timer(a->loop, DEVICE_DEADLINE_US, 0, on_deadline, a, &w->deadline);
	if (r < 0) {
		wait_end(a, r, NULL);
		return;
	}
	if (!bind_missing(a, &m))
		(void)fs_write(AT_FDCWD, "/sys/bus/pci/rescan", "1");
	guest_poke(a);
}
