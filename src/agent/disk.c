/* Devices by what the host calls them: the place of a disk, and the tag of a share. */
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

#define NAME_MAX_OURS 20
#define TAG_MAX 36	/* virtio_fs_config.tag */
#define BUS "/sys/bus/pci/devices/0000:00:"

static bool name_ok(const char *s, size_t max)
{
	size_t n = strlen(s);

	return n > 0 && n <= max && s[0] != '.' &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == n;
}

bool guest_name_valid(const char *s)
{
	return name_ok(s, NAME_MAX_OURS);
}

/* The first entry of a directory that begins so (heap), NULL if none does. */
static char *first_entry(const char *dir, const char *prefix)
{
	DIR *d = opendir(dir);
	struct dirent *de;
	char *name = NULL;

	while (d && !name && (de = readdir(d)))
		if (de->d_name[0] != '.' && str_starts(de->d_name, prefix))
			name = xstrdup(de->d_name);
	if (d)
		(void)closedir(d);
	return name;
}

int disk_find(const char *place, char **ret)
{
	_cleanup_free_ char *device = NULL, *virtio = NULL, *block = NULL, *name = NULL;

	if (!guest_name_valid(place))
		return -EINVAL;
	device = xasprintf(BUS "%s", place);
	virtio = first_entry(device, "virtio");
	block = virtio ? xasprintf("%s/%s/block", device, virtio) : NULL;
	name = block ? first_entry(block, "vd") : NULL;
	if (!name)
		return -ENODEV;
	*ret = path_join("/dev", name);
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
