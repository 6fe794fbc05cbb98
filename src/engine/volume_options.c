/* The mount is made in the host's tree, where inspect says the volume is, as Docker does: containers that
 * share a volume share one file system. It stands while containers that use it run (volume_use.c). */
#include "engine/volume_options.h"

#include "base/alloc.h"
#include "base/strv.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

static const char *const known[] = {"device", "o", "size", "type", NULL};
static const char *const needed[] = {"device", "type"};

/* Words of mount(8) that are flags of mount(2); all others are the file system's. */
static const struct { const char *word; unsigned long set, clear; } flags[] = {
	{"bind", MS_BIND}, {"rbind", MS_BIND | MS_REC}, {"ro", MS_RDONLY}, {"rw", 0, MS_RDONLY},
	{"nosuid", MS_NOSUID}, {"suid", 0, MS_NOSUID}, {"nodev", MS_NODEV}, {"dev", 0, MS_NODEV},
	{"noexec", MS_NOEXEC}, {"exec", 0, MS_NOEXEC}, {"noatime", MS_NOATIME}, {"atime", 0, MS_NOATIME},
	{"nodiratime", MS_NODIRATIME}, {"diratime", 0, MS_NODIRATIME}, {"relatime", MS_RELATIME},
	{"strictatime", MS_STRICTATIME}, {"sync", MS_SYNCHRONOUS}, {"async", 0, MS_SYNCHRONOUS},
	{"dirsync", MS_DIRSYNC}, {"defaults", 0, 0},
};

int volume_options_check(const char *name, const struct json *options, struct err *err)
{
	struct json_iter it = {0};

	while (json_next(options, &it))
		if (!strv_has((char *const *)known, it.key))
			return err_msg(err, ERR_INVALID, 0, "create %s: invalid option: \"%s\"", name,
				       it.key);
	if (json_get(options, "size"))
		return err_msg(err, ERR_INVALID, 0,
			       "create %s: quota size requested but no quota support", name);
	for (size_t i = 0; json_len(options) && i < ARRAY_SIZE(needed); i++)
		if (str_empty(json_get_str(options, needed[i])))
			return err_msg(err, ERR_INVALID, 0, "create %s: missing required option: \"%s\"",
				       name, needed[i]);
	return 0;
}

static unsigned long parse_words(const char *o, char **ret_data)
{
	_cleanup_strv_ char **words = strv_split(o, ","), **data = NULL;
	unsigned long value = 0;

	for (char **w = words; w && *w; w++) {
		size_t i = 0;

		while (i < ARRAY_SIZE(flags) && !streq(flags[i].word, *w))
			i++;
		if (i == ARRAY_SIZE(flags))
			strv_add(&data, *w);
		else
			value = (value | flags[i].set) & ~flags[i].clear;
	}
	*ret_data = strv_join(data, ",");
	return value;
}

static bool is_mounted(const char *path)
{
	struct statx sx;

	return statx(AT_FDCWD, path, AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW, 0, &sx) == 0 &&
	       (sx.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

int volume_options_mount(const char *path, const struct json *options, struct err *err)
{
	const char *type = json_get_str(options, "type"), *device = json_get_str(options, "device");
	_cleanup_free_ char *data = NULL, *with = NULL;
	unsigned long value = parse_words(json_get_str(options, "o") ?: "", &data), again;
	int r = 0;

	if (is_mounted(path))
		return 0;
	if (mount(device, path, type, value, *data ? data : NULL) < 0)
		r = -errno;
	/* A bind takes its flags in a second step only. */
	again = value & ~(unsigned long)MS_REC;
	if (r == 0 && (value & MS_BIND) && again != MS_BIND &&
	    mount(NULL, path, NULL, again | MS_REMOUNT, NULL) < 0) {
		r = -errno;
		volume_options_umount(path);
	}
	if (r == 0)
		(void)mount(NULL, path, NULL, MS_PRIVATE | MS_REC, NULL);
	if (r == 0)
		return 0;
	with = value ? xasprintf(", flags: 0x%lx", value) : xstrdup("");
	return err_msg(err, ERR_SYSTEM, r,
		       "error while mounting volume '%s': failed to mount local volume: "
		       "mount %s:%s%s%s%s: %s",
		       path, device, path, with, *data ? ", data: " : "", data, strerror(-r));
}

void volume_options_umount(const char *path)
{
	while (is_mounted(path) && umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		;
}
