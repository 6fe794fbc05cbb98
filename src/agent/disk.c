/* Devices by the names the host gave them: virtio-blk serials and virtiofs tags. */
#include "agent/agent.h"
#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/strv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>

#define SERIAL_MAX 20	/* VIRTIO_BLK_ID_BYTES */
#define TAG_MAX 36	/* virtio_fs_config.tag */

static bool name_ok(const char *s, size_t max)
{
	size_t n = strlen(s);

	return n > 0 && n <= max && s[0] != '.' &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == n;
}

bool serial_valid(const char *s)
{
	return name_ok(s, SERIAL_MAX);
}

/* Each read of a serial is a request to the device, so what was found is remembered; the device may
 * have been replaced since, so it is asked again before use. */
static bool disk_has_serial(const char *dev, const char *serial)
{
	_cleanup_free_ char *path = xasprintf("/sys/block/%s/serial", dev), *line = NULL;

	return fs_read_line(AT_FDCWD, path, &line) >= 0 && streq(line, serial);
}

void disk_scan(struct agent *a)
{
	DIR *d = opendir("/sys/block");
	struct hmap_iter it = {0};
	struct dirent *de;

	while (hmap_next(&a->disks, &it))
		free(hmap_remove(&a->disks, it.entry->key));
	if (!d)
		return;
	while ((de = readdir(d))) {
		_cleanup_free_ char *path = NULL, *line = NULL;

		if (!str_starts(de->d_name, "vd"))
			continue;
		path = xasprintf("%s/serial", de->d_name);
		if (fs_read_line(dirfd(d), path, &line) < 0 || str_empty(line))
			continue;
		if (hmap_get(&a->disks, line))
			continue;
		hmap_set(&a->disks, line, xstrdup(de->d_name));
	}
	(void)closedir(d);
}

int disk_find(struct agent *a, const char *serial, char **ret)
{
	const char *dev;

	if (!serial_valid(serial))
		return -EINVAL;
	dev = hmap_get(&a->disks, serial);
	if (!dev || !disk_has_serial(dev, serial)) {
		disk_scan(a);
		dev = hmap_get(&a->disks, serial);
		if (!dev || !disk_has_serial(dev, serial))
			return -ENODEV;
	}
	*ret = path_join("/dev", dev);
	return 0;
}

int share_mount(struct agent *a, const char *tag)
{
	_cleanup_free_ char *dir = NULL;
	int r;

	if (!name_ok(tag, TAG_MAX))
		return -EINVAL;
	if (hmap_get(&a->shares, tag))
		return 0;
	dir = xasprintf(AGENT_RUN "/shares/%s", tag);
	r = fs_mkdir_p(dir, 0700);
	if (r < 0)
		return r;
	/* The kernel knows a tag only by trying: EINVAL is its word for "no such tag". */
	if (mount(tag, dir, "virtiofs", 0, NULL) < 0)
		return errno == EINVAL ? -ENODEV : -errno;
	hmap_set(&a->shares, tag, a);
	return 0;
}
