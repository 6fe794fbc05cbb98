/* Mount options of the specification. */
#include "runtime/internal.h"
#include "base/log.h"
#include "base/strv.h"

#include <stddef.h>
#include <string.h>
#include <sys/mount.h>

enum opt_kind {
	O_SET,		/* sets attributes; the other bits of the same field are cleared */
	O_CLEAR,
	O_PROPAGATION,
	O_BIND,
	O_NOTHING,	/* accepted: the default, or without a meaning on today's kernels */
	O_IDMAP,	/* mapped ids: those of the mount, or of the container's user namespace */
	O_WISH,		/* a member of struct mount_opts, at `field`, becomes true */
	O_DATA,		/* an option of the superblock: handed to the file system */
};

static const struct mount_opt {
	const char *name;
	enum opt_kind kind;
	uint64_t bits, field;
	bool recursive;
} table[] = {
    {"defaults", O_NOTHING},
    {"bind", O_BIND},
    {"rbind", O_BIND, .recursive = true},
    {"private", O_PROPAGATION, MS_PRIVATE},
    {"rprivate", O_PROPAGATION, MS_PRIVATE, .recursive = true},
    {"slave", O_PROPAGATION, MS_SLAVE},
    {"rslave", O_PROPAGATION, MS_SLAVE, .recursive = true},
    {"shared", O_PROPAGATION, MS_SHARED},
    {"rshared", O_PROPAGATION, MS_SHARED, .recursive = true},
    {"unbindable", O_PROPAGATION, MS_UNBINDABLE},
    {"runbindable", O_PROPAGATION, MS_UNBINDABLE, .recursive = true},
#define FLAG(on, off, bit) \
	{ on, O_SET, bit }, { "r" on, O_SET, bit, .recursive = true }, \
	{ off, O_CLEAR, bit }, { "r" off, O_CLEAR, bit, .recursive = true }
    FLAG("ro", "rw", MOUNT_ATTR_RDONLY),
    FLAG("nosuid", "suid", MOUNT_ATTR_NOSUID),
    FLAG("nodev", "dev", MOUNT_ATTR_NODEV),
    FLAG("noexec", "exec", MOUNT_ATTR_NOEXEC),
    FLAG("nodiratime", "diratime", MOUNT_ATTR_NODIRATIME),
    FLAG("nosymfollow", "symfollow", MOUNT_ATTR_NOSYMFOLLOW),
#undef FLAG
#define ATIME(name, bit) \
	{ name, O_SET, bit, MOUNT_ATTR__ATIME }, { "r" name, O_SET, bit, MOUNT_ATTR__ATIME, true }
    ATIME("relatime", MOUNT_ATTR_RELATIME),
    ATIME("atime", MOUNT_ATTR_RELATIME),
    ATIME("norelatime", MOUNT_ATTR_STRICTATIME),
    ATIME("nostrictatime", MOUNT_ATTR_RELATIME),
    ATIME("noatime", MOUNT_ATTR_NOATIME),
    ATIME("strictatime", MOUNT_ATTR_STRICTATIME),
#undef ATIME
    {"idmap", O_IDMAP},
    {"ridmap", O_IDMAP, .recursive = true},
#define WISH(name, member) { name, O_WISH, .field = offsetof(struct mount_opts, member) }
    WISH("tmpcopyup", copyup),
    WISH("src-nofollow", src_nofollow),
    WISH("dest-nofollow", dest_nofollow),
    WISH("copy-symlink", copy_symlink),
#undef WISH
    {"async", O_NOTHING},
    {"nomand", O_NOTHING},
    {"mand", O_NOTHING},
    {"loud", O_NOTHING},
    {"silent", O_NOTHING},
    {"nolazytime", O_NOTHING},
    {"noiversion", O_NOTHING},
    {"iversion", O_NOTHING},
    {"sync", O_DATA},
    {"dirsync", O_DATA},
    {"lazytime", O_DATA},
};

/* crun's "idmap=MAPS" is the only one with a value. *ret_value: NULL = none. */
static const struct mount_opt *find(const char *option, const char **ret_value)
{
	const char *eq = strchr(option, '=');
	size_t n = eq ? (size_t)(eq - option) : strlen(option);

	*ret_value = eq ? eq + 1 : NULL;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (strlen(table[i].name) == n && !strncmp(table[i].name, option, n) &&
		    (!eq || table[i].kind == O_IDMAP))
			return &table[i];
	return NULL;
}

static void apply(struct mount_opts *o, const struct mount_opt *m)
{
	uint64_t *set = m->recursive ? &o->rec_set : &o->set,
		 *clear = m->recursive ? &o->rec_clear : &o->clear;
	uint64_t field = m->field ? m->field : m->bits;

	*set &= ~field;
	*clear = m->field || m->kind == O_CLEAR ? *clear | field : *clear & ~field;
	if (m->kind == O_SET)
		*set |= m->bits;
}

int mount_opts_parse(char *const *options, struct mount_opts *ret, struct err *e)
{
	*ret = (struct mount_opts){ 0 };
	for (; options && *options; options++) {
		const char *value;
		const struct mount_opt *m = find(*options, &value);

		switch (m ? m->kind : O_DATA) {
		case O_SET: case O_CLEAR:
			apply(ret, m);
			break;
		case O_PROPAGATION:
			ret->propagation = m->bits;
			ret->propagation_rec = m->recursive;
			break;
		case O_BIND:
			ret->bind = true;
			ret->recursive |= m->recursive;
			break;
		case O_IDMAP:
			ret->idmap = true;
			ret->idmap_rec = m->recursive;
			ret->idmap_maps = value;
			break;
		case O_WISH:
			*(bool *)((char *)ret + m->field) = true;
			break;
		case O_NOTHING:
			break;
		case O_DATA:
			strv_add(&ret->data, *options);
			break;
		}
	}
	/* Synchronous writing is a property of the source's superblock, which a bind mount does not own. */
	if (ret->bind && ret->data) {
		log_warn("bind mounts take no options of a file system: '%s' is left out", ret->data[0]);
		strv_free(ret->data);
		ret->data = NULL;
	}
	return 0;
}

void mount_opts_done(struct mount_opts *o)
{
	strv_free(o->data);
	*o = (struct mount_opts){ 0 };
}

const char *mount_opt_name(size_t i)
{
	return i < ARRAY_SIZE(table) ? table[i].name : NULL;
}
